//! Router look-up: from a key to its shard, among 64 and 16,384 shards.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_router::{RouteMap, ShardDescriptor};
use quorate_types::{Epoch, ShardId};

fn map(shards: u32) -> RouteMap {
    let border = |number: u32| Bytes::copy_from_slice(&(number * (65_536 / shards)).to_be_bytes());
    RouteMap::from_descriptors((0..shards).map(|number| ShardDescriptor {
        shard: ShardId(u64::from(number) + 1),
        start: if number == 0 { Bytes::new() } else { border(number) },
        end: (number + 1 < shards).then(|| border(number + 1)),
        epoch: Epoch { membership: 1, version: 1 },
        members: Vec::new(),
    }))
    .expect("ranges side by side")
}

fn router(c: &mut Criterion) {
    let mut group = c.benchmark_group("router");
    group.throughput(Throughput::Elements(1));
    for shards in [64, 16_384] {
        let map = map(shards);
        group.bench_function(BenchmarkId::new("lookup", shards), |bencher| {
            let mut number = 0u32;
            bencher.iter(|| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let key = (number >> 16).to_be_bytes();
                black_box(map.lookup(black_box(&key)).map(|found| found.shard))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, router);
criterion_main!(benches);
