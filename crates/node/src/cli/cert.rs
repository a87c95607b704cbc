//! `quorate cert`: the authority of a cluster, and certificates for its nodes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quorate::NodeId;

use super::Exit;
use super::output::print;
use crate::certificate_directory::{CertificateDirectory, Existing, draw_cluster};

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
}

#[derive(Debug, Args)]
pub(super) struct NodeArguments {
    /// Where authority.pem and authority.key are, and where the node's files are put.
    #[arg(long, value_name = "PATH", default_value = "certs")]
    dir: PathBuf,
    /// The node's id, as in its node.toml.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
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
    let authority = directory.init(draw_cluster()?, Existing::Refuse)?;
    Ok(format!(
        "Cluster {}: made {} and {}.\n\
         Whoever has authority.key can make any node of the cluster: keep it off the nodes, and keep \
         a copy.\n\
         Next, for each node: quorate cert node --dir {} --node 1\n",
        authority.cluster(),
        directory.authority_pem().display(),
        directory.authority_key().display(),
        directory.path().display(),
    ))
}

fn issue(arguments: NodeArguments) -> anyhow::Result<String> {
    let directory = CertificateDirectory::at(arguments.dir);
    let node = NodeId(arguments.node);
    let existing = if arguments.renew { Existing::Replace } else { Existing::Refuse };
    let tls = directory.issue(&directory.authority()?, node, existing)?;
    Ok(format!(
        "Node {node} of cluster {}: made {} and {}.\n\
         Next: bring authority.pem, node-{node}.pem and node-{node}.key to the machine of node \
         {node}, name them under [certificates] in its node.toml (`quorate start --help` shows one), \
         and run there: quorate start --config node.toml\n",
        tls.cluster(),
        directory.node_pem(node).display(),
        directory.node_key(node).display(),
    ))
}
