//! The progress of a submitted write before its outcome, from the thread or peer that works on it
//! to the caller that watches it.

use std::sync::Arc;

use quorate_types::LogId;
use tokio::sync::watch;

use crate::calls::call::Applied;
use crate::error::WriteError;

/// A stage before the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The entry is in the leader's log at this place.
    Accepted(LogId),
    /// That place is committed.
    Committed(LogId),
}

/// All that is known of a submitted write.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Counts tries; stages reported by an earlier try are ignored.
    attempt: u32,
    /// The place that the newest try was accepted at.
    pub(crate) accepted: Option<LogId>,
    /// The place that the newest try was committed at.
    pub(crate) committed: Option<LogId>,
    pub(crate) end: Option<Result<Applied, WriteError>>,
}

/// Collects everything that is known of one submitted write.
#[derive(Debug)]
pub(crate) struct WriteProgress {
    known: watch::Sender<Known>,
}

impl WriteProgress {
    pub(crate) fn new() -> WriteProgress {
        WriteProgress { known: watch::Sender::new(Known::default()) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Begins a new try; the places of earlier tries are forgotten.
    pub(crate) fn begin_try(self: &Arc<Self>) -> ProgressSink {
        let mut attempt = 0;
        self.known.send_modify(|known| {
            known.attempt += 1;
            attempt = known.attempt;
            known.accepted = None;
            known.committed = None;
        });
        ProgressSink { progress: Arc::clone(self), attempt }
    }

    /// Sets the outcome; only the first call counts.
    pub(crate) fn end(&self, end: Result<Applied, WriteError>) {
        self.known.send_if_modified(|known| {
            let first = known.end.is_none();
            if first {
                known.end = Some(end);
            }
            first
        });
    }
}

/// Takes the stages of one try.
#[derive(Clone, Debug)]
pub(crate) struct ProgressSink {
    progress: Arc<WriteProgress>,
    attempt: u32,
}

impl ProgressSink {
    /// Never blocks. Ignored once the try is over.
    pub(crate) fn tell(&self, stage: Stage) {
        self.progress.known.send_if_modified(|known| {
            if known.attempt != self.attempt || known.end.is_some() {
                return false;
            }
            match stage {
                Stage::Accepted(id) => known.accepted = Some(id),
                Stage::Committed(id) => {
                    known.accepted = Some(id);
                    known.committed = Some(id);
                }
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::{Index, Term};

    /// Goal: a stage reported by an earlier try or too late never shows. Method: interleaved tries.
    #[test]
    fn only_the_newest_try_is_heard() {
        let place = |term, index| LogId::new(Term(term), Index(index));
        let progress = Arc::new(WriteProgress::new());
        let receiver = progress.subscribe();
        let seen = || (receiver.borrow().accepted, receiver.borrow().committed);

        let first = progress.begin_try();
        first.tell(Stage::Accepted(place(1, 5)));
        assert_eq!(seen(), (Some(place(1, 5)), None));
        let second = progress.begin_try();
        assert_eq!(seen(), (None, None), "the first try's place is void");
        first.tell(Stage::Committed(place(1, 5)));
        assert_eq!(seen(), (None, None), "a straggler of the first try");
        second.tell(Stage::Committed(place(2, 7)));
        assert_eq!(seen(), (Some(place(2, 7)), Some(place(2, 7))), "committed implies accepted");

        let applied = Applied { id: place(2, 7), reply: bytes::Bytes::new() };
        progress.end(Ok(applied.clone()));
        progress.end(Err(WriteError::OutcomeUnknown(crate::error::Indeterminate::Stopped)));
        second.tell(Stage::Accepted(place(9, 9)));
        assert_eq!(receiver.borrow().end, Some(Ok(applied)), "the first end counts");
        assert_eq!(seen().0, Some(place(2, 7)), "nothing is heard after the end");
    }
}
