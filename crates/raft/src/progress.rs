//! What a leader knows of one follower, and the window of what is under way to it.

use std::collections::VecDeque;

use quorate_types::{Index, Monotonic, Mutant};

use crate::config::Config;
use crate::membership::Member;
use crate::run::Run;
use crate::support::Attendance;

/// Heartbeats without an answer to an append, after which it counts as lost the first time.
const PATIENCE_BEATS_MIN: u32 = 2;
/// The longest pause between attempts at a peer that answers heartbeats and no appends.
const PATIENCE_BEATS_MAX: u32 = 32;

/// How appends are sent to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Where the logs match is unknown: one append at a time.
    Probe {
        /// One is under way.
        waiting: bool,
    },
    /// The logs match through `next`: appends are pipelined.
    Replicate,
    /// What it needs is gone from the log: nothing is sent but heartbeats, until it has installed a
    /// snapshot or the attempt has failed.
    Snapshot {
        /// The log goes on behind this one.
        at_least: Index,
    },
}

/// Appends under way, bounded in messages and bytes. Acknowledgements drain it in order, since an
/// index acknowledged covers every one below it.
#[derive(Default)]
pub(crate) struct Window {
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Window {
    fn has_room(&self, config: &Config) -> bool {
        let is_open = config.mutation.is(Mutant::WindowUnbounded);
        let has_place = self.appends.len() < config.window_messages_max;
        is_open || (has_place && self.bytes < config.window_bytes_max)
    }

    /// Bytes that still fit; an append larger than this may go only into an empty window.
    fn room_bytes(&self, config: &Config) -> usize {
        let is_open = config.mutation.is(Mutant::WindowUnbounded);
        if is_open { usize::MAX } else { config.window_bytes_max.saturating_sub(self.bytes) }
    }

    fn push(&mut self, last: Index, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn drain(&mut self, matched: Index) {
        while let Some((last, bytes)) = self.appends.front()
            && *last <= matched
        {
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }

    fn clear(&mut self) {
        self.appends.clear();
        self.bytes = 0;
    }
}

/// See the module.
pub(crate) struct Progress {
    pub(crate) member: Member,
    /// Highest index acknowledged: durable there and equal to ours.
    pub(crate) matched: Index,
    /// First index of the next append; above `matched`.
    pub(crate) next: Index,
    pub(crate) pace: Pace,
    /// When the follower last said anything in this term.
    pub(crate) last_contact: Monotonic,
    /// Newest read round that it confirmed.
    pub(crate) round: u64,
    /// Highest commit index that it was told and can follow.
    pub(crate) commit_told: Index,
    /// Where the membership was appended that this replica is no member of any more. It is sent the
    /// log until it knows that this is committed, so that it does not ask for votes forever.
    pub(crate) left_at: Option<Index>,
    /// What the host knows of its node.
    pub(crate) attendance: Attendance,
    window: Window,
    /// What was read back did not fit the window: nothing is read before it is empty, or the same
    /// runs would be read again and again.
    awaits_empty_window: bool,
    /// Heartbeats since the last answer to an append, while one is awaited.
    beats: u32,
    patience_beats: u32,
    /// Snapshots that failed one after the other.
    failures: u32,
}

impl Progress {
    /// The base is committed everywhere, so nobody needs to be told of it.
    pub(crate) fn new(member: Member, base: Index, next: Index, now: Monotonic) -> Progress {
        Progress {
            member,
            matched: Index(0),
            next,
            pace: Pace::Probe { waiting: false },
            last_contact: now,
            round: 0,
            commit_told: base,
            left_at: None,
            attendance: Attendance::Awake,
            window: Window::default(),
            awaits_empty_window: false,
            beats: 0,
            patience_beats: PATIENCE_BEATS_MIN,
            failures: 0,
        }
    }

    /// Bytes the next append may have, or `None` if it has to wait.
    pub(crate) fn room_bytes(&self, config: &Config) -> Option<usize> {
        match self.pace {
            Pace::Probe { waiting: true } => None,
            Pace::Probe { waiting: false } => Some(config.append_bytes_max),
            Pace::Replicate if self.window.has_room(config) => {
                Some(config.append_bytes_max.min(self.window.room_bytes(config)))
            }
            Pace::Replicate | Pace::Snapshot { .. } => None,
        }
    }

    /// True if an append of `bytes` may leave. One larger than the whole window still may, alone.
    pub(crate) fn admits(&self, config: &Config, bytes: usize) -> bool {
        self.window.appends.is_empty() || bytes <= self.window.room_bytes(config)
    }

    /// Bytes under way.
    pub(crate) fn window_bytes(&self) -> usize {
        self.window.bytes
    }

    /// True if appends are under way.
    pub(crate) fn is_in_flight(&self) -> bool {
        !self.window.appends.is_empty()
    }

    /// True if runs may be read back for this follower.
    pub(crate) fn may_fetch(&self) -> bool {
        !self.awaits_empty_window || self.window.appends.is_empty()
    }

    /// The head of fetched `runs` that may leave now.
    pub(crate) fn admit_head(&mut self, config: &Config, mut runs: Vec<Run>) -> Vec<Run> {
        let mut bytes = 0;
        let fits = |run: &&Run| {
            bytes += run.len_bytes();
            self.admits(config, bytes)
        };
        let count = runs.iter().take_while(fits).count();
        runs.truncate(count);
        self.awaits_empty_window = runs.is_empty();
        runs
    }

    /// An append of `bytes` left that ends with `last`.
    pub(crate) fn sent(&mut self, last: Index, bytes: usize) {
        match &mut self.pace {
            Pace::Probe { waiting } => *waiting = true,
            Pace::Replicate => {
                self.window.push(last, bytes);
                self.next = last.next();
            }
            Pace::Snapshot { .. } => unreachable!("it is sent nothing"),
        }
    }

    /// The follower is durable and equal through `matched`. True if that is news.
    pub(crate) fn accept(&mut self, matched: Index) -> bool {
        self.answered();
        let news = matched > self.matched;
        if news {
            self.failures = 0;
        }
        self.matched = self.matched.max(matched);
        self.window.drain(matched);
        let suffices = match self.pace {
            Pace::Probe { .. } => matched >= self.matched,
            Pace::Replicate => false,
            Pace::Snapshot { at_least } => matched >= at_least,
        };
        if suffices {
            self.pace = Pace::Replicate;
            self.next = self.matched.next();
        }
        self.next = self.next.max(self.matched.next());
        news
    }

    /// True if the refusal of an append after `previous` is the answer to what is asked now, and
    /// not a late one.
    pub(crate) fn is_current_refusal(&self, previous: Index) -> bool {
        match self.pace {
            Pace::Probe { .. } => previous == self.next.previous() && previous > self.matched,
            Pace::Replicate => previous > self.matched && previous < self.next,
            Pace::Snapshot { .. } => false,
        }
    }

    /// The follower lacks the entry at `refused`: goes back to probing at `next`. Where that is no
    /// step back nothing but a snapshot helps, and the next attempt waits for the patience to end.
    pub(crate) fn step_back(&mut self, refused: Index, next: Index) {
        self.answered();
        let next = next.max(self.matched.next());
        self.pace = Pace::Probe { waiting: next > refused };
        self.next = next;
        self.window.clear();
    }

    /// The follower is silent: nothing more is sent until it answers a heartbeat.
    pub(crate) fn suspend(&mut self) {
        if self.pace == Pace::Replicate {
            self.pace = Pace::Probe { waiting: true };
            self.next = self.matched.next();
            self.window.clear();
        }
        self.beats = self.patience_beats;
    }

    /// Nothing is sent to a node that is down, but for one that is being told of its removal.
    pub(crate) fn is_down(&self) -> bool {
        self.attendance == Attendance::Down && self.left_at.is_none()
    }

    pub(crate) fn needs_snapshot(&self) -> bool {
        matches!(self.pace, Pace::Snapshot { .. })
    }

    /// What it needs is gone, through `at_least`.
    pub(crate) fn await_snapshot(&mut self, at_least: Index) {
        self.answered();
        self.pace = Pace::Snapshot { at_least };
        self.window.clear();
    }

    /// The snapshot is installed: an append at `next` finds out whether it is so.
    pub(crate) fn snapshot_installed(&mut self, next: Index) {
        self.pace = Pace::Probe { waiting: false };
        self.next = next.max(self.matched.next());
    }

    /// The snapshot has failed: the next attempt waits for the patience to end, which doubles with
    /// every failure.
    pub(crate) fn snapshot_failed(&mut self) {
        self.pace = Pace::Probe { waiting: true };
        self.beats = 0;
        self.patience_beats = (PATIENCE_BEATS_MIN << self.failures).min(PATIENCE_BEATS_MAX);
        self.failures = (self.failures + 1).min(PATIENCE_BEATS_MAX.ilog2());
    }

    /// The log begins behind `base`: what is sent has to, as well.
    pub(crate) fn begin_behind(&mut self, base: Index) {
        if self.next <= base {
            self.next = base.next();
            if self.pace == Pace::Replicate {
                self.pace = Pace::Probe { waiting: false };
                self.window.clear();
            }
        }
    }

    /// True if it was told of the commit of its removal. It was told once; it may not have heard.
    pub(crate) fn knows_to_have_left(&self) -> bool {
        self.left_at.is_some_and(|at| at <= self.commit_told)
    }

    /// A heartbeat leaves.
    pub(crate) fn beat(&mut self) {
        self.beats = if self.is_waiting() { self.beats.saturating_add(1) } else { 0 };
    }

    /// A heartbeat was answered: true if an append is overdue meanwhile and counts as lost. Each
    /// attempt in vain doubles the pause before the next.
    pub(crate) fn is_overdue(&mut self) -> bool {
        if !self.is_waiting() || self.beats < self.patience_beats {
            return false;
        }
        self.beats = 0;
        self.patience_beats = (self.patience_beats * 2).min(PATIENCE_BEATS_MAX);
        true
    }

    fn is_waiting(&self) -> bool {
        self.pace == Pace::Probe { waiting: true } || !self.window.appends.is_empty()
    }

    fn answered(&mut self) {
        self.beats = 0;
        self.patience_beats = PATIENCE_BEATS_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{EntryKind, RunDraft};
    use quorate_types::{NodeId, ReplicaId, Term};

    fn progress() -> (Progress, Config) {
        let member = Member { replica: ReplicaId(2), node: NodeId(2) };
        let mut config = Config::new(ReplicaId(1), 0, 0);
        config.window_messages_max = 3;
        config.window_bytes_max = 100;
        let mut progress = Progress::new(member, Index(1), Index(10), Monotonic(0));
        progress.accept(Index(9));
        (progress, config)
    }

    #[test]
    fn the_window_is_bounded_in_messages() {
        let (mut progress, config) = progress();
        for last in 10..13 {
            assert!(progress.room_bytes(&config).is_some());
            progress.sent(Index(last), 1);
        }
        assert_eq!(progress.room_bytes(&config), None);
        progress.accept(Index(11));
        assert_eq!(progress.room_bytes(&config), Some(99));
        assert_eq!(progress.window.appends.len(), 1);
    }

    #[test]
    fn the_window_is_bounded_in_bytes() {
        let (mut progress, config) = progress();
        assert!(progress.admits(&config, 500), "a large append may go alone");
        progress.sent(Index(10), 60);
        assert!(!progress.admits(&config, 41));
        assert!(progress.admits(&config, 40));
        progress.sent(Index(11), 40);
        assert_eq!(progress.room_bytes(&config), None);
    }

    /// Goal: a follower that falls back while its window is full has all of it again. Method: every way
    /// by which a window is given up, then the first acknowledgement.
    #[test]
    fn a_window_that_is_given_up_is_empty() {
        let ways: [fn(&mut Progress); 4] = [
            Progress::suspend,
            |progress| progress.step_back(Index(10), Index(10)),
            |progress| progress.await_snapshot(Index(9)),
            |progress| {
                progress.next = Index(10);
                progress.begin_behind(Index(10));
            },
        ];
        for (number, give_up) in ways.into_iter().enumerate() {
            let (mut progress, config) = progress();
            progress.sent(Index(10), 60);
            progress.sent(Index(11), 40);
            assert_eq!(progress.room_bytes(&config), None, "it is full");
            give_up(&mut progress);
            progress.accept(Index(9));
            assert_eq!(progress.pace, Pace::Replicate);
            assert_eq!(progress.room_bytes(&config), Some(100), "way {number}");
            let leaves = (10..13).take_while(|last| {
                let has_room = progress.room_bytes(&config).is_some();
                progress.sent(Index(*last), 1);
                has_room
            });
            assert_eq!(leaves.count(), 3, "way {number}");
        }
    }

    #[test]
    fn patience_doubles_and_the_first_success_clears_it() {
        let (mut progress, _) = progress();
        progress.sent(Index(10), 1);
        for expected in [2, 4, 8, 16, 32, 32] {
            let mut beats = 0;
            while !progress.is_overdue() {
                progress.beat();
                beats += 1;
            }
            assert_eq!(beats, expected);
        }
        progress.accept(Index(9));
        assert_eq!(progress.patience_beats, PATIENCE_BEATS_MIN);
    }

    #[test]
    fn late_refusals_are_told_apart() {
        let (mut progress, _) = progress();
        progress.sent(Index(12), 1);
        assert!(!progress.is_current_refusal(Index(9)), "acknowledged since");
        assert!(progress.is_current_refusal(Index(12)));
        assert!(!progress.is_current_refusal(Index(13)), "nothing was sent behind it");
        progress.step_back(Index(12), Index(11));
        assert!(progress.is_current_refusal(Index(10)));
        assert!(!progress.is_current_refusal(Index(12)), "answered already");
        progress.step_back(Index(10), Index(10));
        assert!(!progress.is_current_refusal(Index(9)), "acknowledged, and asked for all the same");
    }

    /// Goal: of runs that were read back those leave that fit, and where none fits nothing is read again
    /// before the window is empty. Method: runs of 40 bytes beside a window that fills and drains.
    #[test]
    fn runs_that_do_not_fit_are_read_again_into_an_empty_window() {
        let run = |index| {
            let mut draft = RunDraft::new();
            draft.push(EntryKind::Command, &[b"abc"]);
            let run = draft.seal(Term(1), Index(index));
            assert_eq!(run.len_bytes(), 40);
            run
        };
        let (mut progress, config) = progress();
        progress.sent(Index(10), 20);
        assert!(progress.may_fetch(), "there is room");
        let head = progress.admit_head(&config, vec![run(11), run(12), run(13)]);
        assert_eq!(head, [run(11), run(12)], "exactly what fits");
        assert!(progress.may_fetch());
        progress.sent(Index(12), 80);
        assert_eq!(progress.admit_head(&config, vec![run(13)]), []);
        assert!(!progress.may_fetch());
        progress.accept(Index(10));
        assert!(!progress.may_fetch(), "an append is under way still");
        progress.accept(Index(12));
        assert!(progress.may_fetch());
    }

    #[test]
    fn a_snapshot_is_ended_by_what_suffices_only() {
        let (mut progress, config) = progress();
        progress.await_snapshot(Index(20));
        progress.accept(Index(15));
        assert!(progress.needs_snapshot(), "sent before the log was given up");
        assert_eq!(progress.room_bytes(&config), None);
        progress.accept(Index(20));
        assert_eq!((progress.pace, progress.next), (Pace::Replicate, Index(21)));
    }
}
