//! One node as the JSON of `GET /status`.

use quorate::Status;
use serde::Serialize;

use super::problems::given_up;
use super::reasons;

/// A node's own status, with what an operator should do about it in words.
#[derive(Debug, Serialize)]
pub struct StatusReport<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// What is wrong with it, a sentence each.
    problems: Vec<String>,
    /// What an operator should do before service ends, a sentence each.
    warnings: Vec<String>,
}

impl<'a> From<&'a Status> for StatusReport<'a> {
    fn from(status: &'a Status) -> StatusReport<'a> {
        let problems = match &status.damaged[..] {
            [] => Vec::new(),
            damaged => vec![given_up(damaged) + "; see `quorate status` for what to do"],
        };
        let warnings = status.warnings.iter().map(reasons::warning).collect();
        StatusReport { status, problems, warnings }
    }
}
