//! Writes: sent to their shard's leader, and retried while they surely did not happen.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_host::HostRefusal;
use quorate_types::limits;
use tokio::sync::oneshot;

use crate::calls::call::Applied;
use crate::calls::call::{Call, CallKind, Completion, Outcome};
use crate::calls::progress::{ProgressSink, WriteProgress};
use crate::error::{Indeterminate, Refusal, WriteError};
use crate::peer::codec::RequestKind;
use crate::request::dispatch::{Dispatch, check_command_size};
use crate::request::retry::{Next, Retry, Target};
use crate::request::route::Route;

impl Dispatch {
    /// Replicates `command` in the shard that `find` gives, and reports each stage before the outcome to
    /// `progress`.
    pub(crate) async fn write(
        &self,
        find: impl Fn() -> Result<Route, Refusal>,
        command: Bytes,
        progress: Option<&Arc<WriteProgress>>,
    ) -> Result<Applied, WriteError> {
        let result = self.write_with_retries(find, command, progress).await;
        match &result {
            Ok(_) => {}
            Err(WriteError::DidNotHappen(_)) => self.counters().writes_refused.add(1),
            Err(WriteError::OutcomeUnknown(_)) => self.counters().writes_unknown.add(1),
        }
        result
    }

    /// Replicates `command` in the shard that `find` gives; `find` is called before each try,
    /// because one try may learn the route for the next.
    pub(crate) async fn write_with_retries(
        &self,
        find: impl Fn() -> Result<Route, Refusal>,
        command: Bytes,
        progress: Option<&Arc<WriteProgress>>,
    ) -> Result<Applied, WriteError> {
        check_command_size(&command).map_err(|invalid| WriteError::DidNotHappen(invalid.into()))?;
        let mut retry = Retry::new();
        loop {
            let route = find().map_err(WriteError::DidNotHappen)?;
            let sink = progress.map(WriteProgress::begin_try);
            let outcome = self.try_write(&route, &command, &retry, sink).await;
            let next = match outcome {
                Ok(Outcome::Applied(applied)) => return Ok(applied),
                Ok(outcome) => self.next_step(&route, outcome)?,
                Err(after) => {
                    return Err(WriteError::OutcomeUnknown(Indeterminate::Deadline { after }));
                }
            };
            retry.prepare(self, &route, next).await.map_err(WriteError::DidNotHappen)?;
        }
    }

    /// One try. An error is the time that passed until the deadline; the outcome is then unknown.
    async fn try_write(
        &self,
        route: &Route,
        command: &Bytes,
        retry: &Retry,
        sink: Option<ProgressSink>,
    ) -> Result<Outcome, Duration> {
        self.try_at(retry.target(self, route), route, command, retry, sink).await
    }

    /// One try at the given target. Otherwise as [`Dispatch::try_write`].
    pub(crate) async fn try_at(
        &self,
        target: Target,
        route: &Route,
        command: &Bytes,
        retry: &Retry,
        sink: Option<ProgressSink>,
    ) -> Result<Outcome, Duration> {
        match target {
            Target::Nowhere { unreached } => Ok(Target::nowhere(unreached)),
            Target::Here => {
                let (end, receiver) = oneshot::channel();
                let completion = match sink {
                    None => Completion::Local(end),
                    Some(progress) => Completion::Submitted { end, progress },
                };
                let call = Call {
                    shard: route.shard,
                    descriptor_version: route.descriptor_version,
                    kind: CallKind::Write(command.clone()),
                    completion,
                };
                match self.submit(call) {
                    Ok(()) => retry.end_of(receiver).await,
                    Err(outcome) => Ok(outcome),
                }
            }
            Target::Node(node) => {
                let kind = match sink {
                    None => RequestKind::Write,
                    Some(_) => RequestKind::WriteWithProgress,
                };
                match self.forward(route, node, kind, command.clone(), sink) {
                    Ok(mut asked) => retry.end_of_forward(route, node, &mut asked).await,
                    Err(outcome) => Ok(outcome),
                }
            }
            // Without the stages: only a try that waits for the leader itself gets them.
            Target::Via(node) => {
                match self.forward(route, node, RequestKind::RelayedWrite, command.clone(), None) {
                    Ok(mut asked) => retry.end_of(asked.answer()).await,
                    Err(outcome) => Ok(outcome),
                }
            }
        }
    }

    /// Whether another try may help, and what it should know.
    fn next_step(&self, route: &Route, outcome: Outcome) -> Result<Next, WriteError> {
        let unknown = |indeterminate| Err(WriteError::OutcomeUnknown(indeterminate));
        match outcome {
            Outcome::Refused(HostRefusal::NotLeader { leader })
            | Outcome::LeaderChanged { leader } => Ok(Next::Leader(leader)),
            Outcome::Refused(HostRefusal::Busy) => Ok(Next::Busy),
            Outcome::Unreachable { node } => Ok(Next::Unreachable(node)),
            Outcome::DiskLow { node, low, is_relieved: true } => Ok(Next::DiskLow(node, low)),
            Outcome::DiskLow { node, low, is_relieved: false } => {
                let shard = route.shard;
                Err(WriteError::DidNotHappen(Refusal::DiskLow { shard, node, low }))
            }
            Outcome::Refused(_) => Ok(Next::Leader(None)),
            Outcome::Stale(current) => Ok(Next::Descriptor(current)),
            Outcome::Stopping if self.is_stopped() => Err(WriteError::DidNotHappen(self.stopped())),
            Outcome::Stopping => Ok(Next::Leader(None)),
            Outcome::UnknownLeaderChanged => {
                unknown(Indeterminate::LeaderChanged { shard: route.shard })
            }
            Outcome::UnknownStopped => unknown(Indeterminate::Stopped),
            Outcome::ReplyTooLarge { bytes: found } => {
                unknown(Indeterminate::ReplyTooLarge { found, max: limits::FRAME_BYTES_MAX })
            }
            Outcome::UnknownConnectionLost { node } => {
                unknown(Indeterminate::ConnectionLost { node })
            }
            Outcome::Malformed => Err(WriteError::DidNotHappen(Refusal::UnknownCommand)),
            // This version never sends these; but another node's bytes must not stop this one.
            Outcome::Applied(_)
            | Outcome::Reply(_)
            | Outcome::ReadAt(_)
            | Outcome::TransferBegun => {
                unknown(Indeterminate::UnreadableReply { reply: "it answers no write".to_owned() })
            }
        }
    }
}

#[cfg(test)]
#[path = "writes_tests.rs"]
mod tests;
