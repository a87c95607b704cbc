//! The workload of the built-in key-value store: every kind of command on few keys, recorded in the
//! history that is checked for linearizability.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_machine::{KvCommand, KvMachine, KvReply, StateMachine};
use quorate_types::ShardId;

use super::workload::{Ask, Moment, Outcome, Workload};
use crate::linearizability::{ClientId, Operation, OperationId, Reply, Value};

/// Keys of one shard in use at a time.
const KEYS: u64 = 4;
/// Nanoseconds after which a shard changes to fresh keys: the time to check one key grows faster
/// than linearly with the operations whose outcome is unknown.
const KEYS_LAST: u64 = 5_000_000_000;

struct Pending {
    id: OperationId,
    key: Bytes,
    operation: Operation,
}

/// The workload of the built-in key-value store.
#[derive(Default)]
pub struct KvWorkload {
    pending: BTreeMap<u64, Pending>,
    /// The last value of each key that a client saw; a compare-and-set expects it.
    seen: BTreeMap<Bytes, Value>,
}

impl KvWorkload {
    /// Makes a workload without any requests yet.
    #[must_use]
    pub fn new() -> KvWorkload {
        KvWorkload::default()
    }

    fn operation(&self, moment: &mut Moment<'_>, key: &Bytes, number: u64) -> Operation {
        let value = || Bytes::from(number.to_string());
        match moment.random.below(100) {
            0..35 => Operation::Get,
            35..55 => Operation::Set(value()),
            55..80 => Operation::Increment(1),
            80..95 => {
                let expected = self.seen.get(key).cloned().unwrap_or_default();
                let new = moment.random.chance(900).then(value);
                Operation::CompareAndSet { expected, new }
            }
            _ => Operation::Delete,
        }
    }
}

fn command(key: &Bytes, operation: &Operation) -> Option<KvCommand> {
    let key = key.clone();
    match operation.clone() {
        Operation::Get => None,
        Operation::Set(value) => Some(KvCommand::Put { key, value }),
        Operation::Delete => Some(KvCommand::Delete { key }),
        Operation::Increment(by) => Some(KvCommand::Increment { key, by }),
        Operation::CompareAndSet { expected, new } => {
            Some(KvCommand::CompareAndSet { key, expected, value: new })
        }
    }
}

impl Workload for KvWorkload {
    fn machine(&self) -> Box<dyn StateMachine> {
        Box::new(KvMachine)
    }

    fn ask(
        &mut self,
        mut moment: Moment<'_>,
        client: ClientId,
        shard: ShardId,
        number: u64,
    ) -> Ask {
        let (key, age) = (moment.random.below(KEYS), moment.now / KEYS_LAST);
        let key = Bytes::from(format!("{}/{age}/{key}", shard.0));
        let operation = self.operation(&mut moment, &key, number);
        let id = moment.history.invoke(client, moment.now, key.clone(), operation.clone());
        let command = command(&key, &operation);
        self.pending.insert(number, Pending { id, key, operation });
        command.map_or(Ask::Read, |command| Ask::Write(Bytes::from(command.encode())))
    }

    fn answer(
        &mut self,
        moment: Moment<'_>,
        number: u64,
        outcome: Outcome<'_>,
    ) -> Result<(), String> {
        let pending = self.pending.remove(&number).ok_or("a request was answered twice")?;
        let reply = match outcome {
            Outcome::DidNotHappen => {
                moment.history.discard(pending.id);
                return Ok(());
            }
            Outcome::Read(map) => Reply::Value(map.get(&pending.key)),
            Outcome::Written(bytes) => {
                let reply = KvReply::decode(bytes).map_err(|error| error.to_string())?;
                match (&pending.operation, reply) {
                    (Operation::Set(_), KvReply::Done) => Reply::Done,
                    (Operation::Delete, KvReply::Deleted(keys)) => Reply::Deleted(keys == 1),
                    (Operation::Increment(_), KvReply::Integer(value)) => Reply::Integer(value),
                    (Operation::Increment(_), KvReply::NotAnInteger | KvReply::WouldOverflow) => {
                        Reply::NotAnInteger
                    }
                    (Operation::CompareAndSet { .. }, KvReply::Swapped) => Reply::Swapped(true),
                    (Operation::CompareAndSet { .. }, KvReply::Conflict { actual }) => {
                        self.seen.insert(pending.key.clone(), actual);
                        Reply::Swapped(false)
                    }
                    (operation, reply) => {
                        return Err(format!("{operation:?} was answered {reply:?}"));
                    }
                }
            }
        };
        let seen = match (&reply, &pending.operation) {
            (Reply::Value(value), _) => Some(value.clone()),
            (Reply::Done, Operation::Set(value)) => Some(Some(value.clone())),
            (Reply::Integer(value), _) => Some(Some(Bytes::from(value.to_string()))),
            (Reply::Swapped(true), Operation::CompareAndSet { new, .. }) => Some(new.clone()),
            _ => None,
        };
        if let Some(seen) = seen {
            self.seen.insert(pending.key, seen);
        }
        moment.history.complete(pending.id, moment.now, reply);
        Ok(())
    }
}
