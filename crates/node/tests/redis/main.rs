//! The Redis port of one node, as its clients see it.

mod large_replies;
mod leaving;
mod memory;
mod misled;
mod planted;
mod room;
mod support;

/// As in the binary: memory is given back in the same way.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
