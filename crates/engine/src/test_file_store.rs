//! A state machine that keeps its values in a file of its own, for tests of whole engines.
//!
//! The file is a journal: each commit appends what it has put and the record, in one frame with its
//! length and checksum. A snapshot that is installed becomes the first frame of a new journal, which
//! takes the place of the old one by its name.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_machine::{
    ApplyContext, KvReply, OrderedMap, OwnStore, SnapshotChunks, StateMachine, StoreFault,
    StoreSnapshot, StoreSync,
};
use quorate_types::{ByteReader, CutShort, Index, put_field};

use crate::store::own_record::OwnRecord;
use crate::test_memory_store::{Values, ValuesSnapshot, put_of, read_chunks};

/// What a test sees and does of one node's machine, over restarts.
#[derive(Default)]
pub(crate) struct FileControl {
    /// What is committed.
    pub(crate) values: Values,
    /// The last entry of the last commit.
    pub(crate) committed: Index,
    /// The last entry that is synced, and the length of the journal at that point.
    pub(crate) synced: Index,
    pub(crate) synced_bytes: u64,
    pub(crate) installs: u64,
    /// Which call fails next, and how.
    pub(crate) fault: Option<(&'static str, StoreFault)>,
}

impl FileControl {
    fn call(&mut self, call: &'static str) -> Result<(), StoreFault> {
        self.fault.take_if(|(at, _)| *at == call).map_or(Ok(()), |(_, fault)| Err(fault))
    }
}

/// The machine of one process.
pub(crate) struct FileMachine {
    directory: PathBuf,
    control: Arc<Mutex<FileControl>>,
    journal: Option<File>,
    values: Values,
    /// What was put since the last commit.
    puts: Vec<u8>,
    commands: u64,
}

impl FileMachine {
    pub(crate) fn new(directory: PathBuf, control: Arc<Mutex<FileControl>>) -> FileMachine {
        FileMachine {
            directory,
            control,
            journal: None,
            values: Values::default(),
            puts: Vec::new(),
            commands: 0,
        }
    }

    /// The journal below `directory`.
    pub(crate) fn journal(directory: &Path) -> PathBuf {
        directory.join("journal")
    }

    fn open(&mut self) -> Result<(), StoreFault> {
        fs::create_dir_all(&self.directory)?;
        let path = FileMachine::journal(&self.directory);
        self.journal = Some(OpenOptions::new().create(true).append(true).open(path)?);
        Ok(())
    }

    /// Reads the journal up to its last whole frame, and cuts what comes after that. Gives the record.
    fn replay(&mut self) -> Result<Option<Bytes>, StoreFault> {
        let path = FileMachine::journal(&self.directory);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let (mut rest, mut record) = (&bytes[..], None);
        self.values = Values::default();
        while let Some((head, tail)) = rest.split_first_chunk::<8>() {
            let [len, checksum] = [0, 4]
                .map(|at| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")));
            let Some((body, after)) = tail.split_at_checked(len as usize) else { break };
            if crc32c::crc32c(body) != checksum {
                return Err(StoreFault::Damaged("a frame with a wrong checksum".to_owned()));
            }
            record = Some(self.read_frame(body).expect("a sound frame"));
            rest = after;
        }
        if !rest.is_empty() {
            OpenOptions::new()
                .write(true)
                .open(&path)?
                .set_len((bytes.len() - rest.len()) as u64)?;
        }
        Ok(record)
    }

    fn read_frame(&mut self, body: &[u8]) -> Result<Bytes, CutShort> {
        let mut reader = ByteReader::new(body);
        let record = Bytes::copy_from_slice(reader.field()?);
        self.values.commands = reader.u64()?;
        while !reader.is_empty() {
            let (key, value) = (reader.field()?.to_vec(), reader.field()?.to_vec());
            self.values.by_key.insert(key, value);
        }
        Ok(record)
    }

    fn note(&self, record: &[u8]) {
        let mut control = self.control.lock();
        control.values = self.values.clone();
        let record = OwnRecord::decode(record).expect("a record of the engine");
        control.committed = record.record.applied.index;
    }
}

fn frame(record: &[u8], commands: u64, pairs: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_field(&mut body, record);
    body.extend_from_slice(&commands.to_le_bytes());
    body.extend_from_slice(pairs);
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    frame.append(&mut body);
    frame
}

impl StateMachine for FileMachine {
    fn apply(&mut self, _: ApplyContext, command: &[u8], _: &mut dyn OrderedMap) -> Bytes {
        self.commands += 1;
        let (key, value) = put_of(command).expect("only puts are tested");
        put_field(&mut self.puts, &key);
        put_field(&mut self.puts, &value);
        self.values.by_key.insert(key, value);
        KvReply::Done.encode()
    }

    fn own_store(&mut self) -> Option<&mut dyn OwnStore> {
        Some(self)
    }
}

impl OwnStore for FileMachine {
    fn committed(&mut self) -> Result<Option<Bytes>, StoreFault> {
        self.control.lock().call("committed")?;
        let record = self.replay()?;
        self.open()?;
        if let Some(record) = &record {
            self.note(record);
        }
        self.control.lock().synced = Index(0);
        Ok(record)
    }

    fn commit(&mut self, record: &[u8]) -> Result<(), StoreFault> {
        self.control.lock().call("commit")?;
        self.values.commands += std::mem::take(&mut self.commands);
        let frame = frame(record, self.values.commands, &std::mem::take(&mut self.puts));
        self.journal.as_mut().expect("open").write_all(&frame)?;
        self.note(record);
        Ok(())
    }

    fn begin_sync(&mut self) -> Result<StoreSync, StoreFault> {
        self.control.lock().call("begin_sync")?;
        let journal = self.journal.as_ref().expect("open").try_clone()?;
        let control = Arc::clone(&self.control);
        let (through, bytes) = (control.lock().committed, journal.metadata()?.len());
        Ok(Box::new(move || {
            control.lock().call("sync")?;
            journal.sync_data()?;
            let mut control = control.lock();
            (control.synced, control.synced_bytes) = (through, bytes);
            Ok(())
        }))
    }

    fn snapshot(&mut self) -> Result<Box<dyn StoreSnapshot>, StoreFault> {
        self.control.lock().call("snapshot")?;
        Ok(Box::new(ValuesSnapshot::of(self.values.clone())))
    }

    fn install(
        &mut self,
        record: &[u8],
        chunks: &mut dyn SnapshotChunks,
    ) -> Result<(), StoreFault> {
        let values = read_chunks(chunks)?;
        let mut pairs = Vec::new();
        for (key, value) in &values.by_key {
            put_field(&mut pairs, key);
            put_field(&mut pairs, value);
        }
        let next = self.directory.join("next");
        let mut file = File::create(&next)?;
        file.write_all(&frame(record, values.commands, &pairs))?;
        file.sync_all()?;
        self.control.lock().call("install")?;
        fs::rename(next, FileMachine::journal(&self.directory))?;
        File::open(&self.directory)?.sync_all()?;
        self.values = values;
        self.open()?;
        self.note(record);
        let mut control = self.control.lock();
        control.installs += 1;
        control.synced = control.committed;
        control.synced_bytes = self.journal.as_ref().expect("open").metadata()?.len();
        Ok(())
    }
}

/// The machines of the nodes of one test.
#[derive(Clone, Default)]
pub(crate) struct FileStores(Arc<Mutex<BTreeMap<PathBuf, Arc<Mutex<FileControl>>>>>);

impl FileStores {
    /// The machine whose store is in `directory`.
    pub(crate) fn machine(&self, directory: PathBuf) -> Box<dyn StateMachine> {
        Box::new(FileMachine::new(directory.clone(), self.control(&directory)))
    }

    pub(crate) fn control(&self, directory: &Path) -> Arc<Mutex<FileControl>> {
        Arc::clone(self.0.lock().entry(directory.to_owned()).or_default())
    }
}
