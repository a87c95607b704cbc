//! The kernel alone: three replicas in memory, one thread, no disk, no network. It measures
//! proposing, replicating, acknowledging and committing entries of 16 bytes.

use std::collections::VecDeque;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_raft::{
    Config, EntryKind, HardState, Kernel, Member, Membership, Message, Restored, Role, RunDraft,
};
use quorate_types::{Duration, Index, LogId, Monotonic, NodeId, ReplicaId, Term};

const PAYLOAD: [u8; 16] = [7; 16];

struct Group {
    now: Monotonic,
    kernels: Vec<Kernel>,
    mail: VecDeque<(NodeId, Message)>,
    committed: u64,
}

impl Group {
    fn new() -> Group {
        let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
        let base = LogId::new(Term(1), Index(1));
        let restored = Restored {
            hard_state: HardState { term: Term(1), vote: None, committed: Index(1) },
            base,
            base_membership: Membership::of_voters((1..=3).map(member)),
            terms: Vec::new(),
            memberships: Vec::new(),
            last: base,
            applied: Index(1),
        };
        let now = Monotonic(0);
        let kernel = |id| Kernel::new(Config::new(ReplicaId(id), id, 0), restored.clone(), now);
        let kernels = (1..=3).map(kernel).collect();
        let mut group = Group { now, kernels, mail: VecDeque::new(), committed: 0 };
        while group.kernels[0].role().role != Role::Leader {
            group.now = group.now + Duration::from_millis(50);
            group.kernels[0].handle_timeout(group.now);
            group.settle();
        }
        group
    }

    /// Runs until no replica has anything to do; disks are instant.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            for kernel in &mut self.kernels {
                let ready = kernel.take_ready();
                if ready.is_empty() {
                    continue;
                }
                idle = false;
                self.mail.extend(ready.send_now);
                if let Some(write) = ready.write {
                    kernel.handle_persisted(write.number);
                }
                self.mail.extend(ready.send_after_sync);
                if let Some(committed) = ready.committed {
                    self.committed += committed.range.end.since(committed.range.start);
                    kernel.handle_applied(committed.range.end.previous());
                }
            }
            while let Some((to, message)) = self.mail.pop_front() {
                let place = usize::try_from(to.0 - 1).expect("three nodes");
                self.kernels[place].handle_message(self.now, message);
            }
            if idle {
                return;
            }
        }
    }

    fn propose(&mut self, entries: usize) {
        let mut draft = RunDraft::new();
        for _ in 0..entries {
            draft.push(EntryKind::Command, &[&PAYLOAD]);
        }
        self.kernels[0].propose(self.now, draft).map_err(|(error, _)| error).expect("a leader");
        self.settle();
        let applied = self.kernels[0].commit();
        self.kernels.iter_mut().for_each(|kernel| kernel.evict_below(applied));
    }
}

fn kernel(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernel");
    for entries in [1, 16, 256] {
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(BenchmarkId::new("replicate", entries), |bencher| {
            let mut raft = Group::new();
            bencher.iter(|| raft.propose(entries));
            assert!(raft.committed > 0, "entries were committed");
        });
    }
    group.finish();
}

criterion_group!(benches, kernel);
criterion_main!(benches);
