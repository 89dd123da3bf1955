//! Stepping an entity, and carrying out what the core asks for.
//!
//! Table operations are done at once; everything that could block is handed
//! out. Must stay true: effects are carried out in order, and people are told
//! last, so that telling never delays what is to be done.

use std::{collections::VecDeque, sync::Arc};

use super::{
    alarms,
    engine::Engine,
    entity::Entity,
    message::{Tale, Told, Work},
};
use crate::{
    causes::in_full,
    core::{
        death::LastSeen,
        effect::Effect,
        entity::EntitySpec,
        event::{Event, Occasion},
        identity::Identity,
        notice::Notice,
        time::Time,
    },
    effect::{
        Job,
        trace::{self, Deed},
    },
    look::{Remembered, pidfile::Stamp},
    sys::{clock, pidfd::VerifiedPid},
    table::{EntityName, Reach},
};

/// The process that an event brings along.
pub(super) struct Found {
    pub(super) process: Option<VerifiedPid>,
    /// The pidfile that named it.
    pub(super) stamp: Option<Stamp>,
    /// What was seen of it.
    pub(super) last_seen: LastSeen,
}

impl Engine {
    pub(super) fn happen(&mut self, name: &EntityName, event: Event, now: Time) {
        self.happen_at(name, event, None, now);
    }

    pub(super) fn happen_with(&mut self, name: &EntityName, event: Event, found: Option<&Found>) {
        self.happen_at(name, event, found, clock::now());
    }

    /// Steps an entity, and again with what its effects bring about at once.
    fn happen_at(&mut self, name: &EntityName, event: Event, found: Option<&Found>, now: Time) {
        let mut events = VecDeque::from([event]);
        let mut notices = Vec::new();
        let mut alarms = Vec::new();
        while let Some(event) = events.pop_front() {
            let Some(entity) = self.entities.get_mut(name) else {
                return;
            };
            let spec = Arc::clone(&entity.spec);
            let effects = entity.recovery.step(&spec, event, now);
            for effect in effects {
                match effect {
                    Effect::Say(notice) => {
                        alarms.extend(alarms::of_notice(&notice));
                        notices.push(notice);
                    }
                    Effect::Alarm(change) => alarms.push(alarms::of_change(change)),
                    Effect::FlappingAlarm(change) => alarms.push(alarms::of_flapping(change)),
                    Effect::AskTurn => events.push_back(self.ask_turn(name, &spec, now)),
                    Effect::ReturnTurn => self.return_turn(name),
                    Effect::Fell => self.gate.fell(name, now),
                    Effect::Register { identity } => {
                        self.gather(name, &effect);
                        events.push_back(self.register(name, identity, found));
                    }
                    other => self.carry_out(name, &spec, &other),
                }
            }
        }
        self.reschedule(name);
        self.remember(name);
        self.note_standing(name);
        self.attend_execution(name);
        // Telling people comes last: it must not delay what is to be done.
        for notice in notices {
            self.tell(name, notice, now);
        }
        self.sound(name, &alarms, now);
    }

    fn register(&mut self, name: &EntityName, identity: Identity, found: Option<&Found>) -> Event {
        if found.is_some_and(|found| found.process.is_none())
            && let Some(registered) = self.table.adopt(name, identity)
        {
            if let Some(entity) = self.entities.get_mut(name) {
                entity.known = Some(Remembered {
                    identity,
                    stamp: None,
                });
                entity.pidfd_only = None;
            }
            trace::note(name, identity, Deed::Registered);
            return Event::Registered {
                identity,
                generation: registered.generation,
            };
        }
        let verified = found.and_then(|found| {
            let process = found.process.as_ref()?;
            (process.identity() == identity).then_some((process, found))
        });
        let Some((process, found)) = verified else {
            return Event::RegisterFailed {
                identity,
                reason: "it was not verified".to_owned(),
            };
        };
        match self
            .table
            .register(name, process.clone(), found.last_seen.clone(), &self.epoll)
        {
            Ok(registered) => {
                if let Some(entity) = self.entities.get_mut(name) {
                    entity.known = Some(Remembered {
                        identity,
                        stamp: found.stamp,
                    });
                    entity.pidfd_only = registered.pidfd_only;
                }
                trace::note(name, identity, Deed::Registered);
                self.take_sockets_back(name, process);
                Event::Registered {
                    identity,
                    generation: registered.generation,
                }
            }
            Err(error) => {
                // Known all the same: without a pidfile nothing else leads to it.
                if let Some(entity) = self.entities.get_mut(name) {
                    entity.known = Some(Remembered {
                        identity,
                        stamp: found.stamp,
                    });
                }
                Event::Unwatchable {
                    identity,
                    reason: in_full(&error),
                }
            }
        }
    }

    fn carry_out(&mut self, name: &EntityName, spec: &Arc<EntitySpec>, effect: &Effect) {
        self.gather(name, effect);
        let spec = Arc::clone(spec);
        let job = match *effect {
            Effect::Look { foreign_script } => {
                return self.look(name, Occasion::Asked, foreign_script);
            }
            Effect::Unregister { identity } => {
                self.table.unregister(name, identity, &self.epoll);
                return trace::note(name, identity, Deed::Unregistered);
            }
            Effect::Release { identity } => {
                return self.table.release(name, identity, &self.epoll);
            }
            Effect::RemovePidfile { identity } => match &spec.pidfile {
                Some(path) => Job::RemovePidfile {
                    path: path.clone(),
                    identity,
                },
                None => return trace::note(name, identity, Deed::Pidfile("is none")),
            },
            Effect::Signal { identity, signal } => {
                match self.table.process(identity, &self.epoll) {
                    Reach::Process(process) => Job::Signal { process, signal },
                    Reach::Gone => return,
                    Reach::Later => {
                        let later = (Arc::clone(name), spec, effect.clone());
                        return self.deferred.push(later);
                    }
                }
            }
            Effect::EndLeftovers { identity, died } => Job::EndLeftovers {
                identity,
                died,
                stop: spec.stop,
            },
            Effect::Start { verb, run } => Job::Start { spec, verb, run },
            Effect::RunScript {
                task,
                run,
                failure_text,
            } => Job::RunScript {
                spec,
                task,
                run,
                failure_text,
            },
            Effect::StopUnit => Job::StopUnit { spec },
            Effect::CancelStart => {
                self.table.expect_no_more(name);
                Job::CancelStart
            }
            Effect::RequestPulse { round, sequence } => {
                return self.request_pulse(name, &spec, round, sequence);
            }
            Effect::CollectPulse { round } => return self.collect_pulse(name, &spec, round),
            Effect::AskGate => return self.ask_gate(name),
            // Dealt with by the caller, or told as a notice.
            Effect::Register { .. }
            | Effect::AskTurn
            | Effect::ReturnTurn
            | Effect::Fell
            | Effect::Alarm(_)
            | Effect::FlappingAlarm(_)
            | Effect::Say(_) => return,
        };
        self.hand_out(Work::Job {
            entity: Arc::clone(name),
            job,
        });
    }

    /// Carries out what had to wait until a process could be told apart.
    pub(super) fn carry_out_deferred(&mut self) {
        for (name, spec, effect) in std::mem::take(&mut self.deferred) {
            self.carry_out(&name, &spec, &effect);
        }
    }

    pub(super) fn tell(&mut self, name: &EntityName, notice: Notice, now: Time) {
        self.count_after(name, &notice);
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let noted = entity
            .incidents
            .record(&notice, now, &mut self.next_incident);
        let closed = matches!(noted, Some((_, true)));
        // Whoever has to go on with it must know that it is failing.
        let opened = matches!(notice, Notice::StatusBad { .. })
            && (entity.incidents.open()).is_some_and(|incident| incident.timeline.len() == 1);
        let died = match &notice {
            Notice::Died(death) => Some(death.identity),
            _ => None,
        };
        if let Some(identity) = died
            && !entity.unsettled.contains(&identity)
        {
            entity.unsettled.push(identity);
        }
        self.hand_out(Work::Tell(Told {
            at: now,
            entity: Some(Arc::clone(name)),
            incident: noted.map(|(number, _)| number),
            what: Tale::Notice(notice),
        }));
        if let Some(identity) = died
            && let Some(view) = self.newest_incident_view(name)
        {
            self.hand_out(Work::Died {
                entity: Arc::clone(name),
                incident: Box::new(view),
                identity,
            });
        }
        if opened && let Some(view) = self.newest_incident_view(name) {
            self.hand_out(Work::Opened(Box::new(view)));
        }
        if closed
            && let Some((number, _)) = noted
            && let Some(view) = self.incident_view_of(name, number)
        {
            self.hand_out(Work::Closed(Box::new(view)));
        }
    }

    pub(super) fn trouble(&mut self, name: &EntityName, what: String) {
        if let Some(entity) = self.entities.get_mut(name) {
            entity.last_trouble = Some(what.clone());
        }
        self.hand_out(Work::Tell(Told {
            at: clock::now(),
            entity: Some(Arc::clone(name)),
            incident: None,
            what: Tale::Trouble(what),
        }));
    }

    pub(super) fn remember(&mut self, name: &EntityName) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        entity.forget_ended_start();
        entity.forget_ended_unit_stop();
        let record_of = entity.record_of();
        if entity.remembered.replace(record_of) != Some(record_of) {
            let memory = Arc::new(entity.memory());
            self.hand_out(Work::Remember(Arc::clone(name), memory));
        }
    }

    pub(super) fn reschedule(&mut self, name: &EntityName) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let deadline = entity.recovery.deadline();
        if let Some(old) = std::mem::replace(&mut entity.scheduled, deadline) {
            self.schedule.remove(&(old, Arc::clone(name)));
        }
        if let Some(due) = deadline {
            self.schedule.insert((due, Arc::clone(name)));
        }
    }

    /// Puts an entity into force.
    pub(super) fn adopt(&mut self, entity: Entity, effects: Vec<Effect>) {
        let name: EntityName = Arc::from(entity.spec.name.as_str());
        let spec = Arc::clone(&entity.spec);
        let pidfile = spec.watched_pidfile().cloned();
        self.hand_out(Work::Watch(Arc::clone(&name), pidfile));
        let unit_stop = entity.unit_stop.clone();
        self.hand_out(Work::Unit(Arc::clone(&name), spec.start.clone(), unit_stop));
        self.entities.insert(Arc::clone(&name), entity);
        self.follow(&name);
        for effect in effects {
            self.carry_out(&name, &spec, &effect);
        }
        self.reschedule(&name);
    }

    /// Forgets an entity; its process is left alone.
    pub(super) fn abandon(&mut self, name: &EntityName) {
        if let Some(entity) = self.entities.remove(name)
            && let Some(due) = entity.scheduled
        {
            self.schedule.remove(&(due, Arc::clone(name)));
        }
        self.return_turn(name);
        self.gate.changed(name);
        self.table.forget(name, &self.epoll);
        self.hand_out(Work::Forget(Arc::clone(name)));
    }

    pub(super) fn hand_out(&self, work: Work) {
        self.work.give(work);
    }
}
