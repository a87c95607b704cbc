//! The steps of an install come in their order (RULE 13): the log that names the new state is durable;
//! then the new state is in force; then its base is reported as applied; and only then the state
//! before it is deleted. In any other order a crash or a read finds a state that no log names, or a
//! log whose state is gone.

use std::collections::BTreeMap;

use quorate_types::{LogId, NodeId, ReplicaId, ShardId};

use super::{Broken, broken};
use crate::observation::InstallStep;

const NAME: &str = "install_order";

/// How far an install is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Undecided,
    Durable,
    Adopted,
    Reported,
    Deleted,
}

/// Knows how far the newest install of each replica is.
#[derive(Default)]
pub(crate) struct InstallOrder {
    installs: BTreeMap<(ShardId, ReplicaId), (LogId, Stage)>,
}

impl InstallOrder {
    /// A start finds what the log names, whatever the step of the install was.
    pub(crate) fn added(&mut self, shard: ShardId, replica: ReplicaId) {
        self.installs.remove(&(shard, replica));
    }

    /// The log that names the state of `base` is durable.
    pub(crate) fn durable(&mut self, shard: ShardId, replica: ReplicaId, base: LogId) {
        if let Some((known, stage)) = self.installs.get_mut(&(shard, replica))
            && *known == base
            && *stage == Stage::Undecided
        {
            *stage = Stage::Durable;
        }
    }

    pub(crate) fn step(
        &mut self,
        (node, shard, replica): (NodeId, ShardId, ReplicaId),
        base: LogId,
        step: InstallStep,
    ) -> Result<(), Broken> {
        let (before, after) = match step {
            InstallStep::Paused => {
                self.installs.insert((shard, replica), (base, Stage::Undecided));
                return Ok(());
            }
            InstallStep::Adopted => (Stage::Durable, Stage::Adopted),
            InstallStep::Reported => (Stage::Adopted, Stage::Reported),
            InstallStep::OldDeleted => (Stage::Reported, Stage::Deleted),
        };
        let found = self.installs.get_mut(&(shard, replica));
        match found {
            Some((known, stage)) if *known == base && *stage == before => {
                *stage = after;
                Ok(())
            }
            found => {
                let what = format!(
                    "replica {replica} of shard {shard} installs {base}: {step:?} where {before:?} \
                     is due before, and it is {found:?}"
                );
                Err(broken(NAME, shard, [node], what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{SHARD, breaks, id};
    use super::*;

    fn paused() -> InstallOrder {
        let mut order = InstallOrder::default();
        step(&mut order, InstallStep::Paused).expect("the first");
        order
    }

    fn step(order: &mut InstallOrder, step: InstallStep) -> Result<(), Broken> {
        order.step((NodeId(1), SHARD, ReplicaId(1)), id(2, 9), step)
    }

    #[test]
    fn the_steps_come_in_their_order() {
        let mut order = paused();
        breaks(step(&mut order, InstallStep::Adopted), NAME);
        breaks(step(&mut order, InstallStep::OldDeleted), NAME);
        order.durable(SHARD, ReplicaId(1), id(2, 8));
        breaks(step(&mut order, InstallStep::Adopted), NAME);
        order.durable(SHARD, ReplicaId(1), id(2, 9));
        breaks(step(&mut order, InstallStep::Reported), NAME);
        for next in [InstallStep::Adopted, InstallStep::Reported, InstallStep::OldDeleted] {
            step(&mut order, next).expect("in order");
        }
        breaks(step(&mut order, InstallStep::Adopted), NAME);
        order.added(SHARD, ReplicaId(1));
        breaks(step(&mut order, InstallStep::OldDeleted), NAME);
    }
}
