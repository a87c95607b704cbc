//! The load: a fixed number of operations under way, each measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use quorate::{Engine, KvCommand, ReadLevel};
use quorate_types::SplitMix64;

use super::config::{BenchConfig, ClientPlace, Mode};
use super::host;
use crate::process::concurrent::{Task, run_all};
use crate::redis::protocol::slot::SLOTS;

/// Keys that operations choose from.
const KEYS: u64 = 1_000_000;
/// Longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Keys written by one command before reads are measured; they share a slot and so a shard.
const FILL_WIDTH: usize = 256;

/// The results of the window.
pub(super) struct Measured {
    pub(super) latencies_us: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) syncs: u64,
    pub(super) log_writes: u64,
    pub(super) udp_bytes_sent: u64,
}

struct Shared {
    mode: Mode,
    client: ClientPlace,
    engines: Vec<Engine>,
    payload: Bytes,
    measuring: AtomicBool,
    stopping: AtomicBool,
    errors: AtomicU64,
    /// One for each group of callers, so that few share a lock.
    latencies: Vec<Mutex<Histogram<u64>>>,
    first_error: Mutex<Option<String>>,
}

pub(super) async fn run(config: &BenchConfig, engines: &[Engine]) -> anyhow::Result<Measured> {
    let histogram = || Histogram::new_with_max(LATENCY_US_MAX, 3);
    let groups = (0..16).map(|_| Ok(Mutex::new(histogram()?)));
    let shared = Arc::new(Shared {
        mode: config.mode,
        client: config.client,
        engines: engines.to_vec(),
        payload: Bytes::from(vec![b'x'; config.payload]),
        measuring: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        errors: AtomicU64::new(0),
        latencies: groups.collect::<anyhow::Result<_>>()?,
        first_error: Mutex::default(),
    });
    if config.mode != Mode::Write {
        fill(&shared).await?;
    }
    let callers: Vec<_> = (0..config.outstanding)
        .map(|number| tokio::spawn(call(Arc::clone(&shared), number)))
        .collect();
    tokio::time::sleep(config.warm_up).await;
    let before = Totals::read(engines).await?;
    shared.measuring.store(true, Ordering::Relaxed);
    let start = Instant::now();
    tokio::time::sleep(config.window).await;
    shared.measuring.store(false, Ordering::Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    let after = Totals::read(engines).await?;
    shared.stopping.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    let mut latencies_us = histogram()?;
    for group in &shared.latencies {
        latencies_us.add(&*group.lock())?;
    }
    if let Some(error) = &*shared.first_error.lock() {
        tracing::warn!(%error, "the first of the errors");
    }
    Ok(Measured {
        latencies_us,
        errors: shared.errors.load(Ordering::Relaxed),
        seconds,
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        syncs: after.syncs - before.syncs,
        log_writes: after.log_writes - before.log_writes,
        udp_bytes_sent: after.udp_bytes_sent - before.udp_bytes_sent,
    })
}

/// One caller: the next operation begins when the one before has ended.
async fn call(shared: Arc<Shared>, number: usize) {
    let mut random = SplitMix64::new(number as u64);
    let group = &shared.latencies[number % shared.latencies.len()];
    while !shared.stopping.load(Ordering::Relaxed) {
        let key = key_of(random.below(KEYS));
        let engine = shared.engine_for(&key, &mut random);
        let write = match shared.mode {
            Mode::Write => true,
            Mode::Read => false,
            Mode::Mixed => random.below(2) == 0,
        };
        let start = Instant::now();
        let failed = if write {
            engine.put(key, shared.payload.clone()).await.err().map(|error| error.to_string())
        } else {
            let read = engine.get(&key, ReadLevel::Linearizable).await;
            read.err().map(|error| error.to_string())
        };
        // Counted where it ends: an operation belongs to the window in which its answer came.
        if !shared.measuring.load(Ordering::Relaxed) {
            continue;
        }
        match failed {
            None => {
                let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                group.lock().saturating_record(micros);
            }
            Some(error) => {
                shared.errors.fetch_add(1, Ordering::Relaxed);
                shared.first_error.lock().get_or_insert(error);
            }
        }
    }
}

impl Shared {
    fn engine_for(&self, key: &[u8], random: &mut SplitMix64) -> &Engine {
        let any = &self.engines[random.below(self.engines.len() as u64) as usize];
        if self.client == ClientPlace::Any {
            return any;
        }
        let leader = any.locate(key).and_then(|location| location.leader);
        // Nodes are numbered from 1, in the order of their engines.
        let place = leader.and_then(|leader| usize::try_from(leader.0.checked_sub(1)?).ok());
        place.and_then(|place| self.engines.get(place)).unwrap_or(any)
    }
}

/// Writes every key once, a slot's keys in one command.
async fn fill(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let mut slots: Vec<Vec<KvCommand>> = Vec::new();
    slots.resize_with(SLOTS.into(), Vec::new);
    for number in 0..KEYS {
        let put = KvCommand::Put { key: key_of(number), value: shared.payload.clone() };
        slots[usize::from(slot_of(number))].push(put);
    }
    let tasks = slots
        .into_iter()
        .flat_map(|commands| {
            // Large payloads: stay far below the largest entry.
            let size = ((1 << 20) / (shared.payload.len() + 64)).max(1);
            commands.chunks(size).map(<[KvCommand]>::to_vec).collect::<Vec<_>>()
        })
        .map(|commands| {
            let engine = shared.engines[0].clone();
            let write = async move { engine.execute(KvCommand::Batch(commands)).await.map(drop) };
            Box::pin(write) as Task<_>
        })
        .collect();
    run_all(tasks, FILL_WIDTH).await.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

/// 16 bytes: a slot, as every key of the Redis port has one, and the number.
fn key_of(number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(16);
    key.put_u16(slot_of(number));
    key.put_slice(b"bench:");
    key.put_u64(number);
    key.freeze()
}

fn slot_of(number: u64) -> u16 {
    SplitMix64::new(number).below(u64::from(SLOTS)) as u16
}

struct Totals {
    cpu_seconds: f64,
    syncs: u64,
    log_writes: u64,
    udp_bytes_sent: u64,
}

impl Totals {
    async fn read(engines: &[Engine]) -> anyhow::Result<Totals> {
        let cpu_seconds = host::processor_seconds()?;
        let mut totals = Totals { cpu_seconds, syncs: 0, log_writes: 0, udp_bytes_sent: 0 };
        for engine in engines {
            let status = engine.status().await;
            totals.syncs += status.log.syncs;
            totals.log_writes += status.log.batches;
            totals.udp_bytes_sent +=
                status.peers.iter().map(|peer| peer.udp_bytes_sent).sum::<u64>();
        }
        Ok(totals)
    }
}
