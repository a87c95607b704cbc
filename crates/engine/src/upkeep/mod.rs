//! Work that a node does by itself, beside its requests: small tables are merged, logs are purged.

pub(crate) mod log_bound;
pub(crate) mod tables;
