//! How a command ended, as an exit code.

use std::process::ExitCode;

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done, or healthy.
    Success,
    /// Not done, or not healthy.
    Failure,
    /// The arguments or the configuration are wrong, or no node could be asked.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Unknown => 2,
        })
    }
}
