//! From what the sources say to deaths that are told: hints from the ring, ends
//! that a pidfd proves.
//!
//! Must stay true: a record that is not about a registration as it is now is no
//! hint; an end is told once, and only when the process is gone.

use std::sync::Arc;

use pmon_common::{Event, flag, kind};

use super::{
    EntityName, Table,
    entry::{Entry, EntryState},
    handover::Followed,
    unreaped::Unreaped,
    zombie,
};
use crate::{
    core::{
        death::{Death, Hint, LastSeen, SourceName, WaitStatus},
        identity::Identity,
        time::Time,
    },
    sys::{clock, epoll::Epoll},
};

/// Records read in one go after which the ring may have been full.
const RECORDS_PER_PAGE: usize = 4096 / 2 / size_of::<Event>();

/// What a readable pidfd means.
#[derive(Debug)]
pub enum Ended {
    /// A registered process died.
    Died(EntityName, Death),
    /// A followed process exited, and a descendant goes on in its place.
    Followed(Box<Followed>),
    /// A process that was being ended is gone.
    Gone(EntityName, Identity),
    /// The wait status of a death that was told without one.
    StatusKnown {
        /// Of whose process.
        entity: EntityName,
        /// Who had died.
        identity: Identity,
        /// Of which registration.
        generation: u64,
        /// How it had ended.
        status: WaitStatus,
    },
}

impl Table {
    /// The next hint from the ring, `None` when it is empty. Records of retired
    /// generations are dropped here.
    pub fn next_hint(&mut self) -> Option<(EntityName, Hint)> {
        loop {
            let Some(event) = self.kernel.as_mut()?.next_event() else {
                if std::mem::take(&mut self.records) >= RECORDS_PER_PAGE {
                    self.suspect_drops();
                }
                return None;
            };
            self.records += 1;
            self.canary_in_ring(&event);
            match event.kind {
                kind::EXIT if self.follower_exited(&event) => {}
                kind::EXIT => {
                    if let Some(hint) = self.hint(&event) {
                        return Some(hint);
                    }
                }
                kind::FORK => self.forked(&event),
                kind::EXEC => self.executed(&event),
                // Of no program of ours.
                _ => {}
            }
        }
    }

    fn hint(&mut self, event: &Event) -> Option<(EntityName, Hint)> {
        let Some(entry) = self.entries.get_mut(&event.generation) else {
            // Retired, or somebody else has changed the kernel's entry.
            let generation = self.in_kernel(event.tgid)?;
            self.check_soon(generation);
            return None;
        };
        let identity = entry.identity;
        let is_ours = entry.state == EntryState::Registered
            && identity.pid == event.tgid
            && identity.start_time == event.start_time;
        if !is_ours {
            return None;
        }
        let known_dead = event.flags & flag::GROUP_DEAD != 0;
        // Otherwise it is one thread's exit, perhaps not the last one's.
        let died_at = known_dead.then(|| Time::from_boot_ns(event.at));
        let status = (known_dead && event.flags & flag::EXIT_CODE_KNOWN != 0)
            .then_some(WaitStatus(event.exit_code));
        if known_dead {
            entry.died_at = entry.died_at.or(died_at);
            entry.status = entry.status.or(status);
            entry.last_seen.comm = zombie::comm(&event.comm).or(entry.last_seen.comm.take());
        } else if entry.held().is_some_and(|process| !process.is_dead()) {
            // One thread of several; the pidfd will tell the rest.
            return None;
        }
        entry.first.get_or_insert((SourceName::Ebpf, clock::now()));
        Some((
            Arc::clone(&entry.entity),
            Hint {
                identity,
                generation: event.generation,
                source: SourceName::Ebpf,
                died_at,
                status,
                last_thread: known_dead && event.flags & flag::IDENTITY_CHECKED != 0,
            },
        ))
    }

    /// A followed process executed another program.
    fn executed(&mut self, event: &Event) {
        if let Some(entry) = self.entries.get_mut(&event.generation)
            && entry.identity.start_time == event.start_time
        {
            let comm = zombie::comm(&event.comm);
            entry.last_seen.comm = comm.or(entry.last_seen.comm.take());
        }
    }

    /// Keeps what was seen of a registered process, for its certificate.
    pub fn note(&mut self, generation: u64, seen: LastSeen) {
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.last_seen = seen;
        }
    }

    /// A process was reaped by us: its status, for when its death is told.
    pub fn reaped(&mut self, process: Identity, status: WaitStatus) {
        let Some(generations) = self.by_pid.get(&process.pid) else {
            return;
        };
        for generation in generations.as_slice() {
            if let Some(entry) = self.entries.get_mut(generation)
                && entry.identity == process
            {
                entry.status.get_or_insert(status);
            }
        }
    }

    /// There is reason to believe that a process is dead: its pidfd became
    /// readable, or a source has told of the death of one that has none. If it
    /// is, this is told once.
    pub fn ended(&mut self, generation: u64, epoll: &Epoll) -> Option<Ended> {
        match self.entries.get(&generation).map(|entry| entry.state) {
            None => return self.unreaped.reaped(generation, epoll),
            // It is told when it is registered.
            Some(EntryState::Expected) => return None,
            Some(EntryState::Registered | EntryState::Leaving) => {}
        }
        if self.is_gone(generation, epoll)? {
            self.died(generation, epoll)
        } else {
            None
        }
    }

    /// Takes a dead process out and tells its end.
    pub(super) fn died(&mut self, generation: u64, epoll: &Epoll) -> Option<Ended> {
        let counts = u64::from(!self.is_canary(generation));
        let entry = self.entries.get_mut(&generation)?;
        if entry.state == EntryState::Registered {
            if entry.first.is_none() {
                entry.first = Some((SourceName::Pidfd, clock::now()));
                self.pidfd_events += counts;
            }
            if entry.died_at.is_none() && entry.in_kernel {
                // The entry knows when and how, even if its record is still on the way.
                self.hint_from_kernel(generation);
            }
        }
        self.canary_died(generation);
        let evidence = self.evidence(generation);
        self.keep_until_recorded(generation);
        let followers = self.keep_followers(generation);
        let entry = self.remove(generation, epoll)?;
        let Entry {
            ref entity,
            identity,
            state,
            root,
            ..
        } = entry;
        let entity = EntityName::clone(entity);
        let leaving = state == EntryState::Leaving;
        if leaving && !followers {
            return Some(Ended::Gone(entity, identity));
        }
        let now = clock::now();
        let (detected_by, detected_at) = entry.first.unwrap_or((SourceName::Pidfd, now));
        let status = entry.status.or(entry.threads.status());
        let status = match status {
            None if leaving => Unreaped::status_now(&entry),
            None => self.unreaped.status(generation, &entry, epoll),
            Some(_) => status,
        };
        let death = Death {
            identity,
            generation,
            died_at: entry.died_at.or(entry.threads.died_at()),
            detected_at,
            detected_by,
            confirmed_at: now,
            status,
            evidence,
            last_seen: entry.last_seen,
        };
        if followers {
            if status.and_then(WaitStatus::exit_code) == Some(0) {
                self.begin_handover(root, entity, death, leaving);
                return None;
            }
            self.give_up_followers(root);
        }
        Some(if leaving {
            Ended::Gone(entity, identity)
        } else {
            Ended::Died(entity, death)
        })
    }
}
