//! Counts an operation separately from its preparation.
//!
//! `scripts/instructions` has callgrind collect only within `counted_operation`, and write and
//! reset its counters at every return from `report_case`: both names stand there too.

use std::hint::black_box;

/// Operations that run first and are not counted, so that buffers have their size, caches of the
/// allocator are filled and every symbol of a shared library is bound.
const WARM_UP_OPERATIONS: usize = 64;
/// Enough to spread a buffer's doubling over many operations.
const COUNTED_OPERATIONS: usize = 256;

/// Counts `operate`, which does the operation `times` times. Not counted are `prepare`, which makes
/// its input, and freeing its output.
pub(crate) fn count<State, Input, Output>(
    name: &str,
    times: usize,
    mut state: State,
    mut prepare: impl FnMut(&mut State) -> Input,
    mut operate: impl FnMut(&mut State, Input) -> Output,
) {
    for number in 0..WARM_UP_OPERATIONS + COUNTED_OPERATIONS {
        let mut input = Some(prepare(&mut state));
        let mut output = None;
        let mut operation = || {
            output = input.take().map(|input| operate(&mut state, black_box(input)));
            output.is_some()
        };
        let done = if number < WARM_UP_OPERATIONS {
            operation()
        } else {
            counted_operation(&mut operation)
        };
        assert!(done, "{name} has its input");
        drop(black_box(output));
    }
    report_case(name, COUNTED_OPERATIONS * times);
}

/// Called by a pointer, so that it stays one function under one name.
#[inline(never)]
fn counted_operation(operation: &mut dyn FnMut() -> bool) -> bool {
    // Not the last step: as a tail call it would leave this function before it began.
    black_box(operation())
}

#[inline(never)]
fn report_case(name: &str, operations: usize) {
    println!("{name}\t{operations}");
}
