//! A worker's waiting callers, by ticket. Owned by its worker: no lock.

use quorate_host::Ticket;
use quorate_types::ShardId;
use slab::Slab;

use crate::calls::call::Completion;

/// One waiting caller.
pub(crate) struct PendingCall {
    pub(crate) completion: Completion,
    /// What it asked.
    pub(crate) shard: ShardId,
    /// Whether its call changes nothing.
    pub(crate) reads: bool,
}

/// Tickets are places, reused once they are free.
#[derive(Default)]
pub(crate) struct PendingCalls(Slab<PendingCall>);

impl PendingCalls {
    /// Keeps `caller` until it is answered.
    pub(crate) fn insert(&mut self, caller: PendingCall) -> Ticket {
        Ticket(self.0.insert(caller) as u64)
    }

    /// A caller who still waits.
    ///
    /// # Panics
    /// If the ticket was given back before.
    pub(crate) fn get(&self, ticket: Ticket) -> &PendingCall {
        self.0.get(place(ticket)).expect("a ticket is answered once")
    }

    /// Gives a caller back.
    ///
    /// # Panics
    /// If the ticket was given back before: a caller would be answered twice.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> PendingCall {
        self.0.try_remove(place(ticket)).expect("a ticket is answered once")
    }

    /// Gives every caller back.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = PendingCall> + '_ {
        self.0.drain()
    }
}

fn place(ticket: Ticket) -> usize {
    usize::try_from(ticket.0).expect("tickets are places")
}
