//! A state machine that hangs.

use quorate_host::{Answer, HostRefusal, Ticket};
use quorate_raft::Role;
use quorate_types::{Duration, limits};

use crate::driver::Driver;

/// Goal: a leader whose state machine finishes nothing gives up its leaderships and does not take
/// them back until something is finished, although its disk works. Method: entries are committed
/// and not applied.
#[test]
fn a_leader_whose_state_machine_hangs_gives_up_until_it_goes_on() {
    let mut driver = Driver::alone();
    driver.lead();
    driver.step();
    driver.holds_applies = true;
    driver.write(1, b"v");
    driver.turn();
    driver.finish_writes();
    assert_eq!(driver.unapplied.len(), 1, "the entry is handed over");
    let handed = driver.now;

    driver.pass(limits::APPLY_STALL - Duration::from_millis(1));
    assert_eq!((driver.role, driver.host.is_apply_stalled()), (Role::Leader, false));
    let hung = handed + limits::APPLY_STALL;
    assert!(driver.host.poll_timeout().is_some_and(|at| at <= hung), "it asks to be woken");
    driver.pass(Duration::from_millis(1));
    assert_eq!((driver.role, driver.host.is_apply_stalled()), (Role::Follower, true));
    assert!(!driver.host.is_stalled(), "the disk is well");

    for _ in 0..600 {
        driver.pass(Duration::from_millis(100));
        driver.finish_writes();
        assert_eq!(driver.role, Role::Follower, "it would lead, and answer nobody");
    }
    driver.write(2, b"v");
    driver.turn();
    let refused = Answer::Refused(HostRefusal::NotLeader { leader: None });
    assert_eq!(driver.answers, [(Ticket(2), refused)]);

    driver.holds_applies = false;
    driver.apply();
    driver.turn();
    driver.lead();
    assert!(!driver.host.is_apply_stalled());
}

/// Goal: a slow state machine is not taken for a hung one. Method: many ranges wait for a minute,
/// and one is finished every nine seconds.
#[test]
fn a_slow_state_machine_is_no_stall() {
    let mut driver =
        Driver::new(1, |config| config.shape = |config| config.apply_bytes_max = 1 << 10);
    driver.lead();
    driver.step();
    driver.holds_applies = true;
    for ticket in 0..10 {
        driver.write(ticket, b"v");
        driver.turn();
        driver.finish_writes();
    }
    assert!(driver.unapplied.len() > 5, "{:?}", driver.unapplied);
    while !driver.unapplied.is_empty() {
        driver.pass(Duration::from_secs(9));
        assert_eq!((driver.role, driver.host.is_apply_stalled()), (Role::Leader, false));
        let index = driver.unapplied.remove(0);
        driver.apply_through(index);
        driver.turn();
    }
}

/// Goal: entries that a stalled state machine has not applied don't fill the memory, and all of them
/// are applied in the end, in order. Method: sixteen times the cache's budget is committed while
/// nothing is applied; what was given up is read back.
#[test]
fn what_is_not_applied_is_given_up_and_read_back() {
    const CACHE_BYTES_MAX: usize = 64 << 10;
    let mut driver = Driver::new(1, |config| {
        config.entry_cache_bytes_max = CACHE_BYTES_MAX;
        config.shape = |config| config.apply_bytes_max = 16 << 10;
    });
    driver.lead();
    driver.step();
    driver.holds_applies = true;
    let value = vec![b'v'; 4 << 10];
    let count = 16 * (CACHE_BYTES_MAX / value.len()) as u64;
    for ticket in 0..count {
        driver.write(ticket, &value);
        driver.turn();
        driver.finish_writes();
        let cached_bytes = driver.host.cached_bytes();
        assert!(cached_bytes <= CACHE_BYTES_MAX, "{cached_bytes} bytes after {ticket} writes");
    }
    assert!(driver.applied.len() < 10, "the apply window is small");
    for _ in 0..10_000 {
        if driver.applied.len() as u64 == count {
            break;
        }
        driver.apply();
        driver.turn();
    }
    assert_eq!(driver.applied, (0..count).map(Ticket).collect::<Vec<_>>());
}
