//! The faults of a file, each with its line.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong; what to do.
    pub what: String,
}

/// Why a configuration can't be used: every fault, in the order of the lines.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub path: PathBuf,
    /// At least one; empty only if the file itself could not be read.
    pub faults: Vec<Fault>,
    /// Why the file could not be read at all.
    pub unreadable: Option<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if let Some(cause) = &self.unreadable {
            return write!(f, "{cause}");
        }
        for (place, fault) in self.faults.iter().enumerate() {
            let line_break = if place == 0 { "" } else { "\n" };
            write!(f, "{line_break}{path}:{}: {}", fault.line, fault.what)?;
        }
        Ok(())
    }
}

/// A value and where it stands, as an offset into the file's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// Collects the faults of one text.
pub(super) struct Faults<'t> {
    text: &'t str,
    found: Vec<Fault>,
}

impl<'t> Faults<'t> {
    pub(super) fn new(text: &'t str) -> Faults<'t> {
        Faults { text, found: Vec::new() }
    }

    /// Notes a fault at an offset of the text.
    pub(super) fn add(&mut self, at: usize, what: impl Into<String>) {
        let line = self.line(at);
        self.found.push(Fault { line, what: what.into() });
    }

    /// The line of an offset, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The error for the file at `path`, if anything was found.
    pub(super) fn finish(mut self, path: &Path) -> Result<(), ConfigError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort();
        Err(ConfigError { path: path.to_owned(), faults: self.found, unreadable: None })
    }
}
