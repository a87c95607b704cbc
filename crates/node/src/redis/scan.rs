//! SCAN without state: the cursor is the next hash slot, and a step returns whole slots.
//!
//! A key's slot never changes, so a key that lives through a full scan is in the one step that
//! covers its slot; no step can miss it, on any node, whatever shards do meanwhile. The price: all
//! keys of one slot come in one reply. With hashed keys that is one key in 16,384; keys that share
//! a {tag} share a slot.

use bytes::Bytes;
use quorate::{Engine, ReadError, ReadLevel};

use super::command::Scan;
use super::execute::{Patience, REPLY_BYTES_MAX};
use super::glob;
use super::reply::Reply;
use super::slot::{SLOTS, client_key, slot_of_engine_key, slot_start};

/// Keys read at once within one slot.
const PAGE_KEYS: usize = 1_024;

/// One step: a reply of the next cursor and keys.
pub(super) async fn scan(engine: &Engine, wanted: &Scan) -> Result<Reply, Reply> {
    if !wanted.strings {
        return Ok(reply(0, Vec::new()));
    }
    let (next, keys) = step(engine, wanted).await?;
    let keys = keys
        .iter()
        .filter_map(client_key)
        .filter(|key| wanted.pattern.as_ref().is_none_or(|p| glob::matches(p, key)))
        .map(Reply::Bulk)
        .collect();
    Ok(reply(next, keys))
}

fn reply(next: u16, keys: Vec<Reply>) -> Reply {
    let cursor = Reply::Bulk(Bytes::from(next.to_string()));
    Reply::Array(vec![cursor, Reply::Array(keys)])
}

/// The next cursor, and every key of the slots before it.
async fn step(engine: &Engine, wanted: &Scan) -> Result<(u16, Vec<Bytes>), Reply> {
    let start = slot_start(wanted.slot);
    let end = slot_start(SLOTS);
    let limit = wanted.count + 1;
    let mut keys = page(engine, &start, &end, limit).await?;
    if keys.len() < limit {
        return Ok((0, keys));
    }
    // The last slot may be cut. If another one is whole, stop before it.
    let cut = keys.last().and_then(|key| slot_of_engine_key(key)).unwrap_or(wanted.slot);
    if cut > wanted.slot {
        keys.retain(|key| slot_of_engine_key(key) < Some(cut));
        return Ok((cut, keys));
    }
    finish_slot(engine, wanted.slot, &mut keys).await?;
    let next = wanted.slot + 1;
    Ok((if next == SLOTS { 0 } else { next }, keys))
}

/// Adds what is left of `slot` behind the last of `keys`.
async fn finish_slot(engine: &Engine, slot: u16, keys: &mut Vec<Bytes>) -> Result<(), Reply> {
    let end = slot_start(slot + 1);
    let mut bytes = 0;
    loop {
        let Some(last) = keys.last() else { return Ok(()) };
        // The smallest key behind `last`.
        let from = [last.as_ref(), &[0]].concat();
        let more = page(engine, &from, &end, PAGE_KEYS).await?;
        bytes += more.iter().map(Bytes::len).sum::<usize>();
        if bytes > REPLY_BYTES_MAX {
            return Err(Reply::error(
                "ERR one hash slot holds more than 256 MiB of keys; spread them over more {tags}",
            ));
        }
        let whole = more.len() < PAGE_KEYS;
        keys.extend(more);
        if whole {
            return Ok(());
        }
    }
}

async fn page(
    engine: &Engine,
    start: &[u8],
    end: &[u8],
    limit: usize,
) -> Result<Vec<Bytes>, Reply> {
    let mut patience = Patience::default();
    loop {
        match engine.scan(start, Some(end), limit, ReadLevel::Linearizable).await {
            Ok(pairs) => return Ok(pairs.into_iter().map(|(key, _)| key).collect()),
            Err(ReadError(refusal)) => patience.wait(refusal).await?,
        }
    }
}
