//! Stores what a node knows about itself and its cluster: its starts, the nodes that it has met,
//! whether it is founded, and the map.

use rocksdb::WriteBatch;

use quorate_types::{Incarnation, NodeId, NodeInstance};

use crate::error::LogFault;
use crate::keys::RecordKey;
use crate::record::{decode_u64, encode_instance, unseal};
use crate::store::LogStore;

impl LogStore {
    /// Remembers the newest instance of another node, so that an older instance, or another
    /// directory under that node's id, is recognised after a restart, too (RULES 5 and 9). One
    /// sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_peer(&self, node: NodeId, instance: NodeInstance) -> Result<(), LogFault> {
        self.note(RecordKey::Peer(node), &encode_instance(instance))
    }

    /// Remembers that every founder of the cluster has met this directory: from now on its replicas
    /// may make promises. One sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_founded(&self) -> Result<(), LogFault> {
        self.note(RecordKey::Founded, &[])
    }

    /// Remembers the first map that this directory is made for, before anything is made for that
    /// map. One sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_first_map(&self, digest: u32) -> Result<(), LogFault> {
        self.note(RecordKey::FirstMap, &digest.to_le_bytes())
    }

    /// Remembers the cluster's map; its bytes are the caller's. One sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_map(&self, map: &[u8]) -> Result<(), LogFault> {
        self.note(RecordKey::Map, map)
    }

    /// Remembers the nonce that the process of this start drew, before it sends anything to a peer.
    /// The records of all starts, 30 bytes each, are the directory's line of descent: a peer that
    /// has met one of the starts asks for its nonce, and a copy that has diverged can't answer
    /// (RULES 5 and 17). One sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_start(&self, nonce: u64) -> Result<(), LogFault> {
        self.note(RecordKey::Start(self.identity().incarnation), &nonce.to_le_bytes())
    }

    /// The nonce that the process of `start` drew; `None` if this directory had no such start, or
    /// its process never sent anything. May block for the disk.
    ///
    /// # Errors
    /// What is wrong with a record that can't be read.
    pub fn start_nonce(&self, start: Incarnation) -> Result<Option<u64>, String> {
        let key = RecordKey::Start(start);
        let Some(bytes) = self.db().get(key.bytes()).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let nonce = unseal(key, &bytes).and_then(decode_u64);
        nonce.map(Some).map_err(|error| format!("record {key:?}: {error}"))
    }

    /// Remembers that a data store bears this directory's identity: a start without it is refused
    /// from now on. One sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_data_store(&self) -> Result<(), LogFault> {
        self.note(RecordKey::DataStore, &[])
    }

    /// Remembers why this directory must never speak again: it was proven to have forgotten what it
    /// promised (RULE 5), and a later start might meet a peer that does not know (RULE 17). One
    /// sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_end(&self, reason: &str) -> Result<(), LogFault> {
        self.note(RecordKey::Ended, reason.as_bytes())
    }

    fn note(&self, key: RecordKey, body: &[u8]) -> Result<(), LogFault> {
        let _writer = self.begin()?;
        let mut batch = WriteBatch::default();
        self.stage_record(&mut batch, key, body);
        self.commit(&batch)
    }
}
