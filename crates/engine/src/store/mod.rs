//! The data store: the only place of the engine that uses RocksDB.

pub(crate) mod apply_batch;
pub(crate) mod data_store;
pub(crate) mod identity;
pub(crate) mod layout;
pub(crate) mod lookup;
pub(crate) mod own_chunks;
pub(crate) mod own_record;
pub(crate) mod rewrite;
pub(crate) mod space_view;
pub(crate) mod space_writer;
pub(crate) mod staged;
