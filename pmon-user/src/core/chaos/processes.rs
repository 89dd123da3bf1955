//! Processes of the simulated host: how they begin, die, release what they hold,
//! leave a child behind, and what the kernel tells of it.
//!
//! Must stay true: a hint that says that no thread can run any more is never given
//! of a process that lives.

use std::time::Duration;

use super::{happening::Happening, world::World};
use crate::core::{
    death::{Death, Hint, LastSeen, SourceName, WaitStatus},
    event::{Event, Occasion},
    evidence::Evidence,
    identity::Identity,
};

/// A process is gone, and it is not known yet who goes on in its place. The table
/// does not take it out any more: that is told in any case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handover {
    pub(super) generation: u64,
    leaving: bool,
}

impl World {
    pub(super) fn new_identity(&mut self) -> Identity {
        self.next_pid += 1;
        Identity {
            pid: self.next_pid,
            start_time: self.now.as_boot_ns() / pmon_common::START_TICK_NS,
        }
    }

    /// Whether its pidfd is not readable.
    pub(super) fn exists(&self, identity: Identity) -> bool {
        self.processes.contains(&identity) || self.dying.contains(&identity)
    }

    /// It begins, and its pidfile names it.
    pub(super) fn appear(&mut self, identity: Identity) {
        self.note(|_| format!("({}) appears", identity.pid));
        self.processes.insert(identity);
        self.pidfile = Some(identity);
        self.unit_is_up();
        self.pidfile_changed();
    }

    fn pidfile_changed(&mut self) {
        if self.spec.pidfile.is_some() && (self.calm || self.random.percent(95)) {
            self.soon(Happening::Look(Occasion::PidfileChanged));
        }
    }

    fn hint(&mut self, identity: Identity, status: Option<WaitStatus>, last_thread: bool) {
        let Some(generation) = self.entries.get(&identity).copied() else {
            return;
        };
        let hint = Hint {
            identity,
            generation,
            source: SourceName::Ebpf,
            died_at: Some(self.now),
            status,
            last_thread,
        };
        self.later(Duration::ZERO, Happening::Tell(Event::Hint(hint), None));
    }

    /// It can run no code any more.
    pub(super) fn die(&mut self, identity: Identity, status: WaitStatus) {
        if !self.processes.remove(&identity) {
            return;
        }
        self.note(|_| format!("({}) dies", identity.pid));
        if self.random.percent(80) {
            let last_thread = self.random.percent(85);
            self.hint(identity, Some(status), last_thread);
        }
        // Memory, files and sockets go first.
        self.dying.insert(identity);
        let longest = if self.random.percent(10) {
            Duration::from_secs(15)
        } else {
            Duration::from_millis(400)
        };
        let release = self.random.up_to(longest);
        self.later(release, Happening::Released(identity, status));
        if self.processes.is_empty() {
            self.unit_has_lost();
        }
    }

    /// It has been signalled.
    pub(super) fn end_process(&mut self, identity: Identity, status: WaitStatus) {
        if self.processes.contains(&identity) {
            let delay = self.random.up_to(Duration::from_secs(3));
            self.later(delay, Happening::Die(identity, status));
        }
    }

    /// It forks and exits with status 0. Whom the kernel does not know, it does not
    /// follow, so that only the others do.
    pub(super) fn go_into_background(&mut self, identity: Identity) {
        let is_followed = self.spec.follow && self.entries.contains_key(&identity);
        if !is_followed || !self.processes.contains(&identity) {
            return;
        }
        self.saw("into the background");
        let child = self.new_identity();
        self.note(|_| format!("({}) leaves ({}) behind", identity.pid, child.pid));
        self.processes.insert(child);
        self.children.insert(identity, child);
        self.die(identity, WaitStatus(0));
    }

    /// Who goes on in its place: the eldest that lives.
    pub(super) fn heir(&self, identity: Identity) -> Option<Identity> {
        let mut child = *self.children.get(&identity)?;
        while !self.processes.contains(&child) {
            child = *self.children.get(&child)?;
        }
        Some(child)
    }

    pub(super) fn released(
        &mut self,
        identity: Identity,
        status: WaitStatus,
    ) -> Result<(), String> {
        self.dying.remove(&identity);
        let leaving = self.leaving.contains(&identity);
        self.leaving.retain(|one| *one != identity);
        let Some(generation) = self.entries.remove(&identity).or(leaving.then_some(0)) else {
            return Ok(());
        };
        if status == WaitStatus(0) && self.heir(identity).is_some() {
            let handover = Handover {
                generation,
                leaving,
            };
            self.handovers.insert(identity, handover);
            self.soon(Happening::HandedOver(identity));
            return Ok(());
        }
        self.tell_end(identity, generation, status, leaving)
    }

    /// Another thread has verified who goes on, or that nobody does.
    pub(super) fn handed_over(&mut self, identity: Identity) -> Result<(), String> {
        let Some(handover) = self.handovers.remove(&identity) else {
            return Ok(());
        };
        let Handover {
            generation,
            leaving,
        } = handover;
        let Some(child) = self.heir(identity) else {
            return self.tell_end(identity, generation, WaitStatus(0), leaving);
        };
        self.saw("followed");
        let death = self.death(identity, generation, Some(WaitStatus(0)));
        self.step(Event::Followed { death, child }, Some(child))
    }

    fn tell_end(
        &mut self,
        identity: Identity,
        generation: u64,
        status: WaitStatus,
        leaving: bool,
    ) -> Result<(), String> {
        if leaving {
            return self.step(Event::Gone { identity }, None);
        }
        let death = self.death(identity, generation, Some(status));
        self.step(Event::Died(death), None)
    }

    pub(super) fn death(
        &self,
        identity: Identity,
        generation: u64,
        status: Option<WaitStatus>,
    ) -> Death {
        Death {
            identity,
            generation,
            died_at: Some(self.now),
            detected_at: self.now,
            detected_by: SourceName::Ebpf,
            confirmed_at: self.now,
            status,
            evidence: Evidence::default(),
            last_seen: LastSeen::default(),
        }
    }

    pub(super) fn start_by_hand(&mut self) {
        self.meddled = true;
        let identity = self.new_identity();
        self.note(|_| format!("({}) is started by hand", identity.pid));
        self.appear(identity);
    }

    /// The process that counts dies; its service is gone.
    pub(super) fn kill(&mut self) {
        self.serves = false;
        let status = *self.random.one_of(&[
            WaitStatus(9),
            WaitStatus(15),
            WaitStatus(11 | 0x80),
            WaitStatus(1 << 8),
            WaitStatus(0),
        ]);
        let Some(identity) = self.processes.iter().next_back().copied() else {
            return;
        };
        if self.random.percent(20) {
            // Some of its threads go first, and it cannot be told whether all did.
            self.hint(identity, None, false);
            let delay = self.random.up_to(Duration::from_millis(50));
            self.later(delay, Happening::Die(identity, status));
        } else {
            self.die(identity, status);
        }
    }

    /// Somebody restarts it, at once or with the entity's init script.
    pub(super) fn restart_by_hand(&mut self) {
        if self.units.is_some() {
            return self.use_manager();
        }
        self.kill();
        if !self.meddlers || self.spec.status.is_some() {
            return;
        }
        let script = matches!(
            self.spec.start,
            crate::core::entity::StartMethod::Script { .. }
        );
        if script && self.random.percent(50) {
            self.foreign_script = true;
            let takes = self.random.up_to(Duration::from_secs(5));
            self.later(takes, Happening::ForeignScriptEnds(true));
        } else if self.processes.is_empty() {
            self.start_by_hand();
        }
    }
}
