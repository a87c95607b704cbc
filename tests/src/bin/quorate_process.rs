//! The program `quorate`, for tests that run nodes in processes of their own: Cargo builds it beside
//! the tests and tells them where it is (`CARGO_BIN_EXE_quorate_process`).
//!
//! It has the system's allocator, unlike the binary that is shipped; nothing else differs. Its clock
//! is the system's: tests of clocks move the one of the node in their own process.

fn main() -> std::process::ExitCode {
    quorate_node::cli::main()
}
