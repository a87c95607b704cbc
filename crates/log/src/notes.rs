//! What a node notes about its cluster: whom it has met, that it is founded, where everything is.

use rocksdb::WriteBatch;

use quorate_types::{NodeId, NodeLife};

use crate::error::LogFault;
use crate::keys::RecordKey;
use crate::record::encode_life;
use crate::store::LogStore;

impl LogStore {
    /// Remembers the newest life of another node, so that an older one of it, or another directory
    /// under its id, is known as such after a restart too (RULES 5 and 9). One sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_peer(&self, node: NodeId, life: NodeLife) -> Result<(), LogFault> {
        self.note(RecordKey::Peer(node), &encode_life(life))
    }

    /// Remembers that every founder of the cluster has met this directory: from now on its replicas
    /// may make promises. One sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn record_founded(&self) -> Result<(), LogFault> {
        self.note(RecordKey::Founded, &[])
    }

    /// Remembers for which first map this directory is made, before anything is made for it. One
    /// sync.
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

    fn note(&self, key: RecordKey, body: &[u8]) -> Result<(), LogFault> {
        let _writer = self.begin()?;
        let mut batch = WriteBatch::default();
        self.stage_record(&mut batch, key, body);
        self.commit(&batch)
    }
}
