//! Writers that record what they were told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::any_port::AnyPort;
use super::redis_client::{Answer, Outcome, Request};
use super::wait::until;

/// How long a writer waits for one answer before it asks another node: longer than a node waits for
/// a killed one, so that the measured time is the cluster's and not this timeout.
const PATIENCE: Duration = Duration::from_secs(8);
/// Pause between two tries of one write.
const RETRY: Duration = Duration::from_millis(20);
/// Pause between two writes of one writer, which leaves the cores to the nodes.
const THINK: Duration = Duration::from_millis(2);
/// This many writes of each writer touch every shard of the small clusters here.
const ROUND: u64 = 24;
const SETS_PER_INCREMENT: u64 = 8;

/// What all writers together were told.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Keys with the value that was acknowledged; each key was written with one value only.
    pub sets: Vec<(Bytes, Bytes)>,
    /// One counter for each writer.
    pub counters: Vec<Counter>,
    /// Tries that ended with an unknown outcome.
    pub unknown: u64,
    /// Tries that were refused.
    pub refused: u64,
}

/// The outcomes of the increments of one key.
#[derive(Clone, Debug)]
pub struct Counter {
    /// The key.
    pub key: Bytes,
    /// Increments that were acknowledged.
    pub acknowledged: i64,
    /// Increments whose outcome is unknown.
    pub unknown: i64,
}

/// Running writers.
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Written>>,
}

struct Shared {
    stop: AtomicBool,
    /// Acknowledged writes of each writer.
    acknowledged: Vec<AtomicU64>,
    slowest_us: AtomicU64,
}

impl Load {
    /// Starts `writers` writers, spread over `servers`. Their keys begin with `label`, which no other
    /// load of the cluster may have.
    #[must_use]
    pub fn start(label: &str, servers: &[SocketAddr], writers: usize) -> Load {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            acknowledged: (0..writers).map(|_| AtomicU64::new(0)).collect(),
            slowest_us: AtomicU64::new(0),
        });
        let writer = |number| {
            let shared = shared.clone();
            let port = AnyPort::new(servers, number, PATIENCE);
            let label = format!("{label}-{number}");
            let key = Bytes::from(format!("{label}-counter"));
            let counter = Counter { key, acknowledged: 0, unknown: 0 };
            let written = Written::default();
            tokio::spawn(Writer { number, label, shared, port, written, counter }.run())
        };
        let writers = (0..writers).map(writer).collect();
        Load { shared, writers }
    }

    /// Waits until every writer has had so many more writes acknowledged that they touch every
    /// shard. Returns the longest time from the first try of a write to its acknowledgement, of
    /// those that ended since the last call.
    ///
    /// # Panics
    /// If a writer does not get so far within `within`.
    pub async fn flow(&self, within: Duration) -> Duration {
        let aims: Vec<u64> = self.acknowledged().map(|count| count + ROUND).collect();
        until("every writer goes on", within, async || {
            let counts: Vec<u64> = self.acknowledged().collect();
            let missing = counts.iter().zip(&aims).filter(|(count, aim)| count < aim).count();
            if missing == 0 { Ok(()) } else { Err(format!("{missing} writers wait")) }
        })
        .await;
        Duration::from_micros(self.shared.slowest_us.swap(0, Ordering::Relaxed))
    }

    /// Ends the writers and returns what they were told. Writes that are being retried are given
    /// up.
    ///
    /// # Panics
    /// If a writer panicked.
    pub async fn stop(self) -> Written {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for writer in self.writers {
            let written = writer.await.expect("a writer does not panic");
            all.sets.extend(written.sets);
            all.counters.extend(written.counters);
            all.unknown += written.unknown;
            all.refused += written.refused;
        }
        all
    }

    fn acknowledged(&self) -> impl Iterator<Item = u64> {
        self.shared.acknowledged.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

struct Writer {
    number: usize,
    label: String,
    shared: Arc<Shared>,
    port: AnyPort,
    written: Written,
    counter: Counter,
}

impl Writer {
    async fn run(mut self) -> Written {
        let mut number = 0u64;
        while !self.is_stopped() {
            let began = Instant::now();
            let is_acknowledged = match number % SETS_PER_INCREMENT {
                0 => self.increment().await,
                _ => self.set(number).await,
            };
            number += 1;
            if is_acknowledged {
                let took = u64::try_from(began.elapsed().as_micros()).expect("a test is short");
                self.shared.slowest_us.fetch_max(took, Ordering::Relaxed);
                self.shared.acknowledged[self.number].fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(THINK).await;
        }
        self.written.counters.push(self.counter);
        self.written
    }

    /// Retries until the write is acknowledged: the same value again changes nothing.
    async fn set(&mut self, number: u64) -> bool {
        let key = Bytes::from(format!("{}-{number}", self.label));
        let value = Bytes::from(format!("value of {}-{number}", self.label));
        while !self.is_stopped() {
            match self.port.call(Request::Set(key.clone(), value.clone())).await {
                Outcome::Answered(answer) => {
                    assert_eq!(answer, Answer::Done);
                    self.written.sets.push((key, value));
                    return true;
                }
                Outcome::Unknown(_) => self.written.unknown += 1,
                Outcome::DidNotHappen(_) => self.written.refused += 1,
            }
            tokio::time::sleep(RETRY).await;
        }
        false
    }

    /// Retries until the increment is acknowledged or its outcome is unknown, and never after that.
    async fn increment(&mut self) -> bool {
        while !self.is_stopped() {
            match self.port.call(Request::Increment(self.counter.key.clone())).await {
                Outcome::Answered(_) => {
                    self.counter.acknowledged += 1;
                    return true;
                }
                Outcome::Unknown(_) => {
                    self.counter.unknown += 1;
                    self.written.unknown += 1;
                    return false;
                }
                Outcome::DidNotHappen(_) => self.written.refused += 1,
            }
            tokio::time::sleep(RETRY).await;
        }
        false
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }
}
