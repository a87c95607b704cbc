//! Certificates, their dates, and the configuration of TLS and QUIC.

pub(crate) mod certificate_error;
pub(crate) mod certificates;
pub(crate) mod config;
pub(crate) mod validity;
