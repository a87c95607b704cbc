//! The way of a key-value command: to the one shard that owns all of its keys.

use quorate_machine::KvCommand;
use quorate_router::ShardDescriptor;
use quorate_types::ShardId;

use crate::core::{Core, Route};
use crate::error::{Invalid, Refusal};

impl Core {
    /// The route of `command`, found and checked under one look at the map. To be asked anew before
    /// each try: after a split the keys of one command may belong to two shards.
    pub(crate) fn route_command(&self, command: &KvCommand) -> Result<Route, Refusal> {
        let routes = self.map.routes();
        let first = command.first_key().ok_or(Refusal::NoShard)?;
        let owner = routes.lookup(first).ok_or(Refusal::NoShard)?;
        let owner_of = |key: &[u8]| routes.lookup(key).map(|descriptor| descriptor.shard);
        check_command(command, owner, &owner_of)?;
        Ok(self.route_to(owner))
    }
}

fn check_command(
    command: &KvCommand,
    owner: &ShardDescriptor,
    owner_of: &impl Fn(&[u8]) -> Option<ShardId>,
) -> Result<(), Refusal> {
    match command {
        KvCommand::Batch(commands) => {
            commands.iter().try_for_each(|command| check_command(command, owner, owner_of))
        }
        KvCommand::DeleteRange { start, end } => {
            check_key(start, owner, owner_of)?;
            match &owner.end {
                Some(own) if end > own => check_key(own, owner, owner_of),
                _ => Ok(()),
            }
        }
        single => match single.first_key() {
            Some(key) => check_key(key, owner, owner_of),
            None => Ok(()),
        },
    }
}

fn check_key(
    key: &[u8],
    owner: &ShardDescriptor,
    owner_of: &impl Fn(&[u8]) -> Option<ShardId>,
) -> Result<(), Refusal> {
    if owner.contains(key) {
        return Ok(());
    }
    let other = owner_of(key).ok_or(Refusal::NoShard)?;
    Err(Invalid::CrossShard { first: owner.shard, other }.into())
}
