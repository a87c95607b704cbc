//! What a host tells its replica of: snapshots, how much of the log may go, and nodes.

use quorate_raft::{Attendance, Kernel, Membership, SnapshotOutcome};
use quorate_types::{Duration, Index, LogId, Monotonic, ReplicaId, Term};

use super::{Script, ends, number};

/// A state on its way.
pub(super) struct Snapshot {
    sent_in: Term,
    base: LogId,
    membership: Membership,
}

impl Script {
    /// `purge 1 5 kept_from=3`: entries below 3 are kept for no follower.
    pub(super) fn purge(&mut self, id: u64, to: u64, kept_from: Option<u64>) {
        let kept_from = Index(kept_from.unwrap_or(0));
        let site = self.site(id);
        let asked = site.kernel.log_needed_from(kept_from);
        site.purge(Index(to), kept_from);
        let base = site.kernel.base();
        self.say(&format!("  {id} needs its log from {asked} on, which begins behind {base}"));
        self.settle(id);
    }

    /// `snapshot 1 early`: keeps the state of replica 1 as it is, to be installed later.
    pub(super) fn take_snapshot(&mut self, id: u64, name: &str) {
        let site = self.site(id);
        let (base, membership) = site.snapshot().expect("durable");
        let sent_in = site.kernel.role().term;
        self.say(&format!("  {id} sends its state at {base}, in term {sent_in}"));
        self.snapshots.insert(name.to_owned(), Snapshot { sent_in, base, membership });
    }

    /// `install 1->2`: the state of replica 1 as it is, at replica 2; `install early->2`: one that
    /// was kept.
    pub(super) fn install(&mut self, link: &str) {
        let (from, to) = link.split_once("->").expect("a link like 1->2");
        if from.parse::<u64>().is_ok() {
            let (base, membership) = self.site(number(from)).snapshot().expect("durable");
            let sent_in = self.site(number(from)).kernel.role().term;
            self.snapshots.insert(from.to_owned(), Snapshot { sent_in, base, membership });
        }
        let Snapshot { sent_in, base, membership } = &self.snapshots[from];
        let (sent_in, base, membership) = (*sent_in, *base, membership.clone());
        if let Err(error) = self.site(number(to)).install(sent_in, base, membership) {
            let reason = error.map_or("another is under way".to_owned(), |e| e.to_string());
            self.say(&format!("  {to} has no use for a snapshot at {base}: {reason}"));
        }
        self.settle(number(to));
    }

    /// `attends 1->2 bound`: the host of replica 1 knows this of replica 2's node.
    pub(super) fn attends(&mut self, link: &str, attendance: &str) {
        let (from, to) = ends(link);
        let attendance = match attendance {
            "bound" => Attendance::Bound,
            "down" => Attendance::Down,
            "awake" => Attendance::Awake,
            other => panic!("nobody attends like {other}"),
        };
        let site = self.site(from);
        site.kernel.handle_attendance(site.now, ReplicaId(to), attendance);
        self.settle(from);
    }

    /// `lease 1`: its next read is one that its host confirms by a lease.
    pub(super) fn lease(&mut self, id: u64) {
        let site = self.site(id);
        let begun = site.kernel.read(site.now);
        site.kernel.confirm_reads_by_lease();
        self.say(&match begun {
            Ok(context) => format!("  {id} begins read {} with a lease", context % (1 << 40)),
            Err(error) => format!("  {id} refuses: {error}"),
        });
        self.settle(id);
    }

    /// `silence 2 1000`: its node has just started, and keeps silent for so long.
    pub(super) fn silence(&mut self, id: u64, millis: u64) {
        let site = self.site(id);
        site.kernel.handle_silence(site.now + Duration::from_millis(millis));
    }

    pub(super) fn with_kernel(&mut self, id: u64, what: impl Fn(&mut Kernel, Monotonic)) {
        let site = self.site(id);
        what(&mut site.kernel, site.now);
        self.settle(id);
    }

    /// `report 1->2 failed`, or `report 1->2 5`: replica 2 has the state of 1 through index 5.
    pub(super) fn report(&mut self, link: &str, outcome: &str) {
        let (from, to) = link.split_once("->").expect("a link like 1->2");
        let site = self.site(number(from));
        let outcome = match outcome.parse() {
            Ok(index) => {
                let term = site.disk.term_at(Index(index)).expect("held");
                SnapshotOutcome::Installed(LogId::new(term, Index(index)))
            }
            Err(_) => SnapshotOutcome::Failed,
        };
        site.kernel.handle_snapshot_report(ReplicaId(number(to)), outcome);
        self.settle(number(from));
    }
}
