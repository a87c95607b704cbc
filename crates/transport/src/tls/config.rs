//! The configuration of quinn and rustls: mutual TLS, and the measured figures of the wire.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::HmacKey;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig,
    IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
};
use quorate_types::limits;
use rustls::RootCertStore;
use rustls::crypto::tls13::{Hkdf, OkmBlock};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;

use crate::tls::certificate_error::{CertificateError, PemRole};
use crate::tls::certificates::{NodeTls, certificate_der, key_der};

/// The application protocol in the TLS handshake: other programs fail there.
const ALPN: &[u8] = b"quorate/1";

/// Silence after which a connection counts as lost. Heartbeats decide about leadership; this only
/// bounds how long queues fill for a peer that is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of keep-alives on an idle connection: several within the idle timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Round trip assumed before the first measurement; quinn's third of a second is for the internet.
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// Largest datagram size that the search tries, if the path carries it. quinn sends up to 10
/// datagrams in one system call, and the kernel takes at most 65,535 bytes there: above 6,553 such
/// sends fail (a fixed 9,000 fell to 5 MB/s, a searched one back to 1,452). CPU s/GB on loopback:
/// 1,452 2.2; 4,096 1.06; 6,500 0.95; 6,500 without segmentation offload 1.7.
pub(crate) const MTU_MAX: u16 = 6_500;
/// Bytes in flight per stream: a frame of the largest size is never stuck half way.
const STREAM_WINDOW_BYTES: u32 = limits::FRAME_BYTES_MAX as u32;
/// Bytes in flight per connection, all lanes together.
const CONNECTION_WINDOW_BYTES: u32 = limits::LANE_BYTES_MAX as u32;
/// Congestion window at the start: what 10 Gbit/s hold in 0.2 ms, not the internet's 14 kB.
const INITIAL_WINDOW_BYTES: u64 = 256 << 10;
/// Datagrams between two acknowledgements. Without this extension small messages cost nearly twice
/// the CPU time; 4, 16 and 64 are equal.
const ACK_EVERY: u32 = 16;
/// Longest delay of an acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(2);
/// Length of a connection id; collisions within a process are drawn again by quinn.
const CONNECTION_ID_BYTES: usize = 8;
/// Bytes of datagrams that wait to be sent; beyond it the oldest are dropped.
const DATAGRAM_BUFFER_BYTES: usize = 1 << 20;

const _: () = {
    let window = CONNECTION_WINDOW_BYTES as usize;
    let others = window - limits::SNAPSHOT_LANE_BYTES_MAX;
    assert!(
        limits::SNAPSHOT_LANE_BYTES_MAX <= STREAM_WINDOW_BYTES as usize,
        "it never waits there"
    );
    assert!(
        others >= STREAM_WINDOW_BYTES as usize + limits::FRAME_BYTES_MAX / 2,
        "beside snapshots that nobody takes, another lane may fill its stream, and there is room left"
    );
    assert!(limits::SNAPSHOT_LANE_BYTES_MAX * 7 <= window, "snapshots hold a seventh at most");
};

/// Everything that an endpoint is made from.
pub(crate) struct QuicConfig {
    pub(crate) endpoint: EndpointConfig,
    pub(crate) server: ServerConfig,
    pub(crate) client: ClientConfig,
}

/// Builds the configuration for the identity `tls`.
pub(crate) fn quic_config(tls: &NodeTls) -> Result<QuicConfig, CertificateError> {
    let provider = Arc::new(provider());
    let transport = Arc::new(transport_config());
    let mut server = ServerConfig::with_crypto(Arc::new(server_crypto(tls, &provider)?));
    server.transport_config(transport.clone()).migration(false);
    let mut client = ClientConfig::new(Arc::new(client_crypto(tls, &provider)?));
    client.transport_config(transport);
    Ok(QuicConfig { endpoint: endpoint_config(tls)?, server, client })
}

/// The ring provider, passed explicitly and never installed for the process. AES-128 first: rustls
/// prefers AES-256, which costs a quarter more per byte and nothing here has to stay secret for so
/// long.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    provider
}

fn roots(tls: &NodeTls) -> Result<Arc<RootCertStore>, CertificateError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate_der(PemRole::Authority, tls.authority_pem())?)
        .map_err(|error| tls_error(PemRole::Authority, &error))?;
    Ok(Arc::new(roots))
}

fn server_crypto(
    tls: &NodeTls,
    provider: &Arc<CryptoProvider>,
) -> Result<QuicServerConfig, CertificateError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(tls)?, provider.clone())
        .build()
        .map_err(|error| tls_error(PemRole::Authority, &error))?;
    let chain = vec![certificate_der(PemRole::Certificate, tls.certificate_pem())?];
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls_error(PemRole::Certificate, &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key_der(tls.key_pem())?)
        .map_err(|error| tls_error(PemRole::Certificate, &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Connections live for days; a resumed one would only add a path around the certificates.
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map_err(|error| tls_error(PemRole::Certificate, &error))
}

fn client_crypto(
    tls: &NodeTls,
    provider: &Arc<CryptoProvider>,
) -> Result<QuicClientConfig, CertificateError> {
    let chain = vec![certificate_der(PemRole::Certificate, tls.certificate_pem())?];
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls_error(PemRole::Certificate, &error))?
        .with_root_certificates(roots(tls)?)
        .with_client_auth_cert(chain, key_der(tls.key_pem())?)
        .map_err(|error| tls_error(PemRole::Certificate, &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(|error| tls_error(PemRole::Certificate, &error))
}

fn transport_config() -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_MAX);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY)).max_ack_delay(Some(ACK_DELAY));
    // Cubic, NewReno and BBR are equal on loopback; Cubic is the library's best tested.
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("a few seconds are a valid timeout");
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_uni_streams(VarInt::from_u32(limits::STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .ack_frequency_config(Some(acks))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .congestion_controller_factory(Arc::new(congestion));
    config
}

/// The key of stateless resets follows from the node's private key: a node that was killed and
/// restarted resets its former connections at the first packet, where its peers would otherwise
/// wait for the idle timeout.
fn endpoint_config(tls: &NodeTls) -> Result<EndpointConfig, CertificateError> {
    let key = key_der(tls.key_pem())?;
    let secret = hkdf().extract_from_secret(None, key.secret_der());
    let reset = secret.expand_block(&[b"quorate stateless reset"]);
    let mut config = EndpointConfig::new(Arc::new(ResetKey(reset)));
    config.cid_generator(|| Box::new(RandomIds));
    config.max_udp_payload_size(MTU_MAX).expect("above the least that QUIC asks for");
    Ok(config)
}

/// Random connection ids. quinn's generators recognise only the ids of their process, so a
/// restarted node would stay silent where it has to send a reset.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        let random = ring::default_provider().secure_random;
        random.fill(&mut bytes).expect("the system gave randomness for TLS a moment ago");
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn hkdf() -> &'static dyn Hkdf {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    suite.tls13().expect("a suite of TLS 1.3").hkdf_provider
}

struct ResetKey(OkmBlock);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(hkdf().hmac_sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        hkdf().hmac_sign(&self.0, &[]).as_ref().len()
    }

    /// Only tokens that this node hands out are signed; no token comes back here to be verified.
    /// Compared in full all the same, without an early exit.
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        let expected = hkdf().hmac_sign(&self.0, data);
        let expected = expected.as_ref();
        let differing = expected.iter().zip(signature).fold(0, |sum, (a, b)| sum | (a ^ b));
        if expected.len() == signature.len() && differing == 0 {
            Ok(())
        } else {
            Err(quinn::crypto::CryptoError)
        }
    }
}

fn tls_error(role: PemRole, error: &dyn std::fmt::Display) -> CertificateError {
    CertificateError::Unreadable { role, detail: error.to_string() }
}
