//! The binary `quorate`: an allocator, and [`quorate_node::cli`].

/// RocksDB's many small, long-lived blocks fragment the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    quorate_node::cli::main()
}
