//! The disk at any record of a journal.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::format::{FLAG_CREATE, FLAG_TRUNCATE, Kind};
use super::journal::{Journal, Record, is_annotation};
use super::loss::{Change, length_after};
use super::names::{Entries, Node, ROOT, Tree};

/// Number of records between two sweeps of files that can no longer be reached.
const RECORDS_PER_SWEEP: usize = 1 << 16;

/// The contents of a file as references to the image and to the journal. Some 40 bytes a write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// The file of the image that the changes apply to.
    pub(crate) image: Option<PathBuf>,
    pub(crate) image_length: u64,
    /// Changes that are on the disk for certain.
    pub(crate) synced: Vec<Change>,
    /// Changes that are not, with their records.
    unsynced: Vec<(usize, Change)>,
}

impl Contents {
    /// The length that is on the disk for certain.
    pub(crate) fn durable_length(&self) -> u64 {
        length_after(self.image_length, &self.synced)
    }

    /// The changes that are not on the disk for certain.
    pub(crate) fn unsynced(&self) -> Vec<Change> {
        self.unsynced.iter().map(|(_, change)| *change).collect()
    }

    fn sync(&mut self, record: usize) {
        let count = self.unsynced.partition_point(|(made, _)| *made < record);
        for (_, change) in self.unsynced.drain(..count) {
            if change == (Change::Truncate { length: 0 }) {
                self.synced.clear();
                self.image = None;
                self.image_length = 0;
            } else {
                self.synced.push(change);
            }
        }
    }
}

/// What an open file stands for.
#[derive(Clone, Copy, Debug)]
enum Opened {
    Node(Node),
    Marks,
}

/// The disk of a recorded run: what is durable on it and what is not yet.
#[derive(Debug)]
pub struct Model<'journal> {
    pub(crate) journal: &'journal Journal,
    pub(crate) tree: Tree,
    pub(crate) files: HashMap<Node, Contents>,
    opened: HashMap<u64, Opened>,
    /// Syncs that have started and not returned: the node to sync and the record of the start.
    syncs: HashMap<u64, (Node, usize)>,
    position: usize,
    image: Option<PathBuf>,
    entries: Entries,
    /// Files whose names begin so lose whole writes only, and the newest ones.
    pub(crate) whole_writes_in: Option<&'static str>,
}

impl<'journal> Model<'journal> {
    /// The disk before the first record: empty, or like the directory `image`, all of it durable.
    /// Every [`Model::materialise`] reads the image again, so it must not change: the recorded
    /// program runs in a copy.
    ///
    /// # Errors
    ///
    /// When the image cannot be read, or holds anything but files and directories.
    pub fn new(
        journal: &'journal Journal,
        image: Option<&Path>,
        entries: Entries,
    ) -> Result<Model<'journal>> {
        let mut model = Model {
            journal,
            tree: Tree::new(entries),
            files: HashMap::new(),
            opened: HashMap::new(),
            syncs: HashMap::new(),
            position: 0,
            image: image.map(Path::to_path_buf),
            entries,
            whole_writes_in: None,
        };
        if let Some(image) = image {
            model.import(image, ROOT)?;
        }
        Ok(model)
    }

    /// Files whose names begin with `prefix` lose whole writes only, and only the newest ones
    /// ([`Loss::Prefix`](super::Loss)), unless they lose everything.
    #[must_use]
    pub fn with_whole_writes_in(mut self, prefix: &'static str) -> Model<'journal> {
        self.whole_writes_in = Some(prefix);
        self
    }

    /// Moves the disk to the instant after the first `record` records. Moving forward from the last
    /// cut is cheap; moving backward starts from the beginning.
    ///
    /// # Errors
    ///
    /// When the journal contradicts the image, or cannot be read.
    ///
    /// # Panics
    ///
    /// When there are fewer records.
    pub fn cut_at(&mut self, record: usize) -> Result<()> {
        assert!(record <= self.journal.records(), "a cut beyond the journal's end");
        if record < self.position {
            let whole_writes_in = self.whole_writes_in;
            *self = Model::new(self.journal, self.image.take().as_deref(), self.entries)?;
            self.whole_writes_in = whole_writes_in;
        }
        while self.position < record {
            let position = self.position;
            self.step(position).with_context(|| {
                format!("record {position}: {:?}", self.journal.record(position))
            })?;
            self.position += 1;
            if self.position.is_multiple_of(RECORDS_PER_SWEEP) {
                self.sweep();
            }
        }
        Ok(())
    }

    /// The record at which the disk stands.
    pub fn position(&self) -> usize {
        self.position
    }

    fn import(&mut self, directory: &Path, node: Node) -> Result<()> {
        let listing = fs::read_dir(directory)
            .with_context(|| format!("read image directory {}", directory.display()))?;
        // A seed's choices follow the nodes' numbers, so the numbers follow the names.
        let mut listing = listing.collect::<std::io::Result<Vec<_>>>()?;
        listing.sort_by_key(fs::DirEntry::file_name);
        for entry in listing {
            let (path, status) = (entry.path(), entry.metadata()?);
            if is_annotation(entry.file_name().as_bytes()) {
                continue;
            }
            let child = self.tree.make_node();
            self.tree.import(node, entry.file_name().as_bytes(), child);
            if status.is_dir() {
                self.tree.make_directory(child);
                self.import(&path, child)?;
            } else {
                ensure!(status.is_file(), "{} is neither file nor directory", path.display());
                let image_length = status.len();
                let contents = Contents { image: Some(path), image_length, ..Contents::default() };
                self.files.insert(child, contents);
            }
        }
        Ok(())
    }

    fn step(&mut self, record: usize) -> Result<()> {
        let Record { header, payload_at, payload_length } = *self.journal.record(record);
        match header.kind {
            Kind::Write => {
                let length = u64::from(payload_length);
                let change = Change::Write { offset: header.offset, length, source: payload_at };
                self.change(record, header.handle, change)
            }
            Kind::Truncate => {
                self.change(record, header.handle, Change::Truncate { length: header.offset })
            }
            Kind::Extend => {
                self.change(record, header.handle, Change::Extend { length: header.offset })
            }
            Kind::Open => {
                let path = self.journal.payload(record)?;
                let opened = self.open(record, &path, header.flags)?;
                self.opened.insert(header.handle, opened);
                Ok(())
            }
            Kind::Close => {
                self.opened.remove(&header.handle).context("closed what was not open")?;
                Ok(())
            }
            Kind::SyncHandle => {
                if let Opened::Node(node) = self.opened(header.handle)? {
                    self.syncs.insert(header.offset, (node, record));
                }
                Ok(())
            }
            Kind::SyncPath => {
                let path = self.journal.payload(record)?;
                if !is_annotation(&path) {
                    let node = self.tree.find(&path).context("synced an unknown path")?;
                    self.syncs.insert(header.offset, (node, record));
                }
                Ok(())
            }
            Kind::SyncDone => {
                self.finish_sync(header.offset);
                Ok(())
            }
            Kind::Rename
            | Kind::Link
            | Kind::Unlink
            | Kind::MakeDirectory
            | Kind::RemoveDirectory => self.change_names(record, header.kind, header.offset),
        }
    }

    fn open(&mut self, record: usize, path: &[u8], flags: u16) -> Result<Opened> {
        if is_annotation(path) {
            return Ok(Opened::Marks);
        }
        let node = match self.tree.find(path) {
            Some(node) => node,
            None if flags & FLAG_CREATE != 0 => {
                let node = self.tree.make_node();
                self.tree.create(record, path, node)?;
                self.files.insert(node, Contents::default());
                return Ok(Opened::Node(node));
            }
            None => bail!("opened {}, unknown to the model", String::from_utf8_lossy(path)),
        };
        let contents = self.files.get_mut(&node).context("opened a directory for writing")?;
        if flags & FLAG_TRUNCATE != 0 {
            contents.unsynced.push((record, Change::Truncate { length: 0 }));
        }
        Ok(Opened::Node(node))
    }

    fn opened(&self, handle: u64) -> Result<Opened> {
        self.opened.get(&handle).copied().context("not an open file")
    }

    fn change(&mut self, record: usize, handle: u64, change: Change) -> Result<()> {
        if let Opened::Node(node) = self.opened(handle)? {
            let contents = self.files.get_mut(&node).context("wrote to a directory")?;
            contents.unsynced.push((record, change));
        }
        Ok(())
    }

    fn finish_sync(&mut self, number: u64) {
        let Some((node, since)) = self.syncs.remove(&number) else { return };
        if let Some(contents) = self.files.get_mut(&node) {
            contents.sync(since);
        }
        self.tree.sync(node, since);
    }

    fn change_names(&mut self, record: usize, kind: Kind, first_length: u64) -> Result<()> {
        let payload = self.journal.payload(record)?;
        match kind {
            _ if is_annotation(&payload) => Ok(()),
            Kind::Unlink | Kind::RemoveDirectory => self.tree.remove(record, &payload),
            Kind::MakeDirectory => {
                let node = self.tree.make_node();
                self.tree.create(record, &payload, node)?;
                self.tree.make_directory(node);
                Ok(())
            }
            _ => {
                let first_length = usize::try_from(first_length)?;
                ensure!(first_length <= payload.len(), "paths of wrong length");
                let (from, to) = payload.split_at(first_length);
                if kind == Kind::Rename {
                    return self.tree.rename(record, from, to);
                }
                let node = self.tree.find(from).context("linked what the model does not know")?;
                self.tree.create(record, to, node)
            }
        }
    }

    /// Forgets files without a name and without a user.
    fn sweep(&mut self) {
        let mut kept: HashSet<Node> = self.tree.retain();
        kept.extend(self.opened.values().filter_map(|opened| match opened {
            Opened::Node(node) => Some(*node),
            Opened::Marks => None,
        }));
        kept.extend(self.syncs.values().map(|(node, _)| *node));
        self.files.retain(|node, _| kept.contains(node));
    }
}
