//! How results are printed.

use std::io::Write;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::process::logging;

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// As `print!`, but a closed pipe is an error, not a panic.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("can't print")
}

/// Prints a line of a node that serves: it must neither wait for a reader, nor end because there is
/// none.
pub(super) fn say(text: &str) {
    if let Err(error) = logging::say(text) {
        tracing::debug!(%error, "nobody can be told");
    }
}

pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}
