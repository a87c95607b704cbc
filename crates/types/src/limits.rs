//! Every bound of the system, each with its unit last in its name, and the relations between them
//! proved at compile time. A queue without a bound here is a bug.

use std::time::Duration;

/// Largest payload of one entry in bytes. Larger values belong into several keys.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// Largest user key in bytes. Keys are copied into every index block that separates tables.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// Largest command of a state machine in bytes: an entry less the room for its envelope.
pub const COMMAND_BYTES_MAX: usize = ENTRY_BYTES_MAX - 64;
/// Largest user value in bytes: an entry less the room for the longest key and the envelope.
pub const VALUE_BYTES_MAX: usize = ENTRY_BYTES_MAX - KEY_BYTES_MAX - (1 << 10);

/// Payload bytes after which a worker ends a turn for one shard and starts the next run.
pub const RUN_BYTES_MAX: usize = 1 << 20;
/// Entries after which a worker starts the next run.
pub const RUN_ENTRIES_MAX: usize = 4096;

/// Events that wait for one worker.
pub const INBOX_EVENTS_MAX: usize = 16_384;
/// Payload bytes that wait for one worker.
pub const INBOX_BYTES_MAX: usize = 64 << 20;
/// Messages of peers that wait for one worker. Apart from the callers' events, so that a flood of
/// calls can't push out the acknowledgements and heartbeats that would drain it.
pub const INBOX_MESSAGES_MAX: usize = 65_536;
/// Events a worker takes from its inbox before it closes the turn.
pub const TURN_EVENTS_MAX: usize = 8_192;

/// Append messages in flight to one follower of one shard.
pub const WINDOW_MESSAGES_MAX: usize = 256;
/// Payload bytes in flight to one follower of one shard.
pub const WINDOW_BYTES_MAX: usize = 8 << 20;
/// Payload bytes of one append message, unless a single run is larger.
pub const APPEND_BYTES_MAX: usize = 1 << 20;
/// Payload bytes that a leader has proposed and not yet committed, per shard.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;
/// Reads that wait for a confirmation, per shard.
pub const READS_PENDING_MAX: usize = 16_384;
/// Bytes of log entries that one node keeps in memory for followers and apply.
pub const ENTRY_CACHE_BYTES_MAX: usize = 256 << 20;
/// Committed bytes handed to the apply threads and not yet applied, per shard.
pub const APPLY_BYTES_MAX: usize = 16 << 20;

/// Bytes of one frame between two nodes. A message with the largest entry must fit.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// Messages in one frame.
pub const FRAME_MESSAGES_MAX: usize = 16_384;
/// Messages that wait for one lane to one peer; beyond it the newest appends are dropped.
pub const LANE_MESSAGES_MAX: usize = 65_536;
/// Bytes that wait for one lane to one peer.
pub const LANE_BYTES_MAX: usize = 64 << 20;
/// Lanes for append messages between two nodes; a shard always takes the same one.
pub const APPEND_LANES: usize = 4;
/// Forwarded requests to one peer that wait for an answer.
pub const FORWARDS_PENDING_MAX: usize = 65_536;
/// Streams that a peer may open at once: lanes in both directions and snapshots, with room to
/// spare. (The default of the QUIC library is 100, which a busy pair would reach.)
pub const STREAMS_MAX: u32 = 1_024;

/// Shards whose log has a column family of its own; the others share the pooled families.
pub const FAMILIES_DEDICATED_MAX: usize = 256;
/// Column families shared by hash among all further shards.
pub const FAMILIES_POOLED: usize = 16;

/// Interval between the heartbeats of a leader.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// Shortest time without a leader after which a follower campaigns; the longest is twice this.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Time after which a leader gives up a transfer of its leadership.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Furthest that the wall clocks of two nodes may be apart when they connect. Expiry of keys is
/// early or late by as much when leadership moves; clocks kept by NTP differ by milliseconds.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(30);
/// Interval in which a node looks whether the cluster's map has changed.
pub const MAP_POLL: Duration = Duration::from_millis(1_000);
/// Time after which a caller's request is answered with an error, if it names no other.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = {
    assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX < COMMAND_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX <= WINDOW_BYTES_MAX, "the largest entry must fit the window");
    assert!(WINDOW_BYTES_MAX < FRAME_BYTES_MAX, "one shard's window must fit a frame");
    assert!(FRAME_BYTES_MAX <= LANE_BYTES_MAX);
    assert!(RUN_BYTES_MAX + ENTRY_BYTES_MAX < FRAME_BYTES_MAX, "a run and its last entry fit");
    assert!(WINDOW_BYTES_MAX <= UNCOMMITTED_BYTES_MAX);
    assert!(TURN_EVENTS_MAX <= INBOX_EVENTS_MAX);
    assert!(APPEND_LANES + 4 < STREAMS_MAX as usize);
    assert!(HEARTBEAT.as_millis() * 5 <= ELECTION_TIMEOUT.as_millis(), "one loss is no election");
};
