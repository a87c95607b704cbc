//! The search for an order: depth first, back at every dead end (Wing and Gong 1993, Lowe 2017).
//!
//! An operation may come next if no other one that is left completed before it was invoked. Five
//! rules cut the tree; none of them cuts off the last order there is:
//!
//! 1. **A completed operation that changed nothing and fits now is taken now**, with no
//!    alternative. In any order of the rest it can be moved to the front: the value before every
//!    other operation stays what it was.
//! 2. **An open operation is taken only to explain a completed one.** Of all orders take one with
//!    the fewest open operations. In it no open operation leaves the value as it is, is followed
//!    directly by an operation that overwrites what it did, or comes at the end: it could be left
//!    out. So after an open operation a write that is blind is not tried, and the search ends once
//!    the completed ones are through. "After an open operation" is part of a configuration.
//! 3. **Of open operations that are alike, the first invoked goes first.** They have no replies
//!    to tell them apart.
//! 4. **A value that is needed and that nothing left can bring back is not given up.** Without it a
//!    wrong choice shows only where the read comes, after every order of what lies between.
//! 5. **Where there are only reads and writes, a completed write of a value that nobody left needs
//!    is taken as soon as nobody needs the value before it**, with no alternative. In any order of
//!    the rest a write comes first, no read of the old value being left, and directly after this
//!    write comes another one or nothing: moved to the front it changes no read.

use super::demand::Demand;
use super::events::{Event, Events, Place};
use super::operation::{Operation, Value, step};
use super::prepare::Prepared;
use super::stuck::Stuck;
use super::visited::{Linearized, Visited};

/// What a search came to.
pub(super) enum Found {
    /// An order explains everything.
    Order,
    /// No order does.
    Stuck(Stuck),
    /// The bound of steps was passed.
    Exhausted { steps: u64 },
}

/// Looks for an order of one key's operations, in about `steps_max` steps of the model at most.
pub(super) fn search(prepared: &Prepared, steps_max: u64) -> Found {
    let mut search = Search::new(prepared);
    match search.run(steps_max) {
        Outcome::Order => Found::Order,
        Outcome::NoOrder => Found::Stuck(search.into_stuck()),
        Outcome::Exhausted => Found::Exhausted { steps: search.steps },
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Order,
    NoOrder,
    Exhausted,
}

/// What is tried next in a configuration: first reads that leave no alternative, then other
/// completed operations, then open ones invoked no later than `horizon`.
#[derive(Clone, Copy)]
pub(super) enum Cursor {
    Forced,
    Changes(Place),
    Open { number: usize, horizon: u64 },
    End,
}

#[derive(Clone, Copy)]
pub(super) enum Choice {
    Completed(usize),
    Open(usize),
}

/// A choice made, and what is needed to take it back.
pub(super) struct Frame {
    pub(super) choice: Choice,
    value_before: Value,
    was_after_open: bool,
    resume: Cursor,
}

pub(super) struct Search<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) events: Events,
    pub(super) linearized: Linearized,
    demand: Demand,
    pub(super) visited: Visited,
    pub(super) value: Value,
    is_after_open: bool,
    pub(super) frames: Vec<Frame>,
    /// The first frames, which are not taken back.
    pub(super) fixed_frames: usize,
    /// Values for which rule 4 is off.
    pub(super) given_up: Vec<Value>,
    pub(super) steps: u64,
    /// The longest prefix met, led by the number of completed operations in it.
    pub(super) longest: Option<(usize, Vec<Choice>)>,
}

impl<'a> Search<'a> {
    fn new(prepared: &'a Prepared) -> Search<'a> {
        Search {
            prepared,
            events: Events::new(&prepared.completed),
            linearized: Linearized::new(prepared.completed.len(), prepared.open.len()),
            demand: Demand::new(prepared),
            visited: Visited::default(),
            value: None,
            is_after_open: false,
            frames: Vec::new(),
            fixed_frames: 0,
            given_up: Vec::new(),
            steps: 0,
            longest: None,
        }
    }

    /// Goes on from the present configuration; back in it if there is no order.
    pub(super) fn run(&mut self, steps_max: u64) -> Outcome {
        let mut cursor = Cursor::Forced;
        while !self.events.is_empty() {
            if self.steps > steps_max {
                return Outcome::Exhausted;
            }
            let resume = match self.choose(cursor) {
                Some((choice, value, resume)) => {
                    self.enter(choice, value, resume);
                    if self.visited.insert(&self.linearized, &self.value, self.is_after_open) {
                        cursor = Cursor::Forced;
                        continue;
                    }
                    self.leave()
                }
                None => {
                    self.remember_longest();
                    self.leave()
                }
            };
            let Some(resume) = resume else { return Outcome::NoOrder };
            cursor = resume;
        }
        Outcome::Order
    }

    /// The next choice that fits, the value after it, and where to go on should it fail.
    fn choose(&mut self, mut cursor: Cursor) -> Option<(Choice, Value, Cursor)> {
        loop {
            match cursor {
                Cursor::Forced => {
                    if let Some((number, value)) = self.forced() {
                        return Some((Choice::Completed(number), value, Cursor::End));
                    }
                    cursor = Cursor::Changes(self.events.first());
                }
                Cursor::Changes(place) => match self.events.at(place) {
                    Event::Call(number) => {
                        cursor = Cursor::Changes(self.events.after(place));
                        if let Some(value) = self.fitting_change(number) {
                            return Some((Choice::Completed(number), value, cursor));
                        }
                    }
                    Event::Return(number) => {
                        let horizon = self.prepared.completed[number].completed_at;
                        cursor = Cursor::Open { number: 0, horizon };
                    }
                },
                Cursor::Open { number, horizon } => {
                    let open = self.prepared.open.get(number)?;
                    if open.invoked_at > horizon {
                        return None;
                    }
                    cursor = Cursor::Open { number: number + 1, horizon };
                    if let Some(value) = self.helping_open(number) {
                        return Some((Choice::Open(number), value, cursor));
                    }
                }
                Cursor::End => return None,
            }
        }
    }

    /// Rules 1 and 5.
    fn forced(&mut self) -> Option<(usize, Value)> {
        let writes_are_forced = self.prepared.is_register
            && !self.is_after_open
            && self.demand.is_unneeded(&self.value);
        let mut place = self.events.first();
        while let Event::Call(number) = self.events.at(place) {
            let completed = &self.prepared.completed[number];
            if completed.reply.changed_nothing()
                || (writes_are_forced && self.demand.is_useless(number))
            {
                self.steps += 1;
                if let Some(value) = self.value_after(Choice::Completed(number)) {
                    return Some((number, value));
                }
            }
            place = self.events.after(place);
        }
        None
    }

    /// Rules 2 and 4.
    fn fitting_change(&mut self, number: usize) -> Option<Value> {
        let completed = &self.prepared.completed[number];
        let is_blind = matches!(completed.operation, Operation::Set(_));
        if completed.reply.changed_nothing() || (is_blind && self.is_after_open) {
            return None;
        }
        self.steps += 1;
        self.value_after(Choice::Completed(number))
            .filter(|after| *after == self.value || self.may_give_up_value(Some(number)))
    }

    /// Rules 2, 3 and 4. A delete whose reply nobody has is blind too.
    fn helping_open(&mut self, number: usize) -> Option<Value> {
        let open = &self.prepared.open[number];
        let is_blind = matches!(open.operation, Operation::Set(_) | Operation::Delete);
        let waits_for_twin = open.twin.is_some_and(|twin| !self.linearized.contains_open(twin));
        if self.linearized.contains_open(number)
            || waits_for_twin
            || (is_blind && self.is_after_open)
        {
            return None;
        }
        self.steps += 1;
        self.value_after(Choice::Open(number))
            .filter(|after| *after != self.value && self.may_give_up_value(None))
    }

    /// Rule 4, for a change by a completed operation or an open one.
    fn may_give_up_value(&self, completed: Option<usize>) -> bool {
        !self.demand.is_last(&self.value, completed) || self.given_up.contains(&self.value)
    }

    /// `None`: it does not fit.
    pub(super) fn value_after(&self, choice: Choice) -> Option<Value> {
        match choice {
            Choice::Completed(number) => {
                let completed = &self.prepared.completed[number];
                step(&self.value, &completed.operation, Some(&completed.reply))
            }
            Choice::Open(number) => step(&self.value, &self.prepared.open[number].operation, None),
        }
    }

    pub(super) fn enter(&mut self, choice: Choice, value: Value, resume: Cursor) {
        let is_after_open = match choice {
            Choice::Completed(number) => {
                self.events.lift(number);
                self.linearized.insert_completed(number);
                self.demand.take_completed(number);
                false
            }
            Choice::Open(number) => {
                self.linearized.flip_open(number);
                self.demand.take_open(number);
                true
            }
        };
        self.frames.push(Frame {
            choice,
            value_before: std::mem::replace(&mut self.value, value),
            was_after_open: std::mem::replace(&mut self.is_after_open, is_after_open),
            resume,
        });
    }

    /// Takes the last choice back; `None` if there is none.
    pub(super) fn leave(&mut self) -> Option<Cursor> {
        if self.frames.len() == self.fixed_frames {
            return None;
        }
        let frame = self.frames.pop()?;
        match frame.choice {
            Choice::Completed(number) => {
                self.linearized.remove_completed(number);
                self.demand.put_back_completed(number);
                self.events.unlift(number);
            }
            Choice::Open(number) => {
                self.linearized.flip_open(number);
                self.demand.put_back_open(number);
            }
        }
        self.value = frame.value_before;
        self.is_after_open = frame.was_after_open;
        Some(frame.resume)
    }
}
