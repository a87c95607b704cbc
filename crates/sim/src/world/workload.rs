//! The interface for embedders: which commands the world's clients send, what interprets them, and
//! how their replies are judged.

use bytes::Bytes;
use quorate_machine::{OrderedMap, StateMachine};
use quorate_types::{ShardId, SplitMix64};

use crate::linearizability::{ClientId, History};

/// When and where something is asked or answered.
pub struct Moment<'a> {
    /// Simulated true time in nanoseconds.
    pub now: u64,
    /// The world's source of chance; there may be no other.
    pub random: &'a mut SplitMix64,
    /// The world's history of reads and writes of keys, checked at the end. A workload with a model
    /// of its own leaves it alone.
    pub history: &'a mut History,
}

/// What a client asks of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A command for the state machine.
    Write(Bytes),
    /// A linearizable look at the shard's data.
    Read,
}

/// How a request ended. One whose outcome stays unknown ends never: it took effect at any time after
/// it was asked, or it never will.
pub enum Outcome<'a> {
    /// The machine's reply to a write.
    Written(&'a Bytes),
    /// The data that a read sees.
    Read(&'a mut dyn OrderedMap),
    /// It did not take effect, and never will.
    DidNotHappen,
}

/// Makes requests and judges their answers. The world calls it at the client's side: at the moment of
/// asking, and at the moment of the answer.
///
/// A database author implements it, with the machine of his database, to run that through every
/// fault of this world; [`crate::KvWorkload`] is the one of the built-in store.
pub trait Workload {
    /// A machine for one replica, over an empty map.
    fn machine(&self) -> Box<dyn StateMachine>;

    /// A client's next request, `number`, to `shard`.
    fn ask(&mut self, moment: Moment<'_>, client: ClientId, shard: ShardId, number: u64) -> Ask;

    /// The request `number` ended.
    ///
    /// # Errors
    /// What is wrong with that, for people: it fails the seed.
    fn answer(
        &mut self,
        moment: Moment<'_>,
        number: u64,
        outcome: Outcome<'_>,
    ) -> Result<(), String>;

    /// The world has come to its end: what a model can say only now.
    ///
    /// # Errors
    /// As for [`Workload::answer`].
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}
