//! The program `quorate`, for tests that run nodes in their own processes: Cargo builds it beside
//! the tests and tells them where it is (`CARGO_BIN_EXE_quorate_process`).
//!
//! It uses the system's allocator, unlike the shipped binary; nothing else differs. Its clock is
//! the system's: tests of clocks move the clock of the node in the test's own process.

fn main() -> std::process::ExitCode {
    quorate_node::cli::main()
}
