//! The faults that the adversary causes.

use quorate_liveness::Unfit;

use crate::node::{Role, SHARDS};
use crate::world::World;

impl World {
    pub(crate) fn fault(&mut self) {
        let count = self.nodes.len();
        let (a, b) = (self.random.pick(count), self.random.pick(count));
        let leader = (0..count).find(|node| {
            self.nodes[*node].is_up && self.nodes[*node].replicas[0].role == Role::Leader
        });
        match self.random.below(18) {
            0 | 1 => self.cut[a][b] ^= a != b,
            2 => {
                for other in self.others(a) {
                    (self.cut[a][other], self.cut[other][a]) = (true, true);
                }
            }
            3 | 4 => self.heal_network(),
            5 | 6 if self.nodes[a].is_up => self.nodes[a].is_up = false,
            5 | 6 => self.start(a),
            7 | 8 if a != b => {
                self.hung[a][b] = true;
                self.hung[b][a] |= self.random.chance(500);
            }
            // The leader keeps one friend.
            9 if leader.is_some_and(|leader| leader != a) => {
                let leader = leader.expect("looked at just now");
                for other in (0..count).filter(|other| *other != a && *other != leader) {
                    (self.cut[leader][other], self.cut[other][leader]) = (true, true);
                    (self.cut[a][other], self.cut[other][a]) = (false, false);
                }
            }
            // A node restarts and does not hear the leader, or only its datagrams.
            10 | 15 => {
                self.start(a);
                if let Some(leader) = leader.filter(|leader| *leader != a) {
                    let links =
                        if self.random.chance(500) { &mut self.cut } else { &mut self.hung };
                    (links[a][leader], links[leader][a]) = (true, true);
                }
            }
            11 => self.start(a),
            12 => self.nodes[a].paused_until_ms = self.now_ms + self.random.below(2_500),
            13 => {
                let reason = Unfit::WorkerStalled;
                let unfit = self.random.chance(500).then_some(reason);
                self.nodes[a].live.handle_fitness(unfit);
            }
            14 if self.random.chance(200) => {
                let shard = self.random.pick(SHARDS);
                self.quarantine(leader.unwrap_or(a), shard);
            }
            // The heartbeat thread is late, the worker is not.
            16 => self.nodes[a].heartbeat_thread_at_ms = self.now_ms + self.random.below(1_800),
            // The leader's process sleeps, and finds its streams hung when it wakes.
            17 if leader.is_some() => {
                let leader = leader.expect("looked at just now");
                self.nodes[leader].paused_until_ms = self.now_ms + 600 + self.random.below(1_600);
                for other in self.others(leader) {
                    (self.hung[leader][other], self.hung[other][leader]) = (true, true);
                }
            }
            _ => {}
        }
    }

    /// A leader is quarantined and its release is lost: only the audit can tell its followers.
    pub(crate) fn quarantine_unheard(&mut self) {
        let shard = self.random.pick(SHARDS);
        let leader = (0..self.nodes.len()).find(|node| self.has_lease(*node, shard));
        if let Some(leader) = leader {
            for other in self.others(leader) {
                self.hung[leader][other] = true;
            }
            self.quarantine(leader, shard);
        }
    }
}
