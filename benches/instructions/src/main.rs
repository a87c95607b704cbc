//! Named operations of the kernel, the host and the codecs, whose instructions callgrind counts.
//! Run alone, this only names them; `scripts/instructions` counts, and docs/benchmarks.md says how.
//!
//! Nothing here uses a clock, a thread or a random source, so one build runs the same instructions
//! every time.

mod codec;
mod counted;
mod group;
mod host;
mod hosts;
mod kernel;

use quorate_raft::{EntryKind, Run, RunDraft};
use quorate_types::{Index, Term};

/// The payload of every entry, as long as a short key with a short value.
const PAYLOAD: [u8; 128] = [0x5a; 128];

fn main() {
    kernel::count();
    host::count();
    codec::count();
}

/// A draft of a run of `count` command entries.
fn draft_of(count: usize) -> RunDraft {
    let mut draft = RunDraft::new();
    for _ in 0..count {
        draft.push(EntryKind::Command, &[&PAYLOAD]);
    }
    draft
}

fn run_of(term: Term, first: Index, count: usize) -> Run {
    draft_of(count).seal(term, first)
}
