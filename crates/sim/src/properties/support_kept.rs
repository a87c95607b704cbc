//! A node keeps the support it gave: nothing shortens it, it is not withdrawn before its time, and a
//! restart does not end it: until the last support of an earlier life is over, the node gives no
//! vote or pre-vote and campaigns for nothing. Incarnations and epochs never go back within a life.
//!
//! Times are true times. If a clock drifted or jumped since the promise was made, the promise may
//! end earlier by up to the drift margin, on which the requester does not count; a clock that
//! jumped beyond the margin keeps no promise.

use std::collections::BTreeMap;

use quorate_liveness::{Standing, StandingCause, StandingChange, SupportEpoch};
use quorate_raft::{Body, Message};
use quorate_types::{NodeId, ShardId, limits};

use super::{Broken, broken};
use crate::observation::{FaultKind, SimTime};

const NAME: &str = "support_kept";
/// Rounding between a node's clock and true time.
const ROUNDING_NANOS: u64 = 1_000;

#[derive(Clone, Copy)]
struct Promise {
    epoch: SupportEpoch,
    /// True time before which the promise must not end.
    until: SimTime,
}

/// One life of a supporter.
#[derive(Default)]
struct Supporter {
    /// By requester.
    promises: BTreeMap<NodeId, Promise>,
    standings: BTreeMap<NodeId, Standing>,
    /// When the last support of earlier lives is over.
    silent_until: SimTime,
}

/// Checks the support that every node gives.
#[derive(Default)]
pub(crate) struct SupportKept {
    supporters: BTreeMap<NodeId, Supporter>,
}

impl SupportKept {
    pub(crate) fn node_started(&mut self, node: NodeId) {
        let supporter = self.supporters.entry(node).or_default();
        let promised = supporter.promises.values().map(|promise| promise.until).max();
        supporter.silent_until = supporter.silent_until.max(promised.unwrap_or_default());
        supporter.promises.clear();
        supporter.standings.clear();
    }

    pub(crate) fn fault(&mut self, kind: FaultKind, node: Option<NodeId>) {
        let lost_nanos = match kind {
            FaultKind::ClockDrift | FaultKind::ClockJump => limits::DRIFT_MARGIN.as_nanos() as u64,
            FaultKind::ClockJumpBeyond => u64::MAX,
            _ => return,
        };
        for (_, supporter) in
            self.supporters.iter_mut().filter(|(id, _)| node.is_none_or(|n| n == **id))
        {
            let ends = supporter.promises.values_mut().map(|promise| &mut promise.until);
            for until in ends.chain([&mut supporter.silent_until]) {
                until.0 = until.0.saturating_sub(lost_nanos);
            }
        }
    }

    pub(crate) fn supported(
        &mut self,
        supporter: NodeId,
        requester: NodeId,
        epoch: SupportEpoch,
        until: SimTime,
    ) -> Result<(), Broken> {
        let promises = &mut self.supporters.entry(supporter).or_default().promises;
        if let Some(before) = promises.get(&requester) {
            let is_shorter = epoch == before.epoch && until.0 + ROUNDING_NANOS < before.until.0;
            if epoch < before.epoch || is_shorter {
                return fail(
                    supporter,
                    requester,
                    format!(
                        "{epoch:?} until {until} takes the place of {:?} until {}",
                        before.epoch, before.until
                    ),
                );
            }
        }
        promises.insert(requester, Promise { epoch, until });
        Ok(())
    }

    /// Checks that a requester counts on support for no longer than was promised.
    pub(crate) fn held(
        supporter: NodeId,
        requester: NodeId,
        until: SimTime,
        given_until: Option<SimTime>,
    ) -> Result<(), Broken> {
        if given_until.is_some_and(|given| until.0 <= given.0 + ROUNDING_NANOS) {
            return Ok(());
        }
        let given = given_until.map_or("withdrawn".to_owned(), |given| format!("until {given}"));
        fail(supporter, requester, format!("it is counted on until {until}, and given {given}"))
    }

    pub(crate) fn standing(
        &mut self,
        at: SimTime,
        node: NodeId,
        change: &StandingChange,
    ) -> Result<(), Broken> {
        let supporter = self.supporters.entry(node).or_default();
        let (requester, new) = (change.node, change.standing);
        if let Some(old) = supporter.standings.insert(requester, new)
            && (new.incarnation < old.incarnation || new.lowest < old.lowest)
        {
            return fail(node, requester, format!("it went back from {old:?} to {new:?}"));
        }
        match change.cause {
            StandingCause::Given => Ok(()),
            // The requester itself has left what was promised to it.
            StandingCause::Restarted | StandingCause::EpochRaised => {
                supporter.promises.remove(&requester);
                Ok(())
            }
            StandingCause::Withdrawn => match supporter.promises.remove(&requester) {
                Some(promise) if at.0 + ROUNDING_NANOS < promise.until.0 => {
                    let (epoch, until) = (promise.epoch, promise.until);
                    fail(
                        node,
                        requester,
                        format!("{epoch:?} is withdrawn, it was given until {until}"),
                    )
                }
                _ => Ok(()),
            },
        }
    }

    pub(crate) fn sent(
        &self,
        at: SimTime,
        node: NodeId,
        shard: ShardId,
        message: &Message,
    ) -> Result<(), Broken> {
        let seeks_or_votes = matches!(
            message.body,
            Body::VoteRequest { .. } | Body::VoteReply { granted: true, .. }
        );
        let Some(supporter) = self.supporters.get(&node).filter(|_| seeks_or_votes) else {
            return Ok(());
        };
        if at.0 + ROUNDING_NANOS >= supporter.silent_until.0 {
            return Ok(());
        }
        let what = format!(
            "node {node} sends {:?} for shard {shard}, but a support that it gave before its start \
             lasts until {}",
            message.body, supporter.silent_until
        );
        Err(broken(NAME, shard, [node, NodeId(message.to.0)], what))
    }
}

fn fail(supporter: NodeId, requester: NodeId, what: String) -> Result<(), Broken> {
    let what = format!("support of node {supporter} for node {requester}: {what}");
    Err(Broken { property: NAME, shard: None, nodes: vec![supporter, requester], what })
}

#[cfg(test)]
mod tests {
    use quorate_types::Incarnation;

    use super::super::samples::{Bench, breaks};
    use super::*;
    use crate::observation::Observation;

    const SUPPORTER: NodeId = NodeId(1);
    const REQUESTER: NodeId = NodeId(2);

    fn support(bench: &mut Bench, epoch: u64, until_ms: u64) -> Result<(), Broken> {
        let (epoch, until) = (SupportEpoch(epoch), SimTime::from_millis(until_ms));
        bench.see(&Observation::Supported {
            supporter: SUPPORTER,
            requester: REQUESTER,
            epoch,
            until,
        })
    }

    fn stands(bench: &mut Bench, lowest: u64, cause: StandingCause) -> Result<(), Broken> {
        let is_given = cause == StandingCause::Given;
        let incarnation = Incarnation(1);
        let standing = Standing { incarnation, lowest: SupportEpoch(lowest), is_given };
        let change = &StandingChange { node: REQUESTER, standing, cause };
        bench.see(&Observation::Standing { node: SUPPORTER, change })
    }

    fn given() -> Bench {
        let mut bench = Bench::new();
        let incarnation = Incarnation(1);
        bench.see(&Observation::NodeStarted { node: SUPPORTER, incarnation }).expect("a start");
        stands(&mut bench, 1, StandingCause::Given).expect("given");
        support(&mut bench, 1, 1_000).expect("given");
        support(&mut bench, 1, 1_100).expect("prolonged");
        bench
    }

    #[test]
    fn support_is_prolonged_and_withdrawn_when_its_time_is_over() {
        let mut bench = given();
        bench.at = SimTime::from_millis(1_100);
        stands(&mut bench, 2, StandingCause::Withdrawn).expect("its time is over");
        stands(&mut bench, 2, StandingCause::Given).expect("given again");
        support(&mut bench, 2, 2_000).expect("in the next epoch");
    }

    #[test]
    fn shortening_early_withdrawal_and_old_epochs_are_found() {
        breaks(support(&mut given(), 1, 1_050), NAME);
        breaks(support(&mut given(), 0, 2_000), NAME);
        let mut bench = given();
        bench.at = SimTime::from_millis(1_090);
        breaks(stands(&mut bench, 2, StandingCause::Withdrawn), NAME);
        breaks(stands(&mut bench, 1, StandingCause::Given), NAME);
    }

    #[test]
    fn a_tampered_clock_costs_no_more_than_the_margin() {
        let jump = |kind| Observation::Fault { kind, node: Some(SUPPORTER), detail: "" };
        let mut bench = given();
        bench.see(&jump(FaultKind::ClockJump)).expect("a fault");
        bench.at = SimTime::from_millis(1_060);
        stands(&mut bench, 2, StandingCause::Withdrawn).expect("within the margin");
        let mut bench = given();
        bench.see(&jump(FaultKind::ClockJump)).expect("a fault");
        bench.at = SimTime::from_millis(1_040);
        breaks(stands(&mut bench, 2, StandingCause::Withdrawn), NAME);
        let mut bench = given();
        bench.see(&jump(FaultKind::ClockJumpBeyond)).expect("a fault");
        stands(&mut bench, 2, StandingCause::Withdrawn).expect("no promise is kept");
    }

    #[test]
    fn nobody_votes_until_the_support_of_an_earlier_life_is_over() {
        let grant = || Body::VoteReply { pre: true, granted: true, leader_alive: false };
        let mut bench = given();
        let incarnation = Incarnation(2);
        bench.see(&Observation::NodeStarted { node: SUPPORTER, incarnation }).expect("a restart");
        breaks(bench.send(1, 3, 1, grant()), NAME);
        bench.at = SimTime::from_millis(1_100);
        bench.send(1, 3, 1, grant()).expect("its time is over");
    }
}
