//! The interface for embedders: a workload says which commands the world's clients send, which
//! machine interprets them, and whether the replies are right.

use bytes::Bytes;
use quorate_machine::{OrderedMap, StateMachine};
use quorate_types::{ShardId, SplitMix64};

use crate::linearizability::{ClientId, History};

/// The moment of a request or an answer: its time, and the world's state that a workload may use.
pub struct Moment<'a> {
    /// Simulated true time in nanoseconds.
    pub now: u64,
    /// The world's random numbers; a workload must use no others.
    pub random: &'a mut SplitMix64,
    /// The world's history of reads and writes of keys, checked at the end. A workload that checks
    /// with another model does not use it.
    pub history: &'a mut History,
}

/// What a client asks of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A command for the state machine.
    Write(Bytes),
    /// A linearizable read of the shard's data.
    Read,
}

/// How a request ended. A request whose outcome stays unknown never ends: it may take effect at any
/// time after it was sent, or never.
pub enum Outcome<'a> {
    /// The machine's reply to a write.
    Written(&'a Bytes),
    /// The data that the read sees.
    Read(&'a mut dyn OrderedMap),
    /// The request did not take effect, and never will.
    DidNotHappen,
}

/// Makes requests and judges their answers. The world calls it at the client's side: when a
/// client sends a request, and when it receives the answer.
///
/// A database author implements it with the database's machine, to run that through every fault of
/// this world; [`crate::KvWorkload`] is the workload of the built-in store.
pub trait Workload {
    /// Makes a machine for one replica, over an empty map.
    fn machine(&self) -> Box<dyn StateMachine>;

    /// Makes a client's next request to `shard`; `number` names the request.
    fn ask(&mut self, moment: Moment<'_>, client: ClientId, shard: ShardId, number: u64) -> Ask;

    /// Judges the outcome of request `number`.
    ///
    /// # Errors
    /// What is wrong with the outcome, for people to read: it fails the seed.
    fn answer(
        &mut self,
        moment: Moment<'_>,
        number: u64,
        outcome: Outcome<'_>,
    ) -> Result<(), String>;

    /// Makes the checks that are possible only at the world's end.
    ///
    /// # Errors
    /// As for [`Workload::answer`].
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}
