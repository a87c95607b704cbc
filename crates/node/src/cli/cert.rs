//! `quorate cert`: the authority of a cluster, and certificates for its nodes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate::{NodeId, limits, utc};

use super::exit::Exit;
use super::output::print;
use crate::certs::directory::{CertificateDirectory, Existing, draw_cluster};
use crate::process::files::loose_key;
use crate::process::logging::complain;

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = (limits::AUTHORITY_LIFETIME.as_secs() / DAY.as_secs()) as u32;
const CERTIFICATE_DAYS: u32 = (limits::CERTIFICATE_LIFETIME.as_secs() / DAY.as_secs()) as u32;

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// Begin a cluster: draw its id, and make the authority that all its nodes trust.
    Init(InitArguments),
    /// Issue certificate and key to one node.
    Node(NodeArguments),
}

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// Where authority.pem and authority.key are put; made if missing.
    #[arg(long, value_name = "PATH", default_value = "certs")]
    dir: PathBuf,
    /// For how many days the authority counts. No certificate of a node counts for longer.
    #[arg(long, value_name = "DAYS", default_value_t = AUTHORITY_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Make a new authority.pem with the authority.key that is there: the nodes' certificates stay good.
    /// Every node needs the new file before the old one's time is over.
    #[arg(long)]
    renew: bool,
}

#[derive(Debug, Args)]
pub(super) struct NodeArguments {
    /// Where authority.pem and authority.key are, and where the node's files are put.
    #[arg(long, value_name = "PATH", default_value = "certs")]
    dir: PathBuf,
    /// The node's id, as in its node.toml.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// For how many days the certificate counts.
    #[arg(long, value_name = "DAYS", default_value_t = CERTIFICATE_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Replace the certificate and the key that the node has.
    #[arg(long)]
    renew: bool,
}

/// Makes what is asked for, and says what to do next.
pub(super) fn run(command: CertCommand) -> anyhow::Result<Exit> {
    let text = match command {
        CertCommand::Init(arguments) => init(arguments)?,
        CertCommand::Node(arguments) => issue(arguments)?,
    };
    print(&text)?;
    Ok(Exit::Success)
}

fn init(arguments: InitArguments) -> anyhow::Result<String> {
    let directory = CertificateDirectory::at(arguments.dir);
    let lifetime = arguments.days * DAY;
    if arguments.renew {
        let authority = directory.renew(lifetime)?;
        return Ok(format!(
            "Cluster {}: made {} anew, good until {}.\n\
             Next: bring it to every node; a running one takes it by itself.\n",
            authority.cluster(),
            directory.authority_pem().display(),
            utc(authority.validity().not_after),
        ));
    }
    let authority = directory.init_for(draw_cluster()?, Existing::Refuse, lifetime)?;
    Ok(format!(
        "Cluster {}: made {} and {}, good until {}.\n\
         Whoever has authority.key can make any node of the cluster: keep it off the nodes, and keep \
         a copy.\n\
         Next, for each node: quorate cert node --dir {} --node 1\n",
        authority.cluster(),
        directory.authority_pem().display(),
        directory.authority_key().display(),
        utc(authority.validity().not_after),
        directory.path().display(),
    ))
}

fn issue(arguments: NodeArguments) -> anyhow::Result<String> {
    let directory = CertificateDirectory::at(arguments.dir);
    let node = NodeId(arguments.node);
    let existing = if arguments.renew { Existing::Replace } else { Existing::Refuse };
    if let Some(loose) = loose_key(&directory.authority_key()) {
        complain(&format!("quorate: {loose}; whoever has it can make any node"));
    }
    let lifetime = arguments.days * DAY;
    let tls = directory.issue_for(&directory.authority()?, node, existing, lifetime)?;
    Ok(format!(
        "Node {node} of cluster {}: made {} and {}, good until {}.\n\
         Next: bring authority.pem, node-{node}.pem and node-{node}.key to the machine of node \
         {node}, name them under [certificates] in its node.toml (`quorate start --help` shows one), \
         and run there: quorate start --config node.toml\n",
        tls.cluster(),
        directory.node_pem(node).display(),
        directory.node_key(node).display(),
        utc(tls.validity().not_after),
    ))
}
