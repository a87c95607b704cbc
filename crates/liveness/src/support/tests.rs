//! Goal: both sides of support keep the rules of their modules. Method: scripts of datagrams and
//! times on two clocks, with the answers that must come.

use quorate_types::{ClusterId, Duration, Incarnation, Monotonic, NodeId, limits};

use super::messages::{Heartbeat, HeartbeatAnswer, Verdict};
use super::requester::{Requester, RequesterEvent, Unfit};
use super::standings::{HeartbeatSequence, StandingCause, SupportEpoch};
use super::supporter::Supporter;
use crate::audit::{AuditKey, AuditSample, BoundHere};

const L: NodeId = NodeId(1);
const F: NodeId = NodeId(2);
const D: Duration = limits::SUPPORT;

fn ms(millis: u64) -> Monotonic {
    Monotonic::from_millis(millis)
}

fn sample() -> AuditSample {
    BoundHere::new(AuditKey::new(ClusterId(1))).take_sample()
}

fn heartbeat(incarnation: u64, epoch: u64, sequence: u64) -> Heartbeat {
    Heartbeat {
        incarnation: Incarnation(incarnation),
        epoch: SupportEpoch(epoch),
        sequence: HeartbeatSequence(sequence),
        support_ms: 1_000,
        audit: sample(),
    }
}

fn supporter() -> Supporter {
    Supporter::new(ms(0), Incarnation(6), D, D)
}

fn verdict(answer: Option<HeartbeatAnswer>) -> Verdict {
    answer.expect("an answer").verdict
}

fn causes(supporter: &mut Supporter) -> Vec<StandingCause> {
    supporter.take_changes().iter().map(|change| change.cause).collect()
}

#[test]
fn support_lasts_until_withdrawn_and_its_epoch_is_gone_for_ever() {
    let mut supporter = supporter();
    assert_eq!(
        verdict(supporter.handle_heartbeat(ms(5_000), L, &heartbeat(3, 1, 1))),
        Verdict::Supported
    );
    assert_eq!(supporter.supported_until(L), Some(ms(6_000)));
    supporter.handle_timeout(ms(6_000));
    assert!(supporter.standings().is_given(L, Incarnation(3), SupportEpoch(1)), "not past it yet");
    // Lapsed, not withdrawn: a heartbeat still prolongs it.
    let late = supporter.handle_heartbeat(ms(6_500), L, &heartbeat(3, 1, 2));
    assert_eq!(verdict(late), Verdict::Supported);
    assert_eq!(supporter.poll_timeout(), Some(Monotonic(ms(7_500).0 + 1)));
    supporter.handle_timeout(ms(7_501));
    assert_eq!(causes(&mut supporter), [StandingCause::Given, StandingCause::Withdrawn]);
    assert!(!supporter.standings().is_given(L, Incarnation(3), SupportEpoch(1)));
    let refused = supporter.handle_heartbeat(ms(7_600), L, &heartbeat(3, 1, 3));
    assert_eq!(verdict(refused), Verdict::Refused { lowest: SupportEpoch(2) });
    assert_eq!(supporter.poll_timeout(), None);
    let again = supporter.handle_heartbeat(ms(7_700), L, &heartbeat(3, 2, 4));
    assert_eq!(verdict(again), Verdict::Supported);
}

#[test]
fn old_heartbeats_are_not_answered_and_a_new_life_voids_the_old() {
    let mut supporter = supporter();
    supporter.handle_heartbeat(ms(5_000), L, &heartbeat(3, 1, 7));
    assert_eq!(supporter.handle_heartbeat(ms(5_500), L, &heartbeat(3, 1, 7)), None);
    assert_eq!(supporter.handle_heartbeat(ms(5_500), L, &heartbeat(2, 1, 9)), None);
    assert_eq!(supporter.supported_until(L), Some(ms(6_000)), "duplicates prolong nothing");
    let reborn = supporter.handle_heartbeat(ms(5_600), L, &heartbeat(4, 1, 1));
    assert_eq!(verdict(reborn), Verdict::Supported);
    let raised = supporter.handle_heartbeat(ms(5_700), L, &heartbeat(4, 5, 2));
    assert_eq!(verdict(raised), Verdict::Supported);
    let (given, restarted) = (StandingCause::Given, StandingCause::Restarted);
    assert_eq!(causes(&mut supporter), [given, restarted, StandingCause::EpochRaised]);
    let short = Heartbeat { support_ms: 10, ..heartbeat(4, 5, 3) };
    supporter.handle_heartbeat(ms(5_800), L, &short);
    assert_eq!(supporter.supported_until(L), Some(ms(6_700)), "nothing shortens it");
}

#[test]
fn a_longer_support_waits_for_the_disk_and_silences_the_next_start() {
    let mut supporter = Supporter::new(ms(0), Incarnation(1), Duration::ZERO, D);
    assert!(!supporter.standings().is_silent(ms(0)), "a new node has promised nothing");
    assert_eq!(supporter.take_persist_longest(), Some(D));
    assert_eq!(supporter.take_persist_longest(), None);
    assert_eq!(supporter.handle_heartbeat(ms(10), L, &heartbeat(1, 1, 1)), None);
    assert_eq!(supporter.supported_until(L), None);
    supporter.handle_longest_persisted(D);
    assert!(supporter.handle_heartbeat(ms(20), L, &heartbeat(1, 1, 2)).is_some());
    let longer = Heartbeat { support_ms: 2_000, ..heartbeat(1, 1, 3) };
    assert_eq!(supporter.handle_heartbeat(ms(30), L, &longer), None);
    assert_eq!(supporter.supported_until(L), Some(ms(1_020)), "the shorter one stands");
    assert_eq!(supporter.take_persist_longest(), Some(Duration::from_secs(2)));
    let next = Supporter::new(ms(500), Incarnation(2), Duration::from_secs(2), D);
    assert!(next.standings().is_silent(ms(2_499)));
    assert!(!next.standings().is_silent(ms(2_500)));
}

fn ask(requester: &mut Requester, at: u64) -> Heartbeat {
    let asked = requester.take_heartbeats(ms(at), |_| sample());
    asked.first().expect("due").1
}

fn answer(heartbeat: &Heartbeat, incarnation: u64, verdict: Verdict) -> HeartbeatAnswer {
    HeartbeatAnswer {
        incarnation: Incarnation(incarnation),
        requester_incarnation: heartbeat.incarnation,
        sequence: heartbeat.sequence,
        epoch: heartbeat.epoch,
        verdict,
    }
}

fn requester() -> Requester {
    let mut requester = Requester::new(ms(900), Incarnation(3), D);
    requester.add_peer(F);
    requester
}

#[test]
fn support_counts_from_the_sending_of_the_newest_answered_heartbeat() {
    let mut requester = requester();
    let until = |requester: &Requester| requester.held(F).map(|held| held.until);
    let first = ask(&mut requester, 1_000);
    assert!(requester.take_heartbeats(ms(1_099), |_| sample()).is_empty(), "not due");
    let second = ask(&mut requester, 1_100);
    requester.handle_answer(ms(1_300), F, &answer(&second, 6, Verdict::Supported));
    assert_eq!(until(&requester), Some(ms(2_050)), "1,100 + 1,000 - 50");
    requester.handle_answer(ms(1_310), F, &answer(&first, 6, Verdict::Supported));
    assert_eq!(until(&requester), Some(ms(2_050)), "an older answer shortens nothing");
    let other = HeartbeatAnswer {
        requester_incarnation: Incarnation(2),
        ..answer(&second, 9, Verdict::Supported)
    };
    requester.handle_answer(ms(1_320), F, &other);
    assert_eq!(requester.held(F).map(|held| held.incarnation), Some(Incarnation(6)));
    assert_eq!(requester.take_events(), [RequesterEvent::Gained { node: F }]);
    requester.handle_timeout(ms(2_050));
    assert_eq!(requester.take_events(), [RequesterEvent::Lost { node: F }]);
    let third = ask(&mut requester, 3_000);
    requester.handle_answer(ms(4_000), F, &answer(&third, 6, Verdict::Supported));
    assert_eq!(until(&requester), None, "it was over when it came");
}

#[test]
fn a_refusal_raises_the_epoch_and_answers_to_the_old_one_count_no_more() {
    let mut requester = requester();
    let first = ask(&mut requester, 1_000);
    let second = ask(&mut requester, 1_100);
    requester.handle_answer(ms(1_200), F, &answer(&first, 6, Verdict::Supported));
    let refused = Verdict::Refused { lowest: SupportEpoch(4) };
    requester.handle_answer(ms(1_200), F, &answer(&second, 6, refused));
    assert_eq!(requester.held(F), None);
    requester.handle_answer(ms(1_200), F, &answer(&second, 6, Verdict::Supported));
    assert_eq!(requester.held(F), None);
    let third = ask(&mut requester, 1_300);
    assert_eq!(third.epoch, SupportEpoch(4));
    requester.handle_answer(ms(1_310), F, &answer(&third, 6, Verdict::Supported));
    assert_eq!(requester.held(F).map(|held| held.epoch), Some(SupportEpoch(4)));
}

#[test]
fn a_new_life_of_the_supporter_voids_the_old_support() {
    let mut requester = requester();
    let first = ask(&mut requester, 1_000);
    requester.handle_answer(ms(1_010), F, &answer(&first, 6, Verdict::Supported));
    let second = ask(&mut requester, 1_100);
    requester.handle_answer(ms(1_110), F, &answer(&second, 7, Verdict::Supported));
    assert_eq!(requester.held(F).map(|held| held.incarnation), Some(Incarnation(7)));
    let third = ask(&mut requester, 1_200);
    requester.handle_answer(ms(1_210), F, &answer(&third, 6, Verdict::Supported));
    assert_eq!(requester.held(F).map(|held| held.until), Some(ms(2_050)), "the dead say nothing");
    let restarted = RequesterEvent::Restarted { node: F, incarnation: Incarnation(7) };
    let gained = RequesterEvent::Gained { node: F };
    let lost = RequesterEvent::Lost { node: F };
    assert_eq!(requester.take_events(), [gained, lost, restarted, gained]);
}

#[test]
fn an_unfit_node_asks_for_nothing_and_holds_nothing() {
    let mut requester = requester();
    let first = ask(&mut requester, 1_000);
    let second = ask(&mut requester, 1_100);
    requester.handle_answer(ms(1_110), F, &answer(&first, 6, Verdict::Supported));
    requester.handle_fitness(Some(Unfit::DiskStalled));
    requester.handle_fitness(Some(Unfit::Latched));
    assert_eq!(requester.held(F), None);
    requester.handle_answer(ms(1_120), F, &answer(&second, 6, Verdict::Supported));
    assert_eq!(requester.held(F), None);
    assert!(requester.take_heartbeats(ms(1_300), |_| sample()).is_empty());
    requester.handle_fitness(None);
    let third = ask(&mut requester, 1_400);
    requester.handle_answer(ms(1_410), F, &answer(&third, 6, Verdict::Supported));
    assert!(requester.held(F).is_some());
    let (gained, lost) = (RequesterEvent::Gained { node: F }, RequesterEvent::Lost { node: F });
    let unfit = RequesterEvent::BecameUnfit(Unfit::DiskStalled);
    assert_eq!(requester.take_events(), [gained, unfit, lost, gained]);
}
