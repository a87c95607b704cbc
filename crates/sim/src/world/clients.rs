//! Simulated clients: each has one request under way, sends it to the node that it takes for the
//! leader, retries it if it certainly did not happen, and gives up after a while.

use quorate_host::{Answer, Event, HostRefusal, Ticket};
use quorate_machine::ApplyOutcome;
use quorate_types::{Index, LogId, ShardId};

use super::World;
use super::node::{Node, number_of};
use super::schedule::Happening;
use super::units::{MILLI, SECOND};
use super::workload::{Ask, Moment, Outcome};
use crate::linearizability::ClientId;
use crate::observation::{Observation, OperationEnd};

/// Names a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientNumber(pub(crate) usize);

/// From this long before the heal, clients leave the shards that are to be idle alone.
const IDLE_BEFORE_HEAL: u64 = 15 * SECOND;
/// A client gives up after this time.
const TIMEOUT: u64 = 1_500 * MILLI;

/// Operations per second that should succeed.
const ENDED_PER_SECOND_MIN: u64 = 40;

/// Who waits for a node's answer; `asked` is the true time at which the request arrived there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// A client, for its operation.
    Client { client: ClientNumber, operation: u64, asked: u64 },
    /// The operator, which ignores the answer.
    Operator,
    /// A probe after the heal.
    Probe { probe: usize, asked: u64 },
}

/// A request under way.
pub(crate) struct Request {
    operation: u64,
    pub(crate) shard: ShardId,
    ask: Ask,
    /// A node received it, and may carry it out.
    is_out: bool,
    /// The shard's newest acknowledged write when the request began.
    floor: Index,
}

/// One client.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) request: Option<Request>,
}

impl World {
    /// A client begins its next request.
    pub(crate) fn client_asks(&mut self, client: ClientNumber) {
        if self.is_resting {
            return;
        }
        let shard = self.shards[self.random.place(self.shards.len())];
        let is_idle = shard.0.is_multiple_of(2) && self.profile.has_idle_shards;
        if is_idle && self.now > self.config.faulty_ms * MILLI - IDLE_BEFORE_HEAL {
            self.schedule.at(self.now + 10 * MILLI, Happening::Client(client));
            return;
        }
        self.operations_last += 1;
        let operation = self.operations_last;
        let moment = Moment {
            now: self.now,
            random: &mut self.random,
            history: self.watch.properties.history_mut(),
        };
        let ask = self.workload.ask(moment, ClientId(client.0 as u64), shard, operation);
        let floor = self.acknowledged.get(&shard).copied().unwrap_or_default();
        let request = Request { operation, shard, ask, is_out: false, floor };
        self.clients[client.0].request = Some(request);
        self.send_request(client, operation, 0);
        self.schedule.at(self.now + TIMEOUT, Happening::Timeout { client, operation });
    }

    /// Sends a request to the node that the client takes for the leader, or to a random one.
    fn send_request(&mut self, client: ClientNumber, operation: u64, after: u64) {
        let request = self.clients[client.0].request.as_ref().expect("a request is under way");
        let (shard, is_read) = (request.shard, request.ask == Ask::Read);
        let hint = self.hints.get(&shard).copied();
        // Reads go to followers too, and a hint may be wrong forever.
        let strays = self.random.chance(if is_read { 300 } else { 50 });
        let node = match hint {
            Some(node) if !strays => node,
            _ => self.random.place(self.nodes.len()),
        };
        let at = self.now + after + self.random.between(100_000, MILLI);
        self.schedule.at(at, Happening::Request { client, operation, node });
    }

    /// A request arrives at a node.
    pub(crate) fn handle_request(&mut self, client: ClientNumber, operation: u64, node: usize) {
        let request = self.clients[client.0].request.as_mut();
        let Some(request) = request.filter(|request| request.operation == operation) else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            self.hints.remove(&request.shard);
            self.send_request(client, operation, 20 * MILLI);
            return;
        };
        request.is_out = true;
        self.tickets_last += 1;
        let (ticket, shard, asked) = (Ticket(self.tickets_last), request.shard, self.now);
        process.callers.insert(ticket, Caller::Client { client, operation, asked });
        let event = match &request.ask {
            Ask::Read => Event::Read { shard, ticket, descriptor_version: 1 },
            Ask::Write(command) => Event::Write {
                shard,
                ticket,
                descriptor_version: 1,
                session: None,
                command: command.clone(),
                progress: false,
            },
        };
        self.tell(node, event);
        // One turn for all requests that arrived while the worker stood still.
        self.wake(node);
    }

    /// A client has waited long enough.
    pub(crate) fn handle_client_timeout(&mut self, client: ClientNumber, operation: u64) {
        let request = self.clients[client.0].request.as_ref();
        let Some(request) = request.filter(|request| request.operation == operation) else {
            return;
        };
        self.hints.remove(&request.shard);
        if request.is_out {
            let shard = request.shard;
            self.observe(Observation::OperationEnded { shard, end: OperationEnd::Unknown });
            self.next_request(client);
        } else {
            self.end_request(client, Outcome::DidNotHappen);
        }
    }

    fn next_request(&mut self, client: ClientNumber) {
        self.clients[client.0].request = None;
        // Clients hurry when too few operations have succeeded: every seed must be worth its time.
        let is_behind = self.ended_well < self.now / SECOND * ENDED_PER_SECOND_MIN;
        let longest = if is_behind { 30 * MILLI } else { 400 * MILLI };
        let thinks = self.random.between(2 * MILLI, longest);
        self.schedule.at(self.now + thinks, Happening::Client(client));
    }

    /// Ends the request under way, whose outcome is known.
    pub(crate) fn end_request(&mut self, client: ClientNumber, outcome: Outcome<'_>) {
        let request = self.clients[client.0].request.take().expect("a request is under way");
        let failed = matches!(outcome, Outcome::DidNotHappen);
        self.ended_well += u64::from(!failed);
        let moment = Moment {
            now: self.now,
            random: &mut self.random,
            history: self.watch.properties.history_mut(),
        };
        if let Err(what) = self.workload.answer(moment, request.operation, outcome) {
            self.fail("workload", Some(request.shard), what);
        }
        if failed {
            let shard = request.shard;
            self.observe(Observation::OperationEnded { shard, end: OperationEnd::Failed });
        }
        self.next_request(client);
    }

    /// Whether a client still waits for that operation.
    fn waits(&self, client: ClientNumber, operation: u64) -> bool {
        self.clients[client.0].request.as_ref().is_some_and(|r| r.operation == operation)
    }

    /// The entry of a ticket was applied.
    pub(crate) fn handle_reply(
        &mut self,
        node: usize,
        shard: ShardId,
        (ticket, id, payload_hash): (Ticket, LogId, u64),
        outcome: &ApplyOutcome,
    ) {
        let process = self.nodes[node].process.as_mut().expect("only the living apply");
        let caller = process.callers.remove(&ticket).expect("a ticket is answered once");
        let ApplyOutcome::Reply(reply) = outcome else {
            self.fail("workload", Some(shard), format!("a command ended as {outcome:?}"));
            return;
        };
        self.observe(Observation::Acknowledged { shard, id, payload_hash });
        let newest = self.acknowledged.entry(shard).or_default();
        *newest = id.index.max(*newest);
        match caller {
            Caller::Client { client, operation, .. } if self.waits(client, operation) => {
                self.hints.insert(shard, node);
                self.end_request(client, Outcome::Written(reply));
            }
            Caller::Probe { probe, .. } => self.end_probe(probe, reply),
            _ => {}
        }
    }

    /// A node answers a caller by other means than an applied entry.
    pub(crate) fn handle_answer(&mut self, node: usize, ticket: Ticket, answer: &Answer) {
        let process = self.nodes[node].process.as_mut().expect("only the living answer");
        let caller = process.callers.remove(&ticket).expect("a ticket is answered once");
        let (client, operation, asked) = match caller {
            Caller::Client { client, operation, asked } => (client, operation, asked),
            Caller::Probe { probe, asked } => {
                return self.probe_answered(node, probe, asked, answer);
            }
            Caller::Operator => return,
        };
        if !self.waits(client, operation) {
            return;
        }
        let request = self.clients[client.0].request.as_mut().expect("it waits");
        let shard = request.shard;
        match answer {
            Answer::ReadAt(index) => {
                let floor = request.floor;
                if *index < floor {
                    let what =
                        format!("a read at {index:?} misses what was acknowledged at {floor:?}");
                    self.fail("reads_linearizable", Some(shard), what);
                }
                // A confirmation takes a round trip.
                let by_lease = asked == self.now;
                self.observe(Observation::ReadServed {
                    node: self.nodes[node].id,
                    shard,
                    by_lease,
                });
                self.read(node, client, shard);
            }
            Answer::OutcomeUnknown => {
                self.observe(Observation::OperationEnded { shard, end: OperationEnd::Unknown });
                self.next_request(client);
            }
            Answer::Overwritten => self.end_request(client, Outcome::DidNotHappen),
            Answer::Refused(HostRefusal::NotLeader { leader })
            | Answer::NotConfirmed { leader } => {
                request.is_out = false;
                let hint = leader.map(number_of).filter(|leader| *leader != node);
                match hint {
                    Some(hint) => self.hints.insert(shard, hint),
                    None => self.hints.remove(&shard),
                };
                self.send_request(client, operation, 10 * MILLI);
            }
            Answer::Refused(refusal) => {
                request.is_out = false;
                if *refusal != HostRefusal::Busy {
                    self.hints.remove(&shard);
                }
                self.send_request(client, operation, 20 * MILLI);
            }
            Answer::TransferBegun => unreachable!("clients transfer nothing"),
        }
    }

    /// Serves a confirmed read from this node's data.
    fn read(&mut self, node: usize, client: ClientNumber, shard: ShardId) {
        let Node { process, data, .. } = &mut self.nodes[node];
        let process = process.as_ref().expect("only the living answer");
        let Some(live) = process.replicas.get(&shard) else {
            // The replica was removed in this very step: the same as a lost answer.
            self.next_request(client);
            return;
        };
        // The request is taken out first, since judging it borrows the data.
        let request = self.clients[client.0].request.take().expect("it waits");
        let moment = Moment {
            now: self.now,
            random: &mut self.random,
            history: self.watch.properties.history_mut(),
        };
        let outcome = Outcome::Read(data.space(live.space));
        if let Err(what) = self.workload.answer(moment, request.operation, outcome) {
            self.fail("workload", Some(shard), what);
        }
        self.ended_well += 1;
        self.next_request(client);
    }
}
