//! The host: the cost of a turn in which every shard has something to do.

use crate::counted::count as count_case;
use crate::hosts::{Hosts, SHARDS};

pub(crate) fn count() {
    let settled_writes = |hosts: &mut Hosts| {
        hosts.settle();
        hosts.writes()
    };
    count_case("host/turn-64-writes", 1, Hosts::new(), settled_writes, |hosts, writes| {
        hosts.take_turn(writes);
        let written = hosts.turn.as_ref().and_then(|turn| turn.write.as_ref());
        assert!(written.is_some_and(|(_, writes)| writes.len() as u64 == SHARDS), "all write");
    });
    let returns_of_writes = |hosts: &mut Hosts| {
        hosts.settle();
        let writes = hosts.writes();
        hosts.take_turn(writes);
        hosts.returns()
    };
    count_case("host/turn-64-commits", 1, Hosts::new(), returns_of_writes, |hosts, returns| {
        hosts.take_turn(returns);
        let applies = hosts.turn.as_ref().map(|turn| turn.applies.len() as u64);
        assert!(applies == Some(SHARDS), "all commit");
    });
}
