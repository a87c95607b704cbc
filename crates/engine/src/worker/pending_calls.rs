//! A worker's waiting callers, by ticket. Its worker owns them: no lock.

use quorate_host::Ticket;
use quorate_types::ShardId;
use slab::Slab;

use crate::calls::call::Completion;

/// One waiting caller.
pub(crate) struct PendingCall {
    pub(crate) completion: Completion,
    /// The shard that it called.
    pub(crate) shard: ShardId,
    /// Whether its call is a read and changes nothing.
    pub(crate) reads: bool,
}

/// Tickets are slots, reused once they are free.
#[derive(Default)]
pub(crate) struct PendingCalls(Slab<PendingCall>);

impl PendingCalls {
    /// Keeps `caller` until it is answered.
    pub(crate) fn insert(&mut self, caller: PendingCall) -> Ticket {
        Ticket(self.0.insert(caller) as u64)
    }

    /// The caller of `ticket`, which still waits.
    ///
    /// # Panics
    /// If the ticket was given back before.
    pub(crate) fn get(&self, ticket: Ticket) -> &PendingCall {
        self.0.get(place(ticket)).expect("a ticket is answered once")
    }

    /// Removes a caller and returns it.
    ///
    /// # Panics
    /// If the ticket was given back before: a caller would be answered twice.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> PendingCall {
        self.0.try_remove(place(ticket)).expect("a ticket is answered once")
    }

    /// Removes and returns every caller.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = PendingCall> + '_ {
        self.0.drain()
    }
}

fn place(ticket: Ticket) -> usize {
    usize::try_from(ticket.0).expect("tickets are places")
}
