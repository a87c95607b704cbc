//! Puts snapshots that have arrived in force (RULE 13), step by step:
//!
//! 1. the tables are durable in a fresh space, beside the one in force ([`super::receiving`]);
//! 2. the replica's apply queue is paused behind everything that was queued before;
//! 3. the host takes the snapshot or refuses it. Ranges handed out meanwhile are parked;
//! 4. if it was refused, the parked ranges are applied and the fresh space is deleted;
//! 5. otherwise the turn's write becomes durable first, which names the fresh space;
//! 6. then the apply thread adopts the fresh space, and drops the parked ranges through the base;
//! 7. then the base is reported as applied, and only then the old space is deleted.
//!
//! A crash at any step leaves a space that no log names, which the next start deletes.

use quorate_host::{Event, ShardInstall, Turn};
use quorate_types::{LogId, Mutant, ReplicaId, ShardId};

use super::World;
use super::node::Node;
use super::receiving::{ChunkVerdict, InstallStage, Receiving};
use super::schedule::Happening;
use super::units::MILLI;
use crate::observation::{InstallStep, Observation};

impl World {
    /// The apply thread has paused a replica: its host is to decide.
    pub(crate) fn handle_paused(&mut self, node: usize, shard: ShardId) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(receiving) = process.receiving.get_mut(&shard) else { return };
        receiving.stage = InstallStage::Deciding;
        if let Some(view) = process.host.view(shard) {
            receiving.log_held_last = view.last;
        }
        let (from, term, to) = (receiving.from, receiving.term, receiving.to);
        let record = &receiving.view.record;
        let (base, membership) = (record.applied, record.membership.clone());
        let descriptor_version = record.epoch.version;
        self.show_install_step(node, (shard, to), base, InstallStep::Paused);
        let install =
            Event::Install { shard, to, from, term, base, membership, descriptor_version };
        // The worker hears of it later, and hands out ranges meanwhile.
        let (life, event) = (self.nodes[node].life, Box::new(install));
        let at = self.now + self.random.below(20 * MILLI);
        self.schedule.at(at, Happening::News { node, life, event });
    }

    /// Carries out what the host decided about the snapshots that arrived.
    pub(crate) fn carry_out_installs(&mut self, node: usize, turn: &Turn) {
        for ShardInstall { shard, replica, outcome } in &turn.installs {
            match outcome {
                Ok(base) => self.take_install(node, turn, (*shard, *replica), *base),
                Err(_) => self.refuse_install(node, (*shard, *replica)),
            }
        }
    }

    /// The snapshot that is being decided on for exactly this replica.
    fn receiving(&mut self, node: usize, of: (ShardId, ReplicaId)) -> Option<&mut Receiving> {
        let process = self.nodes[node].process.as_mut()?;
        process.receiving.get_mut(&of.0).filter(|receiving| receiving.to == of.1)
    }

    fn refuse_install(&mut self, node: usize, of: (ShardId, ReplicaId)) {
        // It was dropped with its replica, if that was given up meanwhile.
        let Some(refused) = self.receiving(node, of) else { return };
        let (sender, transfer) = (refused.sender, refused.transfer);
        let process = self.nodes[node].process.as_mut().expect("it took a turn");
        process.receiving.remove(&of.0);
        self.nodes[node].sweep_spaces();
        self.answer_chunk(node, sender, transfer, ChunkVerdict::Refused);
        self.resume_apply(node, of.0, of.1);
    }

    fn take_install(
        &mut self,
        node: usize,
        turn: &Turn,
        of @ (shard, replica): (ShardId, ReplicaId),
        base: LogId,
    ) {
        // It was dropped with its replica, if that ended in this very turn.
        let Some(receiving) = self.receiving(node, of) else { return };
        receiving.stage = InstallStage::Taken;
        let log_held_last = receiving.log_held_last;
        let write = turn.write.iter().flat_map(|(_, writes)| writes);
        let keeps_log = write
            .filter(|written| written.shard == shard)
            .find_map(|written| Some(written.write.install.as_ref()?.keeps_log))
            .expect("an install is in its turn's write");
        let id = self.nodes[node].id;
        self.observe(Observation::Installed {
            node: id,
            shard,
            replica,
            base,
            keeps_log,
            log_held_last,
        });
        self.touch(shard);
        if self.breaks(Mutant::AdoptBeforeSync) {
            self.adopt(node, of);
        }
        if self.breaks(Mutant::OldSpaceDeletedEarly) {
            self.show_install_step(node, of, base, InstallStep::OldDeleted);
            let Node { process, data, .. } = &mut self.nodes[node];
            let live = process.as_ref().and_then(|process| process.replicas.get(&shard));
            data.remove(live.expect("it was installed").space);
        }
    }

    /// The log of an install is durable: the apply thread hears of it a little later.
    pub(crate) fn handle_install_durable(&mut self, node: usize, of: (ShardId, ReplicaId)) {
        let Some(receiving) = self.receiving(node, of) else { return };
        receiving.stage = InstallStage::Durable;
        let base = receiving.base();
        if self.breaks(Mutant::AppliedBeforeAdopted) {
            self.report_base(node, of, base);
        }
        let (life, at) =
            (self.nodes[node].life, self.now + self.random.between(50_000, 20 * MILLI));
        let (shard, replica) = of;
        self.schedule.at(at, Happening::Adopt { node, life, shard, replica });
    }

    /// The apply thread hears that an install is durable.
    pub(crate) fn handle_adopt(&mut self, node: usize, life: u64, of: (ShardId, ReplicaId)) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(receiving) = self.receiving(node, of) else { return };
        assert_eq!(receiving.stage, InstallStage::Durable, "an install is durable first");
        let (base, sender, transfer) = (receiving.base(), receiving.sender, receiving.transfer);
        self.adopt(node, of);
        if !self.breaks(Mutant::ParkedRangeApplied) {
            self.drop_parked(node, of, base.index);
        }
        let process = self.nodes[node].process.as_mut().expect("it lives");
        process.receiving.remove(&of.0);
        self.report_base(node, of, base);
        self.nodes[node].sweep_spaces();
        self.show_install_step(node, of, base, InstallStep::OldDeleted);
        self.answer_chunk(node, sender, transfer, ChunkVerdict::Installed(base));
        self.resume_apply(node, of.0, of.1);
        self.step(node);
    }

    /// The apply thread switches to the fresh space: from now on reads see it.
    fn adopt(&mut self, node: usize, of: (ShardId, ReplicaId)) {
        let machine = self.workload.machine();
        let receiving = self.receiving(node, of).expect("it is being installed");
        let (base, space) = (receiving.base(), receiving.space().expect("it was ingested"));
        let live = self.nodes[node].live(of.0, of.1).expect("it is hosted");
        (live.space, live.machine) = (space, machine);
        self.show_install_step(node, of, base, InstallStep::Adopted);
    }

    /// Tells the worker that the state through the base is in force: readers may continue.
    fn report_base(&mut self, node: usize, (shard, replica): (ShardId, ReplicaId), base: LogId) {
        self.show_install_step(node, (shard, replica), base, InstallStep::Reported);
        self.touch(shard);
        self.post(node, Event::Applied { shard, replica, index: base.index });
        self.wake(node);
    }

    fn show_install_step(
        &mut self,
        node: usize,
        (shard, replica): (ShardId, ReplicaId),
        base: LogId,
        step: InstallStep,
    ) {
        let node = self.nodes[node].id;
        self.observe(Observation::Install { node, shard, replica, base, step });
    }
}
