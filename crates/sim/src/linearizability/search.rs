//! Searches for an order depth first, and backtracks at dead ends (Wing and Gong 1993, Lowe 2017).
//!
//! An operation may come next if no other remaining one completed before it was invoked. Five rules
//! prune the tree; none of them removes the only order left:
//!
//! 1. **A completed operation that changed nothing and fits now is taken now**, with no
//!    alternative. In any order of the rest it can be moved to the front: the value before every
//!    other operation stays the same.
//! 2. **An open operation is taken only to explain a completed one.** Consider an order with the
//!    fewest open operations. In it no open operation leaves the value unchanged, is followed
//!    directly by an operation that overwrites its effect, or comes last: it could be left out. So
//!    no blind write is tried after an open operation, and the search ends once the completed
//!    operations are done. "After an open operation" is part of a configuration.
//! 3. **Of identical open operations, the first invoked is taken first.** They have no replies to
//!    tell them apart.
//! 4. **A value that is needed and that no remaining operation can produce again is not given up.**
//!    Without this rule a wrong choice shows only at the read, after every order of the operations
//!    in between.
//! 5. **Where there are only reads and writes, a completed write of a value that no remaining
//!    operation needs is taken as soon as none needs the value before it**, with no alternative.
//!    Any order of the rest begins with a write, because no read of the old value remains. In it,
//!    another write or nothing directly follows this write: moved to the front it changes no read.

use super::demand::Demand;
use super::events::{Event, Events, Place};
use super::operation::{Operation, Value, step};
use super::prepare::Prepared;
use super::stuck::Stuck;
use super::visited::{Linearized, Visited};

/// The outcome of a search.
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

/// The outcome of a run.
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

/// A choice made, and what is needed to undo it.
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
    /// The number of first frames that are not undone.
    pub(super) fixed_frames: usize,
    /// Values for which rule 4 is off.
    pub(super) given_up: Vec<Value>,
    pub(super) steps: u64,
    /// The number of completed operations in the longest prefix met, and that prefix.
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

    /// Searches from the present configuration, and returns to it if there is no order.
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

    /// The next choice that fits, the value after it, and where to resume if it fails.
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

    /// Rules 2, 3 and 4. A delete without a reply is blind too.
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

    /// The value after `choice`. `None`: it does not fit.
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

    /// Undoes the last choice; `None` if there is none.
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
