//! The tree and its lanes together: what happens to entities, and what that
//! asks for.
//!
//! An entity is a *placeholder*, *running*, or *dying*: its process is dead, and
//! runs that may restart it are under way or wait for their turn. A restart
//! that succeeds makes it running again, with conditions and actions that were
//! not to outlive that gone; when no run is left that could restart it, it goes,
//! or becomes a placeholder.
//!
//! Must stay true: whoever asks for something that could fail gives its answer
//! by [`Ham::done`], once; what is over is not answered for.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    action::{Deed, Receiver},
    condition::Condition,
    entity::{Attachment, Entity, Life},
    flags::{ActionFlags, EntityFlags},
    heartbeat::{Commitment, Heartbeat, Missed},
    lane::{LaneKey, Lanes},
    name::Name,
    refusal::Refusal,
    run::{Aftermath, Place, Progress, Run, RunId, Waiting},
    tree::{Owner, Tree},
    trigger::{Occurrence, is_true},
};
use crate::core::{identity::Identity, time::Time};

/// How often a path is looked for that is waited for (`ham.md` §7).
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Runs that may wait for their turn before nothing more can be published.
pub(super) const MOST_RUNS: usize = 65_536;

/// What the tree asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Restart the entity; answered by [`Ham::restarted`] or, when that cannot be
    /// done, by [`Ham::done`].
    Restart {
        /// Which run asks.
        run: RunId,
        /// Who.
        entity: Name,
        /// How; none for its own start method.
        line: Option<String>,
    },
    /// Start a program; answered by [`Ham::done`].
    Execute {
        /// Which run asks.
        run: RunId,
        /// The command line.
        line: String,
        /// Why, for its environment.
        place: Place,
        /// Why, for its environment.
        occurrence: Occurrence,
    },
    /// Send a pulse; answered by [`Ham::done`].
    Pulse {
        /// Which run asks.
        run: RunId,
        /// To whom.
        to: Receiver,
        /// As registered.
        code: i8,
        /// As registered.
        value: i32,
        /// Why.
        place: Place,
    },
    /// Send a signal; answered by [`Ham::done`].
    Signal {
        /// Which run asks.
        run: RunId,
        /// To whom.
        to: Identity,
        /// Which.
        signal: i32,
        /// As registered.
        value: i32,
    },
    /// Look whether this is there; answered by [`Ham::looked`].
    Look {
        /// Which run asks.
        run: RunId,
        /// What.
        path: PathBuf,
    },
    /// Tell the log.
    Log {
        /// What.
        message: String,
        /// At which verbosity.
        verbosity: u32,
    },
    /// The entity has no process now, and none will come of itself.
    Buried {
        /// Who.
        entity: Name,
        /// It stays as a placeholder.
        kept: bool,
    },
}

/// See the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ham {
    /// Entities, conditions and actions.
    pub tree: Tree,
    lanes: Lanes,
}

impl Ham {
    /// With this tree, and nothing under way.
    #[must_use]
    pub fn new(tree: Tree) -> Self {
        Self {
            tree,
            lanes: Lanes::default(),
        }
    }

    /// What is under way and waits.
    #[must_use]
    pub const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// `ham_attach` of a living process, also one that was just started for it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Exists`] when the entity has a process (D17); those of names.
    pub fn attach(
        &mut self,
        name: &str,
        process: Identity,
        flags: EntityFlags,
        now: Time,
    ) -> Result<Vec<Effect>, Refusal> {
        let entity = self.tree.add_placeholder(name, flags, now)?;
        if entity.attachment != Attachment::Placeholder {
            return Err(Refusal::Exists);
        }
        entity.flags |= flags;
        Ok(self.attached(name, process, Attachment::External, None, now))
    }

    /// `ham_attach_self`. `takes_over`: the caller is the process that the entity
    /// has, or descends from it (D18).
    ///
    /// # Errors
    ///
    /// [`Refusal::Exists`] when it has another process; those of names.
    pub fn attach_self(
        &mut self,
        name: &str,
        process: Identity,
        takes_over: bool,
        commitment: Option<Commitment>,
        now: Time,
    ) -> Result<Vec<Effect>, Refusal> {
        let entity = self.tree.add_placeholder(name, EntityFlags::empty(), now)?;
        match entity.life {
            Life::Running(_) if !takes_over => return Err(Refusal::Exists),
            Life::Running(_) | Life::None | Life::Dying { .. } => {}
        }
        Ok(self.attached(name, process, Attachment::Itself, commitment, now))
    }

    fn attached(
        &mut self,
        name: &str,
        process: Identity,
        attachment: Attachment,
        commitment: Option<Commitment>,
        now: Time,
    ) -> Vec<Effect> {
        let Some(entity) = self.tree.entity_mut(name) else {
            return Vec::new();
        };
        if entity.restarts == 0 {
            entity.created = now;
        }
        entity.attachment = attachment;
        entity.life = Life::Running(process);
        entity.heartbeat = commitment.map(|commitment| Heartbeat::new(commitment, now));
        self.happened(name, Occurrence::Attach, now)
    }

    /// The entity's process goes on as another: it went into the background, or
    /// somebody else has started a successor. Nothing is made of it.
    pub fn continues_as(&mut self, name: &str, process: Identity) {
        if let Some(entity) = self.tree.entity_mut(name) {
            entity.life = Life::Running(process);
        }
    }

    /// `ham_detach*`: it is no longer monitored. Its lists for that case are
    /// carried out although it is gone (D14).
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`]; [`Refusal::Invalid`] for one that attached itself and
    /// is detached by another, or the other way round (D13).
    pub fn detach(
        &mut self,
        name: &str,
        by_itself: bool,
        now: Time,
    ) -> Result<Vec<Effect>, Refusal> {
        let entity = self.tree.entity(name).ok_or(Refusal::Missing("entity"))?;
        let fits = match entity.attachment {
            Attachment::Itself => by_itself,
            Attachment::External => !by_itself,
            Attachment::Placeholder => !by_itself,
        };
        if !fits {
            return Err(Refusal::Invalid("way of detaching"));
        }
        let effects = self.happened(name, Occurrence::Detach, now);
        self.tree.remove_entity(name);
        Ok(effects)
    }

    /// The process is dead. `abnormal`: of a signal that makes a core file by
    /// default.
    pub fn died(&mut self, name: &str, abnormal: bool, now: Time) -> Vec<Effect> {
        let Some(entity) = self.tree.entity_mut(name) else {
            return Vec::new();
        };
        let Some(was) = entity.process() else {
            return Vec::new();
        };
        entity.heartbeat = None;
        entity.life = Life::Dying {
            was,
            hopes: Vec::new(),
        };
        let mut effects = Vec::new();
        let runs = self.trigger(name, Occurrence::Death { abnormal });
        if let Some(entity) = self.tree.entity_mut(name) {
            entity.life = Life::Dying {
                was,
                hopes: (runs.iter())
                    .filter(|(_, run)| run.may_restart())
                    .map(|(_, run)| run.id)
                    .collect(),
            };
        }
        self.carry_out_all(runs, now, &mut effects);
        self.bury_if_hopeless(name, &mut effects);
        effects
    }

    /// The restart that this run asked for has made this process.
    pub fn restarted(&mut self, run: RunId, process: Identity, now: Time) -> Vec<Effect> {
        let Some(lane) = self.lanes.lane_of(run) else {
            return Vec::new();
        };
        let subject = self.lanes.first(lane).map(|run| run.place.subject.clone());
        let mut effects = Vec::new();
        if let Some(name) = subject
            && let Some(entity) = self.tree.entity_mut(name.as_str())
        {
            entity.life = Life::Running(process);
            entity.restarts += 1;
            entity.heartbeat = None;
            // What is pruned is told of the restart, too.
            let runs = self.trigger(name.as_str(), Occurrence::Restart);
            if let Some(entity) = self.tree.entity_mut(name.as_str()) {
                entity.prune();
            }
            self.carry_out_all(runs, now, &mut effects);
        }
        self.conclude(lane, true);
        self.advance(lane, now, &mut effects);
        effects
    }

    /// Something happened to the entity that changes nothing about it.
    fn happened(&mut self, name: &str, occurrence: Occurrence, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        let runs = self.trigger(name, occurrence);
        self.carry_out_all(runs, now, &mut effects);
        effects
    }

    /// `ham_entity_condition_state`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`]; [`Refusal::Quota`] while too much waits for its turn.
    pub fn report_state(&mut self, name: &str, to: u32, now: Time) -> Result<Vec<Effect>, Refusal> {
        self.may_publish()?;
        let entity = (self.tree.entity_mut(name)).ok_or(Refusal::Missing("entity"))?;
        let from = std::mem::replace(&mut entity.state, to);
        Ok(self.happened(name, Occurrence::State { from, to }, now))
    }

    /// `ham_entity_condition_raise`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`]; [`Refusal::Quota`] while too much waits for its turn.
    pub fn raise(
        &mut self,
        name: &str,
        (kind, class, severity): (u32, u32, u32),
        now: Time,
    ) -> Result<Vec<Effect>, Refusal> {
        self.may_publish()?;
        self.tree.entity(name).ok_or(Refusal::Missing("entity"))?;
        let occurrence = Occurrence::Raise {
            kind,
            class,
            severity,
        };
        Ok(self.happened(name, occurrence, now))
    }

    fn may_publish(&self) -> Result<(), Refusal> {
        if self.lanes.len() >= MOST_RUNS {
            return Err(Refusal::Quota(MOST_RUNS));
        }
        Ok(())
    }

    /// The entity's process has beaten so often by now.
    pub fn beats(&mut self, name: &str, beats: u64, now: Time) -> Vec<Effect> {
        let Some(entity) = self.tree.entity_mut(name) else {
            return Vec::new();
        };
        let Some(heartbeat) = &mut entity.heartbeat else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        let missed = heartbeat.look(beats, now);
        let (low, high) = match missed {
            Missed::Nothing => (false, false),
            Missed::Low => (true, false),
            Missed::High => (false, true),
            Missed::Both => (true, true),
        };
        if low {
            effects.extend(self.happened(name, Occurrence::MissedLow, now));
        }
        if high {
            effects.extend(self.happened(name, Occurrence::MissedHigh, now));
        }
        effects
    }

    /// An action with `HACTIONDONOW` was added: it is carried out at once.
    pub fn do_now(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        action: &str,
        now: Time,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Owner::Entity(subject) = owner else {
            return effects;
        };
        let found = (self.tree.entity(subject))
            .and_then(|entity| Some((entity.name.clone(), entity.condition(condition)?)));
        let Some((subject, found)) = found else {
            return effects;
        };
        let Some(action) = found
            .action(action)
            .filter(|action| action.flags.contains(ActionFlags::DO_NOW))
        else {
            return effects;
        };
        let lane = LaneKey::Now(action.id);
        let (id, place, action) = (found.id, place_of(&subject, false, found), action.clone());
        let run = RunId(self.tree.next_id());
        let run = Run::new(run, id, place, Occurrence::Attach, [action]);
        self.carry_out_all(vec![(lane, run)], now, &mut effects);
        effects
    }

    /// What a run asked for has ended, well or not.
    pub fn done(&mut self, run: RunId, well: bool, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(lane) = self.lanes.lane_of(run) {
            let asked =
                (self.lanes.first(lane)).is_some_and(|run| run.progress() == Progress::UnderWay);
            if asked {
                self.conclude(lane, well);
                self.advance(lane, now, &mut effects);
            }
        }
        effects
    }

    /// Whether what a run waits for is there.
    pub fn looked(&mut self, run: RunId, there: bool, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(lane) = self.lanes.lane_of(run) else {
            return effects;
        };
        let Some(run) = self.lanes.first(lane) else {
            return effects;
        };
        let Progress::Waiting(waiting) = run.progress() else {
            return effects;
        };
        if there {
            self.conclude(lane, true);
        } else {
            run.set_progress(Progress::Waiting(Waiting {
                look: Some(now + LOOK_EVERY),
                ..waiting
            }));
        }
        self.advance(lane, now, &mut effects);
        effects
    }

    /// When something has to be done although nothing happens. Heartbeats have
    /// their own times ([`Ham::next_mark`]).
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let waiting = self
            .lanes
            .firsts()
            .filter_map(|(_, run)| match run.progress() {
                Progress::Waiting(Waiting { until, look }) => {
                    Some(look.map_or(until, |look| look.min(until)))
                }
                Progress::Due | Progress::UnderWay => None,
            });
        waiting.min()
    }

    /// When the beats of the entity have to be looked at next, and whose.
    #[must_use]
    pub fn next_mark(&self) -> Option<(Time, &Name)> {
        let marks = self
            .tree
            .entities()
            .filter_map(|entity| Some((entity.heartbeat.as_ref()?.due()?, &entity.name)));
        marks.min()
    }

    /// Nobody could look for so long: no beat is missed for it (D29, D34).
    pub fn was_absent(&mut self, time: Duration) {
        for entity in self.tree.entities_mut() {
            if let Some(heartbeat) = &mut entity.heartbeat {
                heartbeat.shift(time);
            }
        }
    }

    /// A deadline may have passed.
    pub fn tick(&mut self, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        let lanes: Vec<LaneKey> = self.lanes.firsts().map(|(lane, _)| lane).collect();
        for lane in lanes {
            self.advance(lane, now, &mut effects);
        }
        effects
    }

    /// A run for each condition that this makes true, in the order of the tree.
    fn trigger(&mut self, name: &str, occurrence: Occurrence) -> Vec<(LaneKey, Run)> {
        let Some(entity) = self.tree.entity(name).filter(|entity| entity.enabled) else {
            return Vec::new();
        };
        let subject = entity.name.clone();
        let own = entity.conditions.iter().map(|condition| (condition, false));
        let global = self.tree.global().iter().map(|condition| (condition, true));
        let hit: Vec<_> = own
            .chain(global)
            .filter(|(condition, _)| condition.enabled && is_true(condition, occurrence))
            .map(|(condition, global)| {
                let lane = LaneKey::of(condition.id, condition.flags);
                let place = place_of(&subject, global, condition);
                (lane, condition.id, place, condition.actions.clone())
            })
            .collect();
        hit.into_iter()
            .map(|(lane, condition, place, actions)| {
                let id = RunId(self.tree.next_id());
                (lane, Run::new(id, condition, place, occurrence, actions))
            })
            .collect()
    }

    fn carry_out_all(&mut self, runs: Vec<(LaneKey, Run)>, now: Time, effects: &mut Vec<Effect>) {
        let mut lanes: Vec<LaneKey> = runs.iter().map(|(lane, _)| *lane).collect();
        for (lane, run) in runs {
            self.lanes.push(lane, run);
        }
        lanes.dedup();
        for lane in lanes {
            self.advance(lane, now, effects);
        }
    }

    /// Goes on in a lane until something has to be waited for.
    fn advance(&mut self, lane: LaneKey, now: Time, effects: &mut Vec<Effect>) {
        while let Some(run) = self.lanes.first(lane) {
            let Some(action) = run.action() else {
                if let Some(run) = self.lanes.pop(lane) {
                    self.over(&run, effects);
                }
                continue;
            };
            match run.progress() {
                Progress::UnderWay => return,
                Progress::Waiting(waiting) => {
                    let Some(well) = keep_waiting(run, waiting, now, effects) else {
                        return;
                    };
                    self.conclude(lane, well);
                }
                Progress::Due => {
                    let (id, subject) = (action.id, run.place.subject.clone());
                    if !run.is_failing() && !self.tree.is_enabled(subject.as_str(), id) {
                        if let Some(run) = self.lanes.first(lane) {
                            run.skip();
                        }
                        continue;
                    }
                    self.begin(lane, now, effects);
                }
            }
        }
    }

    /// Begins what the lane's first run is at.
    fn begin(&mut self, lane: LaneKey, now: Time, effects: &mut Vec<Effect>) {
        let Some(run) = self.lanes.first(lane) else {
            return;
        };
        let Some(deed) = run.deed().cloned() else {
            return;
        };
        let id = run.id;
        let place = run.place.clone();
        run.set_progress(Progress::UnderWay);
        match deed {
            Deed::Restart { line } => {
                effects.push(Effect::Restart {
                    run: id,
                    entity: place.subject,
                    line,
                });
            }
            Deed::Execute { line } => effects.push(Effect::Execute {
                run: id,
                line,
                occurrence: run.occurrence,
                place,
            }),
            Deed::Pulse { to, code, value } => effects.push(Effect::Pulse {
                run: id,
                to,
                code,
                value,
                place,
            }),
            Deed::Signal {
                to,
                signal,
                value,
                code: _,
            } => effects.push(Effect::Signal {
                run: id,
                to,
                signal,
                value,
            }),
            Deed::Wait { path, delay } => {
                run.set_progress(Progress::Waiting(Waiting {
                    until: now + delay,
                    look: path.map(|_| now),
                }));
            }
            Deed::HeartbeatHealthy => {
                let heartbeat = (self.tree.entity_mut(place.subject.as_str()))
                    .and_then(|entity| entity.heartbeat.as_mut());
                if let Some(heartbeat) = heartbeat {
                    heartbeat.healthy(now);
                }
                self.conclude(lane, true);
            }
            Deed::Log {
                message,
                prefix,
                verbosity,
            } => {
                let action = run.action().map(|action| action.name.clone());
                let message = match action {
                    Some(action) if prefix => {
                        format!("{}/{}/{action}: {message}", place.subject, place.condition)
                    }
                    Some(_) | None => message,
                };
                effects.push(Effect::Log { message, verbosity });
                self.conclude(lane, true);
            }
        }
    }

    /// What the lane's first run was at has ended.
    fn conclude(&mut self, lane: LaneKey, well: bool) {
        let Some(run) = self.lanes.first(lane) else {
            return;
        };
        match run.ended(well) {
            Aftermath::Nothing => {}
            Aftermath::Remove(action) => self.tree.drop_failed(action),
        }
    }

    /// A run is over.
    fn over(&mut self, run: &Run, effects: &mut Vec<Effect>) {
        let name = run.place.subject.as_str();
        let Some(entity) = self.tree.entity_mut(name) else {
            return;
        };
        if let Life::Dying { hopes, .. } = &mut entity.life {
            let before = hopes.len();
            hopes.retain(|hope| *hope != run.id);
            if hopes.len() < before {
                self.bury_if_hopeless(run.place.subject.as_str(), effects);
            }
        }
    }

    /// It is dead, and nothing is left that could restart it.
    fn bury_if_hopeless(&mut self, name: &str, effects: &mut Vec<Effect>) {
        let Some(entity) = self.tree.entity_mut(name) else {
            return;
        };
        let Life::Dying { hopes, .. } = &entity.life else {
            return;
        };
        if !hopes.is_empty() {
            return;
        }
        let kept = entity.flags.contains(EntityFlags::KEEP_ON_DEATH);
        effects.push(Effect::Buried {
            entity: entity.name.clone(),
            kept,
        });
        if kept {
            become_placeholder(entity);
        } else {
            self.tree.remove_entity(name);
        }
    }
}

/// What was to outlive a restart outlives this, too (D12).
fn become_placeholder(entity: &mut Entity) {
    entity.attachment = Attachment::Placeholder;
    entity.life = Life::None;
    entity.prune();
}

fn place_of(subject: &Name, global: bool, condition: &Condition) -> Place {
    Place {
        subject: subject.clone(),
        global,
        condition: condition.name.clone(),
    }
}

/// How a wait has ended; none while it goes on.
fn keep_waiting(
    run: &mut Run,
    waiting: Waiting,
    now: Time,
    effects: &mut Vec<Effect>,
) -> Option<bool> {
    let path = match run.deed() {
        Some(Deed::Wait { path, .. }) => path.clone(),
        Some(
            Deed::Restart { .. }
            | Deed::Execute { .. }
            | Deed::Pulse { .. }
            | Deed::Signal { .. }
            | Deed::HeartbeatHealthy
            | Deed::Log { .. },
        )
        | None => None,
    };
    if now >= waiting.until {
        // A delay has done what it should; a path is not there.
        return Some(path.is_none());
    }
    if let (Some(path), Some(look)) = (path, waiting.look)
        && now >= look
    {
        run.set_progress(Progress::Waiting(Waiting {
            look: None,
            ..waiting
        }));
        effects.push(Effect::Look { run: run.id, path });
    }
    None
}
