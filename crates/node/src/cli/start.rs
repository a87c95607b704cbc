//! `quorate start`: one node, from its file to its last signal.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use quorate::{FatalError, Readiness};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::exit::Exit;
use super::output::say;
use crate::certs::watch;
use crate::config::{Config, EXAMPLE};
use crate::node::{Leave, Node};
use crate::process::descriptors::Descriptors;
use crate::process::files::loose_key;
use crate::process::logging;

/// How often a node that is not ready says what it waits for.
const WAITING: Duration = Duration::from_secs(15);
/// How often it checks, once its own shards have leaders.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_long_help = example())]
pub(super) struct StartArguments {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn example() -> String {
    format!("The file, with every key:\n\n{EXAMPLE}")
}

/// Runs a node until SIGINT, SIGTERM, or a fatal error.
pub(super) async fn run(arguments: StartArguments) -> anyhow::Result<Exit> {
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            logging::complain(&format!("{error}\nquorate: nothing was started"));
            return Ok(Exit::Unknown);
        }
    };
    // Before the start: a signal while it starts must count too.
    let mut stop = watch_signals()?;
    let started = Instant::now();
    if let Some(loose) = loose_key(&config.certificates.key) {
        tracing::warn!("node {}: {loose}", config.node);
    }
    let descriptors = Descriptors::claim(1)?;
    if let Some(shortage) = descriptors.shortage() {
        tracing::warn!("node {}: {shortage}", config.node);
    }
    let node = Node::start(config.node_config(descriptors)).await?;
    say(&greeting(&config, &node));
    let fatal = tokio::select! {
        // A fault is checked first: a stop that comes after it must not end as a success.
        biased;
        error = node.engine().wait_fatal() => Some(error),
        _ = &mut stop => None,
        never = tell_when_ready(&node, started) => match never {},
        never = watch_certificates(&node, &config) => match never {},
    };
    match fatal {
        None => {
            node.stop(Leave::HandOver).await;
            say("Stopped.\n");
            Ok(Exit::Success)
        }
        Some(error) => {
            if outlives(&error) {
                tracing::error!(
                    "node {} serves nothing any more: {error}. It stays to say so: /health, /ready and \
                     /status at http://{}. Mend the cause, then restart it",
                    config.node,
                    node.admin_address(),
                );
                // An error means a dropped sender: no stop can be requested any more.
                drop(stop.await);
            }
            node.stop(Leave::AtOnce).await;
            anyhow::bail!("node {} met a fatal error and stopped: {error}", config.node)
        }
    }
}

async fn watch_certificates(node: &Node, config: &Config) -> Infallible {
    let (paths, in_use) = (config.certificates.clone(), config.tls.clone());
    watch::run(node.engine(), paths, in_use, say).await
}

/// True if the process stays after `error` to report it. A supervisor that restarts it at once
/// finds the same disk. It does not stay if the cluster refuses this node, or if it is a copy:
/// another process may rightly have its name, and needs its ports.
fn outlives(error: &FatalError) -> bool {
    !error.forfeits_identity()
}

/// The first signal asks for a stop; the second one ends the process, which is as safe as a power
/// cut: nothing acknowledged is lost.
fn watch_signals() -> anyhow::Result<oneshot::Receiver<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (ask, asked) = oneshot::channel();
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        say("Stopping: handing leaderships over, a few seconds at most. Again: stops at once.\n");
        if ask.send(()).is_err() {
            tracing::debug!("a signal after the end");
        }
        next(&mut interrupt, &mut terminate).await;
        logging::complain("quorate: stopped at once");
        logging::finish();
        std::process::exit(1);
    });
    Ok(asked)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Reports once that the node is ready; until then reports from time to time what it waits for.
async fn tell_when_ready(node: &Node, started: Instant) -> Infallible {
    let engine = node.engine();
    let mut told = Instant::now();
    loop {
        // Ends as soon as the last shard has its leader; anything else is checked after the wait.
        if let Err(error) = engine.wait_ready(WAITING.saturating_sub(told.elapsed())).await {
            tracing::debug!(%error, "not ready yet");
        }
        let readiness = engine.readiness();
        if readiness.ready {
            say(&format!(
                "Node {} is ready after {:.1} s: every shard that lives here has a leader.\n",
                engine.node(),
                started.elapsed().as_secs_f64(),
            ));
            return std::future::pending().await;
        }
        if told.elapsed() >= WAITING {
            told = Instant::now();
            tracing::warn!("node {} is not ready: {}", engine.node(), waits_for(&readiness));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is missing, in words, with the remedy.
fn waits_for(readiness: &Readiness) -> String {
    if let Some(error) = &readiness.fatal {
        return format!("a fatal error ended its service: {error}");
    }
    if readiness.disk_stalled {
        return "its log's disk finishes nothing; look at the disk".to_owned();
    }
    if readiness.apply_stalled {
        return "its state machine finishes nothing; look at what it is doing".to_owned();
    }
    if !readiness.founded {
        return format!(
            "the cluster is being founded, and these nodes have not been met: {}; start them, and \
             check that their `address` can be reached over UDP from here",
            numbers(&readiness.founders_missing),
        );
    }
    let shards = &readiness.shards_without_leader;
    let what = match shards.len() {
        1 => "1 shard that lives here knows".to_owned(),
        count => format!("{count} shards that live here know"),
    };
    format!(
        "{what} no leader ({}); a majority of its nodes has to run and to reach each other: `quorate \
         status` shows which do not",
        numbers(shards),
    )
}

/// The first of `ids`, and whether there are more.
fn numbers(ids: &[impl ToString]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown: Vec<_> = ids.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    let more = if ids.len() > SHOWN_MAX { ", ..." } else { "" };
    shown.join(", ") + more
}

fn greeting(config: &Config, node: &Node) -> String {
    format!(
        "Node {} of cluster {} serves: redis {}, admin http://{}, other nodes {} (UDP); data in {}\n",
        config.node,
        config.tls.cluster(),
        node.redis_address(),
        node.admin_address(),
        node.engine().local_address(),
        config.directory.display(),
    )
}

#[cfg(test)]
mod tests {
    use quorate::{NodeId, ShardId};

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let missing = Readiness {
            ready: false,
            founded: false,
            founders_missing: vec![NodeId(2), NodeId(3)],
            shards_without_leader: (1..=64).map(ShardId).collect(),
            disk_stalled: false,
            apply_stalled: false,
            disk_low: None,
            fatal: None,
        };
        let text = waits_for(&missing);
        assert!(text.contains("not been met: 2, 3;"), "{text}");
        let founded = Readiness { founded: true, founders_missing: Vec::new(), ..missing };
        let text = waits_for(&founded);
        assert!(text.starts_with("64 shards"), "{text}");
        assert!(text.contains("(1, 2, 3, 4, 5, 6, 7, 8, ...)"), "{text}");
        let one = Readiness { shards_without_leader: vec![ShardId(7)], ..founded.clone() };
        assert!(waits_for(&one).starts_with("1 shard that lives here knows no leader (7);"));
        let fatal = Readiness { fatal: Some("log: disk full".to_owned()), ..founded };
        assert!(waits_for(&fatal).contains("disk full"));
    }
}
