//! A list of the calls and returns of completed operations in time order. Operations are lifted out
//! as they are linearized, and put back in reverse order (Lowe 2017, section 4).

use super::prepare::Completed;

/// A place in the list. The list is a ring through its head, which is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

const HEAD: Place = Place(0);

/// What happens at a place; operations are named by their position in [`Events::new`]'s slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Call(usize),
    Return(usize),
}

pub(super) struct Events {
    /// By place; the head's is never read.
    events: Vec<Event>,
    next: Vec<Place>,
    previous: Vec<Place>,
    /// By operation.
    calls: Vec<Place>,
    returns: Vec<Place>,
}

impl Events {
    pub(super) fn new(operations: &[Completed]) -> Events {
        let mut timeline: Vec<(u64, Event)> = Vec::with_capacity(2 * operations.len());
        for (number, operation) in operations.iter().enumerate() {
            timeline.push((operation.invoked_at, Event::Call(number)));
            timeline.push((operation.completed_at, Event::Return(number)));
        }
        // Calls sort ahead of returns of the same time: such operations are concurrent.
        timeline.sort_unstable();
        let places = timeline.len() + 1;
        let mut calls = vec![HEAD; operations.len()];
        let mut returns = calls.clone();
        let mut events = vec![Event::Return(usize::MAX)];
        for (position, (_, event)) in timeline.into_iter().enumerate() {
            events.push(event);
            match event {
                Event::Call(number) => calls[number] = Place(position + 1),
                Event::Return(number) => returns[number] = Place(position + 1),
            }
        }
        Events {
            events,
            next: (0..places).map(|place| Place((place + 1) % places)).collect(),
            previous: (0..places).map(|place| Place((place + places - 1) % places)).collect(),
            calls,
            returns,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first() == HEAD
    }

    pub(super) fn first(&self) -> Place {
        self.next[HEAD.0]
    }

    pub(super) fn after(&self, place: Place) -> Place {
        self.next[place.0]
    }

    /// # Panics
    /// If `place` is the head.
    pub(super) fn at(&self, place: Place) -> Event {
        assert!(place != HEAD, "the head is no event");
        self.events[place.0]
    }

    /// Takes an operation out of the list.
    pub(super) fn lift(&mut self, number: usize) {
        self.unlink(self.calls[number]);
        self.unlink(self.returns[number]);
    }

    /// Puts an operation back. It must be the last lifted one that is not back yet.
    pub(super) fn unlift(&mut self, number: usize) {
        self.relink(self.returns[number]);
        self.relink(self.calls[number]);
    }

    fn unlink(&mut self, place: Place) {
        let (previous, next) = (self.previous[place.0], self.next[place.0]);
        self.next[previous.0] = next;
        self.previous[next.0] = previous;
    }

    fn relink(&mut self, place: Place) {
        let (previous, next) = (self.previous[place.0], self.next[place.0]);
        self.next[previous.0] = place;
        self.previous[next.0] = place;
    }
}
