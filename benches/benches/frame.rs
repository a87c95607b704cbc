//! Frame codec: a turn's appends of 64 shards to one peer, encoded and decoded (checksums checked).

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::sample_run;
use quorate_raft::{Body, Message};
use quorate_transport::{ShardMessage, decode_frame, encode_messages};
use quorate_types::{Index, LogId, ReplicaId, ShardId, Term};

fn appends(entries: usize) -> Vec<ShardMessage> {
    let append = |shard| ShardMessage {
        shard: ShardId(shard),
        message: Message {
            from: ReplicaId(1),
            to: ReplicaId(2),
            term: Term(3),
            body: Body::Append {
                previous: LogId::new(Term(3), Index(99)),
                runs: vec![sample_run(Term(3), Index(100), entries, 128)],
                commit: Index(90),
            },
        },
    };
    (0..64).map(append).collect()
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for entries in [4, 64] {
        let messages = appends(entries);
        let parts = encode_messages(&messages);
        let whole: Bytes = whole(&parts);
        group.throughput(Throughput::Elements(64 * entries as u64));
        group.bench_function(BenchmarkId::new("encode", entries), |bencher| {
            bencher.iter(|| encode_messages(&messages));
        });
        group.bench_function(BenchmarkId::new("decode", entries), |bencher| {
            bencher.iter(|| decode_frame(whole.clone()).expect("sound bytes"));
        });
    }
    group.finish();
}

fn whole(frame: &quorate_transport::EncodedFrame) -> Bytes {
    Bytes::from(frame.chunks.iter().flat_map(|chunk| chunk.to_vec()).collect::<Vec<u8>>())
}

criterion_group!(benches, frame);
criterion_main!(benches);
