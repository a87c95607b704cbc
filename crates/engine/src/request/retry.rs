//! Retries of a request: for how long, where the next try goes, and when.

use std::time::Duration;

use quorate_host::HostRefusal;
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, limits};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::calls::call::Outcome;
use crate::error::{DiskLow, Refusal};
use crate::peer::forwarder::PendingRequest;
use crate::request::dispatch::Dispatch;
use crate::request::route::Route;

/// First and longest pause before a retry, where no event announces the right time.
const RETRY_WAIT: Duration = Duration::from_millis(2);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(100);

/// Time for a deposed leader to answer what was forwarded to it.
const DEPOSED_GRACE: Duration = Duration::from_millis(500);

/// Where a try goes.
pub(crate) enum Target {
    Here,
    Node(NodeId),
    /// To the leader, which can't be reached directly, through this node.
    Via(NodeId),
    /// No leader is known, or the known leader, `unreached`, can be reached neither directly nor
    /// through another node.
    Nowhere {
        unreached: Option<NodeId>,
    },
}

impl Target {
    /// The outcome of a try that goes nowhere.
    pub(crate) fn nowhere(unreached: Option<NodeId>) -> Outcome {
        match unreached {
            Some(node) => Outcome::Unreachable { node },
            None => Outcome::Refused(HostRefusal::NotLeader { leader: None }),
        }
    }
}

/// What one try learnt for the next.
pub(crate) enum Next {
    /// The node that is said to lead.
    Leader(Option<NodeId>),
    /// The node that was asked is reachable, but its queue is full.
    Busy,
    /// This node can't be reached.
    Unreachable(NodeId),
    /// The disk of this node, the leader's, has no room; a node that has some takes over.
    DiskLow(NodeId, DiskLow),
    /// The shard's present descriptor.
    Descriptor(Box<ShardDescriptor>),
}

/// The deadline of a request, and what earlier tries learnt for the next one.
pub(crate) struct Retry {
    started: Instant,
    deadline: Instant,
    count: u32,
    hint: Option<NodeId>,
}

impl Retry {
    pub(crate) fn new() -> Retry {
        let started = Instant::now();
        Retry { started, deadline: started + limits::REQUEST_TIMEOUT, count: 0, hint: None }
    }

    /// Waits for the outcome of a call. An error is the time that passed until the deadline.
    pub(crate) async fn end_of(
        &self,
        receiver: impl Future<Output = Result<Outcome, oneshot::error::RecvError>>,
    ) -> Result<Outcome, Duration> {
        match tokio::time::timeout_at(self.deadline, receiver).await {
            Ok(Ok(outcome)) => Ok(outcome),
            // The thread that had the call is gone: it can't say how far the call came.
            Ok(Err(_)) => Ok(Outcome::UnknownStopped),
            Err(_) => Err(self.started.elapsed()),
        }
    }

    /// Waits for the outcome of a call that was forwarded to `node`, the shard's leader when it was
    /// sent. When the replica here learns of another leader, `node` gets a moment to answer, and no
    /// more: a dead node sends nothing, and its connection ends much later.
    pub(crate) async fn end_of_forward(
        &self,
        route: &Route,
        node: NodeId,
        asked: &mut PendingRequest,
    ) -> Result<Outcome, Duration> {
        let Some(state) = &route.local else {
            return self.end_of(asked.answer()).await;
        };
        let deposed = async {
            loop {
                let changed = state.leader_changed();
                if state.leader().is_some_and(|leader| leader != node) {
                    break;
                }
                changed.await;
            }
            tokio::time::sleep(DEPOSED_GRACE).await;
        };
        tokio::select! {
            biased;
            end = self.end_of(asked.answer()) => end,
            () = deposed => Ok(Outcome::UnknownLeaderChanged),
        }
    }

    pub(crate) fn target(&self, dispatch: &Dispatch, route: &Route) -> Target {
        let known = match &route.local {
            Some(state) => state.leader().or(self.hint),
            // Without a replica here: the leader that the last try named, or the members in turn.
            None => self.hint.or_else(|| {
                let count = self.count as usize;
                route.members.get(count % route.members.len().max(1)).copied()
            }),
        };
        let is_reached = |node| node == dispatch.node() || dispatch.is_connected(node);
        match known {
            Some(node) if node == dispatch.node() => Target::Here,
            Some(node) if is_reached(node) => Target::Node(node),
            // An election may be under way; other nodes would know no more about it.
            None if !route.local.as_ref().is_some_and(|state| dispatch.is_cut_off(state)) => {
                Target::Nowhere { unreached: None }
            }
            unreached => {
                let relay = dispatch.relay(route.shard, unreached, self.count as usize);
                relay.map_or(Target::Nowhere { unreached }, Target::Via)
            }
        }
    }

    /// Uses what the last try learnt to prepare the next one; an error if the deadline has passed or the
    /// engine is stopped.
    pub(crate) async fn prepare(
        &mut self,
        dispatch: &Dispatch,
        route: &Route,
        next: Next,
    ) -> Result<(), Refusal> {
        match next {
            Next::Descriptor(current) => {
                dispatch.map().learn((*current).clone());
                if dispatch.is_old(route) {
                    // The map has a newer descriptor by now; the next try uses it.
                    return Ok(());
                }
                // The replica is behind the map and should catch up.
                let routed = route.descriptor_version;
                let waited = self.pause(dispatch, route, Next::Leader(None)).await;
                waited.map_err(|refusal| match refusal {
                    Refusal::NoLeader { .. } => Refusal::StaleRoute { routed, current },
                    refusal => refusal,
                })
            }
            next => self.pause(dispatch, route, next).await,
        }
    }

    /// Waits until a retry makes sense; once the deadline has passed, returns why the last try failed.
    async fn pause(
        &mut self,
        dispatch: &Dispatch,
        route: &Route,
        next: Next,
    ) -> Result<(), Refusal> {
        if dispatch.is_stopped() {
            return Err(dispatch.stopped());
        }
        self.count += 1;
        self.hint = match next {
            Next::Leader(leader) => leader,
            Next::Busy | Next::Unreachable(_) | Next::DiskLow(..) | Next::Descriptor(_) => None,
        };
        let wait = (RETRY_WAIT * self.count.min(50)).min(RETRY_WAIT_MAX);
        if Instant::now() + wait >= self.deadline {
            let (shard, wait) = (route.shard, RETRY_WAIT_MAX);
            return Err(match next {
                Next::Busy => {
                    Refusal::Busy { what: "a queue on the way to the shard's leader", wait }
                }
                Next::Unreachable(node) => Refusal::Unreachable { shard, node, wait },
                Next::DiskLow(node, low) => Refusal::DiskLow { shard, node, low },
                Next::Leader(_) | Next::Descriptor(_) => {
                    let leader = route.local.as_ref().and_then(|state| state.leader());
                    Refusal::NoLeader { shard, leader, wait }
                }
            });
        }
        match &route.local {
            // A change of the role is announced; the time bound covers the race with it.
            Some(state) => {
                drop(tokio::time::timeout(wait, state.leader_changed()).await);
            }
            None => tokio::time::sleep(wait).await,
        }
        Ok(())
    }
}
