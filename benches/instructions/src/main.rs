//! Named operations of the kernel, the host and the codecs, for callgrind to count the instructions
//! of. Run alone it only names them; `scripts/instructions` counts, and docs/benchmarks.md says how.
//!
//! Nothing here knows a clock, a thread or a random source, so one build runs the same instructions
//! every time.

mod codec;
mod counted;
mod group;
mod host;
mod hosts;
mod kernel;

use quorate_raft::{EntryKind, Run, RunDraft};
use quorate_types::{Index, Term};

/// Bytes of every entry's payload: what a short key with a short value comes to.
const PAYLOAD: [u8; 128] = [0x5a; 128];

fn main() {
    kernel::count();
    host::count();
    codec::count();
}

/// `count` command entries on their way into a run.
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
