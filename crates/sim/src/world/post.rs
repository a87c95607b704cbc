//! Sends and delivers what travels between nodes on streams.

use quorate_host::Event;
use quorate_raft::{Body, Message};
use quorate_types::{NodeId, ShardId, limits};

use super::World;
use super::network::{LANE_APPEND, LANE_CONTROL, LANE_SNAPSHOT};
use super::node::{node_id, number_of};
use super::schedule::{Freight, Happening};
use crate::observation::Observation;

/// The lane of a message: votes and leader transfers never wait behind data.
fn lane_of(shard: ShardId, message: &Message) -> usize {
    match message.body {
        Body::VoteRequest { .. } | Body::VoteReply { .. } | Body::TimeoutNow => LANE_CONTROL,
        _ => LANE_APPEND + usize::try_from(shard.0).expect("few shards") % limits::APPEND_LANES,
    }
}

impl World {
    /// Sends a turn's messages to one peer, in one frame per lane.
    pub(crate) fn send_messages(&mut self, node: usize, to: NodeId, all: Vec<(ShardId, Message)>) {
        let from = self.nodes[node].id;
        let mut lanes: [Vec<(ShardId, Message)>; LANE_SNAPSHOT] = Default::default();
        for (shard, message) in all {
            self.observe(Observation::Sent { from, to, shard, message: &message });
            lanes[lane_of(shard, &message)].push((shard, message));
        }
        for (lane, messages) in lanes.into_iter().enumerate() {
            if !messages.is_empty() {
                self.send(node, number_of(to), lane, Freight::Messages(messages));
            }
        }
    }

    /// Sends one freight on a lane.
    pub(crate) fn send(&mut self, from: usize, to: usize, lane: usize, freight: Freight) {
        let times = self.network.send(&mut self.random, self.now, (from, to), lane);
        let generation = self.network.generation(from, to);
        if times.is_empty()
            && let Freight::Messages(messages) = &freight
        {
            for (shard, _) in messages {
                let (from, to, shard) = (node_id(from), node_id(to), *shard);
                self.observe(Observation::Lost { from, to, shard });
            }
        }
        let Some((last, others)) = times.split_last() else { return };
        for at in others {
            let freight = Box::new(freight.clone());
            self.schedule.at(*at, Happening::Freight { from, to, generation, freight });
        }
        let freight = Box::new(freight);
        self.schedule.at(*last, Happening::Freight { from, to, generation, freight });
    }

    /// A freight arrives, or was lost with its connection or process.
    pub(crate) fn deliver(&mut self, from: usize, to: usize, generation: u32, freight: Freight) {
        let is_lost = generation != self.network.generation(from, to);
        if is_lost || self.nodes[to].process.is_none() {
            self.network.lost += 1;
            return;
        }
        let (sender, receiver) = (node_id(from), node_id(to));
        match freight {
            Freight::Messages(messages) => {
                for (shard, message) in messages {
                    let (from, to) = (sender, receiver);
                    self.observe(Observation::Delivered { from, to, shard, message: &message });
                    self.touch(shard);
                    self.post(number_of(to), Event::Message { from, shard, message });
                }
                self.step_soon(to);
            }
            Freight::Control(shard, control) => {
                self.observe(Observation::ControlDelivered {
                    from: sender,
                    to: receiver,
                    shard,
                    control: &control,
                });
                self.tell(to, Event::Control { from: sender, shard, control });
                self.step(to);
            }
            Freight::Audit(is_of_leader, list) => self.handle_audit(from, to, is_of_leader, &list),
            Freight::Chunk(chunk) => self.handle_chunk(from, to, chunk),
            Freight::ChunkAnswer(answer) => self.handle_chunk_answer(to, &answer),
        }
    }
}
