//! How an operation is told apart from what prepares it.
//!
//! `scripts/instructions` has callgrind collect within `counted_operation` only, and write its
//! counters out, and begin anew, with every return from `report_case`: both names stand there too.

use std::hint::black_box;

/// Operations that come first and are not counted, so that buffers have their size, caches of the
/// allocator are filled and every symbol of a shared library is bound.
const WARM_UP_OPERATIONS: usize = 64;
/// Enough to spread a buffer's doubling over many operations.
const COUNTED_OPERATIONS: usize = 256;

/// Counts `operate`, which does the operation `times` over. `prepare` makes its input; that, and
/// freeing what comes out of it, is not counted.
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

/// Behind a pointer, so that it stays one function under one name.
#[inline(never)]
fn counted_operation(operation: &mut dyn FnMut() -> bool) -> bool {
    // Not the last thing done: as a jump the call would leave this function before it began.
    black_box(operation())
}

#[inline(never)]
fn report_case(name: &str, operations: usize) {
    println!("{name}\t{operations}");
}
