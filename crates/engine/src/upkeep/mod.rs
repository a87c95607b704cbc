//! Work that a node does by itself, beside its requests: small tables are merged, logs are purged, the
//! disk's room is watched.

pub(crate) mod disk_watch;
pub(crate) mod log_bound;
pub(crate) mod tables;
