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
/// Messages of peers that wait for one worker. Counted apart from the callers' events, so that a
/// flood of calls can't push out the acknowledgements and heartbeats that would drain it.
pub const INBOX_MESSAGES_MAX: usize = 65_536;

/// Append messages in flight to one follower of one shard.
pub const WINDOW_MESSAGES_MAX: usize = 256;
/// Payload bytes in flight to one follower of one shard.
pub const WINDOW_BYTES_MAX: usize = 8 << 20;
/// Payload bytes of one append message, unless a single run is larger.
pub const APPEND_BYTES_MAX: usize = 1 << 20;
/// Payload bytes that a leader has proposed and not yet committed, per shard.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;
/// The same for all shards of a node together: all of it, and the reserve, fit the entry cache.
pub const UNCOMMITTED_NODE_BYTES_MAX: usize = 192 << 20;
/// Bytes beyond it that shards with nothing under way may propose: a shard that commits nothing may take
/// all of the rest, and the others still make progress, one run at a time.
pub const UNCOMMITTED_RESERVE_BYTES: usize = 64 << 20;
/// Payload bytes in flight to one peer, of all shards of a node together; beyond it each shard has one
/// append in flight. One lane to the peer holds as much: more would be dropped there and sent again.
pub const WINDOW_PEER_BYTES_MAX: usize = 64 << 20;
/// Reads that wait for a confirmation, per shard.
pub const READS_PENDING_MAX: usize = 16_384;
/// Bytes of log entries that one node keeps in memory for followers and apply.
pub const ENTRY_CACHE_BYTES_MAX: usize = 256 << 20;
/// Replies to read index requests that wait for one sync, per shard and peer. If there are more, the
/// oldest has waited until its requester gave up, or the requester asks in a loop.
pub const HELD_READ_REPLIES_MAX: usize = 64;
/// Committed bytes handed to the apply threads and not yet applied, per shard.
pub const APPLY_BYTES_MAX: usize = 16 << 20;
/// The same for all shards of a node together: four shards that are behind, or many that are not, keep
/// the apply threads busy.
pub const APPLY_NODE_BYTES_MAX: usize = 64 << 20;

/// Bytes of one frame between two nodes. A message with the largest entry must fit.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// Messages in one frame.
pub const FRAME_MESSAGES_MAX: usize = 16_384;
/// Messages that wait for one lane to one peer; beyond it the newest appends are dropped.
pub const LANE_MESSAGES_MAX: usize = 65_536;
/// Bytes that wait for one lane to one peer.
pub const LANE_BYTES_MAX: usize = 64 << 20;
/// Bytes that each lane may hold, however much waits for other peers, plus any one item: a lane that
/// drains is never held up by lanes that are stuck.
pub const LANE_BYTES_OWN: usize = 2 << 20;
/// Bytes beyond those that may wait for all lanes to all peers of a node: four full lanes.
pub const LANES_BYTES_MAX: usize = 256 << 20;
/// Bytes of frames above the usual size that a node receives at once, from all peers: eight of the
/// largest, thirty of the largest entry.
pub const RECEIVING_BYTES_MAX: usize = 256 << 20;
/// Transfers of snapshots that one node sends at once. Each reads a whole shard from its disk, so more
/// would only slow each other down.
pub const SNAPSHOTS_IN_FLIGHT_MAX: usize = 4;
/// Bytes of keys and values in one chunk of a snapshot, unless a single pair is larger. It is what is
/// sent again after a broken connection, and a second of a slow disk holds dozens.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 2 << 20;
/// What the message with a chunk may hold besides keys and values: lengths, checksum, position.
pub const SNAPSHOT_PART_EXTRA_BYTES: usize = 64 << 10;
/// Bytes of one part of a transfer: a chunk of the largest pair alone.
pub const SNAPSHOT_PART_BYTES_MAX: usize = ENTRY_BYTES_MAX + SNAPSHOT_PART_EXTRA_BYTES;
/// Bytes of snapshots that one node sends in a second: half of what a disk of the cheaper kind writes.
pub const SNAPSHOT_BYTES_PER_SECOND_MAX: u64 = 64 << 20;
/// Time after which a snapshot is given up whose other side is silent.
pub const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);
/// Transfers to one node at once, so that others are served beside it.
pub const SNAPSHOTS_TO_NODE_MAX: usize = SNAPSHOTS_IN_FLIGHT_MAX / 2;
/// Answers to parts of snapshots that wait for the thread that sends them; beyond it they are dropped,
/// and asked for again.
pub const SNAPSHOT_TASKS_MAX: usize = 64;
/// Parts of snapshots that wait for the thread that receives them; beyond it they are dropped, and their
/// senders send them again. Some 32 MiB, or 130 MiB if each holds one of the largest pairs.
pub const SNAPSHOT_PARTS_WAITING_MAX: usize = 16;
/// Bytes on the snapshot lane to one peer: a chunk of each transfer, and 4 KiB for each other part, which
/// are short answers. Counted from when a part is queued until the peer's application has taken it, so
/// it also bounds what the lane holds of the connection.
pub const SNAPSHOT_LANE_BYTES_MAX: usize = SNAPSHOTS_IN_FLIGHT_MAX
    * (SNAPSHOT_CHUNK_BYTES_MAX + SNAPSHOT_PART_EXTRA_BYTES)
    + SNAPSHOT_LANE_PARTS_MAX * (4 << 10);
/// Parts on the snapshot lane to one peer, counted alike. A transfer, in either direction, has one part
/// or answer under way; the rest is for those that begin, end, or are asked for again.
pub const SNAPSHOT_LANE_PARTS_MAX: usize = 64;
/// Bytes of snapshot parts above a frame's usual size that a node receives at once, from all peers: four
/// of the largest, fifteen of the usual. Apart from those of other frames, which must not wait for a
/// disk.
pub const SNAPSHOTS_RECEIVING_BYTES_MAX: usize = 4 * (SNAPSHOT_PART_BYTES_MAX + (1 << 10));
/// Lanes for append messages between two nodes; a shard always takes the same one.
pub const APPEND_LANES: usize = 4;
/// Forwarded requests to one peer that wait for an answer.
pub const FORWARDS_PENDING_MAX: usize = 65_536;
/// Bytes of keys and values that one page of a read holds: half a frame, so that the largest pair of
/// its last key and value still fits behind it.
pub const READ_PAGE_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;
/// What each pair of a page counts for besides its bytes, towards a separate bound as large as the
/// above: two handles of 32 bytes in memory, two lengths in a frame. Without it the shortest pairs
/// would take a hundred times as much memory as their bytes.
pub const READ_PAIR_BYTES: usize = 72;
/// Keys in one page of a read. Reading them takes a few milliseconds, and the keys alone fit a
/// frame.
pub const READ_PAGE_KEYS_MAX: usize = 1_024;
/// Bytes of keys and values that one read of a caller returns; a caller that wants more reads
/// pages.
pub const READ_BYTES_MAX: usize = 256 << 20;
/// Bytes that one node reads at once to answer other nodes. A page is in memory up to three times
/// until its lane has it: as found, as encoded, and as an answer.
pub const PEER_READ_BYTES_MAX: usize = 64 << 20;
/// The part of it that one of those nodes may have: the largest page. Two nodes that take none of their
/// answers leave room for a page of gets.
pub const PEER_LONG_READS_BYTES_MAX: usize = READ_PAGE_BYTES_MAX + ENTRY_BYTES_MAX;
/// Bytes of the longest answer that takes none of it. Most are shorter, and so never wait for
/// pages.
pub const PEER_SHORT_READ_BYTES_MAX: usize = 64 << 10;
/// Bytes of such short answers that one node reads at once for one other node: 64 of the longest.
pub const PEER_SHORT_READS_BYTES_MAX: usize = 4 << 20;
/// Bytes of one other node's reads that are under way, whatever they wait for; each counts for a KiB
/// more than its size. Seven with a page of the longest keys each, or 30,000 of a few short ones.
pub const PEER_REQUESTS_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Reads of many keys that read the data store at once, on threads that may block. Each may hold
/// its page and one value that RocksDB has copied.
pub const LOOKS_MAX: usize = 8;
/// Reads that scan all keys of a shard at once. Each keeps a core busy that other work needs, too.
pub const WALKS_MAX: usize = 2;
/// Bytes of keys and values that one count for another node scans: less than a second of work, so
/// that it ends soon after its caller has stopped waiting.
pub const WALK_BYTES_MAX: usize = 256 << 20;
/// Keys that one count for another node scans, for the same reason.
pub const WALK_KEYS_MAX: u64 = 1 << 20;
/// Bytes that one reply to a client may hold; a command with a larger one is refused. Also the bound for
/// all large replies of one node together: one of the largest is always possible.
pub const CLIENT_REPLY_BYTES_MAX: usize = 256 << 20;
/// Bytes that the replies of one connection may hold without a reservation, so that small commands touch
/// nothing that connections share: a pipeline of a dozen short values. All clients together: 156 MiB.
pub const CLIENT_FREE_BYTES: usize = 16 << 10;
/// Bytes that all other replies of one node may hold, from before they are read until clients have them:
/// fifteen connections at their bound.
pub const CLIENT_REPLIES_BYTES_MAX: usize = 256 << 20;
/// Bytes that the replies of one connection may hold, unless one alone is larger: two of the largest
/// values, so that the second is read while the first is written.
pub const CLIENT_CONNECTION_BYTES_MAX: usize = 17 << 20;

/// Streams that a peer may open at once: one per lane and direction, with room to spare. (The
/// default of the QUIC library is 100.)
pub const STREAMS_MAX: u32 = 1_024;

/// Bytes of applied entries that one node keeps in its log for followers that are away; one that is
/// away for longer gets a snapshot. A quarter of what the log's memtables hold, so that most of it is
/// purged before it reaches a table, and so little that a node's directory stays below a gigabyte
/// beside a small amount of data.
pub const LOG_KEPT_BYTES_MAX: u64 = 64 << 20;
/// Bytes that the log of one node holds before it is purged beyond what followers that keep up still
/// need: they get snapshots instead.
pub const LOG_HELD_BYTES_MAX: u64 = 512 << 20;
/// The same for a shard of which a snapshot is being sent: at a hundred megabytes a second, what is
/// appended while a snapshot of two GiB is sent. Without it, a large shard under load would never have
/// a follower that catches up.
pub const LOG_TRANSFER_BYTES_MAX: u64 = 4 << 30;
/// Bytes appended to a log that can't be purged, after which the data is flushed: what a full memtable
/// of the data store holds, which flushes it anyway if commands leave as much data as they have bytes.
pub const LOG_FLUSH_BYTES: u64 = DATA_MEMTABLE_BYTES as u64;
/// Memtable bytes of the data store before it is flushed. The log keeps what is not flushed, so this
/// is about how much of the log a node holds when nobody is away.
pub const DATA_MEMTABLE_BYTES: usize = 64 << 20;

/// Shards whose log has a column family of its own; the others share the pooled families.
pub const FAMILIES_DEDICATED_MAX: usize = 256;
/// Column families shared by hash among all further shards.
pub const FAMILIES_POOLED: usize = 16;

/// Interval between the heartbeats of a leader.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// Shortest time without a leader after which a follower campaigns; the longest is twice this.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long one answered heartbeat supports the node that sent it. As long as the shortest election
/// timeout, so that a dead node is noticed as fast as with heartbeats per shard.
pub const SUPPORT: Duration = Duration::from_millis(1_000);
/// Longest support that a node gives to any requester; it stays silent for as long after its next start.
/// With a longer one, the drift margin would not cover 1% of drift on either side.
pub const SUPPORT_MAX: Duration = Duration::from_millis(2_500);
/// How much earlier a node ends the support that it holds. Two clocks that each stray by 1% drift
/// apart by 20 ms in one support; the rest is for pauses that CLOCK_BOOTTIME misses.
pub const DRIFT_MARGIN: Duration = Duration::from_millis(50);
/// Age of the oldest outstanding sync at which a node asks for no more support.
pub const DISK_STALL: Duration = Duration::from_millis(3_000);
/// If the state machines of a host finish nothing for this long, although entries wait for them, the
/// host stops leading: by then every caller that waits for one of these entries has timed out.
pub const APPLY_STALL: Duration = REQUEST_TIMEOUT;
/// If a worker or log writer has no result for this long, although work waits, it counts as
/// stalled, and its node asks for no more support.
pub const STALL: Duration = Duration::from_millis(3_000);
/// Buckets of the audit of bound shards. Each heartbeat carries one, so a round of all takes 6.4 s; with
/// ten thousand shards a bucket lists about 160.
pub const AUDIT_BUCKETS: usize = 64;
/// Rounds in which one side of an audit may be behind the other before that counts as a difference.
/// An answer on its way arrives within the first; the second and third are for a lane that is slow.
pub const AUDIT_ROUNDS: u32 = 3;
/// Bytes of one datagram between two nodes: below the smallest path MTU of QUIC (1,200), less its
/// headers.
pub const HEARTBEAT_BYTES_MAX: usize = 1_100;
/// Shortest time between two shards that a loss or return of a peer wakes: ten thousand are awake
/// within a second, and a turn of a few milliseconds wakes some dozens.
pub const WAKE_INTERVAL: Duration = Duration::from_micros(100);
/// Shortest window over which the shards that lost their leader's node are spread at random. Wider
/// than a round trip and a sync, so that one candidate is usually elected before the next wakes.
pub const WAKE_SPREAD: Duration = Duration::from_millis(150);
/// Time after which a leader gives up a transfer of its leadership.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Furthest that the wall clocks of two nodes may be apart when they connect. Expiry of keys is
/// early or late by as much when leadership moves; clocks kept by NTP differ by milliseconds.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(30);
/// Interval at which a node checks whether the cluster's map has changed.
pub const MAP_POLL: Duration = Duration::from_millis(1_000);
/// Time after which a caller's request is answered with an error, if the caller sets no other.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without any known leader after which a node asks others to do the requests of a replica's
/// shard: longer than the longest election timeout, so that elections alone cause no such requests.
pub const LEADERLESS_RELAY: Duration = Duration::from_millis(2_000);

/// Age up to which a status is sent again instead of being computed anew.
pub const STATUS_AGE_MAX: Duration = Duration::from_millis(1_000);
/// Time for a node to report its status; one that is silent for longer counts as unreachable.
pub const STATUS_ANSWER: Duration = Duration::from_millis(2_000);
/// Pause before nodes that seem to lag are asked again. Longer than a status may age, so that the second
/// answer is computed after the first request; the other half second lets a follower catch up.
pub const STATUS_LOOK_AGAIN: Duration = Duration::from_millis(1_500);
/// Time for the second answer, of nodes that have just given the first.
pub const STATUS_ANSWER_AGAIN: Duration = Duration::from_millis(1_000);
/// Longest time in which an admin port reports the cluster's status: the above, and half a second to
/// assemble and send it.
pub const STATUS_WITHIN: Duration = Duration::from_millis(5_000);

/// Connections of clients to one node at once; the same as in Redis.
pub const CLIENTS_MAX: usize = 10_000;
/// Connections to the admin port of one node at once: some scrapers, probes and operators. Further
/// ones wait in the kernel's backlog, where they cost no descriptor.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Table files that the log and the data store of one node keep open. Beyond it the least recently used
/// one is closed, and a later read opens it again.
pub const TABLE_FILES_MAX: usize = 1_536;
/// Descriptors of one node that neither clients nor table files can take. An idle node has about
/// 40: the files that both stores write, listeners, the UDP socket, those of the runtimes. The rest
/// is for what two compactions per store read and write beside the table cache, and for clients
/// that are told that there are too many.
pub const DESCRIPTORS_RESERVED: usize = 128;
/// Descriptors that a process asks the system for, per node: all of the above, rounded up.
pub const DESCRIPTORS_WANTED: usize = 16_384;
/// Fewest descriptors per node with which a start makes sense: the reserve, and as much again for
/// tables, clients and the admin port.
pub const DESCRIPTORS_MIN: usize = 256;
/// Percentage of its descriptors from which on a process warns that they run out. The bounds above
/// leave more than this free until clients and tables are both at their bounds.
pub const DESCRIPTORS_WARN_PERCENT: u64 = 90;
/// Clients below which a node whose descriptors allow no more counts as badly set up.
pub const CLIENTS_FEW: usize = 1_000;
/// Free bytes of its disk below which a node warns that the disk fills up; or the percentage below, if
/// that is more. More than twice what the log's write-ahead files may grow to: they are rewritten as
/// tables before they are deleted, and a compaction needs room for its result as well.
pub const DISK_FREE_WARN_BYTES: u64 = 1 << 30;
/// The same in percent of the whole: from about there on file systems get slow and fragmented.
pub const DISK_FREE_WARN_PERCENT: u64 = 5;
/// Free bytes of its disk below which a node takes no writes, unless its owner sets another floor; or the
/// percentage below, if that is more. A write that finds no room ends the node's service, so by then
/// there must be room for what it has in memory and what it has begun: the memtables of the log (224
/// MiB), one that is full and one that fills up of the data (128 MiB), and the merge of tables that
/// RocksDB has under way in the data: four memtables into a first level of as much (512 MiB).
pub const DISK_FLOOR_BYTES: u64 = 896 << 20;
/// The same in percent of the whole.
pub const DISK_FLOOR_PERCENT: u64 = 2;
/// Below its floor divided by this, a node takes no entries of leaders on other nodes either. The half is
/// still enough for its next start to write what it replays: the write-ahead log, at most 336 MiB, and
/// [`DISK_FREE_START_BYTES`].
pub const DISK_FLOOR_HARD_DIVISOR: u64 = 2;
/// Free bytes above its floor, and above the half of it, from which on a node takes again what it did not
/// take below; or an eighth of the floor, if that is less. Log and data shrink and grow by as much when a
/// memtable is flushed, which alone must not switch service on and off.
pub const DISK_FLOOR_RISE_BYTES: u64 = DATA_MEMTABLE_BYTES as u64;
/// Lowest floor that an owner may set: the half of it is what a start needs.
pub const DISK_FLOOR_BYTES_MIN: u64 = DISK_FLOOR_HARD_DIVISOR * DISK_FREE_START_BYTES;
/// How often a node looks how much room its disk has. A fast disk takes about a memtable in this time.
pub const DISK_FLOOR_LOOK: Duration = Duration::from_millis(1_000);
/// How long it counts that a node has said that its disk is spent. It says so with each look.
pub const DISK_SPENT_COUNTS: Duration = Duration::from_millis(3_500);
const _: () = assert!(
    DISK_SPENT_COUNTS.as_millis()
        >= 2 * (DISK_FLOOR_LOOK.as_millis() + DISK_FLOOR_LOOK.as_millis() / 2),
    "a look may wait for other nodes, and one message may be lost"
);
/// Free bytes that a start needs in addition to a copy of what it replays: new files of both stores,
/// with what RocksDB allocates ahead for them. A start with less would fail after it had made some of
/// them, and each further start would take a little more.
pub const DISK_FREE_START_BYTES: u64 = 64 << 20;
/// What one merge of the log's small tables may write before its inputs are deleted: 64 tables of at
/// most 4 MiB. It begins only on a disk that has more than this above the warning.
pub const LOG_MERGE_BYTES_MAX: u64 = 256 << 20;
/// How long the certificate of a cluster's authority is valid, unless set otherwise. Every node has to
/// be given its successor, so it is long; but a key that was stolen unnoticed expires some time.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3_650 * 86_400);
/// How long the certificate of a node is valid, unless set otherwise; a running node takes a new
/// one.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(730 * 86_400);
/// How long before it was made a certificate is already valid: a node whose clock is behind, or is
/// set to another time zone, accepts it all the same.
pub const CERTIFICATE_BACKDATING: Duration = Duration::from_secs(86_400);
/// Time before a certificate expires from which on its node warns; a third of its lifetime, if that is
/// less.
pub const CERTIFICATE_WARNING: Duration = Duration::from_secs(30 * 86_400);
/// How often a node checks whether its certificate files were replaced.
pub const CERTIFICATE_POLL: Duration = Duration::from_secs(2);

const _: () = {
    assert!(CERTIFICATE_WARNING.as_secs() * 3 < CERTIFICATE_LIFETIME.as_secs());
    assert!(CERTIFICATE_LIFETIME.as_secs() < AUTHORITY_LIFETIME.as_secs());
    assert!(DISK_FLOOR_BYTES_MIN <= DISK_FLOOR_BYTES, "a start comes after the floor");
    assert!(
        DISK_FLOOR_BYTES + DISK_FLOOR_RISE_BYTES < DISK_FREE_WARN_BYTES
            && DISK_FLOOR_PERCENT < DISK_FREE_WARN_PERCENT,
        "the warning comes first"
    );
    assert!(
        CLIENTS_MAX + ADMIN_CONNECTIONS_MAX + TABLE_FILES_MAX + DESCRIPTORS_RESERVED
            <= DESCRIPTORS_WANTED
    );
    assert!(DESCRIPTORS_RESERVED * 2 <= DESCRIPTORS_MIN);
    assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX < COMMAND_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX <= WINDOW_BYTES_MAX, "the largest entry must fit the window");
    assert!(WINDOW_BYTES_MAX < FRAME_BYTES_MAX, "one shard's window must fit a frame");
    assert!(FRAME_BYTES_MAX <= LANE_BYTES_MAX);
    assert!(READ_PAGE_BYTES_MAX + ENTRY_BYTES_MAX < FRAME_BYTES_MAX, "a page's last pair fits");
    assert!(READ_PAGE_KEYS_MAX * (KEY_BYTES_MAX + 64) < READ_PAGE_BYTES_MAX, "a page's keys fit");
    assert!(
        PEER_LONG_READS_BYTES_MAX * 2 + READ_PAGE_BYTES_MAX <= PEER_READ_BYTES_MAX,
        "two nodes that take nothing leave a page to the others"
    );
    assert!(PEER_SHORT_READ_BYTES_MAX < PEER_SHORT_READS_BYTES_MAX, "a short answer fits");
    assert!(PEER_REQUESTS_BYTES_MAX <= u32::MAX as usize, "it fits a semaphore's count");
    assert!(PEER_READ_BYTES_MAX <= u32::MAX as usize, "a share of it fits a semaphore's count");
    assert!(READ_PAGE_BYTES_MAX <= READ_BYTES_MAX);
    assert!(2 * VALUE_BYTES_MAX < CLIENT_CONNECTION_BYTES_MAX);
    assert!(CLIENT_CONNECTION_BYTES_MAX < CLIENT_REPLIES_BYTES_MAX);
    assert!(CLIENT_REPLIES_BYTES_MAX <= u32::MAX as usize, "it fits a semaphore's count");
    assert!(CLIENT_REPLY_BYTES_MAX <= READ_BYTES_MAX, "the engine reads what a client may have");
    assert!(LANE_BYTES_OWN < LANE_BYTES_MAX && LANE_BYTES_MAX <= LANES_BYTES_MAX);
    assert!(FRAME_BYTES_MAX <= RECEIVING_BYTES_MAX, "each frame can be received");
    assert!(
        KEY_BYTES_MAX + VALUE_BYTES_MAX + SNAPSHOT_PART_EXTRA_BYTES <= SNAPSHOT_PART_BYTES_MAX,
        "the largest pair fits a part"
    );
    assert!(SNAPSHOT_CHUNK_BYTES_MAX + SNAPSHOT_PART_EXTRA_BYTES <= SNAPSHOT_PART_BYTES_MAX);
    assert!(SNAPSHOT_PART_BYTES_MAX < SNAPSHOT_LANE_BYTES_MAX, "each part fits the lane");
    assert!(SNAPSHOT_LANE_BYTES_MAX < FRAME_BYTES_MAX, "a part fits a frame");
    assert!(2 * SNAPSHOTS_IN_FLIGHT_MAX < SNAPSHOT_LANE_PARTS_MAX, "each direction has a place");
    assert!(LOG_KEPT_BYTES_MAX < LOG_HELD_BYTES_MAX);
    assert!(LOG_HELD_BYTES_MAX < LOG_TRANSFER_BYTES_MAX);
    assert!(SNAPSHOTS_TO_NODE_MAX >= 1);
    assert!(SNAPSHOT_LANE_PARTS_MAX <= FRAME_MESSAGES_MAX);
    assert!(RUN_BYTES_MAX + ENTRY_BYTES_MAX < FRAME_BYTES_MAX, "a run and its last entry fit");
    assert!(WINDOW_BYTES_MAX <= UNCOMMITTED_BYTES_MAX);
    assert!(UNCOMMITTED_BYTES_MAX <= UNCOMMITTED_NODE_BYTES_MAX, "one shard may use its bound");
    assert!(
        UNCOMMITTED_NODE_BYTES_MAX + UNCOMMITTED_RESERVE_BYTES <= ENTRY_CACHE_BYTES_MAX,
        "what is not durable yet can't leave the cache"
    );
    assert!(RUN_BYTES_MAX + ENTRY_BYTES_MAX <= UNCOMMITTED_RESERVE_BYTES, "a run may begin");
    assert!(APPLY_BYTES_MAX <= APPLY_NODE_BYTES_MAX, "one shard may use its bound");
    assert!(WINDOW_BYTES_MAX <= WINDOW_PEER_BYTES_MAX, "one shard may use its window");
    assert!(WINDOW_PEER_BYTES_MAX <= LANE_BYTES_MAX, "what is in flight fits a lane");
    assert!(APPEND_LANES + 4 < STREAMS_MAX as usize);
    assert!(HEARTBEAT.as_millis() * 5 <= ELECTION_TIMEOUT.as_millis(), "one loss is no election");
    assert!(HEARTBEAT.as_millis() * 5 <= SUPPORT.as_millis(), "four losses are no lapse");
    assert!(SUPPORT.as_millis() <= ELECTION_TIMEOUT.as_millis(), "a dead node is noticed as fast");
    assert!(SUPPORT.as_millis() <= SUPPORT_MAX.as_millis());
    assert!(SUPPORT_MAX.as_millis() <= u32::MAX as u128, "a support fits its field");
    assert!(SUPPORT_MAX.as_millis() <= DRIFT_MARGIN.as_millis() * 50, "1% of drift on either side");
    assert!(DRIFT_MARGIN.as_millis() + 2 * HEARTBEAT.as_millis() < SUPPORT.as_millis());
    assert!(SUPPORT.as_millis() < DISK_STALL.as_millis(), "a slow sync is no stall");
    assert!(HEARTBEAT.as_millis() < STALL.as_millis());
    assert!(AUDIT_BUCKETS.is_power_of_two() && AUDIT_BUCKETS <= 256, "a bucket fits a byte");
    assert!(AUDIT_ROUNDS >= 1);
    assert!(WAKE_INTERVAL.as_nanos() < WAKE_SPREAD.as_nanos());
    assert!(WAKE_SPREAD.as_millis() < ELECTION_TIMEOUT.as_millis());
    assert!(LEADERLESS_RELAY.as_millis() >= 2 * ELECTION_TIMEOUT.as_millis());
    assert!(STATUS_LOOK_AGAIN.as_millis() >= STATUS_AGE_MAX.as_millis() + 500);
    assert!(
        STATUS_ANSWER.as_millis()
            + STATUS_LOOK_AGAIN.as_millis()
            + STATUS_ANSWER_AGAIN.as_millis()
            + 500
            <= STATUS_WITHIN.as_millis()
    );
};
