//! Requests between nodes: their bytes, the callers that wait for answers, and how answers return.

pub(crate) mod codec;
pub(crate) mod forwarder;
pub(crate) mod read_codec;
pub(crate) mod replies;
