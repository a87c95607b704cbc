//! `quorate status`, `shard` and `node`: one question to one node, shown in different ways.

use std::path::PathBuf;

use clap::Args;
use quorate::{Health, ShardState};
use serde::Serialize;

use super::exit::Exit;
use super::output::{Output, print, print_json};
use super::shard_choice::ShardChoice;
use crate::admin::client::{AdminUrl, Unanswered, ask_cluster};
use crate::config;
use crate::process::logging::complain;
use crate::render;
use crate::report::{ClusterReport, NodeReport, SCHEMA, ShardReport};

/// The admin port of node 1 of a demo and of the example file.
const ADMIN: &str = "http://127.0.0.1:8001";

#[derive(Debug, Args)]
pub(super) struct AskArguments {
    /// Admin port of any node. Give several, and the first that answers is taken. Without this and
    /// --config: http://127.0.0.1:8001.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    admin: Vec<AdminUrl>,
    /// A node's configuration: its own admin port is asked, then those of the other nodes.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

/// The part of the answer that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum View<'a> {
    /// All that matters.
    Status,
    /// Every node.
    Nodes,
    /// Every shard.
    Shards,
    /// One shard.
    Shard(&'a ShardChoice),
}

/// Nodes alone, with the names of [`ClusterReport`].
#[derive(Serialize)]
struct NodesJson<'a> {
    schema: u32,
    cluster: &'a str,
    asked: u64,
    health: Health,
    nodes: &'a [NodeReport],
}

/// Shards alone, with the names of [`ClusterReport`].
#[derive(Serialize)]
struct ShardsJson<'a> {
    schema: u32,
    cluster: &'a str,
    asked: u64,
    health: Health,
    shards: &'a [ShardReport],
}

#[derive(Serialize)]
struct ErrorJson<'a> {
    schema: u32,
    error: &'a str,
}

/// Asks, and shows the answer. The exit code is for the part that is shown: the cluster's health,
/// or that of the one shard.
pub(super) fn run(view: View<'_>, arguments: &AskArguments) -> anyhow::Result<Exit> {
    match find_out(view, arguments).and_then(|status| Ok((chosen(view, &status)?, status))) {
        Ok((shard, status)) => {
            show(view, shard, &status, arguments.output)?;
            let is_healthy = match shard {
                Some(place) => status.shards[place].state == ShardState::Healthy,
                None => status.health == Health::Healthy,
            };
            Ok(if is_healthy { Exit::Success } else { Exit::Failure })
        }
        Err(error) => unanswered(arguments, &error),
    }
}

/// Says why there is no answer.
pub(super) fn unanswered(arguments: &AskArguments, error: &str) -> anyhow::Result<Exit> {
    match arguments.output {
        Output::Text => complain(&format!("quorate: {error}")),
        Output::Json => print_json(&ErrorJson { schema: SCHEMA, error })?,
    }
    Ok(Exit::Unknown)
}

fn find_out(view: View<'_>, arguments: &AskArguments) -> Result<ClusterReport, String> {
    let measured = match view {
        View::Shard(choice) => choice.number(),
        View::Status | View::Nodes | View::Shards => None,
    };
    let ask = |urls: &[AdminUrl]| ask_cluster(urls, measured);
    let status = answer_of(arguments, "find out how the cluster is", ask)?;
    match (chosen(view, &status)?, measured) {
        // Only the answer tells which shard has the key. If none comes to the second question, the
        // first answer lacks nothing but sizes.
        (Some(place), None) => {
            let asked = ask_cluster(&urls_of(arguments)?, Some(status.shards[place].shard));
            Ok(asked.map_or(status, |(measured, _)| measured))
        }
        _ => Ok(status),
    }
}

/// Lets `ask` try the nodes that the arguments name. If none answers, the error says that `what` can't be
/// done.
pub(super) fn answer_of<T>(
    arguments: &AskArguments,
    what: &str,
    ask: impl Fn(&[AdminUrl]) -> Result<(T, Vec<Unanswered>), Vec<Unanswered>>,
) -> Result<T, String> {
    let urls = urls_of(arguments)?;
    let (answer, unanswered) = ask(&urls).map_err(|unanswered| nobody(what, &unanswered))?;
    if arguments.output == Output::Text {
        for Unanswered { url, why } in &unanswered {
            complain(&format!("quorate: {url} gave no answer: {why}"));
        }
    }
    Ok(answer)
}

/// The admin ports that the arguments name.
fn urls_of(arguments: &AskArguments) -> Result<Vec<AdminUrl>, String> {
    Ok(match &arguments.config {
        Some(path) => {
            let addresses = config::read_admin_addresses(path).map_err(|e| e.to_string())?;
            addresses.into_iter().map(AdminUrl::from).collect()
        }
        None if arguments.admin.is_empty() => vec![ADMIN.parse()?],
        None => arguments.admin.clone(),
    })
}

fn nobody(what: &str, unanswered: &[Unanswered]) -> String {
    let lines: String =
        unanswered.iter().map(|each| format!("\n  {}: {}", each.url, each.why)).collect();
    format!(
        "can't {what}, nobody answered:{lines}\nAsk another node with --admin \
         URL, or all of a node.toml with --config FILE; or start a node."
    )
}

/// The place of the one shard that is asked for.
fn chosen(view: View<'_>, status: &ClusterReport) -> Result<Option<usize>, String> {
    match view {
        View::Shard(choice) => choice.place_in(status).map(Some),
        View::Status | View::Nodes | View::Shards => Ok(None),
    }
}

fn show(
    view: View<'_>,
    shard: Option<usize>,
    status: &ClusterReport,
    output: Output,
) -> anyhow::Result<()> {
    let ClusterReport { schema, cluster, asked, health, nodes, shards, .. } = status;
    let (schema, asked, health) = (*schema, *asked, *health);
    let shown = shard.map_or(&shards[..], |place| std::slice::from_ref(&shards[place]));
    match (output, view) {
        (Output::Text, View::Status) => print(&render::status(status)),
        (Output::Text, View::Nodes) => print(&render::node_list(status)),
        (Output::Text, View::Shards) => print(&render::shard_list(status)),
        (Output::Text, View::Shard(_)) => {
            shown.iter().try_for_each(|shard| print(&render::shard(shard)))
        }
        (Output::Json, View::Status) => print_json(status),
        (Output::Json, View::Nodes) => {
            print_json(&NodesJson { schema, cluster, asked, health, nodes })
        }
        (Output::Json, View::Shards | View::Shard(_)) => {
            print_json(&ShardsJson { schema, cluster, asked, health, shards: shown })
        }
    }
}
