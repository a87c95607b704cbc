//! What a port does while it can't accept connections: it waits longer each time, and logs it once.

use std::io;
use std::time::{Duration, Instant};

/// First wait after a failure; doubled by each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest wait. A client in the backlog is delayed by no more than a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Time without a failure after which the trouble counts as over. While descriptors are short, single
/// accepts still succeed now and then.
const CALM: Duration = Duration::from_secs(10);

/// The failures of one port to accept, if there are any.
#[derive(Debug)]
pub(crate) struct AcceptTrouble {
    port: &'static str,
    spell: Option<Spell>,
}

/// A series of failures.
#[derive(Debug)]
struct Spell {
    failures: u64,
    last: Instant,
    pause: Duration,
}

impl AcceptTrouble {
    /// No failures yet, on the port named `port`.
    pub(crate) fn none(port: &'static str) -> AcceptTrouble {
        AcceptTrouble { port, spell: None }
    }

    /// Notes that an accept failed `now`, and returns how long to wait before the next one. Logs
    /// the first failure of a spell only.
    pub(crate) fn note_failure(&mut self, error: &io::Error, now: Instant) -> Duration {
        if is_of_one_connection(error) {
            return Duration::ZERO;
        }
        self.note_calm(now);
        match &mut self.spell {
            Some(spell) => {
                spell.failures += 1;
                spell.last = now;
                spell.pause = (spell.pause * 2).min(PAUSE_MAX);
                spell.pause
            }
            None => {
                tracing::warn!(%error, "{} can't accept connections; it tries again", self.port);
                self.spell = Some(Spell { failures: 1, last: now, pause: PAUSE_FIRST });
                PAUSE_FIRST
            }
        }
    }

    /// Notes that an accept succeeded `now`. Logs the end of a spell.
    pub(crate) fn note_success(&mut self, now: Instant) {
        self.note_calm(now);
        if let Some(spell) = &mut self.spell {
            spell.pause = PAUSE_FIRST;
        }
    }

    fn note_calm(&mut self, now: Instant) {
        if let Some(spell) = self.spell.take_if(|spell| now - spell.last >= CALM) {
            let failures = spell.failures;
            tracing::warn!(failures, "{} accepts connections again", self.port);
        }
    }
}

/// True if a connection died before it was accepted: a fault of that connection, not of the port.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// Keeps the logged lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Lines;

        fn make_writer(&'a self) -> Lines {
            self.clone()
        }
    }

    /// Goal: a port that fails for long waits instead of spinning, and logs only the beginning and
    /// the end. Method: minutes of failures with a success now and then, on an invented clock.
    #[test]
    fn trouble_is_told_once_and_waits_grow() {
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let mut now = Instant::now();
        let mut trouble = AcceptTrouble::none("the port");
        let starved = io::Error::from_raw_os_error(24);
        let mut waits = Vec::new();
        for round in 0..500 {
            let wait = trouble.note_failure(&starved, now);
            waits.push(wait);
            now += wait;
            if round % 50 == 49 {
                trouble.note_success(now);
            }
        }
        assert_eq!(waits[..3], [50, 100, 200].map(Duration::from_millis));
        assert_eq!(waits[20], PAUSE_MAX);
        assert_eq!(
            trouble.note_failure(&io::ErrorKind::ConnectionAborted.into(), now),
            Duration::ZERO
        );
        trouble.note_success(now + CALM);
        let text = String::from_utf8(lines.0.lock().clone()).expect("text");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("can't accept") && text.contains("failures=500"), "{text}");
    }
}
