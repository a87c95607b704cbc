//! One node as the JSON of `GET /status`.

use quorate::Status;
use serde::Serialize;

use super::reasons;

/// A node's own status, with what an operator should do about it in words.
#[derive(Debug, Serialize)]
pub struct StatusReport<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// What an operator should do before service ends, a sentence each.
    warnings: Vec<String>,
}

impl<'a> From<&'a Status> for StatusReport<'a> {
    fn from(status: &'a Status) -> StatusReport<'a> {
        let warnings = status.warnings.iter().map(reasons::warning).collect();
        StatusReport { status, warnings }
    }
}
