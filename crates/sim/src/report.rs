//! Stub.
use crate::marks::Marks;
use crate::observation::{Observation, SimTime, FaultKind};
use std::collections::BTreeMap;
/// Stub.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub struct Report { 
    /// Stub.
    pub acknowledged: u64, 
    /// Stub.
    pub reads: u64, 
    /// Stub.
    pub lease_reads: u64, 
    /// Stub.
    pub unknown: u64, 
    /// Stub.
    pub failed: u64, 
    /// Stub.
    pub history: u64, 
    /// Stub.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Stub.
    pub other: BTreeMap<&'static str, u64>,
}
impl Report {
    /// Stub.
    pub fn observe(&mut self, _: SimTime, o: &Observation<'_>) {
        match o {
            Observation::Acknowledged{..} => self.acknowledged += 1,
            Observation::ReadServed{by_lease,..} => { self.reads += 1; self.lease_reads += u64::from(*by_lease); }
            Observation::OperationEnded{end,..} => match end { crate::observation::OperationEnd::Unknown => self.unknown += 1, _ => self.failed += 1 },
            Observation::Fault{kind,..} => *self.faults.entry(*kind).or_default() += 1,
            Observation::Installed{..} => *self.other.entry("installed").or_default() += 1,
            Observation::SnapshotSent{..} => *self.other.entry("snapshot sent").or_default() += 1,
            Observation::SnapshotFailed{..} => *self.other.entry("snapshot failed").or_default() += 1,
            Observation::ChangeBegun{..} => *self.other.entry("change begun").or_default() += 1,
            Observation::ChangeDone{..} => *self.other.entry("change done").or_default() += 1,
            Observation::TransferBegun{..} => *self.other.entry("transfer").or_default() += 1,
            Observation::ReplicaRemoved{why,..} => *self.other.entry(why).or_default() += 1,
            Observation::Purged{..} => *self.other.entry("purged").or_default() += 1,
            Observation::Sent{..} => *self.other.entry("sent").or_default() += 1,
            Observation::Role{role,..} if role.serving => *self.other.entry("serving").or_default() += 1,
            Observation::Standing{..} => *self.other.entry("standing").or_default() += 1,
            Observation::ControlSent{..} => *self.other.entry("control sent").or_default() += 1,
            _ => {}
        }
    }
    /// Stub.
    pub fn finish(&mut self, _: SimTime, history: u64, _: &Marks) { self.history = history; }
}
