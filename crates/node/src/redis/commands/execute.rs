//! Runs commands on the engine, and turns their outcomes into replies.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::{
    Engine, Found, Invalid, KvCommand, KvReply, ReadError, ReadLevel, Refusal, WriteError,
};
use quorate_types::limits;

use super::command::{Command, SingleWrite};
use super::reply_size::list_bytes;
use super::scan::{self, Step, scan};
use crate::process::concurrent::{Task, run_all};
use crate::redis::protocol::reply::Reply;
use crate::redis::protocol::slot::slot_of_engine_key;

/// How long a request waits for a leader before it is answered with CLUSTERDOWN: an election takes
/// one to two seconds, and clients retry after CLUSTERDOWN for some more.
const LEADER_HOLD: Duration = Duration::from_millis(1_000);
/// Parts of one command that run at once.
const SCATTER_WIDTH: usize = 256;
/// Bytes of one batch of writes; far below the largest entry.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Commands of one batch of writes.
const BATCH_COMMANDS_MAX: usize = 1_024;

const CLUSTERDOWN: Reply = Reply::error("CLUSTERDOWN Hash slot not served");

/// The outcome of a command.
pub(crate) enum Executed {
    /// One reply for each of its places.
    Done(Vec<Reply>),
    /// No reply yet: it needs more room than the command was given.
    Short {
        /// The command.
        command: Command,
        /// The room that it needs, as far as is known now.
        reply_bytes: usize,
        /// The longest value in it.
        value_bytes: usize,
    },
}

/// Runs a command that needs the engine. Its reply holds at most `reply_bytes`.
///
/// A command of several keys is one request per hash slot, run side by side: each slot's part is
/// atomic up to [`BATCH_BYTES_MAX`] and [`BATCH_COMMANDS_MAX`], the whole is not. If a part fails,
/// others may have taken effect.
pub(crate) async fn execute(engine: &Engine, command: Command, reply_bytes: usize) -> Executed {
    let answered = match command {
        Command::Local(_) => Err(Reply::error("ERR internal: a local command met the engine")),
        Command::Get(key) => return get(engine, key, reply_bytes).await,
        Command::GetMany(keys) => return get_many(engine, keys, reply_bytes).await,
        Command::Scan(wanted) => return scan_within(engine, wanted, reply_bytes).await,
        Command::Exists(keys) => exists(engine, &keys).await,
        Command::Write(write) => {
            Ok(write_together(engine, vec![write]).await.pop().unwrap_or(Reply::Null))
        }
        Command::SetMany(pairs) => {
            let sets = pairs.into_iter().map(|(key, value)| SingleWrite::Set { key, value });
            write_scattered(engine, sets.collect()).await.map(|_| Reply::OK)
        }
        Command::DeleteMany(keys) => {
            let deletes = keys.into_iter().map(|key| SingleWrite::Delete { key });
            write_scattered(engine, deletes.collect()).await.map(|replies| {
                let one = |reply: &Reply| if let Reply::Integer(n) = reply { *n } else { 0 };
                Reply::Integer(replies.iter().map(one).sum())
            })
        }
        Command::CountKeys => count(engine).await,
    };
    done(answered)
}

fn done(answered: Result<Reply, Reply>) -> Executed {
    Executed::Done(vec![answered.unwrap_or_else(|error| error)])
}

/// Runs writes of one shard as one entry of its log, in their order; one reply each.
pub(crate) async fn write_together(engine: &Engine, mut writes: Vec<SingleWrite>) -> Vec<Reply> {
    let count = writes.len();
    let replies = if count == 1 {
        let command = command_of(writes.swap_remove(0));
        write(engine, command).await.map(|reply| vec![reply_of(&reply)])
    } else {
        let batch = KvCommand::Batch(writes.into_iter().map(command_of).collect());
        match write(engine, batch).await {
            Ok(KvReply::Batch(replies)) => Ok(replies.iter().map(reply_of).collect()),
            Ok(other) => Ok(vec![reply_of(&other); count]),
            Err(error) => Err(error),
        }
    };
    replies.unwrap_or_else(|error| vec![error; count])
}

async fn write_scattered(engine: &Engine, writes: Vec<SingleWrite>) -> Result<Vec<Reply>, Reply> {
    // All are checked before any is written: a client that reads an error must not find a part written.
    writes.iter().try_for_each(check)?;
    let tasks = group_by_slot(writes)
        .into_iter()
        .map(|group| {
            let engine = engine.clone();
            Box::pin(async move { write_together(&engine, group).await }) as Task<Vec<Reply>>
        })
        .collect();
    let replies: Vec<Reply> = run_all(tasks, SCATTER_WIDTH).await.into_iter().flatten().collect();
    whole(replies)
}

/// The replies of a command's parts, or the error that tells how it ended if a part has failed.
fn whole(replies: Vec<Reply>) -> Result<Vec<Reply>, Reply> {
    // An unknown outcome is reported before a definite failure: the caller must know of it.
    let unknown = replies.iter().find(|reply| is_unknown(reply));
    let failed = unknown.or_else(|| replies.iter().find(|r| matches!(r, Reply::Error(_))));
    match failed {
        Some(Reply::Error(text))
            if unknown.is_none() && replies.iter().any(|r| !matches!(r, Reply::Error(_))) =>
        {
            // Refused on its own, this error says that nothing happened.
            Err(Reply::Error(
                format!("ERR a part was written, and the rest was not: {text}").into(),
            ))
        }
        Some(error) => Err(error.clone()),
        None => Ok(replies),
    }
}

/// Refuses a write that the engine would refuse if it came alone.
fn check(write: &SingleWrite) -> Result<(), Reply> {
    let (key_bytes, max) = (write.key().len(), limits::KEY_BYTES_MAX);
    if key_bytes > max {
        return Err(invalid_reply(&Invalid::KeyTooLong { found: key_bytes, max }));
    }
    let (value_bytes, max) = (write.len_bytes() - key_bytes, limits::VALUE_BYTES_MAX);
    if value_bytes > max {
        return Err(invalid_reply(&Invalid::ValueTooLong { found: value_bytes, max }));
    }
    Ok(())
}

/// One group per slot, in bounds, each in the order given. A slot's keys always share a shard.
fn group_by_slot(mut writes: Vec<SingleWrite>) -> Vec<Vec<SingleWrite>> {
    // The sort is stable: of two writes of one key the later one stays later.
    writes.sort_by_key(|write| slot_of_engine_key(write.key()));
    let mut groups: Vec<Vec<SingleWrite>> = Vec::new();
    let mut slot = None;
    let mut bytes = 0;
    for write in writes {
        let own = slot_of_engine_key(write.key());
        let room = bytes + write.len_bytes() <= BATCH_BYTES_MAX;
        match groups.last_mut() {
            Some(group) if slot == own && room && group.len() < BATCH_COMMANDS_MAX => {
                bytes += write.len_bytes();
                group.push(write);
            }
            _ => {
                bytes = write.len_bytes();
                groups.push(vec![write]);
            }
        }
        slot = own;
    }
    groups
}

fn command_of(write: SingleWrite) -> KvCommand {
    match write {
        SingleWrite::Set { key, value } => KvCommand::Put { key, value },
        SingleWrite::Add { key, by } => KvCommand::Increment { key, by },
        SingleWrite::Delete { key } => KvCommand::Delete { key },
    }
}

fn reply_of(reply: &KvReply) -> Reply {
    match reply {
        KvReply::Done | KvReply::Swapped => Reply::OK,
        KvReply::Deleted(keys) => Reply::Integer(i64::try_from(*keys).unwrap_or(i64::MAX)),
        KvReply::Integer(value) => Reply::Integer(*value),
        KvReply::NotAnInteger => Reply::error("ERR value is not an integer or out of range"),
        KvReply::WouldOverflow => Reply::error("ERR increment or decrement would overflow"),
        KvReply::Conflict { .. } | KvReply::Batch(_) | KvReply::Unknown => {
            Reply::error("ERR the shard's state machine does not know this command")
        }
    }
}

async fn get(engine: &Engine, key: Bytes, reply_bytes: usize) -> Executed {
    let room = reply_bytes.saturating_sub(list_bytes(1));
    match find(engine, std::slice::from_ref(&key), room).await {
        Ok(Found::All(values)) => done(Ok(Reply::optional(values.into_iter().next().flatten()))),
        Ok(Found::Lengths(lengths)) => short(Command::Get(key), &lengths),
        Err(error) => done(Err(error)),
    }
}

async fn get_many(engine: &Engine, keys: Vec<Bytes>, reply_bytes: usize) -> Executed {
    let room = reply_bytes.saturating_sub(list_bytes(keys.len()));
    match find(engine, &keys, room).await {
        Ok(Found::All(values)) => {
            done(Ok(Reply::Array(values.into_iter().map(Reply::optional).collect())))
        }
        Ok(Found::Lengths(lengths)) => short(Command::GetMany(keys), &lengths),
        Err(error) => done(Err(error)),
    }
}

/// The values need more room than was given: says how much, or that no reply may be that long.
fn short(command: Command, lengths: &[Option<u64>]) -> Executed {
    let values = lengths.iter().flatten().fold(0u64, |sum, length| sum.saturating_add(*length));
    let values = usize::try_from(values).unwrap_or(usize::MAX);
    let reply_bytes = list_bytes(lengths.len()).saturating_add(values);
    if reply_bytes > limits::CLIENT_REPLY_BYTES_MAX {
        let max = limits::CLIENT_REPLY_BYTES_MAX;
        let text = format!("ERR reply of {values} bytes; at most {max} fit, ask for fewer keys");
        return done(Err(Reply::Error(text.into())));
    }
    let longest = lengths.iter().flatten().max().copied().unwrap_or(0);
    let value_bytes = usize::try_from(longest).unwrap_or(usize::MAX);
    Executed::Short { command, reply_bytes, value_bytes }
}

async fn scan_within(
    engine: &Engine,
    wanted: super::command::Scan,
    reply_bytes: usize,
) -> Executed {
    match scan(engine, &wanted, reply_bytes).await {
        Ok(Step::Done(reply)) => done(Ok(reply)),
        Ok(Step::Short) => match scan::more_room(reply_bytes) {
            Ok(reply_bytes) => {
                Executed::Short { command: Command::Scan(wanted), reply_bytes, value_bytes: 0 }
            }
            Err(error) => done(Err(error)),
        },
        Err(error) => done(Err(error)),
    }
}

/// Counts a key as often as it is named. No value is held.
async fn exists(engine: &Engine, keys: &[Bytes]) -> Result<Reply, Reply> {
    let lengths = find(engine, keys, 0).await?.into_lengths();
    Ok(Reply::Integer(lengths.iter().map(|length| i64::from(length.is_some())).sum()))
}

/// The values of `keys`, or their lengths if they are longer than `bytes_max` together.
async fn find(engine: &Engine, keys: &[Bytes], bytes_max: usize) -> Result<Found, Reply> {
    let mut patience = Patience::default();
    loop {
        let read = engine.get_within(keys, bytes_max, ReadLevel::Linearizable);
        match hold(engine, keys, read).await? {
            Ok(found) => return Ok(found),
            Err(ReadError(refusal)) => patience.wait(refusal).await?,
        }
    }
}

/// The exact number of keys; each shard is counted at its own moment. Reads every key.
async fn count(engine: &Engine) -> Result<Reply, Reply> {
    let mut patience = Patience::default();
    loop {
        match engine.count(&[], None, ReadLevel::Linearizable).await {
            Ok(keys) => return Ok(Reply::Integer(i64::try_from(keys).unwrap_or(i64::MAX))),
            Err(ReadError(refusal)) => patience.wait(refusal).await?,
        }
    }
}

async fn write(engine: &Engine, command: KvCommand) -> Result<KvReply, Reply> {
    let mut patience = Patience::default();
    loop {
        // Giving up a write a second after it began would make its outcome unknown, so the wait for
        // a leader comes first, as a read of its key.
        if let Some(key) = command.first_key()
            && !has_leader(engine, key)
        {
            find(engine, std::slice::from_ref(key), 0).await?;
        }
        match engine.execute(command.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(WriteError::DidNotHappen(refusal)) => patience.wait(refusal).await?,
            Err(error @ WriteError::OutcomeUnknown(_)) => {
                return Err(Reply::Error(format!("ERR {error}").into()));
            }
        }
    }
}

/// How the reply to a write of unknown outcome begins: the text of [`WriteError::OutcomeUnknown`].
const UNKNOWN: &str = "ERR outcome unknown: ";

fn is_unknown(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with(UNKNOWN))
}

fn has_leader(engine: &Engine, key: &[u8]) -> bool {
    // A node without a replica does not know the leader: it asks a node that has a replica.
    engine.locate(key).is_some_and(|location| location.leader.is_some() || !location.is_here)
}

/// Awaits a read, but at most [`LEADER_HOLD`] if one of its shards has no leader at the start.
async fn hold<T>(
    engine: &Engine,
    keys: &[Bytes],
    read: impl Future<Output = T>,
) -> Result<T, Reply> {
    if keys.iter().all(|key| has_leader(engine, key)) {
        return Ok(read.await);
    }
    tokio::time::timeout(LEADER_HOLD, read).await.map_err(|_| CLUSTERDOWN)
}

/// Decides whether to retry a refused request. A client is never told that a queue is full: its
/// connection is not read while its requests wait.
#[derive(Default)]
pub(crate) struct Patience {
    /// When the first refusal came.
    since: Option<Instant>,
}

impl Patience {
    /// Waits before the next retry, or returns the reply that ends the request.
    pub(crate) async fn wait(&mut self, refusal: Refusal) -> Result<(), Reply> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let in_time = waited < limits::REQUEST_TIMEOUT;
        let wait = match &refusal {
            Refusal::Busy { wait, .. } if in_time => *wait,
            Refusal::StaleRoute { .. } if in_time => Duration::from_millis(1),
            Refusal::NoLeader { wait, .. } | Refusal::Unreachable { wait, .. }
                if waited < LEADER_HOLD =>
            {
                *wait
            }
            Refusal::NoShard if waited < LEADER_HOLD => Duration::from_millis(50),
            Refusal::Busy { .. }
            | Refusal::NoLeader { .. }
            | Refusal::Unreachable { .. }
            | Refusal::NoShard => return Err(CLUSTERDOWN),
            // The prefix of Redis for a server that takes no writes because of its disk.
            Refusal::DiskLow { .. } => {
                return Err(Reply::Error(format!("MISCONF {refusal}").into()));
            }
            Refusal::Invalid(invalid) => return Err(invalid_reply(invalid)),
            _ => return Err(Reply::Error(format!("ERR {refusal}").into())),
        };
        tokio::time::sleep(wait.clamp(Duration::from_millis(1), LEADER_HOLD)).await;
        Ok(())
    }
}

fn invalid_reply(invalid: &Invalid) -> Reply {
    let remedy = match invalid {
        // The slot in front of the key counts too, but the client does not know of it.
        Invalid::KeyTooLong { .. } => "; use a shorter key, two bytes of the bound are the slot's",
        Invalid::ValueTooLong { .. } => "; split it over several keys",
        _ => "",
    };
    Reply::Error(format!("ERR {invalid}{remedy}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::protocol::slot::KeyMaker;

    /// Goal: a scattered write keeps the order of one key and the bounds of a batch. Method: two
    /// values of one key among others, and values that are too long for one batch.
    #[test]
    fn groups_keep_order_and_bounds() {
        let mut keys = KeyMaker::default();
        let mut set = |key: &str, value: Bytes| SingleWrite::Set {
            key: keys.engine_key(key.as_bytes()),
            value,
        };
        let big = Bytes::from(vec![0; BATCH_BYTES_MAX * 2 / 3]);
        let writes = vec![
            set("{a}1", Bytes::from("old")),
            set("b", Bytes::from("x")),
            set("{a}1", Bytes::from("new")),
            set("{c}1", big.clone()),
            set("{c}2", big),
        ];
        let groups = group_by_slot(writes.clone());
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), writes.len());
        let of_a = groups.iter().find(|group| group.contains(&writes[0])).expect("kept");
        assert_eq!(of_a, &[writes[0].clone(), writes[2].clone()]);
        assert_eq!(groups.len(), 4, "the big ones are apart");
    }

    /// Goal: a client that reads "it did not happen" may rely on it. Method: parts that were all
    /// refused, some of them, and some with an unknown outcome.
    #[test]
    fn a_part_that_was_written_is_told() {
        let (written, unknown) = (Reply::Status("OK"), Reply::Error(format!("{UNKNOWN}x").into()));
        let refused = Reply::Error("MISCONF no room".into());
        assert_eq!(whole(vec![written.clone(); 2]), Ok(vec![written.clone(); 2]));
        assert_eq!(whole(vec![refused.clone(); 2]), Err(refused.clone()));
        assert_eq!(
            whole(vec![written.clone(), refused.clone()]),
            Err(Reply::Error(
                "ERR a part was written, and the rest was not: MISCONF no room".into()
            ))
        );
        assert_eq!(whole(vec![written, refused, unknown.clone()]), Err(unknown));
    }
}
