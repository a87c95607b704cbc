//! Finds the longest prefix of an order, to show a reader why there is no order.

use super::events::Event;
use super::prepare::Prepared;
use super::search::{Choice, Cursor, Outcome, Search};
use super::visited::Visited;

/// Enough for every subset of 15 concurrent operations; takes a hundredth of a second.
const EXPLANATION_STEPS_MAX: u64 = 1 << 16;

/// The longest prefix found, by completed operations, and what surrounds its end. All positions are
/// those of the recorded operations.
pub(super) struct Stuck {
    pub(super) prefix: Vec<usize>,
    /// Completed operations that may come next and do not fit.
    pub(super) blocked: Vec<usize>,
    /// Open operations that may come next and do not help.
    pub(super) open: Vec<usize>,
}

impl Search<'_> {
    /// Called at a dead end. Of equally long prefixes the first one met is kept. Open operations at
    /// its end explain nothing and are left out.
    pub(super) fn remember_longest(&mut self) {
        let count = self.linearized.completed_count();
        if self.longest.as_ref().is_none_or(|(longest, _)| count > *longest) {
            let mut choices: Vec<Choice> = self.frames.iter().map(|frame| frame.choice).collect();
            while let Some(Choice::Open(_)) = choices.last() {
                choices.pop();
            }
            self.longest = Some((count, choices));
        }
    }

    /// Called after a search that found no order. Rule 4 stopped it where it foresaw a conflict,
    /// not where a reader sees one. So the search continues from the longest prefix without that
    /// rule for the value there, and again from the next one, as far as it gets. Without the rule
    /// for all values it would get less far.
    ///
    /// # Panics
    /// If there is an order without rule 4: then the rule is wrong.
    pub(super) fn into_stuck(mut self) -> Stuck {
        self.steps = 0;
        self.return_to_longest();
        while self.steps <= EXPLANATION_STEPS_MAX && !self.given_up.contains(&self.value) {
            self.given_up.push(self.value.clone());
            self.fixed_frames = self.frames.len();
            self.visited = Visited::default();
            let outcome = self.run(EXPLANATION_STEPS_MAX);
            assert!(outcome != Outcome::Order, "an order was overlooked");
            self.return_to_longest();
        }

        let prefix = self.frames.iter().map(|frame| source(self.prepared, frame.choice)).collect();
        let mut blocked = Vec::new();
        let mut place = self.events.first();
        let horizon = loop {
            match self.events.at(place) {
                Event::Call(number) => blocked.push(self.prepared.completed[number].source),
                Event::Return(number) => break self.prepared.completed[number].completed_at,
            }
            place = self.events.after(place);
        };
        let is_left = |number: &usize| {
            self.prepared.open[*number].invoked_at <= horizon
                && !self.linearized.contains_open(*number)
        };
        let open = (0..self.prepared.open.len()).filter(is_left);
        let open = open.map(|number| self.prepared.open[number].source).collect();
        Stuck { prefix, blocked, open }
    }

    fn return_to_longest(&mut self) {
        self.fixed_frames = 0;
        while self.leave().is_some() {}
        let choices = self.longest.as_ref().map(|(_, choices)| choices.clone()).unwrap_or_default();
        for choice in choices {
            let value = self.value_after(choice).expect("the prefix fitted before");
            self.enter(choice, value, Cursor::End);
        }
    }
}

fn source(prepared: &Prepared, choice: Choice) -> usize {
    match choice {
        Choice::Completed(number) => prepared.completed[number].source,
        Choice::Open(number) => prepared.open[number].source,
    }
}
