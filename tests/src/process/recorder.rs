//! Records the requests of clients and their answers, for the linearizability checker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate::{Engine, ReadLevel, WriteError};
use quorate_node::redis::protocol::slot::KeyMaker;
use quorate_sim::linearizability::{
    ClientId, History, Limits, Operation, OperationId, Reply, Verdict,
};

use super::any_port::AnyPort;
use super::redis_client::{Answer, Outcome, Request};

/// A history that many clients write. Its times are microseconds since the history began.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    history: Mutex<History>,
    figures: Mutex<Figures>,
    values: AtomicU64,
}

/// Number of operations, by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Reads that were answered.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Writes whose outcome is unknown.
    pub unknown: u64,
    /// Writes that were refused, and reads without an answer, by the reason's first words.
    pub refused: BTreeMap<String, u64>,
}

/// A client: one of Redis, or the engine of a node.
pub enum Client {
    /// Over a Redis port.
    Redis(AnyPort),
    /// In this process.
    Engine(Engine),
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder {
            shared: Arc::new(Shared {
                began: Instant::now(),
                history: Mutex::default(),
                figures: Mutex::default(),
                values: AtomicU64::new(0),
            }),
        }
    }
}

impl Recorder {
    /// Lets `client` write to `key` a value that nobody has written before. True if acknowledged.
    pub async fn set(&self, id: u64, client: &mut Client, key: Bytes) -> bool {
        let number = self.shared.values.fetch_add(1, Ordering::Relaxed);
        let value = Bytes::from(format!("value-{number}"));
        let operation = Operation::Set(value.clone());
        self.run(id, client, key.clone(), operation, Request::Set(key, value)).await
    }

    /// Lets `client` read `key`. True if it was answered.
    pub async fn get(&self, id: u64, client: &mut Client, key: Bytes) -> bool {
        self.run(id, client, key.clone(), Operation::Get, Request::Get(key)).await
    }

    /// The number of operations so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared.figures.lock().clone()
    }

    /// Asserts that one order explains all answers. Computes for a while.
    ///
    /// # Panics
    /// With the checker's explanation, if there is none.
    pub fn assert_linearizable(&self) {
        let verdict = self.shared.history.lock().check(&Limits::default());
        assert!(verdict == Verdict::Linearizable, "{verdict}");
    }

    async fn run(
        &self,
        id: u64,
        client: &mut Client,
        key: Bytes,
        operation: Operation,
        request: Request,
    ) -> bool {
        let is_write = matches!(operation, Operation::Set(_));
        let invoked = self.now();
        let recorded = self.shared.history.lock().invoke(ClientId(id), invoked, key, operation);
        let outcome = client.call(request).await;
        let is_answered = matches!(outcome, Outcome::Answered(_));
        self.end(recorded, outcome, is_write);
        is_answered
    }

    fn end(&self, recorded: OperationId, outcome: Outcome, is_write: bool) {
        let at = self.now();
        let mut history = self.shared.history.lock();
        let mut figures = self.shared.figures.lock();
        match outcome {
            Outcome::Answered(Answer::Done) => {
                history.complete(recorded, at, Reply::Done);
                figures.writes += 1;
            }
            Outcome::Answered(Answer::Value(value)) => {
                history.complete(recorded, at, Reply::Value(value));
                figures.reads += 1;
            }
            Outcome::Answered(Answer::Integer(_)) => unreachable!("nobody increments"),
            // The write stays open in the history: it may take effect at any time from now on.
            Outcome::Unknown(_) if is_write => figures.unknown += 1,
            Outcome::Unknown(reason) | Outcome::DidNotHappen(reason) => {
                history.discard(recorded);
                *figures.refused.entry(kind_of(&reason)).or_default() += 1;
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_micros()).expect("a test is short")
    }
}

impl Client {
    async fn call(&mut self, request: Request) -> Outcome {
        match (self, request) {
            (Client::Redis(port), request) => port.call(request).await,
            (Client::Engine(engine), Request::Get(key)) => {
                match engine.get(&engine_key(&key), ReadLevel::Linearizable).await {
                    Ok(value) => Outcome::Answered(Answer::Value(value)),
                    Err(error) => Outcome::DidNotHappen(error.to_string()),
                }
            }
            (Client::Engine(engine), Request::Set(key, value)) => {
                match engine.put(engine_key(&key), value).await {
                    Ok(()) => Outcome::Answered(Answer::Done),
                    Err(error @ WriteError::DidNotHappen(_)) => {
                        Outcome::DidNotHappen(error.to_string())
                    }
                    Err(error @ WriteError::OutcomeUnknown(_)) => {
                        Outcome::Unknown(error.to_string())
                    }
                }
            }
            (Client::Engine(_), Request::Increment(_)) => unreachable!("nobody increments"),
        }
    }
}

/// The key under which the Redis port stores `key`.
fn engine_key(key: &[u8]) -> Bytes {
    KeyMaker::default().engine_key(key)
}

/// The reason without the parts that vary: addresses and numbers.
fn kind_of(reason: &str) -> String {
    reason.chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { reads, writes, unknown, refused } = self;
        let count: u64 = refused.values().sum();
        write!(f, "{reads} reads, {writes} writes, {unknown} unknown, {count} refused")?;
        refused.iter().try_for_each(|(reason, count)| write!(f, "\n  {count} x {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use super::*;

    /// A server of one connection that answers each request with the next of `answers`.
    fn serve(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            for answer in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).expect("read") > 0);
                stream.write_all(answer.as_bytes()).expect("sent");
            }
        });
        address
    }

    /// Goal: each answer reaches the checker with its true meaning. Method: one client sets and
    /// gets a key of servers that lie, or do not.
    #[tokio::test]
    async fn lies_are_found() {
        let value = "$7\r\nvalue-0\r\n";
        for (set, get, is_true) in [
            ("+OK\r\n", value, true),
            ("+OK\r\n", "$-1\r\n", false),
            ("-ERR outcome unknown: who knows\r\n", value, true),
            ("-ERR outcome unknown: who knows\r\n", "$-1\r\n", true),
            ("-CLUSTERDOWN Hash slot not served\r\n", value, false),
            ("-CLUSTERDOWN Hash slot not served\r\n", "$-1\r\n", true),
        ] {
            let recorder = Recorder::default();
            let server = serve(vec![set, get]);
            let mut client = Client::Redis(AnyPort::new(&[server], 0, Duration::from_secs(5)));
            recorder.set(1, &mut client, Bytes::from("key")).await;
            // Within one microsecond the order of the two would be unknown.
            let then = recorder.now();
            while recorder.now() == then {}
            assert!(recorder.get(1, &mut client, Bytes::from("key")).await);
            let verdict = recorder.shared.history.lock().check(&Limits::default());
            assert_eq!(verdict == Verdict::Linearizable, is_true, "{set:?} {get:?} {verdict}");
        }
    }
}
