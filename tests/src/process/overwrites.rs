//! A fixed set of keys that are written again and again, and how long each write took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_types::SplitMix64;
use tokio::task::{JoinHandle, JoinSet};

use super::any_port::AnyPort;
use super::redis_client::{Answer, Outcome, RedisClient, Request};
use super::wait::until;

/// Bytes of every value. They can't be compressed.
pub const VALUE_BYTES: usize = 4096;
/// Requests sent at once when many keys are written.
const BATCH: u64 = 64;
/// Connections over which many keys are written.
const FILLERS: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(20);
/// Pause between two writes of a writer that is measured, which leaves the cores to the nodes.
const THINK: Duration = Duration::from_millis(4);

/// Key number `number`; all keys are equally long.
#[must_use]
pub fn numbered_key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:010}"))
}

/// The value of the key in its version `version`.
#[must_use]
pub fn numbered_value(number: u64, version: u64) -> Bytes {
    let mut random = SplitMix64::new(number << 20 ^ version);
    (0..VALUE_BYTES / 8).flat_map(|_| random.bits().to_le_bytes()).collect()
}

/// Writes the keys `[from, to)` in `version`, through all `servers`. A write that was not
/// acknowledged is made again.
///
/// # Panics
/// If the servers refuse for long.
pub async fn fill(servers: &[SocketAddr], (from, to): (u64, u64), version: u64) {
    let next = Arc::new(AtomicU64::new(from));
    let mut fillers = JoinSet::new();
    for place in 0..FILLERS {
        let (next, server) = (Arc::clone(&next), servers[place as usize % servers.len()]);
        fillers.spawn(async move {
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= to {
                    return;
                }
                let set =
                    |number| Request::Set(numbered_key(number), numbered_value(number, version));
                exchange(server, (first..to.min(first + BATCH)).map(set).collect()).await;
            }
        });
    }
    while let Some(ended) = fillers.join_next().await {
        ended.expect("no filler panics");
    }
}

/// Reads the keys `[from, from + versions)` through `server`, and compares them.
///
/// # Panics
/// If one is not as written.
pub async fn assert_filled(server: SocketAddr, from: u64, versions: &[u64]) {
    for (chunk, versions) in (0..).zip(versions.chunks(BATCH as usize)) {
        let first = from + chunk * BATCH;
        let gets: Vec<Request> = (first..)
            .take(versions.len())
            .map(|number| Request::Get(numbered_key(number)))
            .collect();
        let outcomes = exchange(server, gets).await;
        for ((number, version), outcome) in (first..).zip(versions).zip(outcomes) {
            let expected = Answer::Value(Some(numbered_value(number, *version)));
            assert!(
                outcome == Outcome::Answered(expected),
                "key {number} is not as its write {version} left it, by {server}"
            );
        }
    }
}

/// Sends all requests at once, and again until each is answered.
async fn exchange(server: SocketAddr, requests: Vec<Request>) -> Vec<Outcome> {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let outcomes = match RedisClient::connect(server, PATIENCE).await {
            Ok(mut client) => client.pipeline(&requests).await,
            Err(error) => vec![Outcome::DidNotHappen(error.to_string())],
        };
        let is_answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered(_));
        if outcomes.iter().all(is_answered) {
            return outcomes;
        }
        let found = outcomes.iter().find(|outcome| !is_answered(outcome));
        assert!(Instant::now() < deadline, "{server} does not answer: {found:?}");
        tokio::time::sleep(RETRY).await;
    }
}

/// Writers that overwrite their own keys at random, each write measured, in phases.
pub struct Overwrites {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Vec<u64>>>,
}

struct Shared {
    stop: AtomicBool,
    phase: AtomicUsize,
    /// Of each phase, how long its writes took, in microseconds.
    took_us: Mutex<Vec<Vec<u64>>>,
}

impl Overwrites {
    /// Starts `writers` writers, through `servers`, each with `keys` keys from `first` on, which have
    /// version 0.
    #[must_use]
    pub fn start(servers: &[SocketAddr], writers: usize, first: u64, keys: u64) -> Overwrites {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            phase: AtomicUsize::new(0),
            took_us: Mutex::new(vec![Vec::new()]),
        });
        let writer = |place: usize| {
            let port = AnyPort::new(servers, place, PATIENCE);
            let first = first + place as u64 * keys;
            tokio::spawn(overwrite(Arc::clone(&shared), port, first, keys))
        };
        let writers = (0..writers).map(writer).collect();
        Overwrites { shared, writers }
    }

    /// Writes that begin from now on belong to the next phase.
    pub fn next_phase(&self) {
        self.shared.took_us.lock().push(Vec::new());
        self.shared.phase.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until `count` writes of this phase are acknowledged.
    ///
    /// # Panics
    /// If they are not within `within`.
    pub async fn flow(&self, count: usize, within: Duration) {
        until("the load goes on", within, async || {
            let found = self.shared.took_us.lock().last().expect("a phase").len();
            if found >= count { Ok(()) } else { Err(format!("{found} writes")) }
        })
        .await;
    }

    /// How many writes were acknowledged so far, in all phases.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.shared.took_us.lock().iter().map(Vec::len).sum()
    }

    /// Ends the writers. Returns the version of each key, and how long the writes of each phase took,
    /// ascending, in microseconds.
    ///
    /// # Panics
    /// If a writer panicked.
    pub async fn stop(self) -> (Vec<u64>, Vec<Vec<u64>>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut versions = Vec::new();
        for writer in self.writers {
            versions.extend(writer.await.expect("a writer does not panic"));
        }
        let mut took = std::mem::take(&mut *self.shared.took_us.lock());
        took.iter_mut().for_each(|phase| phase.sort_unstable());
        (versions, took)
    }
}

/// Each key has one writer, so its newest acknowledged version is what it must hold.
async fn overwrite(shared: Arc<Shared>, mut port: AnyPort, first: u64, keys: u64) -> Vec<u64> {
    let mut random = SplitMix64::new(first);
    let mut versions = vec![0; usize::try_from(keys).expect("few")];
    while !shared.stop.load(Ordering::Relaxed) {
        let number = random.below(keys);
        let version = &mut versions[number as usize];
        *version += 1;
        let (key, value) = (numbered_key(first + number), numbered_value(first + number, *version));
        let phase = shared.phase.load(Ordering::SeqCst);
        let began = Instant::now();
        // To the end, even if the load stops: the same value again changes nothing.
        while port.call(Request::Set(key.clone(), value.clone())).await
            != Outcome::Answered(Answer::Done)
        {
            tokio::time::sleep(RETRY).await;
        }
        let took = u64::try_from(began.elapsed().as_micros()).expect("a test is short");
        shared.took_us.lock()[phase].push(took);
        tokio::time::sleep(THINK).await;
    }
    versions
}
