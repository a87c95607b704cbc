//! `quorate balance leaders`: spreads the leaders over the nodes again.

use std::time::Duration;

use quorate::{Balanced, limits};
use serde::Serialize;

use super::ask::{AskArguments, answer_of, unanswered};
use super::exit::Exit;
use super::output::{Output, print, print_json};
use crate::admin::client::balance_leaders;
use crate::report::SCHEMA;

/// Most rounds: a replica that did not catch up in one may in the next.
const ROUNDS_MAX: usize = 4;
/// The wait between two rounds: transfers end, and statuses from before them are not reported
/// again.
const PAUSE: Duration = limits::TRANSFER_TIMEOUT.saturating_add(limits::STATUS_AGE_MAX);

#[derive(Serialize)]
struct BalancedJson {
    schema: u32,
    /// Transfers begun in all rounds.
    begun: usize,
    /// Transfers that would still be needed.
    left: usize,
}

/// Spreads the leaders; fails if some that should move did not.
pub(super) fn run(arguments: &AskArguments) -> anyhow::Result<Exit> {
    let mut begun_in_all = 0;
    let mut left = 0;
    for round in 0..ROUNDS_MAX {
        if round > 0 {
            std::thread::sleep(PAUSE);
        }
        match answer_of(arguments, "spread the leaders", balance_leaders) {
            Err(error) => return unanswered(arguments, &error),
            Ok(Balanced { begun, planned }) => {
                begun_in_all += begun;
                left = planned;
            }
        }
        if left == 0 {
            break;
        }
    }
    match arguments.output {
        Output::Json => {
            print_json(&BalancedJson { schema: SCHEMA, begun: begun_in_all, left })?;
        }
        Output::Text if left == 0 => {
            print(&format!("Leaders are spread: {begun_in_all} were moved.\n"))?;
        }
        Output::Text => print(&format!(
            "{begun_in_all} leaders began to move, {left} more would have to: `quorate status` shows \
             what is wrong.\n"
        ))?,
    }
    Ok(if left == 0 { Exit::Success } else { Exit::Failure })
}
