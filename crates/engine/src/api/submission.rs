//! Writes that report their progress.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use quorate_types::{LogId, limits};
use tokio::sync::watch;

use crate::api::engine::Engine;
use crate::calls::call::Applied;
use crate::calls::progress::{Known, WriteProgress};
use crate::error::{Indeterminate, Refusal, WriteError};
use crate::request::dispatch::Dispatch;
use crate::state::budget::Share;
use crate::state::tasks::guarded;

/// Most submissions of one engine under way: as many as one peer may be asked at once.
pub(crate) const SUBMISSIONS_MAX: usize = limits::FORWARDS_PENDING_MAX;
/// Most bytes of their commands: as many as may wait for one worker. The largest command fits.
pub(crate) const SUBMISSIONS_BYTES_MAX: usize = limits::INBOX_BYTES_MAX;
/// About the time that a full turn takes.
const BUSY_WAIT: Duration = Duration::from_millis(10);

const _: () = assert!(limits::COMMAND_BYTES_MAX <= SUBMISSIONS_BYTES_MAX);

impl Engine {
    /// As [`Engine::execute_bytes`], and also returns the entry's place, to wait elsewhere until it
    /// is applied ([`PositionWatch::wait_applied`](crate::PositionWatch::wait_applied)).
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub async fn execute_at(
        &self,
        key: &[u8],
        command: impl Into<Bytes>,
    ) -> Result<Applied, WriteError> {
        let dispatch = self.running.dispatch();
        dispatch.write(|| dispatch.route(key), command.into(), None).await
    }

    /// Begins to replicate a command of the configured state machine in the shard that owns `key`,
    /// here or on another node, and reports its stages: accepted, committed, applied.
    ///
    /// The write starts at once and runs in a task of the caller's tokio runtime: it does not have
    /// to be awaited, and if the [`Submission`] is dropped it continues, but its outcome stays
    /// unknown. Submissions of one thread enter their shard's log in the order of the calls, unless
    /// one of them has to be tried again. Does not block. The engine ends the write after at most
    /// [`limits::REQUEST_TIMEOUT`](crate::limits::REQUEST_TIMEOUT), or when the engine stops;
    /// dropping its last handle stops it.
    ///
    /// At most 65,536 submissions with commands of 64 MiB in all may be under way in one engine; a
    /// further one is refused at once with [`Refusal::Busy`].
    ///
    /// # Panics
    /// If called outside of a tokio runtime with time enabled.
    pub fn submit(&self, key: &[u8], command: impl Into<Bytes>) -> Submission {
        let progress = Arc::new(WriteProgress::new());
        let known = progress.subscribe();
        let dispatch = Arc::clone(self.running.dispatch());
        let fatal = Arc::clone(&self.running.state().fatal);
        let command = command.into();
        let Some(share) = self.submissions.take(command.len()) else {
            let busy = Refusal::Busy { what: "the room for submissions", wait: BUSY_WAIT };
            progress.end(Err(WriteError::DidNotHappen(busy)));
            return Submission { known };
        };
        let write = Write { progress, over: false, _share: share };
        let mut work = Box::pin(write.run(dispatch, Bytes::copy_from_slice(key), command));
        // The first step is taken here, so that the order of the calls is the order of arrival.
        // The task polls again, with a waker of its own.
        let first = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if first.is_pending() {
            tokio::spawn(guarded(fatal, "submission", work));
        }
        Submission { known }
    }
}

/// A submitted write that is running.
struct Write {
    progress: Arc<WriteProgress>,
    over: bool,
    _share: Share,
}

impl Write {
    async fn run(mut self, dispatch: Arc<Dispatch>, key: Bytes, command: Bytes) {
        let end = dispatch.write(|| dispatch.route(&key), command, Some(&self.progress)).await;
        // A caller that learns the outcome must not find that this task still holds the engine's
        // port.
        drop(dispatch);
        self.progress.end(end);
        self.over = true;
    }
}

impl Drop for Write {
    /// The runtime is shutting down, or the write panicked: callers that wait elsewhere are
    /// answered.
    fn drop(&mut self) {
        if !self.over {
            self.progress.end(Err(WriteError::OutcomeUnknown(Indeterminate::Stopped)));
        }
    }
}

/// A write under way. Made by [`Engine::submit`].
///
/// Each stage may be awaited at any time, in any order, repeatedly and by several tasks. A later
/// stage implies the earlier ones. If a write is not applied, every stage returns the same error,
/// even a stage that was reached before.
#[derive(Clone, Debug)]
pub struct Submission {
    known: watch::Receiver<Known>,
}

impl Submission {
    /// Waits until the leader's log has accepted the command, and returns its place there.
    ///
    /// This is no promise: if leadership changes before the place is committed, the write may never
    /// happen. If the engine knows that it did not, it retries at another place: this returns the
    /// place of the newest try, which a later try may supersede.
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub async fn accepted(&self) -> Result<LogId, WriteError> {
        self.wait(|known| known.accepted).await
    }

    /// Waits until the place is committed: a majority has the entry durably, and every replica will
    /// reach it.
    ///
    /// Only [`Submission::applied`] gives the outcome. If the shard's range has changed since the
    /// command was routed, the committed entry does nothing on any replica, and the engine retries.
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub async fn committed(&self) -> Result<LogId, WriteError> {
        self.wait(|known| known.committed).await
    }

    /// Waits for the outcome: the command has been applied on the leader's node.
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub async fn applied(&self) -> Result<Applied, WriteError> {
        self.end(|_| None).await
    }

    async fn wait(&self, stage: impl Fn(&Known) -> Option<LogId>) -> Result<LogId, WriteError> {
        let place = |known: &Known| Some(Applied { id: stage(known)?, reply: Bytes::new() });
        Ok(self.end(place).await?.id)
    }

    /// Waits for the outcome, or until `reached` returns something.
    async fn end(
        &self,
        reached: impl Fn(&Known) -> Option<Applied>,
    ) -> Result<Applied, WriteError> {
        let mut known = self.known.clone();
        let mut found = None;
        let waited = known.wait_for(|known| {
            found = known.end.clone().or_else(|| reached(known).map(Ok));
            found.is_some()
        });
        drop(waited.await);
        // The writer is gone and left no outcome.
        found.unwrap_or(Err(WriteError::OutcomeUnknown(Indeterminate::Stopped)))
    }
}
