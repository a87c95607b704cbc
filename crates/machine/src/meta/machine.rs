//! The state machine of the meta shard, which interprets [`MetaCommand`]s.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_router::ShardDescriptor;
use quorate_types::ShardId;

use super::command::MetaCommand;
use super::descriptor::{decode_descriptor, encode_descriptor};
use super::error::MetaError;
use super::head::{Head, node_key, shard_key};
use super::node::NodeRecord;
use super::reply::MetaReply;
use crate::state_machine::{ApplyContext, OrderedMap, StateMachine};

/// Applies [`MetaCommand`]s. It has no state of its own: all of it is in the map.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetaMachine;

impl StateMachine for MetaMachine {
    fn apply(&mut self, _: ApplyContext, command: &[u8], map: &mut dyn OrderedMap) -> Bytes {
        let reply = MetaCommand::decode(command).and_then(|command| apply_command(command, map));
        // Bytes that no version wrote, in the log or in the map: every replica gives the same
        // reply.
        reply.unwrap_or(MetaReply::Unknown).encode()
    }
}

/// Changes nothing if it fails: every function below writes only when nothing can fail any more.
fn apply_command(command: MetaCommand, map: &mut dyn OrderedMap) -> Result<MetaReply, MetaError> {
    let head = Head::read(map)?;
    let Some(mut head) = head else {
        return match command {
            MetaCommand::Found { cluster_version, shards } => {
                report(&mut Head::founding(cluster_version), shards, map)
            }
            _ => Ok(MetaReply::NotFounded),
        };
    };
    match command {
        MetaCommand::Found { .. } => Ok(MetaReply::AlreadyFounded { revision: head.revision }),
        MetaCommand::Register(record) => register(&mut head, &record, map),
        MetaCommand::ReportShards(shards) => report(&mut head, shards, map),
        MetaCommand::Allocate { kind, count } => match head.allocate(kind, count) {
            None => Ok(MetaReply::Unknown),
            Some(first) => {
                if count > 0 {
                    head.write_next_revision(map);
                }
                Ok(MetaReply::Allocated { first })
            }
        },
        MetaCommand::RaiseVersion { from, to } => {
            if head.cluster_version != from || to < from {
                return Ok(MetaReply::OtherVersion { current: head.cluster_version });
            }
            if to > from {
                head.cluster_version = to;
                head.write_next_revision(map);
            }
            Ok(MetaReply::Done { revision: head.revision })
        }
    }
}

fn register(
    head: &mut Head,
    record: &NodeRecord,
    map: &mut dyn OrderedMap,
) -> Result<MetaReply, MetaError> {
    let key = node_key(record.node);
    if let Some(value) = map.get(&key) {
        let known = NodeRecord::decode(&value).map_err(|error| error.under(&key))?;
        if known.instance.store != record.instance.store {
            return Ok(MetaReply::OtherStore { known: known.instance.store });
        }
        // A start that is not newer, and not the same, comes late or from a copy: the record stays.
        let is_news = known.instance.incarnation < record.instance.incarnation
            || known.instance == record.instance;
        if known == *record || !is_news {
            return Ok(MetaReply::Done { revision: head.revision });
        }
    }
    map.put(&key, &record.encode());
    head.note_node(record.node);
    head.write_next_revision(map);
    Ok(MetaReply::Done { revision: head.revision })
}

/// Takes newer descriptors, all or nothing, by the rule of `RouteMap::update`: nothing gets in here
/// that readers would refuse. A founding is a report to an empty map, and counts as a change even
/// if it brings no shard.
fn report(
    head: &mut Head,
    shards: Vec<ShardDescriptor>,
    map: &mut dyn OrderedMap,
) -> Result<MetaReply, MetaError> {
    let mut news: BTreeMap<ShardId, ShardDescriptor> = BTreeMap::new();
    for found in shards {
        let shard = found.shard;
        let newness = match news.get(&shard) {
            _ if found.is_range_empty() => None,
            Some(earlier) => found.compare(earlier),
            None => match held(shard, map)? {
                Some(held) => found.compare(&held),
                None => Some(Ordering::Greater),
            },
        };
        match newness {
            Some(Ordering::Less | Ordering::Equal) => {}
            Some(Ordering::Greater) => {
                news.insert(shard, found);
            }
            None => return Ok(MetaReply::Contradiction { shard }),
        }
    }
    let founding = head.revision == 0;
    if founding || !news.is_empty() {
        for (shard, descriptor) in &news {
            map.put(&shard_key(*shard), &encode_descriptor(descriptor));
            head.note_descriptor(descriptor);
        }
        head.write_next_revision(map);
    }
    Ok(MetaReply::Done { revision: head.revision })
}

fn held(shard: ShardId, map: &mut dyn OrderedMap) -> Result<Option<ShardDescriptor>, MetaError> {
    let key = shard_key(shard);
    let Some(value) = map.get(&key) else { return Ok(None) };
    decode_descriptor(&value).map(Some).map_err(|error| error.under(&key))
}
