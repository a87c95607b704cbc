//! What nodes ask each other: the bytes, who waits for which answer, and how answers go back.

pub(crate) mod codec;
pub(crate) mod forwarder;
pub(crate) mod read_codec;
pub(crate) mod replies;
