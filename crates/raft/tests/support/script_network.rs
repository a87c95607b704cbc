//! The network of a script: what lies in it, what is lost, what is kept for later.

use quorate_raft::Message;
use quorate_types::{NodeId, ReplicaId};

use super::{Script, Words, ends, number, option};
use crate::describe::describe;

/// Which messages a lossy network loses: always the same ones.
#[derive(Default)]
pub(super) struct Loss {
    pub(super) percent: u64,
    state: u64,
}

impl Loss {
    /// The multiplier and the increment are those of Knuth's MMIX.
    fn takes_next(&mut self) -> bool {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005);
        self.state = self.state.wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % 100 < self.percent
    }
}

impl Script {
    /// `deliver`: everything, and what comes of it, until the network is empty. `deliver 1->2`, `->2`,
    /// `1->`: what lies there now, in order.
    pub(super) fn deliver(&mut self, link: Option<&str>) {
        match link {
            Some(link) => self.take_from_network(link).into_iter().for_each(|m| self.arrive(m)),
            None => {
                while !self.network.is_empty() {
                    let message = self.network.remove(0);
                    self.arrive(message);
                }
            }
        }
    }

    pub(super) fn arrive(&mut self, message: Message) {
        let ends = [message.from.0, message.to.0];
        let is_cut = self.cut.contains(&(ends[0], ends[1]));
        let is_isolated = ends.iter().any(|end| self.isolated.contains(end));
        if is_cut || is_isolated || self.loss.takes_next() {
            self.say(&format!("lost {}", describe(&message)));
            return;
        }
        self.say(&describe(&message));
        // A message with a made-up replica id still goes to the node that it was made for.
        let id = if message.to.0 > 100 { message.to.0 - 100 } else { message.to.0 };
        let site = self.site(id);
        if message.from.0 <= 100 && site.kernel.membership().node_of(message.from).is_none() {
            site.kernel.handle_address(message.from, NodeId(message.from.0));
        }
        site.kernel.handle_message(site.now, message);
        self.settle(id);
    }

    pub(super) fn drop_messages(&mut self, link: Option<&str>) {
        for message in self.take_from_network(link.unwrap_or("->")) {
            self.say(&format!("lost {}", describe(&message)));
        }
    }

    pub(super) fn take_from_network(&mut self, link: &str) -> Vec<Message> {
        let (from, to) = link.split_once("->").expect("a link like 1->2");
        let matches = |end: &str, id: ReplicaId| end.is_empty() || number(end) == id.0;
        let all = std::mem::take(&mut self.network);
        let (taken, left) =
            all.into_iter().partition(|m| matches(from, m.from) && matches(to, m.to));
        self.network = left;
        taken
    }

    /// `save 1->2 late`: takes the last message of the link out of the network, to be sent later.
    pub(super) fn save(&mut self, link: &str, name: &str) {
        let mut taken = self.take_from_network(link);
        let message = taken.pop().expect("a message to save");
        self.network.extend(taken);
        self.say(&format!("saved {}", describe(&message)));
        self.saved.insert(name.to_owned(), message);
    }

    /// `send late [to=102] [from=101]`: a copy, perhaps for another replica id of the same node.
    pub(super) fn send_saved(&mut self, words: Words) {
        let mut message = self.saved[words[0]].clone();
        message.to = option(words, "to").map_or(message.to, ReplicaId);
        message.from = option(words, "from").map_or(message.from, ReplicaId);
        self.arrive(message);
    }

    /// `beat 1->2 8`: eight heartbeats are answered, and all else between the two is lost; tells the
    /// appends.
    pub(super) fn beat(&mut self, link: &str, count: u64) {
        let (leader, follower) = ends(link);
        let back = format!("{follower}->{leader}");
        let mut told = String::new();
        for beat in 1..=count {
            self.wait(&[&leader.to_string(), "100"]);
            self.deliver(Some(link));
            self.deliver(Some(&back));
            self.out.clear();
            self.drop_messages(Some(link));
            let lost = self.out.lines().filter(|line| line.contains("Append"));
            lost.for_each(|line| told += &format!("{line}, after heartbeat {beat}\n"));
        }
        self.drop_messages(None);
        self.out = told;
    }

    pub(super) fn heal(&mut self) {
        self.isolated.clear();
        self.cut.clear();
        self.loss.percent = 0;
    }
}
