//! A state machine with a store of its own, in memory, for tests: it knows what a power cut would take.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_machine::{
    ApplyContext, KvReply, OrderedMap, OwnStore, SnapshotChunks, StateMachine, StoreFault,
    StoreSnapshot, StoreSync,
};
use quorate_types::{ByteReader, CutShort, put_field};

/// The values that were put, and how many commands it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) commands: u64,
    pub(crate) by_key: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What one commit left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) record: Vec<u8>,
    pub(crate) values: Values,
}

/// What outlives a process, and what it was asked for.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    pub(crate) committed: Option<Commit>,
    pub(crate) synced: Option<Commit>,
    /// The calls that change something, in their order.
    pub(crate) calls: Vec<&'static str>,
    /// Which call fails next, and how.
    pub(crate) fault: Option<(&'static str, StoreFault)>,
}

impl MemoryDisk {
    /// What was not synced is gone.
    pub(crate) fn cut_power(&mut self) {
        self.committed = self.synced.clone();
    }

    fn call(&mut self, call: &'static str) -> Result<(), StoreFault> {
        self.calls.push(call);
        match self.fault.take_if(|(at, _)| *at == call) {
            Some((_, fault)) => Err(fault),
            None => Ok(()),
        }
    }
}

/// Key and value of a [`KvCommand::Put`](quorate_machine::KvCommand::Put).
pub(crate) fn put_of(command: &[u8]) -> Result<(Vec<u8>, Vec<u8>), CutShort> {
    let mut reader = ByteReader::new(command);
    assert_eq!(reader.u8(), Ok(1), "another command");
    Ok((reader.field()?.to_vec(), reader.field()?.to_vec()))
}

/// The machine of one process.
pub(crate) struct MemoryMachine {
    disk: Arc<Mutex<MemoryDisk>>,
    values: Values,
    /// Writes into the engine's map, which it must not.
    pub(crate) is_wrong: bool,
}

impl MemoryMachine {
    pub(crate) fn new(disk: &Arc<Mutex<MemoryDisk>>) -> MemoryMachine {
        MemoryMachine { disk: Arc::clone(disk), values: Values::default(), is_wrong: false }
    }
}

impl StateMachine for MemoryMachine {
    fn apply(&mut self, _: ApplyContext, command: &[u8], map: &mut dyn OrderedMap) -> Bytes {
        if self.is_wrong {
            map.put(b"key", b"value");
        }
        self.values.commands += 1;
        let (key, value) = put_of(command).expect("only puts are tested");
        self.values.by_key.insert(key, value);
        KvReply::Done.encode()
    }

    fn own_store(&mut self) -> Option<&mut dyn OwnStore> {
        Some(self)
    }
}

impl OwnStore for MemoryMachine {
    fn committed(&mut self) -> Result<Option<Bytes>, StoreFault> {
        let mut disk = self.disk.lock();
        disk.call("committed")?;
        self.values = disk.committed.clone().map_or_else(Values::default, |commit| commit.values);
        Ok(disk.committed.as_ref().map(|commit| Bytes::copy_from_slice(&commit.record)))
    }

    fn commit(&mut self, record: &[u8]) -> Result<(), StoreFault> {
        let mut disk = self.disk.lock();
        disk.call("commit")?;
        disk.committed = Some(Commit { record: record.to_vec(), values: self.values.clone() });
        Ok(())
    }

    fn begin_sync(&mut self) -> Result<StoreSync, StoreFault> {
        self.disk.lock().call("begin_sync")?;
        let disk = Arc::clone(&self.disk);
        let committed = disk.lock().committed.clone();
        Ok(Box::new(move || {
            disk.lock().call("sync")?;
            disk.lock().synced = committed;
            Ok(())
        }))
    }

    fn snapshot(&mut self) -> Result<Box<dyn StoreSnapshot>, StoreFault> {
        self.disk.lock().call("snapshot")?;
        Ok(Box::new(ValuesSnapshot::of(self.values.clone())))
    }

    fn install(
        &mut self,
        record: &[u8],
        chunks: &mut dyn SnapshotChunks,
    ) -> Result<(), StoreFault> {
        self.disk.lock().call("install")?;
        self.values = read_chunks(chunks)?;
        let commit = Commit { record: record.to_vec(), values: self.values.clone() };
        let mut disk = self.disk.lock();
        (disk.committed, disk.synced) = (Some(commit.clone()), Some(commit));
        Ok(())
    }
}

/// One chunk with the number of commands, then the pairs, as many to a chunk as fit.
pub(crate) struct ValuesSnapshot {
    commands: Option<u64>,
    pairs: std::iter::Peekable<std::collections::btree_map::IntoIter<Vec<u8>, Vec<u8>>>,
    bytes: u64,
}

impl ValuesSnapshot {
    pub(crate) fn of(values: Values) -> ValuesSnapshot {
        let bytes = values.by_key.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let pairs = values.by_key.into_iter().peekable();
        ValuesSnapshot { commands: Some(values.commands), pairs, bytes: bytes as u64 }
    }
}

impl StoreSnapshot for ValuesSnapshot {
    fn bytes_estimate(&self) -> u64 {
        self.bytes
    }

    fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StoreFault> {
        if let Some(commands) = self.commands.take() {
            return Ok(Some(Bytes::copy_from_slice(&commands.to_le_bytes())));
        }
        let mut chunk = Vec::new();
        let fits = |(key, value): &(Vec<u8>, Vec<u8>), chunk: &Vec<u8>| {
            chunk.is_empty() || chunk.len() + key.len() + value.len() + 8 <= bytes_max
        };
        while let Some((key, value)) = self.pairs.next_if(|pair| fits(pair, &chunk)) {
            put_field(&mut chunk, &key);
            put_field(&mut chunk, &value);
        }
        Ok(if chunk.is_empty() { None } else { Some(chunk.into()) })
    }
}

/// Reads what [`ValuesSnapshot`] gave.
pub(crate) fn read_chunks(chunks: &mut dyn SnapshotChunks) -> Result<Values, StoreFault> {
    let malformed = || StoreFault::Damaged("a snapshot that is malformed".to_owned());
    let first = chunks.next_chunk()?.ok_or_else(malformed)?;
    let commands = u64::from_le_bytes(first[..].try_into().map_err(|_| malformed())?);
    let mut values = Values { commands, by_key: BTreeMap::new() };
    while let Some(chunk) = chunks.next_chunk()? {
        let mut reader = ByteReader::new(&chunk[..]);
        while !reader.is_empty() {
            let key = reader.field().map_err(|_| malformed())?.to_vec();
            let value = reader.field().map_err(|_| malformed())?.to_vec();
            values.by_key.insert(key, value);
        }
    }
    Ok(values)
}
