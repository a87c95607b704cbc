//! Replicated, synced writes through the public interface: three nodes in this process, QUIC with
//! mutual TLS on loopback, real RocksDB, a sync before every acknowledgement. Each iteration keeps
//! `outstanding` writes of 16 bytes under way, from clients on the nodes of the shards' leaders.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::Cluster;
use quorate_types::SPREAD;

fn end_to_end(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("end_to_end");
    group.sample_size(10);
    for (shards, outstanding) in [(1, 1), (1, 1024), (48, 1024), (48, 4096)] {
        let cluster = runtime.block_on(Cluster::open(shards));
        group.throughput(Throughput::Elements(outstanding));
        let name = format!("{shards}_shards");
        group.bench_function(BenchmarkId::new(name, outstanding), |bencher| {
            let mut round = 0u64;
            bencher.iter(|| {
                round += 1;
                runtime.block_on(write_all(&cluster, round, outstanding));
            });
        });
        runtime.block_on(cluster.close());
    }
    group.finish();
}

async fn write_all(cluster: &Cluster, round: u64, outstanding: u64) {
    let mut tasks = Vec::new();
    for number in 0..outstanding {
        // A multiplicative hash spreads the keys over the shards and over a million keys.
        let mixed = (round * outstanding + number).wrapping_mul(SPREAD);
        let prefix = u16::try_from(mixed >> 50).expect("14 bits");
        let mut key = prefix.to_be_bytes().to_vec();
        key.extend_from_slice(&(mixed % 1_000_000).to_be_bytes());
        let engine = cluster.leader_of(&key).clone();
        tasks.push(tokio::spawn(async move { engine.put(key, vec![7; 16]).await }));
    }
    for task in tasks {
        task.await.expect("no panic").expect("a healthy cluster writes");
    }
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
