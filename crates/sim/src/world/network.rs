//! The simulated network: each ordered pair of nodes has a few lanes that keep the order of
//! messages, and datagrams without any order.
//!
//! Like the engine's transport it loses a stream's messages only together with the connection: a
//! cut raises the link's generation, and messages under way from an older one never arrive. An
//! `unruly` network also loses, doubles and reorders single messages, which the kernel must bear.

use smallvec::SmallVec;

use super::units::MILLI;
use quorate_types::SplitMix64;

/// Votes, leading, bindings.
pub(crate) const LANE_CONTROL: usize = 0;
/// The first of the lanes for appends.
pub(crate) const LANE_APPEND: usize = 1;
/// The lane of snapshots.
pub(crate) const LANE_SNAPSHOT: usize = LANE_APPEND + quorate_types::limits::APPEND_LANES;
const LANES: usize = LANE_SNAPSHOT + 1;

/// One direction between two nodes.
#[derive(Clone, Debug, Default)]
struct Link {
    generation: u32,
    /// Nothing passes before this true time.
    cut_until: u64,
    /// Streams deliver nothing before this true time; datagrams pass.
    hung_until: u64,
    /// Control messages sent before this true time are lost, and nothing else is.
    deaf_until: u64,
    /// Datagrams sent before this true time are lost.
    datagrams_lost_until: u64,
    /// Extra delay per message until `slow_until`.
    slow: u64,
    slow_until: u64,
    /// When the last message of each lane arrives.
    lane_at: [u64; LANES],
}

/// The links between all nodes.
pub(crate) struct Network {
    links: Vec<Link>,
    nodes: usize,
    is_unruly: bool,
    /// Messages and datagrams lost for any reason.
    pub(crate) lost: u64,
}

impl Network {
    pub(crate) fn new(nodes: usize, is_unruly: bool) -> Network {
        Network { links: vec![Link::default(); nodes * nodes], nodes, is_unruly, lost: 0 }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    /// Sends a message on a lane; returns the times at which it arrives, none if it is lost.
    pub(crate) fn send(
        &mut self,
        random: &mut SplitMix64,
        now: u64,
        (from, to): (usize, usize),
        lane: usize,
    ) -> SmallVec<[u64; 2]> {
        let is_unruly = self.is_unruly;
        let link = self.link(from, to);
        let is_deaf = lane == LANE_CONTROL && now < link.deaf_until;
        if now < link.cut_until || is_deaf || (is_unruly && random.chance(15)) {
            self.lost += 1;
            return SmallVec::new();
        }
        let slow = if now < link.slow_until { random.below(link.slow) } else { 0 };
        let at = (now + 100_000 + random.below(MILLI) + slow).max(link.hung_until);
        let mut times = SmallVec::new();
        if is_unruly && random.chance(30) {
            // Later messages may overtake it, and it may be doubled.
            times.push(at + random.below(50 * MILLI));
            if random.chance(500) {
                times.push(at + random.below(200 * MILLI));
            }
            return times;
        }
        let at = at.max(link.lane_at[lane]);
        link.lane_at[lane] = at;
        times.push(at);
        times
    }

    /// Sends a datagram; returns the times at which it arrives. Datagrams are lost, doubled and
    /// reordered in every world.
    pub(crate) fn send_datagram(
        &mut self,
        random: &mut SplitMix64,
        now: u64,
        (from, to): (usize, usize),
        is_calm: bool,
    ) -> SmallVec<[u64; 2]> {
        let link = self.link(from, to);
        let is_lost = now < link.cut_until || now < link.datagrams_lost_until;
        if is_lost || (!is_calm && random.chance(10)) {
            self.lost += 1;
            return SmallVec::new();
        }
        let slow = if now < link.slow_until { random.below(link.slow) } else { 0 };
        let late = if !is_calm && random.chance(10) { random.below(300 * MILLI) } else { 0 };
        let at = now + 100_000 + random.below(MILLI) + slow + late;
        let mut times = SmallVec::new();
        times.push(at);
        if !is_calm && random.chance(10) {
            times.push(at + random.below(100 * MILLI));
        }
        times
    }

    /// The link's current generation, which a message sent now carries.
    pub(crate) fn generation(&self, from: usize, to: usize) -> u32 {
        self.links[from * self.nodes + to].generation
    }

    /// Breaks the connection: messages under way do not arrive.
    pub(crate) fn reset(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        link.generation += 1;
        link.lane_at = [0; LANES];
    }

    /// Lets nothing pass from `from` to `to` before `until`.
    pub(crate) fn cut(&mut self, from: usize, to: usize, until: u64) {
        self.reset(from, to);
        self.link(from, to).cut_until = until;
    }

    /// Lets streams deliver nothing before `until`.
    pub(crate) fn hang(&mut self, from: usize, to: usize, until: u64) {
        self.link(from, to).hung_until = until;
    }

    /// Loses datagrams sent before `until`.
    pub(crate) fn lose_datagrams(&mut self, from: usize, to: usize, until: u64) {
        self.link(from, to).datagrams_lost_until = until;
    }

    /// Loses control messages sent before `until`.
    pub(crate) fn deafen(&mut self, from: usize, to: usize, until: u64) {
        self.link(from, to).deaf_until = until;
    }

    /// Delays every message sent before `until` by up to `slow` more nanoseconds.
    pub(crate) fn slow(&mut self, from: usize, to: usize, slow: u64, until: u64) {
        let link = self.link(from, to);
        (link.slow, link.slow_until) = (slow, until);
    }

    /// Makes every link work from now on.
    pub(crate) fn heal(&mut self) {
        self.is_unruly = false;
        for link in &mut self.links {
            let Link { generation, lane_at, .. } = *link;
            *link = Link { generation, lane_at, ..Link::default() };
        }
    }
}
