//! Exactly-once sessions: the interface, without the thing itself.
//!
//! Not built yet: [`Engine::open_session`] refuses. The signatures are final, so that code written
//! against them compiles unchanged once it does not.

use std::convert::Infallible;

use bytes::Bytes;
use quorate_machine::{KvCommand, KvReply};
use quorate_types::ShardId;

use crate::api::engine::Engine;
use crate::error::{Refusal, WriteError};

impl Engine {
    /// Opens a session, whose commands take effect exactly once although they are sent again after a
    /// lost answer.
    ///
    /// **Not built yet**: it always refuses, with [`Refusal::NotBuilt`]. Until then a write with an
    /// unknown outcome has to be looked up by who knows the operation.
    ///
    /// # Errors
    /// [`Refusal`]; for now always [`Refusal::NotBuilt`].
    pub async fn open_session(&self) -> Result<Session, Refusal> {
        Err(Refusal::NotBuilt { what: "sessions" })
    }
}

/// A client session (Ongaro, thesis 6.3). Can't be had yet: see [`Engine::open_session`].
///
/// Each command gets the session's next number and is replicated with it. A shard keeps the answers
/// of a session above the client's low-water mark, which is the lowest number without an answer;
/// they are part of its replicated state, bounded, in its snapshots, and copied by a split. A command
/// that comes again gets the kept answer and is not run again. So the engine itself may send a
/// command again whose answer was lost, which it never does without a session.
///
/// A session is not a lock and gives no order: commands under way at the same time may be applied in
/// any order. One that is not used for long expires.
#[derive(Debug)]
pub struct Session {
    /// Nobody has one: the compiler knows that what follows is never run.
    never: Infallible,
}

impl Session {
    /// Replicates any key-value command of one shard, exactly once.
    ///
    /// # Errors
    /// [`SessionError`]. A dropped future leaves the outcome unknown, as that of
    /// [`Engine::execute`].
    #[expect(unused_variables, reason = "nobody has a session yet")]
    pub async fn execute(&self, command: KvCommand) -> Result<KvReply, SessionError> {
        match self.never {}
    }

    /// Replicates a command of the configured state machine in the shard that owns `key`, exactly
    /// once; gives the machine's reply.
    ///
    /// # Errors
    /// As [`Session::execute`].
    #[expect(unused_variables, reason = "nobody has a session yet")]
    pub async fn execute_bytes(
        &self,
        key: &[u8],
        command: impl Into<Bytes>,
    ) -> Result<Bytes, SessionError> {
        match self.never {}
    }
}

/// Why a command of a session gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// As without a session; an unknown outcome means that the answer was not found in time, and
    /// sending the command again in this session is safe.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The shard has no such session: it expired, or was never opened. Whether the command ran
    /// before is unknown; it is never silently run (again). Open a new session.
    #[error("shard {shard} does not know this session: it expired; open another")]
    Unknown {
        /// The shard.
        shard: ShardId,
    },
    /// The command ran, exactly once, and its answer was dropped, because the client has said that
    /// it has all answers up to here. A client that uses one handle at a time never meets this.
    #[error(
        "request {sequence} of the session was answered before; answers below {low_water} are no \
         longer kept by shard {shard}"
    )]
    Superseded {
        /// The shard.
        shard: ShardId,
        /// The command's number within its session.
        sequence: u64,
        /// The client's low-water mark: the lowest number whose answer is kept.
        low_water: u64,
    },
}
