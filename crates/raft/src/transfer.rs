//! The transfer of leadership (thesis 3.10): drain, wait until the target has everything, tell it
//! to campaign. A target that does not take over in time costs a pause of writes, not more.

use quorate_types::{Monotonic, Mutant, ReplicaId};

use crate::errors::TransferError;
use crate::kernel::Kernel;
use crate::message::{Body, TransferOf};
use crate::outbox::SendAfter;
use crate::ready::Role;

/// A transfer under way.
pub(crate) struct Transfer {
    pub(crate) to: ReplicaId,
    pub(crate) deadline: Monotonic,
    /// TimeoutNow was sent. It is sent once: a second could arrive after the deadline too.
    pub(crate) told: bool,
}

impl Kernel {
    pub(crate) fn begin_transfer(&mut self, to: ReplicaId) -> Result<(), TransferError> {
        let leader = self.leader_address();
        let Some(leading) = &mut self.leading else {
            return Err(TransferError::NotLeader { leader });
        };
        if let Some(transfer) = &leading.transfer {
            return Err(TransferError::Transferring { to: transfer.to });
        }
        // In joint consensus, a voter that is to stay: an outgoing one would lead only to hand over
        // again.
        let stays = self.log.membership().voters.iter().any(|voter| voter.replica == to);
        if to == self.config.replica || !stays {
            return Err(TransferError::NotAVoter { to });
        }
        let is_endless = self.config.mutation.is(Mutant::TransferForever);
        let patience = self.now + self.config.transfer_timeout;
        let deadline = if is_endless { Monotonic(u64::MAX) } else { patience };
        leading.transfer = Some(Transfer { to, deadline, told: false });
        self.wake();
        self.advance_transfer();
        Ok(())
    }

    /// Tells the target to campaign once it has the whole log, which no proposal makes longer.
    pub(crate) fn advance_transfer(&mut self) {
        let last = self.log.last().index;
        let Some(leading) = &mut self.leading else { return };
        let Some(transfer) = &mut leading.transfer else { return };
        let to = transfer.to;
        let is_warm = leading.followers.iter().any(|f| f.member.replica == to && f.matched == last);
        if is_warm && !transfer.told {
            transfer.told = true;
            self.send(SendAfter::Nothing, to, Body::TimeoutNow);
        }
    }

    /// Gives up a transfer whose time is over: proposals are taken again, and joint consensus is
    /// left if that waited for the transfer. A leader that is no voter any more does not stay for
    /// it. If the target was told, it may still campaign, so the leader has no lease for the rest
    /// of the term: it ends the term by its own election (RULE 6). Every follower of it grants
    /// that, and an order that comes late finds its term over.
    pub(crate) fn expire_transfer(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        let is_over = |transfer: &mut Transfer| transfer.deadline <= self.now;
        let Some(transfer) = leading.transfer.take_if(is_over) else { return };
        let told = transfer.told && !self.breaks(Mutant::LeaseAfterTimeoutNow);
        if self.is_departing() || (told && !self.may_campaign()) {
            self.become_follower(self.term, None);
        } else if told {
            self.campaign(None);
        } else {
            self.leave_joint();
        }
    }

    /// True if this leader has told another replica to campaign: from then on that replica may be
    /// elected at any time, whatever was promised to this one (RULE 6).
    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        let transfer = self.leading.as_ref().and_then(|leading| leading.transfer.as_ref());
        transfer.is_some_and(|transfer| transfer.told)
    }

    /// TimeoutNow arrived in the own term. Only the leader followed may ask for this, and only of a
    /// replica that may campaign: any other order is late or astray.
    pub(crate) fn handle_timeout_now(&mut self, from: ReplicaId) {
        let is_asked = self.role == Role::Follower && self.leader == Some(from);
        if is_asked && self.may_campaign() {
            self.campaign(Some(TransferOf { leader: from, term: self.term }));
        }
    }
}
