//! A worker's waiting callers, by ticket. Owned by its worker: no lock.

use quorate_host::Ticket;
use quorate_types::ShardId;

use crate::call::call::Completion;

/// One waiting caller.
pub(crate) struct PendingCall {
    pub(crate) completion: Completion,
    /// What it asked.
    pub(crate) shard: ShardId,
    /// Whether its call changes nothing.
    pub(crate) reads: bool,
}

/// A slab: tickets are places, reused once they are free.
#[derive(Default)]
pub(crate) struct PendingCalls {
    places: Vec<Option<PendingCall>>,
    free: Vec<usize>,
}

impl PendingCalls {
    /// Keeps `caller` until it is answered.
    pub(crate) fn insert(&mut self, caller: PendingCall) -> Ticket {
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(caller);
                place
            }
            None => {
                self.places.push(Some(caller));
                self.places.len() - 1
            }
        };
        Ticket(place as u64)
    }

    /// A caller who still waits.
    ///
    /// # Panics
    /// If the ticket was given back before.
    pub(crate) fn get(&self, ticket: Ticket) -> &PendingCall {
        let place = usize::try_from(ticket.0).expect("tickets are places");
        self.places[place].as_ref().expect("a ticket is answered once")
    }

    /// Gives a caller back.
    ///
    /// # Panics
    /// If the ticket was given back before: a caller would be answered twice.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> PendingCall {
        let place = usize::try_from(ticket.0).expect("tickets are places");
        let caller = self.places[place].take().expect("a ticket is answered once");
        self.free.push(place);
        caller
    }

    /// Gives every caller back.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = PendingCall> + '_ {
        self.free.clear();
        self.places.drain(..).flatten()
    }
}
