//! Directories: what the running program sees, what the disk holds, and the operations in between.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};

use super::loss::Loss;
use quorate_types::SplitMix64;

/// A file or directory, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node(pub(crate) u64);

/// The directory that is recorded; always durable itself.
pub(crate) const ROOT: Node = Node(0);

/// The names of one directory.
pub(crate) type Names = BTreeMap<Vec<u8>, Node>;

/// When the entries of a directory are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// After a sync of the directory: all that POSIX promises. A program that passes here passes
    /// anywhere.
    Strict,
    /// After any later sync, as on ext4 and XFS, whose journal keeps the order of all entries.
    Journaled,
}

/// A change of one name: to a node, or to nothing.
#[derive(Clone, Debug)]
struct Change {
    directory: Node,
    name: Vec<u8>,
    target: Option<Node>,
}

/// The changes of one call, which survive or are lost as a whole.
#[derive(Clone, Debug)]
struct Operation {
    record: usize,
    changes: Vec<Change>,
    renames: bool,
}

impl Operation {
    fn touches(&self, directories: &HashSet<Node>) -> bool {
        self.changes.iter().any(|change| directories.contains(&change.directory))
    }

    /// Each directory once: a rename within one directory is one operation on it.
    fn directories(&self) -> impl Iterator<Item = Node> {
        let first = self.changes[0].directory;
        let others = self.changes[1..].iter().map(|change| change.directory);
        std::iter::once(first).chain(others.filter(move |directory| *directory != first))
    }
}

/// The tree after a power loss.
#[derive(Debug, Default)]
pub(crate) struct Survivors {
    /// The names of every directory.
    pub(crate) directories: HashMap<Node, Names>,
    /// Operations that were not synced.
    pub(crate) unsynced: usize,
    /// Of these, operations that left no trace.
    pub(crate) lost: usize,
    /// Of the lost, renames.
    pub(crate) renames_lost: usize,
}

/// All directories of the recorded tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    entries: Entries,
    live: HashMap<Node, Names>,
    durable: HashMap<Node, Names>,
    unsynced: Vec<Operation>,
    next_node: u64,
}

impl Tree {
    /// An empty root.
    pub(crate) fn new(entries: Entries) -> Tree {
        let root = HashMap::from([(ROOT, Names::new())]);
        Tree { entries, live: root.clone(), durable: root, unsynced: Vec::new(), next_node: 1 }
    }

    /// A node without a name.
    pub(crate) fn make_node(&mut self) -> Node {
        self.next_node += 1;
        Node(self.next_node - 1)
    }

    /// Makes `node` a directory without entries. It is durable as such, but still needs a name.
    pub(crate) fn make_directory(&mut self, node: Node) {
        self.live.insert(node, Names::new());
        self.durable.insert(node, Names::new());
    }

    /// Adds a durable entry, as part of the image that a round begins with.
    pub(crate) fn import(&mut self, directory: Node, name: &[u8], node: Node) {
        for side in [&mut self.live, &mut self.durable] {
            side.entry(directory).or_default().insert(name.to_vec(), node);
        }
    }

    /// What the running program finds at `path`.
    pub(crate) fn find(&self, path: &[u8]) -> Option<Node> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |node, part| self.live.get(&node)?.get(part).copied())
    }

    /// Whether the node is a directory.
    pub(crate) fn is_directory(&self, node: Node) -> bool {
        self.live.contains_key(&node)
    }

    /// Gives `node` a name that is not in use.
    pub(crate) fn create(&mut self, record: usize, path: &[u8], node: Node) -> Result<()> {
        let (directory, name) = self.parent(path)?;
        let change = Change { directory, name, target: Some(node) };
        self.apply(Operation { record, changes: vec![change], renames: false });
        Ok(())
    }

    /// Removes a name.
    pub(crate) fn remove(&mut self, record: usize, path: &[u8]) -> Result<()> {
        ensure!(self.find(path).is_some(), "removed what the model does not know");
        let (directory, name) = self.parent(path)?;
        let change = Change { directory, name, target: None };
        self.apply(Operation { record, changes: vec![change], renames: false });
        Ok(())
    }

    /// Moves what is at `from` to `to`, replacing what is there.
    pub(crate) fn rename(&mut self, record: usize, from: &[u8], to: &[u8]) -> Result<()> {
        let node = self.find(from).context("renamed what the model does not know")?;
        if self.find(to) == Some(node) {
            // Two names of one file: the call does nothing.
            return Ok(());
        }
        let (from_directory, from_name) = self.parent(from)?;
        let (to_directory, to_name) = self.parent(to)?;
        let gone = Change { directory: from_directory, name: from_name, target: None };
        let come = Change { directory: to_directory, name: to_name, target: Some(node) };
        self.apply(Operation { record, changes: vec![gone, come], renames: true });
        Ok(())
    }

    /// A sync of `node` that started at `record` has returned.
    pub(crate) fn sync(&mut self, node: Node, record: usize) {
        if self.entries == Entries::Strict && !self.is_directory(node) {
            return;
        }
        // An operation on two directories ties them together: once it is on the disk, so is all
        // that came before it in either of them. Hence the order from the newest to the oldest.
        let mut directories = HashSet::from([node]);
        let mut kept = Vec::with_capacity(self.unsynced.len());
        let mut synced = Vec::new();
        for operation in self.unsynced.drain(..).rev() {
            let covered = self.entries == Entries::Journaled || operation.touches(&directories);
            if operation.record < record && covered {
                directories.extend(operation.directories());
                synced.push(operation);
            } else {
                kept.push(operation);
            }
        }
        kept.reverse();
        self.unsynced = kept;
        for operation in synced.iter().rev() {
            perform(&mut self.durable, operation);
        }
    }

    /// The tree after a power loss.
    pub(crate) fn lose(&self, random: &mut SplitMix64, loss: Loss) -> Survivors {
        let mut counts: BTreeMap<Node, u64> = BTreeMap::new();
        for directory in self.unsynced.iter().flat_map(Operation::directories) {
            *counts.entry(directory).or_default() += 1;
        }
        let mut left: HashMap<Node, u64> = counts
            .into_iter()
            .map(|(node, count)| match loss {
                Loss::Nothing => (node, count),
                Loss::All => (node, 0),
                Loss::Prefix | Loss::Tail | Loss::Scattered | Loss::Mixed => {
                    (node, random.below(count + 1))
                }
            })
            .collect();
        let mut survivors = Survivors {
            directories: self.durable.clone(),
            unsynced: self.unsynced.len(),
            ..Survivors::default()
        };
        for operation in &self.unsynced {
            if operation.directories().all(|node| left[&node] > 0) {
                perform(&mut survivors.directories, operation);
                operation
                    .directories()
                    .for_each(|node| *left.get_mut(&node).expect("counted") -= 1);
            } else {
                // An operation lost in one directory is lost in both, with all that follows.
                operation.directories().for_each(|node| {
                    left.insert(node, 0);
                });
                survivors.lost += 1;
                survivors.renames_lost += usize::from(operation.renames);
            }
        }
        survivors
    }

    /// The nodes that the running program can still name.
    pub(crate) fn named(&self) -> HashSet<Node> {
        reachable(&self.live)
    }

    /// Forgets directories that neither the program nor any disk can show, and returns all nodes
    /// that must be kept.
    pub(crate) fn retain(&mut self) -> HashSet<Node> {
        let pending = self.unsynced.iter().flat_map(|operation| &operation.changes);
        let pending: Vec<Node> =
            pending.flat_map(|change| [Some(change.directory), change.target]).flatten().collect();
        let mut kept: HashSet<Node> = HashSet::from([ROOT]);
        kept.extend(pending);
        kept.extend(self.live.values().chain(self.durable.values()).flat_map(Names::values));
        self.live.retain(|node, _| kept.contains(node));
        self.durable.retain(|node, _| kept.contains(node));
        kept
    }

    fn apply(&mut self, operation: Operation) {
        perform(&mut self.live, &operation);
        self.unsynced.push(operation);
    }

    fn parent(&self, path: &[u8]) -> Result<(Node, Vec<u8>)> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        match self.find(parent) {
            Some(node) if self.is_directory(node) && !name.is_empty() => Ok((node, name.to_vec())),
            _ => bail!("no directory above {}", String::from_utf8_lossy(path)),
        }
    }
}

/// The nodes with a name below the root.
pub(crate) fn reachable(directories: &HashMap<Node, Names>) -> HashSet<Node> {
    let mut found = HashSet::from([ROOT]);
    let mut open = vec![ROOT];
    while let Some(node) = open.pop() {
        for child in directories.get(&node).into_iter().flat_map(Names::values) {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found
}

fn perform(directories: &mut HashMap<Node, Names>, operation: &Operation) {
    for Change { directory, name, target } in &operation.changes {
        let names = directories.entry(*directory).or_default();
        match target {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}
