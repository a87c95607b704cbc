//! What a replica does: a small Raft with whole logs, each message judged by the binding first.

use quorate_liveness::{
    BindRequest, Binding, ChangeNumber, Decision, Followed, Heard, LeaderMonitor, Lease, LeaseEnd,
    SupportEpoch,
};
use quorate_raft::TransferOf;
use quorate_types::{Monotonic, Term, limits};

use crate::node::{Role, SHARDS, Said, member, node_id, shard_id};
use crate::rules::Broken;
use crate::world::{World, incarnation};

impl World {
    /// Draws a new election timeout.
    pub(crate) fn arm(&mut self, node: usize, shard: usize) {
        let drawn = self.random.below(limits::ELECTION_TIMEOUT.as_nanos() as u64);
        let at = self.clock(node) + limits::ELECTION_TIMEOUT / 2;
        self.nodes[node].replicas[shard].elect_at = Monotonic(at.0 + drawn);
    }

    /// The time by which silence is judged.
    fn silence_clock(&self, node: usize) -> Monotonic {
        match self.broken {
            Broken::NoSilence => Monotonic(u64::MAX),
            _ => self.clock(node),
        }
    }

    fn unbound(&mut self, node: usize, shard: usize, binding: Binding) {
        let this = &mut self.nodes[node];
        this.live.unbind(binding.leader.node, shard_id(shard));
        this.index.unbind(shard_id(shard), binding.leader.node);
        self.arm(node, shard);
    }

    /// Whether the replica's Raft gets to see a message; unbinds the replica if the message does
    /// so.
    fn passes(&mut self, from: usize, node: usize, shard: usize, term: Term, said: &Said) -> bool {
        let now = self.silence_clock(node);
        let heard = match said {
            Said::Append { .. } | Said::Bind(_) => Heard::Leader,
            Said::VoteRequest { last, transfer, .. } => {
                Heard::VoteRequest { last: *last, transfer: *transfer }
            }
            Said::TimeoutNow => Heard::TimeoutNow,
            Said::Release => Heard::Release,
            _ => Heard::Other,
        };
        let sender = member(shard, from).replica;
        let broken = self.broken;
        let own_now = self.clock(node);
        let this = &mut self.nodes[node];
        let replica = &mut this.replicas[shard];
        if let Some(binding) = replica.bound.binding(&this.standings).copied()
            && let Said::VoteRequest { pre, .. } = said
        {
            let until = this.live.supported_until(binding.leader.node);
            let is_free = match broken {
                Broken::OldVoteUnbinds => binding.leader.replica == sender,
                Broken::VoteUnbinds => !pre && term > binding.term,
                Broken::ActOnLapse => until.is_some_and(|until| until < own_now),
                _ => false,
            };
            if is_free && !this.standings.is_silent(now) {
                replica.bound.take();
                self.unbound(node, shard, binding);
                return true;
            }
        }
        match replica.bound.decide(now, sender, term, heard, &this.standings) {
            Decision::Pass => true,
            Decision::PassUnbound(binding) => {
                self.unbound(node, shard, binding);
                true
            }
            Decision::Refuse => {
                self.counts.refusals += 1;
                if let Said::VoteRequest { pre, .. } = said {
                    let own_term = self.nodes[node].replicas[shard].term;
                    let said = Said::VoteReply { pre: *pre, granted: false };
                    self.say(node, from, shard, own_term, said);
                }
                false
            }
            Decision::Drop => false,
        }
    }

    pub(crate) fn hear(&mut self, from: usize, node: usize, shard: usize, term: Term, said: Said) {
        if let Said::Query = said {
            // "I do not lead that term", or "no such replica".
            let replica = &self.nodes[node].replicas[shard];
            if replica.is_quarantined || replica.role != Role::Leader || replica.term != term {
                self.say(node, from, shard, term, Said::Release);
            }
            return;
        }
        if self.nodes[node].replicas[shard].is_quarantined
            || !self.passes(from, node, shard, term, &said)
        {
            return;
        }
        match said {
            Said::Append { log, commit } => {
                if self.follow(from, node, shard, term) {
                    let replica = &mut self.nodes[node].replicas[shard];
                    // From one leader and term the longer log is the newer: messages overtake.
                    if !replica.log.starts_with(&log) {
                        replica.log.clone_from(&log);
                    }
                    replica.commit = replica.commit.max(commit.min(log.len()));
                    self.say(node, from, shard, term, Said::Accepted { length: log.len() });
                }
            }
            Said::Bind(request) => {
                if self.follow(from, node, shard, term)
                    && let Some((binding, change)) = self.bind(from, node, shard, request)
                {
                    self.say(node, from, shard, term, Said::Bound(binding, change));
                }
            }
            Said::Accepted { length } => {
                if self.leads(node, shard, term) {
                    let replica = &mut self.nodes[node].replicas[shard];
                    replica.matched[from] = replica.matched[from].max(length);
                    self.commit(node, shard);
                }
            }
            Said::Bound(binding, change) => {
                if self.leads(node, shard, term) {
                    self.hear_bound(from, node, shard, &binding, change);
                }
            }
            Said::StaleTerm => self.hear_term(node, shard, term, None),
            Said::VoteRequest { pre, last, transfer } => {
                self.hear_vote_request(from, node, shard, term, (pre, last, transfer));
            }
            Said::VoteReply { pre, granted } => {
                self.hear_vote_reply(from, node, shard, term, pre, granted);
            }
            Said::TimeoutNow => {
                let replica = &self.nodes[node].replicas[shard];
                let is_led = replica.role == Role::Follower && replica.leader == Some(from);
                if is_led && replica.term == term {
                    let leader = member(shard, from).replica;
                    self.campaign(node, shard, false, Some(TransferOf { leader, term }));
                }
            }
            Said::Release => {
                let replica = &mut self.nodes[node].replicas[shard];
                replica.leader = replica.leader.filter(|leader| *leader != from);
            }
            Said::Query => unreachable!("answered above"),
        }
    }

    /// A higher term: a leader gives up its lease first.
    fn hear_term(&mut self, node: usize, shard: usize, term: Term, leader: Option<usize>) {
        if term > self.nodes[node].replicas[shard].term {
            if self.nodes[node].replicas[shard].role == Role::Leader {
                self.step_down(node, shard);
            }
            let replica = &mut self.nodes[node].replicas[shard];
            (replica.term, replica.vote) = (term, None);
            (replica.role, replica.leader) = (Role::Follower, leader);
            self.arm(node, shard);
        }
    }

    /// Stops leading, whatever the reason, and releases the followers.
    pub(crate) fn step_down(&mut self, node: usize, shard: usize) {
        let replica = &mut self.nodes[node].replicas[shard];
        let term = replica.term;
        let mut lease = replica.lease.take().expect("a leader has one");
        lease.end(LeaseEnd::SteppingDown);
        (replica.role, replica.leader) = (Role::Follower, None);
        (replica.watch, replica.handed_at) = (None, None);
        self.arm(node, shard);
        for peer in self.others(node) {
            let this = &mut self.nodes[node];
            this.live.forget(node_id(peer), shard_id(shard));
            this.index.lead_no_more(shard_id(shard), node_id(peer));
            self.say(node, peer, shard, term, Said::Release);
        }
    }

    /// RULE 5: the replica of a node that may have lost something is silent forever.
    pub(crate) fn quarantine(&mut self, node: usize, shard: usize) {
        let quarantined = self.nodes.iter().filter(|n| n.replicas[shard].is_quarantined).count();
        let is_first = !self.nodes[node].replicas[shard].is_quarantined;
        if !self.nodes[node].is_up || !is_first || quarantined >= (self.nodes.len() - 1) / 2 {
            return;
        }
        self.counts.quarantines += 1;
        if self.nodes[node].replicas[shard].role == Role::Leader {
            self.step_down(node, shard);
        }
        let replica = &mut self.nodes[node].replicas[shard];
        replica.is_quarantined = true;
        replica.role = Role::Follower;
        if let Some(binding) = replica.bound.take() {
            self.unbound(node, shard, binding);
        }
    }

    pub(crate) fn campaign(
        &mut self,
        node: usize,
        shard: usize,
        pre: bool,
        transfer: Option<TransferOf>,
    ) {
        let now = self.silence_clock(node);
        let this = &self.nodes[node];
        if !this.replicas[shard].bound.may_campaign(now, &this.standings) {
            return;
        }
        let next = this.replicas[shard].term.next();
        if !pre {
            self.hear_term(node, shard, next, None);
            self.counts.elections += 1;
        }
        let count = self.nodes.len();
        let replica = &mut self.nodes[node].replicas[shard];
        replica.role = if pre { Role::PreCandidate } else { Role::Candidate };
        replica.leader = None;
        if !pre {
            replica.vote = Some(node);
        }
        replica.votes = vec![false; count];
        replica.votes[node] = true;
        let last = replica.last();
        self.arm(node, shard);
        for peer in self.others(node) {
            self.say(node, peer, shard, next, Said::VoteRequest { pre, last, transfer });
        }
    }

    fn hear_vote_request(
        &mut self,
        from: usize,
        node: usize,
        shard: usize,
        term: Term,
        (pre, last, transfer): (bool, quorate_types::LogId, Option<TransferOf>),
    ) {
        let replica = &self.nodes[node].replicas[shard];
        let own = TransferOf { leader: member(shard, node).replica, term: replica.term };
        if replica.role == Role::Leader && (pre || transfer != Some(own)) {
            return;
        }
        if !pre {
            self.hear_term(node, shard, term, None);
        }
        let replica = &mut self.nodes[node].replicas[shard];
        let is_new_enough = last >= replica.last();
        let granted = if pre {
            is_new_enough && term > replica.term
        } else {
            let is_free = replica.vote.is_none_or(|vote| vote == from);
            is_new_enough && is_free && term == replica.term && replica.role == Role::Follower
        };
        let answer_term = if pre && granted { term } else { replica.term };
        if granted && !pre {
            replica.vote = Some(from);
            self.arm(node, shard);
        }
        if granted {
            self.check_grant(from, node, shard);
        }
        self.say(node, from, shard, answer_term, Said::VoteReply { pre, granted });
    }

    fn hear_vote_reply(
        &mut self,
        from: usize,
        node: usize,
        shard: usize,
        term: Term,
        pre: bool,
        granted: bool,
    ) {
        if !granted {
            self.hear_term(node, shard, term, None);
            return;
        }
        let group = self.nodes.len();
        let replica = &mut self.nodes[node].replicas[shard];
        let wanted = match replica.role {
            Role::PreCandidate if pre => replica.term.next(),
            Role::Candidate if !pre => replica.term,
            _ => return,
        };
        if term != wanted {
            return;
        }
        replica.votes[from] = true;
        if replica.votes.iter().filter(|vote| **vote).count() * 2 > group {
            match pre {
                true => self.campaign(node, shard, false, None),
                false => self.become_leader(node, shard),
            }
        }
    }

    fn become_leader(&mut self, node: usize, shard: usize) {
        let (now, own_life) = (self.clock(node), incarnation(&self.nodes[node]));
        let replica = &mut self.nodes[node].replicas[shard];
        let term = replica.term;
        let truth = &mut self.truth[shard];
        let other = truth.leaders.insert(term, node).filter(|other| *other != node);
        assert!(other.is_none(), "two leaders in term {term}");
        // A late winner of an old term owes only what earlier terms committed.
        let owed = truth.committed_in.iter().take_while(|in_term| **in_term < term).count();
        assert!(
            replica.log.get(..owed) == Some(&truth.committed[..owed]),
            "leader {node} of term {term} lacks committed entries"
        );
        (replica.role, replica.leader, replica.append_at) = (Role::Leader, Some(node), now);
        replica.matched.fill(0);
        let mut lease = Lease::new(member(shard, node), own_life, term);
        if self.broken == Broken::NoOwnTermCommit {
            lease.handle_own_term_committed();
        }
        replica.lease = Some(lease);
        replica.watch = Some(LeaderMonitor::new(now));
        self.propose(node, shard);
        for peer in self.others(node) {
            self.nodes[node].index.lead(shard_id(shard), node_id(peer), false);
        }
    }

    pub(crate) fn propose(&mut self, node: usize, shard: usize) {
        let replica = &mut self.nodes[node].replicas[shard];
        replica.log.push(replica.term);
        replica.matched[node] = replica.log.len();
    }

    /// Follows the leader that spoke, unless its term is over.
    fn follow(&mut self, from: usize, node: usize, shard: usize, term: Term) -> bool {
        let own_term = self.nodes[node].replicas[shard].term;
        if term < own_term {
            self.say(node, from, shard, own_term, Said::StaleTerm);
            return false;
        }
        self.hear_term(node, shard, term, Some(from));
        let replica = &mut self.nodes[node].replicas[shard];
        assert!(replica.role != Role::Leader, "two leaders in term {term}");
        (replica.role, replica.leader) = (Role::Follower, Some(from));
        self.arm(node, shard);
        true
    }

    /// True if the replica leads `term`; a higher one ends its leadership.
    fn leads(&mut self, node: usize, shard: usize, term: Term) -> bool {
        self.hear_term(node, shard, term, None);
        let replica = &self.nodes[node].replicas[shard];
        replica.role == Role::Leader && replica.term == term
    }

    fn bind(
        &mut self,
        from: usize,
        node: usize,
        shard: usize,
        mut request: BindRequest,
    ) -> Option<(Binding, ChangeNumber)> {
        let this = &mut self.nodes[node];
        let hidden = this.epochs_hidden.get(&node_id(from)).copied().unwrap_or(0);
        request.epoch = SupportEpoch(request.epoch.0 + hidden);
        let replica = &mut this.replicas[shard];
        let leader = replica.leader.map(|leader| member(shard, leader).replica);
        let followed = Followed { term: replica.term, leader };
        let bound = replica.bound.handle_bind_request(&request, followed, &this.standings)?;
        if let Some(old) = bound.replaced.filter(|old| old.leader.node != node_id(from)) {
            this.live.unbind(old.leader.node, shard_id(shard));
            this.index.unbind(shard_id(shard), old.leader.node);
        }
        let change = this.live.bind(node_id(from), shard_id(shard), request.term);
        this.index.bind(shard_id(shard), node_id(from));
        let epoch = SupportEpoch(bound.binding.epoch.0 - hidden);
        Some((Binding { epoch, ..bound.binding }, change))
    }

    fn hear_bound(
        &mut self,
        from: usize,
        node: usize,
        shard: usize,
        binding: &Binding,
        change: ChangeNumber,
    ) {
        let this = &mut self.nodes[node];
        let lease = this.replicas[shard].lease.as_mut().expect("a leader has one");
        if lease.ended().is_none() {
            if lease.handle_bound(member(shard, from), binding) {
                this.index.lead(shard_id(shard), node_id(from), true);
            }
            this.live.record(node_id(from), shard_id(shard), binding, change);
        }
    }

    fn commit(&mut self, node: usize, shard: usize) {
        let replica = &mut self.nodes[node].replicas[shard];
        let mut matched = replica.matched.clone();
        matched.sort_unstable();
        let commit = matched[(matched.len() - 1) / 2];
        if commit <= replica.commit || replica.log[commit - 1] != replica.term {
            return;
        }
        replica.commit = commit;
        let lease = replica.lease.as_mut().expect("a leader has one");
        lease.handle_own_term_committed();
        let truth = &mut self.truth[shard];
        let common = truth.committed.len().min(commit);
        assert!(truth.committed[..common] == replica.log[..common], "committed entries changed");
        if commit > common {
            truth.committed = replica.log[..commit].to_vec();
            truth.committed_in.resize(commit, replica.term);
        }
    }

    /// True if every shard has a leader with a lease.
    pub(crate) fn is_led(&self) -> bool {
        (0..SHARDS).all(|shard| (0..self.nodes.len()).any(|node| self.has_lease(node, shard)))
    }
}
