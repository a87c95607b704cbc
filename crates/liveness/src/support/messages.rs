//! The two datagrams between nodes, and their bytes: fixed size, little-endian, one version byte.
//!
//! | bytes  | heartbeat (60)               | answer (44)                                |
//! |--------|------------------------------|--------------------------------------------|
//! | 0      | version, 1                   | version, 1                                 |
//! | 1      | kind, 1                      | kind, 2                                    |
//! | 2      | audit bucket                 | 0: supported, 1: refused                   |
//! | 3      | 0                            | 0                                          |
//! | 4..8   | support asked for, ms        | 4..12 incarnation of the supporter         |
//! | 8..16  | incarnation of the requester | 12..20 incarnation of the requester        |
//! | 16..24 | epoch                        | 20..28 sequence answered                   |
//! | 24..32 | sequence                     | 28..36 epoch asked for                     |
//! | 32..40 | bucket's change number       | 36..44 epoch that is or would be supported |
//! | 40..44 | bucket's count of shards     |                                            |
//! | 44..60 | bucket's digest              |                                            |

use quorate_types::{ByteReader, CutShort, Duration, Incarnation, limits};

use super::standings::{HeartbeatSequence, SupportEpoch};
use crate::audit::{AuditSample, BucketNumber, ChangeNumber};

const VERSION: u8 = 1;
const KIND_HEARTBEAT: u8 = 1;
const KIND_ANSWER: u8 = 2;
const HEARTBEAT_BYTES: usize = 60;
const ANSWER_BYTES: usize = 44;

const _: () = assert!(HEARTBEAT_BYTES <= limits::HEARTBEAT_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES <= HEARTBEAT_BYTES, "one buffer fits both");

/// Asks for support; sent every [`limits::HEARTBEAT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Incarnation of the requester.
    pub incarnation: Incarnation,
    /// The epoch in which it asks this peer.
    pub epoch: SupportEpoch,
    /// Sequence number of this heartbeat.
    pub sequence: HeartbeatSequence,
    /// How long the receiver is asked to support the requester from receipt on, in milliseconds.
    pub support_ms: u32,
    /// One bucket of the shards bound at the requester to leaders at the receiver.
    pub audit: AuditSample,
}

impl Heartbeat {
    /// How long the receiver is asked to support the requester.
    #[must_use]
    pub fn support(&self) -> Duration {
        Duration::from_millis(u64::from(self.support_ms))
    }

    /// True if a node may act on it: a support without bound would silence its supporter for as long
    /// after the next start, and an epoch without a next one could not be withdrawn.
    pub(crate) fn is_in_bounds(&self) -> bool {
        self.support() <= limits::SUPPORT_MAX && self.epoch <= SupportEpoch::MAX
    }
}

/// The outcome of a request for support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Given, for as long as asked, from the receipt on.
    Supported,
    /// The epoch was withdrawn.
    Refused {
        /// The lowest epoch that will be supported.
        lowest: SupportEpoch,
    },
}

/// Answers a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// Incarnation of the supporter.
    pub incarnation: Incarnation,
    /// Incarnation of the requester, as in the heartbeat.
    pub requester_incarnation: Incarnation,
    /// Sequence number of the heartbeat.
    pub sequence: HeartbeatSequence,
    /// Epoch, as in the heartbeat.
    pub epoch: SupportEpoch,
    /// Whether support is given.
    pub verdict: Verdict,
}

/// A datagram between nodes, sent outside the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// Asks for support.
    Heartbeat(Heartbeat),
    /// Answers such a request.
    Answer(HeartbeatAnswer),
}

/// The bytes are no datagram that a node may act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("datagram of {found} bytes is refused: {what}")]
pub struct DatagramError {
    /// Length of what was given.
    pub found: usize,
    /// What does not fit.
    pub what: &'static str,
}

impl Datagram {
    /// The bytes, as in the table above.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEARTBEAT_BYTES);
        match self {
            Datagram::Heartbeat(heartbeat) => {
                let audit = &heartbeat.audit;
                out.extend_from_slice(&[VERSION, KIND_HEARTBEAT, audit.bucket.get(), 0]);
                out.extend_from_slice(&heartbeat.support_ms.to_le_bytes());
                out.extend_from_slice(&heartbeat.incarnation.0.to_le_bytes());
                out.extend_from_slice(&heartbeat.epoch.0.to_le_bytes());
                out.extend_from_slice(&heartbeat.sequence.0.to_le_bytes());
                out.extend_from_slice(&audit.change.0.to_le_bytes());
                out.extend_from_slice(&audit.count.to_le_bytes());
                out.extend_from_slice(&audit.digest.to_le_bytes());
            }
            Datagram::Answer(answer) => {
                let (refused, lowest) = match answer.verdict {
                    Verdict::Supported => (0, answer.epoch),
                    Verdict::Refused { lowest } => (1, lowest),
                };
                out.extend_from_slice(&[VERSION, KIND_ANSWER, refused, 0]);
                out.extend_from_slice(&answer.incarnation.0.to_le_bytes());
                out.extend_from_slice(&answer.requester_incarnation.0.to_le_bytes());
                out.extend_from_slice(&answer.sequence.0.to_le_bytes());
                out.extend_from_slice(&answer.epoch.0.to_le_bytes());
                out.extend_from_slice(&lowest.0.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`Datagram::encode`] wrote.
    ///
    /// # Errors
    /// [`DatagramError`] for anything else: a cut, trailing bytes, an unknown version or kind, a
    /// field out of its bounds. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Datagram, DatagramError> {
        let error = |what| DatagramError { found: bytes.len(), what };
        let mut reader = ByteReader::new(bytes);
        let datagram = read(&mut reader).map_err(|CutShort| error("cut short"))?.map_err(error)?;
        if reader.is_empty() { Ok(datagram) } else { Err(error("trailing bytes")) }
    }
}

fn read(reader: &mut ByteReader<&[u8]>) -> Result<Result<Datagram, &'static str>, CutShort> {
    let [version, kind, detail, zero] = [reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?];
    if version != VERSION {
        return Ok(Err("unknown version"));
    }
    if zero != 0 {
        return Ok(Err("a reserved byte is set"));
    }
    match kind {
        KIND_HEARTBEAT => read_heartbeat(reader, detail),
        KIND_ANSWER => read_answer(reader, detail),
        _ => Ok(Err("unknown kind")),
    }
}

fn read_heartbeat(
    reader: &mut ByteReader<&[u8]>,
    bucket: u8,
) -> Result<Result<Datagram, &'static str>, CutShort> {
    let Some(bucket) = BucketNumber::new(bucket) else {
        return Ok(Err("no such bucket"));
    };
    let support_ms = reader.u32()?;
    let incarnation = Incarnation(reader.u64()?);
    let epoch = SupportEpoch(reader.u64()?);
    let sequence = HeartbeatSequence(reader.u64()?);
    let (change, count) = (ChangeNumber(reader.u64()?), reader.u32()?);
    let audit = AuditSample { bucket, change, count, digest: reader.u128()? };
    let heartbeat = Heartbeat { incarnation, epoch, sequence, support_ms, audit };
    if heartbeat.is_in_bounds() {
        Ok(Ok(Datagram::Heartbeat(heartbeat)))
    } else {
        Ok(Err("support or epoch out of bounds"))
    }
}

fn read_answer(
    reader: &mut ByteReader<&[u8]>,
    refused: u8,
) -> Result<Result<Datagram, &'static str>, CutShort> {
    let incarnation = Incarnation(reader.u64()?);
    let requester_incarnation = Incarnation(reader.u64()?);
    let sequence = HeartbeatSequence(reader.u64()?);
    let epoch = SupportEpoch(reader.u64()?);
    let lowest = SupportEpoch(reader.u64()?);
    let verdict = match refused {
        0 if lowest == epoch => Verdict::Supported,
        1 if lowest > epoch && lowest <= SupportEpoch::MAX => Verdict::Refused { lowest },
        _ => return Ok(Err("the verdict contradicts itself")),
    };
    let answer = HeartbeatAnswer { incarnation, requester_incarnation, sequence, epoch, verdict };
    Ok(Ok(Datagram::Answer(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heartbeat() -> Datagram {
        Datagram::Heartbeat(Heartbeat {
            incarnation: Incarnation(0x0807_0605_0403_0201),
            epoch: SupportEpoch(9),
            sequence: HeartbeatSequence(0x1716_1514_1312_1110),
            support_ms: 1_000,
            audit: AuditSample {
                bucket: BucketNumber::new(63).expect("the last bucket"),
                change: ChangeNumber(7),
                count: 2,
                digest: 0x2f2e_2d2c_2b2a_2928_2726_2524_2322_2120,
            },
        })
    }

    fn answer(verdict: Verdict) -> Datagram {
        Datagram::Answer(HeartbeatAnswer {
            incarnation: Incarnation(3),
            requester_incarnation: Incarnation(5),
            sequence: HeartbeatSequence(258),
            epoch: SupportEpoch(9),
            verdict,
        })
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Goal: the bytes of version 1 never change. Method: they stand here.
    #[test]
    fn golden_bytes() {
        let table = [
            (
                heartbeat(),
                "01013f00e803000001020304050607080900000000000000101112131415161707000000000000000200\
                 0000202122232425262728292a2b2c2d2e2f",
            ),
            (
                answer(Verdict::Supported),
                "0102000003000000000000000500000000000000020100000000000009000000000000000900000000000\
                 000",
            ),
            (
                answer(Verdict::Refused { lowest: SupportEpoch(10) }),
                "0102010003000000000000000500000000000000020100000000000009000000000000000a00000000000\
                 000",
            ),
        ];
        for (datagram, golden) in table {
            let bytes = datagram.encode();
            assert_eq!(hex(&bytes), golden);
            assert_eq!(Datagram::decode(&bytes), Ok(datagram));
            for cut in 0..bytes.len() {
                assert!(Datagram::decode(&bytes[..cut]).is_err());
            }
            assert!(Datagram::decode(&[bytes, vec![0]].concat()).is_err());
        }
    }

    #[test]
    fn what_would_harm_is_refused() {
        for (place, byte) in [(0, 2), (1, 3), (2, 64), (3, 1), (7, 0xff), (23, 0xff)] {
            let mut bytes = heartbeat().encode();
            bytes[place] = byte;
            assert!(Datagram::decode(&bytes).is_err(), "byte {place}");
        }
        let mut bytes = answer(Verdict::Supported).encode();
        bytes[2] = 1;
        assert!(Datagram::decode(&bytes).is_err(), "a refusal that names the epoch asked for");
    }

    proptest! {
        /// Goal: no bytes panic, and what is read is written the same.
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..70),
            kind in 1u8..3, has_head in any::<bool>(),
        ) {
            if has_head && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[1, kind, 0, 0]);
                bytes.resize(if kind == 1 { HEARTBEAT_BYTES } else { ANSWER_BYTES }, 0);
                if kind == 1 {
                    bytes[5..8].fill(0);
                }
            }
            if let Ok(datagram) = Datagram::decode(&bytes) {
                prop_assert_eq!(datagram.encode(), bytes);
            }
        }
    }
}
