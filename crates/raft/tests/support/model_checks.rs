//! What the model holds its replicas to.

use quorate_raft::{Body, EntryKind, Member, Membership, Message, Role};
use quorate_types::{LogId, ReplicaId, Term};

use crate::World;
use crate::support::{BASE, Site};

impl World {
    /// Election safety and leader completeness (Raft paper, figure 3).
    pub(crate) fn check_leader(&mut self, at: usize, term: Term) {
        let id = self.sites[at].config.replica;
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "two leaders in {term:?}");
        if term > self.watermark_term {
            let last = self.sites[at].kernel.last();
            let committed = LogId::new(self.watermark_term, self.watermark);
            assert!(last >= committed, "the log of {id:?} ends at {last}, before {committed}");
        }
    }

    /// All replicas apply the same; and what is applied first is what its leader says.
    pub(crate) fn check_entry(
        &mut self,
        at: ReplicaId,
        id: LogId,
        kind: EntryKind,
        payload: &[u8],
    ) {
        let position = id.index.since(BASE.index.next()) as usize;
        if let Some((known, bytes)) = self.committed.get(position) {
            assert_eq!((*known, bytes.as_slice()), (id.term, payload), "{id} differs");
            return;
        }
        assert_eq!(position, self.committed.len());
        self.committed.push((id.term, payload.to_vec()));
        self.proposals_committed += usize::from(kind == EntryKind::Command);
        if kind == EntryKind::Membership {
            let membership = Membership::decode(payload).expect("sound");
            // A joint configuration is left only once both majorities have it.
            self.check_quorum(id, &membership);
            self.changes.joint_committed += usize::from(membership.is_joint());
            let begun_by = self.leaders.get(&id.term);
            let is_final = !membership.is_joint() && self.follows_joint(position);
            let joint_term = self.committed[..position]
                .iter()
                .rev()
                .find_map(|(term, bytes)| Membership::decode(bytes).is_ok().then_some(*term));
            let other = joint_term.and_then(|term| self.leaders.get(&term)) != begun_by;
            self.changes.finished_by_another += usize::from(is_final && other);
            self.changes.departed += usize::from(is_final && !membership.is_voter(at));
        }
    }

    /// True if the membership before this position was joint.
    fn follows_joint(&self, position: usize) -> bool {
        let earlier = self.committed[..position].iter().rev();
        let before = earlier.filter_map(|(_, bytes)| Membership::decode(bytes).ok()).next();
        before.as_ref().unwrap_or(&self.founders).is_joint()
    }

    /// Whatever a leader takes for committed is on the disks of a quorum of the membership in its
    /// log, and nobody's commit index goes back while it lives.
    pub(crate) fn check_commit(&mut self, at: usize) {
        let kernel = &self.sites[at].kernel;
        let commit = kernel.commit();
        if commit <= self.watermark {
            return;
        }
        assert_eq!(kernel.role().role, Role::Leader, "leaders know of commits first");
        let id = LogId::new(kernel.role().term, commit);
        self.watermark = id.index;
        self.watermark_term = id.term;
        self.check_quorum(id, &kernel.membership().clone());
    }

    fn check_quorum(&self, id: LogId, membership: &Membership) {
        let holds = |voter: &&Member| {
            self.sites[voter.replica.0 as usize - 1].disk.term_at(id.index) == Some(id.term)
        };
        for voters in [&membership.voters, &membership.outgoing] {
            let held = voters.iter().filter(holds).count();
            assert!(
                voters.is_empty() || 2 * held > voters.len(),
                "{id} is on {held} disks of {voters:?}"
            );
        }
    }

    /// The membership in force is the newest in the log, and comes from nowhere else.
    pub(crate) fn check_membership(&self, at: usize) {
        let site = &self.sites[at];
        let mut disk = site.disk.clone();
        let flights = site.flights.iter();
        flights.for_each(|flight| disk.write(&flight.write));
        let logged = disk.memberships().pop().map_or(disk.membership.clone(), |(_, last)| last);
        assert_eq!(*site.kernel.membership(), logged);
        assert_eq!(site.kernel.base(), disk.base);
    }

    /// A promise that leaves is durable, or overtaken by a newer term that is.
    pub(crate) fn check_promise(&mut self, message: &Message) {
        let disk = &self.sites[message.from.0 as usize - 1].disk;
        let is_overtaken = disk.hard_state.term > message.term;
        match &message.body {
            Body::VoteReply { pre: false, granted: true, .. } => {
                let vote = (disk.hard_state.term, disk.hard_state.vote);
                assert!(is_overtaken || vote == (message.term, Some(message.to)), "{message:?}");
                let given = self.votes.entry((message.term, message.from)).or_insert(message.to);
                assert_eq!(*given, message.to, "{message:?} is a second vote");
            }
            Body::VoteRequest { pre: false, .. } | Body::HeartbeatReply { .. } => {
                assert!(disk.hard_state.term >= message.term, "{message:?}");
            }
            Body::Accepted { matched } => {
                assert!(is_overtaken || disk.last().index >= *matched, "{message:?}");
            }
            _ => {}
        }
    }

    pub(crate) fn check_calm(&self, seed: u64, before: usize) {
        for Site { config, kernel, .. } in &self.sites {
            let (role, commit, last) = (kernel.role(), kernel.commit(), kernel.last());
            let membership = kernel.membership();
            println!("{:?}: {role:?} {commit:?} of {last}, {membership:?}", config.replica);
        }
        assert!(self.proposals_committed > before, "seed {seed}: no progress after the heal");
        let leader = self.leaders.last_key_value().expect("somebody leads").1;
        let kernel = &self.sites[leader.0 as usize - 1].kernel;
        let membership = kernel.membership();
        assert!(kernel.role().serving, "seed {seed}: {:?}", kernel.role());
        assert!(!kernel.is_changing() && !membership.is_joint(), "seed {seed}: {membership:?}");
        assert!(membership.is_voter(*leader), "seed {seed}: {leader:?} leads {membership:?}");
        let last = BASE.index.plus(self.committed.len() as u64);
        for member in membership.members() {
            let site = &self.sites[member.replica.0 as usize - 1];
            let behind = last.since(site.applied);
            assert!(behind < 300, "seed {seed}: {member:?} is {behind} behind");
            assert_eq!(site.kernel.membership(), membership, "seed {seed}: {member:?}");
        }
    }
}
