//! A worker's waiting callers, by ticket. Owned by its worker: no lock.

use quorate_host::Ticket;

use crate::call::Completion;

/// A slab: tickets are places, reused once they are free.
#[derive(Default)]
pub(crate) struct Callers {
    places: Vec<Option<(Completion, bool)>>,
    free: Vec<usize>,
}

impl Callers {
    /// Keeps `completion`; `read` says whether the call changes nothing.
    pub(crate) fn insert(&mut self, completion: Completion, read: bool) -> Ticket {
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = Some((completion, read));
                place
            }
            None => {
                self.places.push(Some((completion, read)));
                self.places.len() - 1
            }
        };
        Ticket(place as u64)
    }

    /// Gives a completion back.
    ///
    /// # Panics
    /// If the ticket was given back before: a caller would be answered twice.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Completion {
        let place = usize::try_from(ticket.0).expect("tickets are places");
        let (completion, _) = self.places[place].take().expect("a ticket is answered once");
        self.free.push(place);
        completion
    }

    /// Gives every completion back, with whether it was a read.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Completion, bool)> + '_ {
        self.free.clear();
        self.places.drain(..).flatten()
    }
}
