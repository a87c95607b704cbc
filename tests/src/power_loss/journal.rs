//! Reads the journal that the preload library left.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};

use super::format::{self, HEADER_BYTES, Header, Kind};

/// A file whose name begins so is not a file of the disk but a stream of marks.
const ANNOTATIONS_PREFIX: &[u8] = b"ANNOTATIONS-";

/// One record: its fields; its payload stays in the file. A record takes some 48 bytes, so the
/// index of a journal with millions of records and gigabytes of payload takes some hundred
/// megabytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) header: Header,
    /// Where the payload is in the journal.
    pub(crate) payload_at: u64,
    /// Length of the payload in bytes.
    pub(crate) payload_length: u32,
}

/// What the program wrote to a file `ANNOTATIONS-*` in one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The record that made the mark: every cut beyond it includes the mark.
    pub record: usize,
    /// The bytes written.
    pub bytes: Vec<u8>,
}

/// A journal, checked and indexed. The file must stay as it is while this lives.
#[derive(Debug)]
pub struct Journal {
    file: File,
    records: Vec<Record>,
    /// The records that are marks, in order.
    marks: Vec<usize>,
    torn_bytes: u64,
}

impl Journal {
    /// Reads the whole file once, up to the first record that is not whole. Blocks.
    ///
    /// # Errors
    ///
    /// When the file cannot be read. A torn end is not an error: a killed process leaves one.
    pub fn open(path: &Path) -> Result<Journal> {
        let file = File::open(path).with_context(|| format!("open journal {}", path.display()))?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file.try_clone()?);
        let mut journal = Journal { file, records: Vec::new(), marks: Vec::new(), torn_bytes: 0 };
        let mut mark_handles = HashSet::new();
        let mut payload = Vec::new();
        let mut at = 0;
        while let Some(header) = read_record(&mut reader, length - at, &mut payload)? {
            let payload_at = at + HEADER_BYTES as u64;
            let payload_length = u32::try_from(payload.len()).expect("read from four bytes");
            at = payload_at + u64::from(payload_length);
            match header.kind {
                Kind::Open if is_annotation(&payload) => {
                    mark_handles.insert(header.handle);
                }
                Kind::Open | Kind::Close => {
                    mark_handles.remove(&header.handle);
                }
                Kind::Write if mark_handles.contains(&header.handle) => {
                    journal.marks.push(journal.records.len());
                }
                _ => {}
            }
            journal.records.push(Record { header, payload_at, payload_length });
        }
        journal.torn_bytes = length - at;
        Ok(journal)
    }

    /// Number of records: cuts are in [0, records].
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Length of what follows the last whole record, in bytes.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// The marks made by records in `range`.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn marks(&self, range: Range<usize>) -> Result<Vec<Mark>> {
        let from = self.marks.partition_point(|record| *record < range.start);
        let to = self.marks.partition_point(|record| *record < range.end).max(from);
        let marks = self.marks[from..to].iter();
        marks.map(|record| Ok(Mark { record: *record, bytes: self.payload(*record)? })).collect()
    }

    /// All bytes marked before a cut at `record`, one mark after the other.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn marks_until(&self, record: usize) -> Result<Vec<u8>> {
        Ok(self.marks(0..record)?.into_iter().flat_map(|mark| mark.bytes).collect())
    }

    /// The records that are renames: a cut shortly after one finds it unsynced, which random cuts
    /// seldom do.
    pub fn renames(&self) -> Vec<usize> {
        let records = self.records.iter().enumerate();
        let renames = records.filter(|(_, record)| record.header.kind == Kind::Rename);
        renames.map(|(number, _)| number).collect()
    }

    /// The path that each record is about, below the root: of a rename or link the new one, and of
    /// the end of a sync the one that was synced. Files that were open before have none.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn paths(&self) -> Result<Vec<Option<Rc<[u8]>>>> {
        let mut opened: HashMap<u64, Rc<[u8]>> = HashMap::new();
        let mut syncs: HashMap<u64, Rc<[u8]>> = HashMap::new();
        let path_of = |(number, record): (usize, &Record)| {
            let header = record.header;
            let named = || Ok::<Rc<[u8]>, anyhow::Error>(self.payload(number)?.into());
            Ok(match header.kind {
                Kind::Open => {
                    let path = named()?;
                    opened.insert(header.handle, Rc::clone(&path));
                    Some(path)
                }
                Kind::Close => opened.remove(&header.handle),
                Kind::Write | Kind::Truncate | Kind::Extend => opened.get(&header.handle).cloned(),
                Kind::SyncHandle => {
                    let path = opened.get(&header.handle).cloned();
                    syncs.extend(path.iter().map(|path| (header.offset, Rc::clone(path))));
                    path
                }
                Kind::SyncPath => {
                    let path = named()?;
                    syncs.insert(header.offset, Rc::clone(&path));
                    Some(path)
                }
                Kind::SyncDone => syncs.remove(&header.offset),
                Kind::Rename | Kind::Link => {
                    let first = usize::try_from(header.offset)?;
                    Some(self.payload(number)?[first..].into())
                }
                Kind::Unlink | Kind::MakeDirectory | Kind::RemoveDirectory => Some(named()?),
            })
        };
        self.records.iter().enumerate().map(path_of).collect()
    }

    /// The fields of a record.
    pub(crate) fn record(&self, record: usize) -> &Record {
        &self.records[record]
    }

    /// The payload of a record.
    pub(crate) fn payload(&self, record: usize) -> Result<Vec<u8>> {
        let Record { payload_at, payload_length, .. } = self.records[record];
        let mut payload = vec![0; payload_length as usize];
        self.read_at(payload_at, &mut payload)?;
        Ok(payload)
    }

    /// Bytes of the journal from `position` on.
    pub(crate) fn read_at(&self, position: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, position).context("read a journal that was cut since")
    }
}

/// Whether the path belongs to the stream of marks.
pub(crate) fn is_annotation(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    name.starts_with(ANNOTATIONS_PREFIX)
}

/// Reads a record into `payload`; `None` at the end or at a record that is not whole.
fn read_record(
    reader: &mut impl Read,
    remaining: u64,
    payload: &mut Vec<u8>,
) -> Result<Option<Header>> {
    let mut header = [0; HEADER_BYTES];
    if !read_whole(reader, &mut header)? {
        return Ok(None);
    }
    let length = format::payload_length(&header);
    if length as u64 > remaining {
        return Ok(None);
    }
    payload.resize(length, 0);
    match read_whole(reader, payload)? {
        true => Ok(format::decode(&header, payload)),
        false => Ok(None),
    }
}

fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).context("read the journal"),
    }
}
