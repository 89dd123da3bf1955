//! What the kernel says, heard in order: the ring and the proc connector before
//! pidfds.
//!
//! Must stay true: hints step the core as hints; only what the table calls ended
//! is a death.

use std::time::Duration;

use super::engine::{CONNECTOR, Engine, INBOX, RING};
use crate::{
    core::{
        death::{Death, Hint, SourceName, WaitStatus},
        event::Event,
        evidence::SignalOrigin,
        identity::Identity,
    },
    source::selection,
    sys::{clock, epoll::Epoll},
    table::{Ended, EntityName, FIRST_GENERATION, FromConnector},
};

/// Exits, mostly of strangers, that are heard before somebody else has a turn.
const EXITS_AT_ONCE: usize = 1024;

impl Engine {
    /// Verifies what is due, when everything is heard that the kernel has said.
    pub(super) fn tick_table(&mut self) {
        let now = clock::now();
        if self.table.next_due().is_none_or(|due| now < due) {
            return;
        }
        self.drain_ring();
        for ended in self.table.tick(now, &self.epoll) {
            self.process_ended(ended);
        }
        self.carry_out_deferred();
    }

    /// Waits for the kernel and handles everything it has said by then.
    pub(super) fn receive(&mut self, mut timeout: Option<Duration>) {
        let mut tokens = std::mem::take(&mut self.tokens);
        loop {
            tokens.clear();
            if let Err(error) = self.epoll.wait(timeout, &mut tokens) {
                // Only a programming error gets here; do not spin on it.
                tracing::error!(%error, "epoll");
                std::thread::sleep(Duration::from_millis(10));
            }
            if tokens.contains(&RING) {
                self.drain_ring();
            }
            // A pidfd becomes readable a moment before the connector tells.
            if tokens
                .iter()
                .any(|token| *token == CONNECTOR || *token >= FIRST_GENERATION)
            {
                self.hear_connector();
            }
            for token in &tokens {
                if *token >= FIRST_GENERATION {
                    self.pidfd_readable(*token);
                }
            }
            if tokens.contains(&INBOX) {
                self.wake.clear();
            }
            if tokens.len() < Epoll::BATCH {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        self.tokens = tokens;
    }

    pub(super) fn drain_ring(&mut self) {
        while let Some((entity, hint)) = self.table.next_hint() {
            self.ring_events += u64::from(!self.table.is_canary(hint.generation));
            self.hinted(&entity, hint);
        }
        self.hear_of_drops();
    }

    fn hear_of_drops(&mut self) {
        for (entity, hint) in self.table.hints_behind_drops() {
            self.hinted(&entity, hint);
        }
    }

    pub(super) fn hinted(&mut self, entity: &EntityName, hint: Hint) {
        let generation = hint.generation;
        self.happen(entity, Event::Hint(hint), clock::now());
        self.note_releasing(entity);
        if self.table.is_on_demand(generation) {
            self.pidfd_readable(generation);
        }
    }

    /// A successor may become the known process before the death of the one before
    /// it is told; should this daemon be killed in between, the next one tells it.
    fn note_releasing(&mut self, entity: &EntityName) {
        if let Some(entity) = self.entities.get_mut(entity)
            && let Some(identity) = entity.recovery.releasing()
            && !entity.unsettled.contains(&identity)
        {
            entity.unsettled.push(identity);
        }
    }

    /// Whether everything was heard; what is left for later wakes the thread again.
    pub(super) fn hear_connector(&mut self) -> bool {
        for _ in 0..EXITS_AT_ONCE {
            match self.table.next_from_connector() {
                None => return true,
                Some(FromConnector::Exit(hints)) => {
                    for (entity, hint) in hints {
                        self.happen(&entity, Event::Hint(hint), clock::now());
                    }
                }
                Some(FromConnector::Overrun) => self.resync(),
                Some(FromConnector::Broken(errno)) => self.connector_broke(errno),
            }
        }
        false
    }

    /// Without the connector the others go on.
    fn connector_broke(&mut self, errno: rustix::io::Errno) {
        drop(self.take_source(SourceName::ProcConnector));
        self.resync();
        let reason = format!("its socket failed: {}", std::io::Error::from(errno));
        self.source_event(selection::Event::Lost(SourceName::ProcConnector, reason));
    }

    /// A source may have missed deaths: all processes are looked at.
    pub(super) fn resync(&mut self) {
        for ended in self.table.resync(&self.epoll) {
            self.process_ended(ended);
        }
    }

    pub(super) fn pidfd_readable(&mut self, generation: u64) {
        if let Some(ended) = self.table.ended(generation, &self.epoll) {
            self.process_ended(ended);
        }
    }

    pub(super) fn process_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Died(entity, mut death) => {
                self.explain_own_signal(&mut death);
                if !self.entities.contains_key(&entity) {
                    // A canary's, which nobody puts on record.
                    self.table.on_record(death.identity);
                }
                self.happen(&entity, Event::Died(death), clock::now());
            }
            Ended::Followed(followed) => self.handed_over(*followed),
            Ended::Gone(entity, identity) => {
                self.happen(&entity, Event::Gone { identity }, clock::now());
            }
            Ended::StatusKnown {
                entity,
                identity,
                generation,
                status,
            } => {
                let known = Event::StatusKnown {
                    identity,
                    generation,
                    status,
                };
                self.happen(&entity, known, clock::now());
            }
        }
    }

    /// A child of ours was reaped: its death has not been told yet, or it has been
    /// and may have gone without a status.
    pub(super) fn reaped(&mut self, entity: &EntityName, process: Identity, status: WaitStatus) {
        self.table.reaped(process, status);
        let told = self
            .entities
            .get(entity)
            .and_then(|entity| entity.recovery.last_death())
            .filter(|death| death.identity == process && death.status.is_none());
        if let Some(death) = told {
            let known = Event::StatusKnown {
                identity: process,
                generation: death.generation,
                status,
            };
            self.happen(entity, known, clock::now());
        }
    }

    /// Where pmon itself sent the last signal, for another entity that watches
    /// the same process: on whose behalf.
    fn explain_own_signal(&self, death: &mut Death) {
        let identity = death.identity;
        if let Some(sent) = &mut death.evidence.last_signal
            && let SignalOrigin::Pmon { why, .. } = &mut sent.origin
        {
            let mut asked = self
                .entities
                .values()
                .filter_map(|one| one.ended_for.as_ref());
            *why = asked
                .find(|(ended, _)| *ended == identity)
                .map(|(_, why)| why.clone());
        }
    }
}
