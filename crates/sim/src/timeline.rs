//! Stub.
use crate::observation::{Observation, SimTime};
/// Stub.
#[derive(Default)]
pub struct Timeline { last: std::collections::VecDeque<String> }
impl Timeline {
    /// Stub.
    #[must_use]
    pub fn new() -> Timeline { Timeline::default() }
    /// Stub.
    pub fn observe(&mut self, at: SimTime, o: &Observation<'_>) {
        if std::env::var_os("TIMELINE").is_none() { return; }
        if matches!(o, Observation::Delivered{..}|Observation::Leases{..}|Observation::Memory{..}) { return; }
        self.last.push_back(format!("{at} {o:?}"));
        if self.last.len() > 100_000 { self.last.pop_front(); }
    }
    /// Stub.
    #[must_use]
    pub fn render(&self, shard: Option<quorate_types::ShardId>, _: &[quorate_types::NodeId]) -> String {
        let needle = shard.map(|s| format!("shard: {s:?},"));
        let keep: Vec<&String> = self.last.iter().filter(|l| needle.as_ref().is_none_or(|n| l.contains(n) || l.contains("Fault") || l.contains("NodeSt"))).collect();
        let from = keep.len().saturating_sub(300);
        keep[from..].iter().map(|l| format!("{l}\n")).collect()
    }
}
