//! SCAN without state: the cursor is the next hash slot, and a step returns whole slots.
//!
//! A key's slot never changes, so a key that lives through a full scan is in the one step that
//! covers its slot; no step can miss it, on any node, whatever shards do meanwhile. The price: all
//! keys of one slot come in one reply. With hashed keys that is one key in 16,384; keys that share
//! a {tag} share a slot.

use bytes::Bytes;
use quorate::{Engine, KeyPage, ReadError, ReadLevel};
use quorate_types::limits;

use super::command::Scan;
use super::execute::Patience;
use super::glob;
use super::reply_size::{ELEMENT_BYTES, list_bytes};
use crate::redis::protocol::reply::Reply;
use crate::redis::protocol::slot::{SLOTS, client_key, slot_of_engine_key, slot_start};

/// Keys read at once within one slot.
const PAGE_KEYS: usize = 1_024;

/// The outcome of a step.
pub(crate) enum Step {
    /// A reply of the next cursor and keys.
    Done(Reply),
    /// The keys of the first slot alone need more room than they were given.
    Short,
}

/// Runs one step. Its keys, including those that the pattern leaves out, hold at most `bytes_max`.
pub(crate) async fn scan(engine: &Engine, wanted: &Scan, bytes_max: usize) -> Result<Step, Reply> {
    if !wanted.strings {
        return Ok(Step::Done(reply(0, Vec::new())));
    }
    let Some((next, keys)) = step(engine, wanted, bytes_max).await? else {
        return Ok(Step::Short);
    };
    let keys = keys
        .iter()
        .filter_map(client_key)
        .filter(|key| wanted.pattern.as_ref().is_none_or(|p| glob::matches(p, key)))
        .map(Reply::Bulk)
        .collect();
    Ok(Step::Done(reply(next, keys)))
}

fn reply(next: u16, keys: Vec<Reply>) -> Reply {
    let cursor = Reply::Bulk(Bytes::from(next.to_string()));
    Reply::Array(vec![cursor, Reply::Array(keys)])
}

/// Keys in order, with room for some more.
struct Keys {
    found: Vec<Bytes>,
    bytes: usize,
    bytes_max: usize,
    /// Where the next read starts; `None`: there are no more keys.
    next: Option<Bytes>,
}

impl Keys {
    /// Reads further keys, up to `end` or until there are `count`; false if there is no more room.
    async fn read(&mut self, engine: &Engine, end: &[u8], count: usize) -> Result<bool, Reply> {
        while self.found.len() < count
            && let Some(from) = self.next.take()
        {
            let room = self.bytes_max.saturating_sub(self.bytes);
            if room == 0 {
                self.next = Some(from);
                return Ok(false);
            }
            let page = page(engine, &from, end, count - self.found.len(), room).await?;
            self.bytes += page.keys.iter().map(|key| key.len() + ELEMENT_BYTES).sum::<usize>();
            self.found.extend(page.keys);
            self.next = page.next;
        }
        Ok(true)
    }
}

/// The next cursor, and every key of the slots before it; `None` if the first slot has too many.
async fn step(
    engine: &Engine,
    wanted: &Scan,
    bytes_max: usize,
) -> Result<Option<(u16, Vec<Bytes>)>, Reply> {
    let start = Bytes::copy_from_slice(&slot_start(wanted.slot));
    let bytes = list_bytes(0);
    let mut keys = Keys { found: Vec::new(), bytes, bytes_max, next: Some(start) };
    let whole = keys.read(engine, &slot_start(SLOTS), wanted.count + 1).await?;
    if whole && keys.found.len() <= wanted.count {
        return Ok(Some((0, keys.found)));
    }
    // The last slot may be cut. If another one is whole, stop before it.
    let cut = keys.found.last().and_then(|key| slot_of_engine_key(key)).unwrap_or(wanted.slot);
    if cut > wanted.slot {
        keys.found.retain(|key| slot_of_engine_key(key) < Some(cut));
        return Ok(Some((cut, keys.found)));
    }
    if !finish_slot(engine, wanted.slot, &mut keys).await? {
        return Ok(None);
    }
    let next = wanted.slot + 1;
    Ok(Some((if next == SLOTS { 0 } else { next }, keys.found)))
}

/// Adds the rest of `slot` after the last of `keys`; false if there is no room for all of it.
async fn finish_slot(engine: &Engine, slot: u16, keys: &mut Keys) -> Result<bool, Reply> {
    let end = slot_start(slot + 1);
    if let Some(last) = keys.found.last() {
        // The smallest key after it.
        keys.next = Some([last.as_ref(), &[0]].concat().into());
    }
    while keys.next.is_some() {
        let count = keys.found.len() + PAGE_KEYS;
        if !keys.read(engine, &end, count).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn page(
    engine: &Engine,
    start: &[u8],
    end: &[u8],
    keys_max: usize,
    room: usize,
) -> Result<KeyPage, Reply> {
    let mut patience = Patience::default();
    // A key has at least its slot, so that this many fit what they may hold.
    let keys_max = keys_max.min(room / ELEMENT_BYTES + 1);
    loop {
        let level = ReadLevel::Linearizable;
        match engine.scan_keys(start, Some(end), keys_max, room, level).await {
            Ok(page) => return Ok(page),
            Err(ReadError(refusal)) => patience.wait(refusal).await?,
        }
    }
}

/// Room for the retry of a step that had too little.
///
/// # Errors
/// The reply to a client whose slot can't be answered.
pub(crate) fn more_room(bytes: usize) -> Result<usize, Reply> {
    const GROWTH: usize = 4;
    if bytes >= limits::CLIENT_REPLY_BYTES_MAX {
        return Err(Reply::error(
            "ERR one hash slot holds more than 256 MiB of keys; spread them over more {tags}",
        ));
    }
    Ok((bytes * GROWTH).min(limits::CLIENT_REPLY_BYTES_MAX))
}
