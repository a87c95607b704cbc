//! The command line: the commands of `quorate`, and where each is carried out.
//!
//! One file for each command: its flags, and what it does with them. In the library, so that tests
//! run the same program in a process of their own.

mod ask;
mod balance;
mod bench;
mod cert;
mod demo;
mod exit;
mod output;
mod shard_choice;
mod start;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use ask::View;
use exit::Exit;

use crate::process::logging;

/// Quorate: a Multi-Raft sharded storage engine.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for status, shard and node: what was asked for is healthy
  1  failed; for status, shard and node: something is wrong with the cluster
  2  wrong arguments or configuration; for status, shard and node: could not find out";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node of a cluster, until SIGINT or SIGTERM.
    Start(start::StartArguments),
    /// Tell how the cluster is: the verdict, what is wrong and what to do, nodes, shards.
    Status(ask::AskArguments),
    /// Show shards.
    #[command(subcommand)]
    Shard(ShardCommand),
    /// Show nodes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Spread the load over the nodes again.
    #[command(subcommand)]
    Balance(BalanceCommand),
    /// Make the certificates by which nodes know each other.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Run a whole cluster in this process, on loopback.
    Demo(demo::DemoArguments),
    /// Measure a cluster in this process, on real disks and real QUIC.
    Bench(bench::BenchArguments),
}

#[derive(Debug, Subcommand)]
enum ShardCommand {
    /// List every shard: its state, leader, replicas, and the hash slots it owns.
    List(ask::AskArguments),
    /// Show one shard with its replicas and how far each has come.
    Show {
        #[command(flatten)]
        choice: shard_choice::ShardChoice,
        #[command(flatten)]
        arguments: ask::AskArguments,
    },
}

#[derive(Debug, Subcommand)]
enum BalanceCommand {
    /// Spread the leaders, as after a node was away: transfers leaderships to replicas that keep up.
    Leaders(ask::AskArguments),
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// List every node: its state, addresses, and what it holds.
    List(ask::AskArguments),
}

/// Runs the command that the process's arguments name. Prints results to the standard output, and
/// everything else to the standard error; `RUST_LOG` chooses what is logged there.
///
/// # Panics
/// If logging was set up before: it is called once in a process.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = logging::start() {
        let said = writeln!(std::io::stderr(), "quorate: can't log: {error}");
        // If this can't be printed, only the exit code is left.
        drop(said);
        return Exit::Failure.into();
    }
    let exit = run(Arguments::parse()).unwrap_or_else(|error| {
        logging::complain(&format!("quorate: {error:#}"));
        Exit::Failure
    });
    logging::finish();
    exit.into()
}

fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    match arguments.command {
        Command::Start(arguments) => runtime()?.block_on(start::run(arguments)),
        Command::Status(arguments) => ask::run(View::Status, &arguments),
        Command::Shard(ShardCommand::List(arguments)) => ask::run(View::Shards, &arguments),
        Command::Shard(ShardCommand::Show { choice, arguments }) => {
            ask::run(View::Shard(&choice), &arguments)
        }
        Command::Node(NodeCommand::List(arguments)) => ask::run(View::Nodes, &arguments),
        Command::Balance(BalanceCommand::Leaders(arguments)) => balance::run(&arguments),
        Command::Cert(command) => cert::run(command),
        Command::Demo(arguments) => runtime()?.block_on(demo::run(arguments)),
        Command::Bench(arguments) => runtime()?.block_on(bench::run(arguments)),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("clients")
        .build()
        .context("can't start the runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: clap's own checks of names, defaults and conflicts hold for every command.
    #[test]
    fn the_definitions_are_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn both_ways_to_ask_exclude_each_other() {
        let parse = |words: &[&str]| Arguments::try_parse_from(words);
        assert!(parse(&["quorate", "status", "--admin", "127.0.0.1:8001"]).is_ok());
        assert!(parse(&["quorate", "shard", "show", "7", "-o", "json"]).is_ok());
        assert!(parse(&["quorate", "shard", "show", "--key", "a", "--admin", "a:1"]).is_ok());
        assert!(parse(&["quorate", "status", "--admin", "a:1", "--admin", "b:2"]).is_ok());
        assert!(parse(&["quorate", "status", "--admin", "a:1", "--config", "x"]).is_err());
        assert!(parse(&["quorate", "status", "--admin", "https://a:1"]).is_err());
        assert!(parse(&["quorate", "balance", "leaders", "--admin", "a:1"]).is_ok());
        assert!(parse(&["quorate", "start"]).is_err());
        assert!(parse(&["quorate", "cert", "node", "--node", "0"]).is_err());
    }
}
