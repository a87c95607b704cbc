//! The hello of a node: who it is, which versions it speaks, which limits it keeps.
//!
//! A hello is not rkyv: every later version must be able to read it, or two versions could not tell
//! each other apart. So its layout is fixed forever, and of a longer hello only the known head is
//! read.
//!
//! ```text
//! 0   magic "QRH1"          4 bytes
//! 4   length                u16      the whole hello; at least 112, at most 1,024
//! 6   version min           u16
//! 8   version max           u16
//! 10  append lanes          u16
//! 12  frame bytes max       u32
//! 16  frame messages max    u32
//! 20  first map             u32      digest of the map the directory was made with; 0: none
//! 24  cluster               u128
//! 40  store                 u128
//! 56  node                  u64
//! 64  incarnation           u64
//! 72  nonce                 u64      of the process
//! 80  wall clock            u64      milliseconds since 1970, when the hello was written
//! 88  asks                  u64      a start of the receiver's that the sender has met; 0: none
//! 96  answers               u64      the start that the receiver has asked for; 0: none, or unknown
//! 104 nonce of that start   u64      as the sender's directory has it
//! ```
//!
//! Integers are little-endian. A dialer has received no question yet when it writes its hello, so
//! it answers in its [`Welcome`].

pub(crate) mod handshake_error;

use quorate_types::{
    ByteReader, ClusterId, CutShort, Incarnation, NodeId, NodeInstance, StoreId, WallMillis, limits,
};

use crate::hello::handshake_error::HandshakeError;

/// Oldest protocol version spoken. Version 1 has no snapshot lane and ends a connection that opens one.
pub const VERSION_MIN: u16 = 2;
/// Newest protocol version spoken.
pub const VERSION_MAX: u16 = 2;

const MAGIC: [u8; 4] = *b"QRH1";
pub(crate) const HELLO_BYTES: usize = 112;
pub(crate) const HELLO_BYTES_MAX: usize = 1024;
/// Bytes needed to know the length of the whole hello.
pub(crate) const HELLO_HEAD_BYTES: usize = 6;

/// What a peer says about itself. Its certificate has proven node and cluster when
/// [`Receiver::admit`](crate::Receiver::admit) sees it; the rest is only claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// The peer.
    pub node: NodeId,
    /// Its cluster, the same as ours.
    pub cluster: ClusterId,
    /// Its directory, its start, its process.
    pub instance: NodeInstance,
    /// Its wall clock when it wrote the hello, at most a few round trips ago.
    pub wall: WallMillis,
    /// Digest of the first map of the cluster that it was made for; 0: it was given none.
    pub first_map: u32,
    /// The protocol version both sides speak from here on.
    pub version: u16,
    /// The start of the peer's directory that this node has met before, and so asked about.
    pub asked: Option<Incarnation>,
    /// The nonce of that start as the peer's directory has it; `None`: it knows no such start.
    pub descent: Option<u64>,
    /// Another process of this node is connected, and responds. Two processes never run from one
    /// directory, so the newcomer runs from a copy, and must not replace the connected one.
    pub has_rival: bool,
}

/// A hello as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version spoken.
    pub version_min: u16,
    /// Newest version spoken.
    pub version_max: u16,
    /// Lanes for append messages in each direction.
    pub append_lanes: u16,
    /// Largest frame accepted.
    pub frame_bytes_max: u32,
    /// Most messages accepted in a frame.
    pub frame_messages_max: u32,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender.
    pub node: NodeId,
    /// The sender's directory, start and process.
    pub instance: NodeInstance,
    /// The sender's wall clock.
    pub wall: WallMillis,
    /// Digest of the first map that the sender was made with.
    pub first_map: u32,
    /// The start of the receiver's directory that the sender has met.
    pub asks: Option<Incarnation>,
    /// The answer to what the receiver asked: the start, and its nonce.
    pub answer: Option<(Incarnation, u64)>,
}

impl Hello {
    /// This build's hello.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        node: NodeId,
        instance: NodeInstance,
        wall: WallMillis,
    ) -> Hello {
        Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            append_lanes: limits::APPEND_LANES as u16,
            frame_bytes_max: limits::FRAME_BYTES_MAX as u32,
            frame_messages_max: limits::FRAME_MESSAGES_MAX as u32,
            cluster,
            node,
            instance,
            wall,
            first_map: 0,
            asks: None,
            answer: None,
        }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HELLO_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(HELLO_BYTES as u16).to_le_bytes());
        bytes.extend_from_slice(&self.version_min.to_le_bytes());
        bytes.extend_from_slice(&self.version_max.to_le_bytes());
        bytes.extend_from_slice(&self.append_lanes.to_le_bytes());
        bytes.extend_from_slice(&self.frame_bytes_max.to_le_bytes());
        bytes.extend_from_slice(&self.frame_messages_max.to_le_bytes());
        bytes.extend_from_slice(&self.first_map.to_le_bytes());
        bytes.extend_from_slice(&self.cluster.0.to_le_bytes());
        bytes.extend_from_slice(&self.instance.store.0.to_le_bytes());
        bytes.extend_from_slice(&self.node.0.to_le_bytes());
        bytes.extend_from_slice(&self.instance.incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&self.instance.nonce.to_le_bytes());
        bytes.extend_from_slice(&self.wall.0.to_le_bytes());
        let (start, nonce) = self.answer.unwrap_or_default();
        for field in [self.asks.unwrap_or_default().0, start.0, nonce] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        assert_eq!(bytes.len(), HELLO_BYTES);
        bytes
    }

    /// Reads a hello of this or a later version. Never panics.
    ///
    /// # Errors
    /// [`HandshakeError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Hello, HandshakeError> {
        let malformed = |what| HandshakeError::Malformed { found: bytes.len(), what };
        let head = bytes.first_chunk::<HELLO_HEAD_BYTES>().ok_or(malformed("cut short"))?;
        if Hello::decode_length(head)? != bytes.len() {
            return Err(malformed("its length field does not match"));
        }
        read_hello(bytes).map_err(|CutShort| malformed("cut short"))
    }

    /// Length of the whole hello, from its first bytes; within its bounds.
    pub(crate) fn decode_length(head: &[u8; HELLO_HEAD_BYTES]) -> Result<usize, HandshakeError> {
        let malformed = |what| HandshakeError::Malformed { found: head.len(), what };
        if head[0..4] != MAGIC {
            return Err(malformed("it does not begin with QRH1"));
        }
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        if !(HELLO_BYTES..=HELLO_BYTES_MAX).contains(&length) {
            return Err(malformed("its length is out of bounds"));
        }
        Ok(length)
    }

    /// Whether this node, whose hello is `self`, can talk to `peer`, and in which version.
    pub(crate) fn agree(&self, peer: &Hello) -> Result<PeerHello, HandshakeError> {
        let version = self.version_max.min(peer.version_max);
        if version < self.version_min.max(peer.version_min) {
            return Err(HandshakeError::Version {
                peer: peer.node,
                peer_min: peer.version_min,
                peer_max: peer.version_max,
                own: self.node,
            });
        }
        if self.cluster != peer.cluster {
            return Err(HandshakeError::Cluster {
                peer: peer.node,
                own: self.node,
                found: peer.cluster,
                expected: self.cluster,
            });
        }
        let limits = [
            ("append lanes", peer.append_lanes.into(), self.append_lanes.into()),
            ("frame bytes max", peer.frame_bytes_max.into(), self.frame_bytes_max.into()),
            ("frame messages max", peer.frame_messages_max.into(), self.frame_messages_max.into()),
        ];
        for (what, found, expected) in limits {
            if found != expected {
                let (peer, own) = (peer.node, self.node);
                return Err(HandshakeError::Limit { peer, own, what, found, expected });
            }
        }
        Ok(PeerHello {
            node: peer.node,
            cluster: peer.cluster,
            instance: peer.instance,
            wall: peer.wall,
            first_map: peer.first_map,
            version,
            asked: self.asks,
            descent: descent(self.asks, peer.answer),
            has_rival: false,
        })
    }
}

/// A dialer's response to the acceptor's hello: whether it admits the acceptor or takes it for a
/// fork, and, in both cases, its answer to the acceptor's question. Layout, little-endian: `!` or
/// `?`, start u64 (0: none, or unknown), nonce u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// False accuses the acceptor of being a fork; the acceptor then judges its accuser first.
    pub(crate) is_admitted: bool,
    pub(crate) answer: Option<(Incarnation, u64)>,
}

pub(crate) const WELCOME_BYTES: usize = 17;

impl Welcome {
    pub(crate) fn encode(self) -> [u8; WELCOME_BYTES] {
        let (start, nonce) = self.answer.unwrap_or_default();
        let mut bytes = [if self.is_admitted { b'!' } else { b'?' }; WELCOME_BYTES];
        bytes[1..9].copy_from_slice(&start.0.to_le_bytes());
        bytes[9..].copy_from_slice(&nonce.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; WELCOME_BYTES]) -> Result<Welcome, HandshakeError> {
        if !matches!(bytes[0], b'!' | b'?') {
            let what = "the dialer's welcome begins with another byte";
            return Err(HandshakeError::Malformed { found: WELCOME_BYTES, what });
        }
        let mut reader = ByteReader::new(&bytes[1..]);
        let answer = read_answer(&mut reader).expect("it has its length");
        Ok(Welcome { is_admitted: bytes[0] == b'!', answer })
    }

    /// As in [`PeerHello::descent`], for a node that asked `asked`.
    pub(crate) fn descent(self, asked: Option<Incarnation>) -> Option<u64> {
        descent(asked, self.answer)
    }
}

/// The nonce, if the answer is for the start that was asked.
fn descent(asked: Option<Incarnation>, answer: Option<(Incarnation, u64)>) -> Option<u64> {
    answer.filter(|(start, _)| asked == Some(*start)).map(|(_, nonce)| nonce)
}

/// The fields behind the magic and the length, in their order.
fn read_hello(bytes: &[u8]) -> Result<Hello, CutShort> {
    let mut reader = ByteReader::new(bytes);
    reader.slice(HELLO_HEAD_BYTES)?;
    let (version_min, version_max) = (reader.u16()?, reader.u16()?);
    let append_lanes = reader.u16()?;
    let (frame_bytes_max, frame_messages_max) = (reader.u32()?, reader.u32()?);
    let first_map = reader.u32()?;
    let (cluster, store) = (ClusterId(reader.u128()?), StoreId(reader.u128()?));
    let node = NodeId(reader.u64()?);
    let instance =
        NodeInstance { store, incarnation: Incarnation(reader.u64()?), nonce: reader.u64()? };
    let wall = WallMillis(reader.u64()?);
    let asks = read_start(&mut reader)?;
    let answer = read_answer(&mut reader)?;
    Ok(Hello {
        version_min,
        version_max,
        append_lanes,
        frame_bytes_max,
        frame_messages_max,
        first_map,
        cluster,
        node,
        instance,
        wall,
        asks,
        answer,
    })
}

/// Starts are counted from 1.
fn read_start(reader: &mut ByteReader<&[u8]>) -> Result<Option<Incarnation>, CutShort> {
    Ok(Some(Incarnation(reader.u64()?)).filter(|start| start.0 > 0))
}

/// A start and its nonce, which says nothing without the start.
fn read_answer(reader: &mut ByteReader<&[u8]>) -> Result<Option<(Incarnation, u64)>, CutShort> {
    let (start, nonce) = (read_start(reader)?, reader.u64()?);
    Ok(start.map(|start| (start, nonce)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::handshake_error::{Rejection, tells_not_admitted};
    use proptest::prelude::*;

    fn hello(node: u64) -> Hello {
        let instance =
            NodeInstance { store: StoreId(0x51), incarnation: Incarnation(4), nonce: 0x99 };
        let hello = Hello::new(ClusterId(0xC1), NodeId(node), instance, WallMillis(0x0102));
        Hello {
            first_map: 0x77,
            asks: Some(Incarnation(2)),
            answer: Some((Incarnation(3), 0x88)),
            ..hello
        }
    }

    /// Goal: what is said of a node that is not admitted is recognised, here and at its end, and no other
    /// refusal is taken for it.
    #[test]
    fn a_node_that_is_not_admitted_is_recognised() {
        let rejection = Rejection::NotNow("its clock is wrong".to_owned());
        let (peer, own) = (NodeId(3), NodeId(1));
        let told = HandshakeError::NotAdmitted { peer, own, rejection }.to_string();
        assert!(tells_not_admitted(&told));
        assert!(tells_not_admitted(&format!("closed by the peer: {told}")));
        let (found, expected) = (ClusterId(1), ClusterId(2));
        assert!(!tells_not_admitted(
            &HandshakeError::Cluster { peer, own, found, expected }.to_string()
        ));
    }

    /// Goal: a change of the layout must show; it is fixed forever.
    #[test]
    fn golden_bytes() {
        let hex: String = hello(3).encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "51524831".to_owned()
            + "7000"
            + "0200"
            + "0200"
            + "0400"
            + "00000002"
            + "00400000"
            + "77000000"
            + "c1000000000000000000000000000000"
            + "51000000000000000000000000000000"
            + "0300000000000000"
            + "0400000000000000"
            + "9900000000000000"
            + "0201000000000000"
            + "0200000000000000"
            + "0300000000000000"
            + "8800000000000000";
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_longer_hello_is_read_by_its_head() {
        let mut bytes = hello(3).encode();
        bytes.extend_from_slice(&[9; 20]);
        bytes[4..6].copy_from_slice(&(HELLO_BYTES as u16 + 20).to_le_bytes());
        assert_eq!(Hello::decode(&bytes), Ok(hello(3)));
    }

    #[test]
    fn golden_bytes_of_a_welcome() {
        let answer = Some((Incarnation(3), 0x88));
        let mut bytes = *b"!\x03\0\0\0\0\0\0\0\x88\0\0\0\0\0\0\0";
        let welcome = Welcome { is_admitted: true, answer };
        assert_eq!((welcome.encode(), Welcome::decode(&bytes)), (bytes, Ok(welcome)));
        bytes[0] = b'?';
        let accusation = Welcome { is_admitted: false, answer };
        assert_eq!((accusation.encode(), Welcome::decode(&bytes)), (bytes, Ok(accusation)));
        let silent = Welcome { is_admitted: true, answer: None };
        assert_eq!(Welcome::decode(&silent.encode()), Ok(silent));
        bytes[0] = b'x';
        assert!(Welcome::decode(&bytes).is_err());
    }

    /// Goal: an answer counts only for the very start that was asked for.
    #[test]
    fn an_answer_to_another_question_is_none() {
        let welcome = Welcome { is_admitted: true, answer: Some((Incarnation(3), 0x88)) };
        assert_eq!(welcome.descent(Some(Incarnation(3))), Some(0x88));
        assert_eq!(welcome.descent(Some(Incarnation(2))), None);
        assert_eq!(welcome.descent(None), None);
    }

    #[test]
    fn versions_meet_at_the_newest_in_common() {
        let newer = Hello { version_max: 9, ..hello(2) };
        assert_eq!(hello(1).agree(&newer).unwrap().version, VERSION_MAX);
        let too_new = Hello { version_min: 8, version_max: 9, ..hello(2) };
        let text = hello(1).agree(&too_new).unwrap_err().to_string();
        assert!(text.contains("8 to 9") && text.contains("2 to 2"), "{text}");
        // A build that knows no snapshot lane.
        let older = Hello { version_min: 1, version_max: 1, ..hello(2) };
        for (own, peer) in [(hello(1), &older), (older.clone(), &hello(1))] {
            assert!(matches!(own.agree(peer), Err(HandshakeError::Version { .. })));
        }
    }

    #[test]
    fn other_clusters_and_limits_are_refused_by_name() {
        let foreign = Hello { cluster: ClusterId(0xC2), ..hello(2) };
        assert!(matches!(hello(1).agree(&foreign), Err(HandshakeError::Cluster { .. })));
        let lanes = Hello { append_lanes: 7, ..hello(2) };
        let text = hello(1).agree(&lanes).unwrap_err().to_string();
        assert!(text.contains("append lanes 7") && text.contains("n1 has 4"), "{text}");
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Hello::decode(&bytes).is_err());
            if bytes.len() >= 6 {
                bytes[0..4].copy_from_slice(&MAGIC);
                let length = bytes.len() as u16;
                bytes[4..6].copy_from_slice(&length.to_le_bytes());
                prop_assert_eq!(Hello::decode(&bytes).is_ok(), bytes.len() >= HELLO_BYTES);
            }
        }
    }
}
