//! Node liveness in a kernel (thesis 6.4.1 for the lease): where the host knows which nodes are
//! alive, that replaces the group's own timers, heartbeats and read rounds.
//!
//! A replica that its node has bound to a leader runs no election timer and helps no other
//! candidate. A leader whose followers are bound, or down, and hold everything **quiesces**: no
//! message, no timer, until something is asked of it or the host says that a follower's attendance
//! has changed.

use quorate_types::{Monotonic, Mutant, ReplicaId};

use crate::config::Preference;
use crate::kernel::Kernel;
use crate::progress::{Pace, Progress};
use crate::quorum;
use crate::ready::Role;

/// What a leader's host knows of the node of a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attendance {
    /// Nothing: the follower is kept from campaigning by heartbeats of this group.
    #[default]
    Awake,
    /// It is bound to this leader, and stays so until the host says otherwise.
    Bound,
    /// It is down: it is sent nothing, and not waited for.
    Down,
}

/// Whether a leader is awake, about to quiesce, or quiesced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Awake,
    /// Every member holds everything. Once every bound follower has answered this round, they also
    /// know what is committed.
    Falling {
        round: u64,
    },
    Quiesced,
}

impl Kernel {
    /// The node is bound to the leader that this replica follows: no election timer runs, and nobody
    /// else gets a vote or pre-vote here, until [`Kernel::handle_unbound`] or a message of a leader of
    /// a higher term.
    ///
    /// # Panics
    /// If this replica follows nobody.
    pub fn handle_bound(&mut self) {
        assert!(self.role == Role::Follower && self.leader.is_some(), "bound to nobody");
        self.is_bound = true;
        self.set_election_deadline();
    }

    /// The binding is over. The election timer starts again, and the leader counts as never heard:
    /// what ended the binding may be a request for a vote that is to be judged next.
    pub fn handle_unbound(&mut self, now: Monotonic) {
        self.now = self.now.max(now);
        if self.role == Role::Follower {
            self.is_bound = false;
            self.last_leader_contact = None;
            self.draw_election_deadline();
        }
    }

    /// The binding is over because the leader's node is lost: a replica that campaigns eagerly does
    /// so at the next [`Kernel::handle_timeout`]. The host spreads the groups of a node over time.
    pub fn handle_leader_lost(&mut self, now: Monotonic) {
        self.now = self.now.max(now);
        // Heard since the binding ended: it lives, or another leads.
        if !self.is_bound && self.last_leader_contact.is_some() {
            return;
        }
        self.handle_unbound(now);
        if self.role == Role::Follower && self.config.preference == Preference::Normal {
            self.election.deadline = self.now.max(self.election.silent_until);
        }
    }

    /// Does not campaign before `until`: before its restart this node may have bound itself for
    /// that long to a leader that it has forgotten. The host sees to it that no vote is given
    /// either.
    pub fn handle_silence(&mut self, until: Monotonic) {
        self.election.silent_until = self.election.silent_until.max(until);
        self.set_election_deadline();
    }

    /// Takes what the host knows of `replica`, if this one leads; forgotten with the term.
    pub fn handle_attendance(
        &mut self,
        now: Monotonic,
        replica: ReplicaId,
        attendance: Attendance,
    ) {
        self.now = self.now.max(now);
        let (now, silence_max) = (self.now, self.config.election_timeout);
        let Some(leading) = &mut self.leading else { return };
        let Some(follower) = leading.follower_mut(replica) else { return };
        // A message that this group itself hears counts for more than the host's report of silence.
        let is_heard = now.since(follower.last_contact) < silence_max;
        let attendance = match attendance {
            Attendance::Down if is_heard => Attendance::Awake,
            attendance => attendance,
        };
        if follower.attendance == attendance {
            return;
        }
        follower.attendance = attendance;
        if attendance == Attendance::Down {
            follower.suspend();
        }
        self.wake();
    }

    /// A follower that was thought to be down asks for votes: it lives, and it does not hear this
    /// leader only because nothing is sent to it.
    pub(crate) fn rehear(&mut self, replica: ReplicaId) {
        let follower = self.leading.as_ref().and_then(|leading| leading.follower(replica));
        if follower.is_some_and(|follower| follower.attendance == Attendance::Down) {
            self.hear_follower(replica);
        }
    }

    /// True if this replica sends nothing and no timer of it runs: a leader that has quiesced, a
    /// bound follower, or one that is no voter and knows no leader.
    #[must_use]
    pub fn is_quiesced(&self) -> bool {
        self.poll_timeout() == Monotonic(u64::MAX)
    }

    /// Wakes the leader: heartbeats leave at once, and every follower has an election timeout to
    /// answer.
    pub(crate) fn wake(&mut self) {
        let now = self.now;
        let Some(leading) = &mut self.leading else { return };
        if std::mem::replace(&mut leading.rest, Rest::Awake) == Rest::Quiesced {
            leading.heartbeat_at = now;
            leading.followers.iter_mut().for_each(|follower| follower.last_contact = now);
        }
    }

    /// At a heartbeat's time: true if none is needed, now or later.
    pub(crate) fn quiesce(&mut self) -> bool {
        let (is_calm, mutated) = (self.is_calm(), self.breaks(Mutant::QuiescedTooSoon));
        let round = self.reads.round;
        let Some(leading) = &mut self.leading else { return false };
        leading.rest = match leading.rest {
            _ if !is_calm => Rest::Awake,
            _ if mutated => Rest::Quiesced,
            Rest::Falling { round } if attendants(&leading.followers).all(|f| f.round >= round) => {
                Rest::Quiesced
            }
            Rest::Falling { round } => Rest::Falling { round },
            Rest::Awake | Rest::Quiesced => {
                self.reads.round += 1;
                Rest::Falling { round: round + 1 }
            }
        };
        leading.rest == Rest::Quiesced
    }

    /// True if nothing is under way, and a quorum is bound and holds and knows everything.
    fn is_calm(&self) -> bool {
        let Some(leading) = &self.leading else { return false };
        // Where the host knows nothing of nodes, this is all that a heartbeat pays.
        if leading.followers.iter().all(|follower| follower.attendance == Attendance::Awake) {
            return false;
        }
        let last = self.log.last().index;
        let holds_all = |follower: &Progress| {
            follower.attendance == Attendance::Bound
                && follower.pace == Pace::Replicate
                && follower.matched == last
        };
        let own = self.config.replica;
        let is_bound = |replica: ReplicaId| {
            let follower = leading.follower(replica);
            follower.is_some_and(|f| f.attendance == Attendance::Bound)
        };
        let quorum = quorum::agreed(self.log.membership(), |replica| {
            u64::from(replica == own || is_bound(replica))
        });
        self.is_serving()
            && self.commit == last
            && self.log.durable() == last
            && leading.transfer.is_none()
            && !self.is_changing()
            && !self.reads.is_waiting()
            && quorum == 1
            && leading.followers.iter().all(|f| f.left_at.is_none())
            && attendants(&leading.followers).all(holds_all)
    }
}

fn attendants(followers: &[Progress]) -> impl Iterator<Item = &Progress> {
    followers.iter().filter(|follower| !follower.is_down())
}
