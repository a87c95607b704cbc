//! Gathers everything that a kernel wants done into one `Ready`.

use quorate_types::Mutant;

use crate::kernel::Kernel;
use crate::ready::{HardState, Ready, RoleState, Write};
use crate::windows::Windows;

impl Kernel {
    /// Everything the kernel wants done. Empty if nothing changed.
    #[must_use]
    pub fn take_ready(&mut self) -> Ready {
        self.take(None, usize::MAX)
    }

    /// The same, within the host's room: `windows` counts the bytes under way to each node and is
    /// the same one at each call; about `apply_room_bytes` at most are handed out to be applied.
    #[must_use]
    pub fn take_ready_within(&mut self, windows: &mut Windows, apply_room_bytes: usize) -> Ready {
        self.take(Some(windows), apply_room_bytes)
    }

    fn take(&mut self, mut windows: Option<&mut Windows>, apply_room_bytes: usize) -> Ready {
        if self.has_ended() {
            windows.into_iter().for_each(|windows| self.release_windows(windows));
            return self.take_last_words();
        }
        self.begin_read_round();
        self.replicate(windows.as_deref());
        // Behind the commit index of the change, so that the next leader can hear of it first.
        self.depart();
        self.acknowledge();
        let write = self.take_write();
        let committed = self.take_committed(apply_room_bytes);
        if let Some(windows) = &mut windows {
            self.count_windows(windows);
        }
        let (send_now, send_after_sync) = self.outbox.take(self.is_hard_state_durable());
        let role = self.take_role();
        Ready {
            send_now,
            write,
            send_after_sync,
            committed,
            reads: self.reads.take_ended(),
            fetches: std::mem::take(&mut self.fetches),
            snapshots: std::mem::take(&mut self.snapshots),
            role,
            loss: None,
        }
    }

    /// The role, if it changed since it was reported.
    pub(crate) fn take_role(&mut self) -> Option<RoleState> {
        let role = self.role();
        let changed = role != self.reported;
        self.reported = role;
        changed.then_some(role)
    }

    fn take_write(&mut self) -> Option<Write> {
        if !self.hard_state_is_dirty && !self.log.is_dirty() {
            return None;
        }
        let number = self.write_last.next();
        self.write_last = number;
        let hard_state = self.hard_state_is_dirty.then_some(HardState {
            term: self.term,
            vote: self.vote.filter(|_| !self.breaks(Mutant::VoteForgotten)),
            committed: self.commit,
        });
        if hard_state.is_some() {
            self.hard_state_is_dirty = false;
            self.hard_state_write = Some(number);
        }
        let log = self.log.take_write(number);
        let install = self.install.take();
        Some(Write {
            number,
            install,
            hard_state,
            truncate_from: log.truncate_from,
            runs: log.runs,
        })
    }
}
