//! A node's limited resources: disk space, descriptors, the lifetime of its certificates, and what
//! its owner watches.
//!
//! Warnings come before service ends, because the first file that can't be opened or written ends
//! it for good (RULE 8).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;
use quorate_transport::Validity;
use quorate_types::{WallMillis, limits};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::error::DiskLow;
use crate::state::disk_floor::DiskFloor;
use crate::state::disk_room::Room;

/// Where Linux shows the files and sockets of the process.
const DESCRIPTORS: &str = "/proc/self/fd";

/// The resources at one moment; what can't be found out is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Files and sockets that the process has open.
    pub descriptors_used: Option<u64>,
    /// How many it may have open; none if there is no limit.
    pub descriptors_max: Option<u64>,
    /// Bytes that may still be written to the disk of the directory.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of that disk.
    pub disk_bytes: Option<u64>,
    /// Free bytes below which the node takes no writes.
    #[serde(default)]
    pub disk_floor_bytes: Option<u64>,
    /// When its certificates expire, in milliseconds since 1970.
    pub certificate_expires_ms: Option<u64>,
}

/// What will end a node's service unless somebody acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// Its disk is nearly full, and the first write that finds no room is a fatal error.
    DiskNearlyFull {
        /// Bytes that may still be written.
        free_bytes: u64,
        /// Bytes of the disk.
        bytes: u64,
    },
    /// Its disk is below its floor: it takes no writes until some space is free.
    DiskLow(DiskLow),
    /// Its process has nearly as many files and sockets open as it may.
    DescriptorsNearlyUsed {
        /// How many it has.
        used: u64,
        /// How many it may have.
        max: u64,
    },
    /// Its certificate has expired, so it can't connect to any node.
    CertificateExpired {
        /// Since when, in milliseconds since 1970.
        at_ms: u64,
    },
    /// Its certificate will soon expire.
    CertificateExpires {
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// What its owner found, in the owner's words.
    OfOwner(String),
}

/// Reads the node's resources, and keeps its owner's warnings.
pub(crate) struct Resources {
    directory: PathBuf,
    /// What the engine's owner has found, by subject.
    owner: Mutex<BTreeMap<&'static str, String>>,
}

impl Resources {
    /// The resources of the node that lives in `directory`.
    pub(crate) fn of(directory: PathBuf) -> Resources {
        Resources { directory, owner: Mutex::default() }
    }

    /// Replaces what the owner says of `subject`.
    pub(crate) fn set_warning(&self, subject: &'static str, text: Option<String>) {
        let mut owner = self.owner.lock();
        match text {
            Some(text) => owner.insert(subject, text),
            None => owner.remove(subject),
        };
    }

    /// The space of the node's disk, or of the fuller one of two.
    pub(crate) fn room(&self) -> io::Result<Room> {
        Room::of_node(&self.directory)
    }

    /// Whether work that can wait may write `bytes` more: only what callers write may cause the
    /// warning of a full disk. False if the free space can't be found out.
    pub(crate) fn has_room_to_spare(&self, bytes: u64) -> bool {
        let needed = limits::DISK_FREE_WARN_BYTES.saturating_add(bytes);
        self.room().is_ok_and(|room| room.free_bytes >= needed)
    }

    /// Reads what is left; `validity` is that of the certificates, `disk` the floor of the disk.
    pub(crate) fn look(&self, validity: Validity, disk: &DiskFloor) -> ResourceStatus {
        let room = self.room().ok();
        ResourceStatus {
            descriptors_used: descriptors_used(),
            descriptors_max: getrlimit(Resource::Nofile).current,
            disk_free_bytes: room.map(|room| room.free_bytes),
            disk_bytes: room.map(|room| room.bytes),
            disk_floor_bytes: room.map(|room| disk.floor_bytes(room)),
            certificate_expires_ms: Some(validity.not_after.0),
        }
    }

    /// What an operator should know before it is too late. `low` tells that the disk is below its floor.
    pub(crate) fn warnings(
        &self,
        found: &ResourceStatus,
        low: Option<DiskLow>,
        validity: Validity,
        now: WallMillis,
    ) -> Vec<Warning> {
        let owner: Vec<String> = self.owner.lock().values().cloned().collect();
        let disk = low.map(Warning::DiskLow).or_else(|| disk_warning(found));
        let own = [disk, descriptors_warning(found), certificate_warning(validity, now)];
        own.into_iter().flatten().chain(owner.into_iter().map(Warning::OfOwner)).collect()
    }
}

fn certificate_warning(validity: Validity, now: WallMillis) -> Option<Warning> {
    let Validity { not_before, not_after } = validity;
    let third_ms = not_after.0.saturating_sub(not_before.0) / 3;
    let warning_ms = u64::try_from(limits::CERTIFICATE_WARNING.as_millis()).unwrap_or(u64::MAX);
    let at_ms = not_after.0;
    match at_ms.saturating_sub(now.0) {
        0 => Some(Warning::CertificateExpired { at_ms }),
        left if left < warning_ms.min(third_ms) => Some(Warning::CertificateExpires { at_ms }),
        _ => None,
    }
}

fn disk_warning(found: &ResourceStatus) -> Option<Warning> {
    let (free_bytes, bytes) = (found.disk_free_bytes?, found.disk_bytes?);
    let part = bytes / 100 * limits::DISK_FREE_WARN_PERCENT;
    (free_bytes < part.max(limits::DISK_FREE_WARN_BYTES))
        .then_some(Warning::DiskNearlyFull { free_bytes, bytes })
}

fn descriptors_warning(found: &ResourceStatus) -> Option<Warning> {
    let (used, max) = (found.descriptors_used?, found.descriptors_max?);
    (used * 100 >= max * limits::DESCRIPTORS_WARN_PERCENT)
        .then_some(Warning::DescriptorsNearlyUsed { used, max })
}

/// Linux since 6.2 gives their number as the directory's size, for which no descriptor is needed.
fn descriptors_used() -> Option<u64> {
    match fs::metadata(DESCRIPTORS) {
        Ok(found) if found.len() > 0 => Some(found.len()),
        _ => Some(fs::read_dir(DESCRIPTORS).ok()?.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the process opens is counted. Method: open many files.
    #[test]
    fn open_files_are_counted() {
        let before = descriptors_used().expect("Linux tells");
        let files: Vec<_> =
            (0..100).map(|_| fs::File::open("/dev/null").expect("opened")).collect();
        let after = descriptors_used().expect("Linux tells");
        // Other tests of the process may close some of theirs.
        assert!(after >= before + files.len() as u64 / 2, "{before} before, {after} with them");
    }

    /// Goal: the warning comes before the last descriptor is gone, with its figures, and not before
    /// there is a reason; and the owner's warnings stand until they are taken back.
    #[test]
    fn warnings_come_before_the_end() {
        let resources = Resources::of("/".into());
        let valid = Validity { not_before: WallMillis(0), not_after: WallMillis(u64::MAX) };
        let warnings =
            |found: &ResourceStatus| resources.warnings(found, None, valid, WallMillis(1));
        let of = |used, max| ResourceStatus {
            descriptors_used: used,
            descriptors_max: max,
            ..ResourceStatus::default()
        };
        for quiet in [of(Some(899), Some(1_000)), of(None, Some(10)), of(Some(10), None)] {
            assert!(warnings(&quiet).is_empty(), "{quiet:?}");
        }
        let found = of(Some(900), Some(1_000));
        assert_eq!(warnings(&found), [Warning::DescriptorsNearlyUsed { used: 900, max: 1_000 }]);
        resources.set_warning("subject", Some("first".into()));
        resources.set_warning("subject", Some("second".into()));
        assert_eq!(warnings(&found)[1..], [Warning::OfOwner("second".into())]);
        resources.set_warning("subject", None);
        assert_eq!(warnings(&found).len(), 1);
    }

    /// Goal: the expiry of a certificate is reported a month or a third of its lifetime before it,
    /// and after it.
    #[test]
    fn the_end_of_a_certificate_is_told() {
        const DAY_MS: u64 = 86_400_000;
        for (days, day, is_over) in [
            (730, 699, None),
            (730, 701, Some(false)),
            (730, 730, Some(true)),
            (730, 800, Some(true)),
            (9, 5, None),
            (9, 7, Some(false)),
        ] {
            let end = WallMillis(days * DAY_MS);
            let validity = Validity { not_before: WallMillis(0), not_after: end };
            let found = certificate_warning(validity, WallMillis(day * DAY_MS));
            let at_ms = end.0;
            let expected = is_over.map(|is_over| match is_over {
                true => Warning::CertificateExpired { at_ms },
                false => Warning::CertificateExpires { at_ms },
            });
            assert_eq!(found, expected, "day {day} of {days}");
        }
    }

    /// Goal: a disk is called full before it is, by bytes on a small one and by its part on a large one.
    #[test]
    fn a_disk_that_runs_full_is_told() {
        const GIB: u64 = 1 << 30;
        for (free, whole, told) in [
            (GIB, 10 * GIB, false),
            (GIB - 1, 10 * GIB, true),
            (49 * GIB, 1_000 * GIB, true),
            (51 * GIB, 1_000 * GIB, false),
            (0, 0, true),
        ] {
            let found = ResourceStatus {
                disk_free_bytes: Some(free),
                disk_bytes: Some(whole),
                ..ResourceStatus::default()
            };
            assert_eq!(disk_warning(&found).is_some(), told, "{found:?}");
        }
        assert_eq!(disk_warning(&ResourceStatus::default()), None);
        let full = ResourceStatus {
            disk_free_bytes: Some(1),
            disk_bytes: Some(GIB),
            ..ResourceStatus::default()
        };
        let low = DiskLow { free_bytes: 1, needed_bytes: 2 };
        let long = Validity { not_before: WallMillis(0), not_after: WallMillis(u64::MAX) };
        let told = Resources::of("/".into()).warnings(&full, Some(low), long, WallMillis(1));
        assert_eq!(told, [Warning::DiskLow(low)], "one word on the disk is enough");
        let valid = Validity { not_before: WallMillis(0), not_after: WallMillis(7) };
        let looked = Resources::of("/".into()).look(valid, &DiskFloor::new(Some(77)));
        assert_eq!(looked.disk_floor_bytes, Some(77));
        assert_eq!(looked.certificate_expires_ms, Some(7));
        assert!(
            looked.disk_bytes > Some(0) && looked.disk_free_bytes <= looked.disk_bytes,
            "{looked:?}"
        );
    }
}
