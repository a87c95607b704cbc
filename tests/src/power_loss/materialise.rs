//! Writes the tree that a power loss leaves.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::journal::Journal;
use super::loss::{self, Change, Loss};
use super::model::{Contents, Model};
use super::names::{self, Names, Node, ROOT};
use quorate_types::SplitMix64;

/// Writes that follow each other are gathered up to this many bytes.
const GATHERED_BYTES_MAX: u64 = 1 << 20;

/// What a power loss took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that are left.
    pub files: usize,
    /// Directories that are left, the root among them.
    pub directories: usize,
    /// Files that the program could name at the cut and that have no name now.
    pub files_lost: usize,
    /// Unsynced bytes of the files that are left.
    pub bytes_unsynced: u64,
    /// Of these, bytes that did not survive.
    pub bytes_dropped: u64,
    /// Writes that survived in part.
    pub writes_torn: usize,
    /// Truncations and extensions without effect.
    pub resizes_lost: usize,
    /// Unsynced operations on entries of directories.
    pub entries_unsynced: usize,
    /// Of these, operations without effect.
    pub entries_lost: usize,
    /// Of the lost, renames.
    pub renames_lost: usize,
}

impl Model<'_> {
    /// Writes the tree that a power loss at the cut may leave into the new directory `output`. The
    /// same journal, image, cut, seed and loss give the same tree. Blocks.
    ///
    /// # Errors
    ///
    /// When `output` exists, or a file cannot be read or written.
    pub fn materialise(&self, output: &Path, seed: u64, loss: Loss) -> Result<Report> {
        let mut random = SplitMix64::new(seed);
        let survivors = self.tree.lose(&mut random, loss);
        let left = names::reachable(&survivors.directories);
        let lost = self.tree.named().into_iter().filter(|node| !left.contains(node));
        let mut writer = Writer {
            model: self,
            directories: &survivors.directories,
            random,
            loss,
            written: HashMap::new(),
            report: Report {
                files_lost: lost.filter(|node| self.files.contains_key(node)).count(),
                entries_unsynced: survivors.unsynced,
                entries_lost: survivors.lost,
                renames_lost: survivors.renames_lost,
                ..Report::default()
            },
        };
        writer.directory(ROOT, output)?;
        Ok(writer.report)
    }
}

/// Copies the files and directories of `from` into the new directory `to`. Blocks.
///
/// # Errors
///
/// When `to` exists, or a file cannot be read or written.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

struct Writer<'model> {
    model: &'model Model<'model>,
    directories: &'model HashMap<Node, Names>,
    random: SplitMix64,
    loss: Loss,
    /// The path at which each file was written first; its further names are links.
    written: HashMap<Node, PathBuf>,
    report: Report,
}

impl Writer<'_> {
    fn directory(&mut self, node: Node, path: &Path) -> Result<()> {
        fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        self.report.directories += 1;
        let directories = self.directories;
        for (name, child) in directories.get(&node).into_iter().flatten() {
            let path = path.join(OsStr::from_bytes(name));
            if directories.contains_key(child) {
                self.directory(*child, &path)?;
            } else if let Some(first) = self.written.get(child) {
                fs::hard_link(first, &path)?;
            } else {
                self.file(*child, &path).with_context(|| format!("write {}", path.display()))?;
                self.written.insert(*child, path);
            }
        }
        Ok(())
    }

    fn file(&mut self, node: Node, path: &Path) -> Result<()> {
        let contents: &Contents = &self.model.files[&node];
        let unsynced = contents.unsynced();
        let is_named = |prefix| {
            path.file_name().is_some_and(|name| name.as_bytes().starts_with(str::as_bytes(prefix)))
        };
        let loss = match self.loss {
            Loss::Nothing | Loss::All => self.loss,
            _ if self.model.whole_writes_in.is_some_and(is_named) => Loss::Prefix,
            loss => loss,
        };
        let survivors = loss::choose(&mut self.random, loss, contents.durable_length(), &unsynced);
        let bytes = |changes: &[Change]| changes.iter().map(|change| change.written()).sum::<u64>();
        self.report.files += 1;
        self.report.bytes_unsynced += bytes(&unsynced);
        self.report.bytes_dropped += bytes(&unsynced) - bytes(&survivors.changes);
        self.report.writes_torn += survivors.torn;
        self.report.resizes_lost += survivors.resizes_lost;

        if let Some(image) = &contents.image {
            fs::copy(image, path)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        write_changes(&file, self.model.journal, &contents.synced)?;
        write_changes(&file, self.model.journal, &survivors.changes)?;
        Ok(file.set_len(survivors.length)?)
    }
}

fn write_changes(file: &File, journal: &Journal, changes: &[Change]) -> Result<()> {
    let mut gathered = Vec::new();
    let mut gathered_at = 0;
    for change in changes {
        let Change::Write { offset, length, source } = *change else {
            file.write_all_at(&gathered, gathered_at)?;
            gathered.clear();
            file.set_len(change.length_after(file.metadata()?.len()))?;
            continue;
        };
        let end = gathered_at + gathered.len() as u64;
        if offset != end || gathered.len() as u64 > GATHERED_BYTES_MAX {
            file.write_all_at(&gathered, gathered_at)?;
            gathered.clear();
            gathered_at = offset;
        }
        let from = gathered.len();
        gathered.resize(from + usize::try_from(length)?, 0);
        journal.read_at(source, &mut gathered[from..])?;
    }
    Ok(file.write_all_at(&gathered, gathered_at)?)
}
