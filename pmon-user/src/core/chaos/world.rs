//! A host that behaves as badly as hosts do, with one entity: looks take time and tell
//! of the past, start commands fail, processes die in every moment, people and service
//! managers meddle, gates close, and the daemon is killed. Here are its state and its
//! time; what is on it is told in the files beside. Time is simulated; all chance comes
//! from one seed.
//!
//! Must stay true: what is modelled here is what the engine and its executors
//! promise the core (events of one registration in order, one lane per entity,
//! a death told once). The rules themselves are in `rules`, `wishes` and `rest`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    gates::Gates,
    happening::Happening,
    processes::Handover,
    random::Random,
    rules::{Facts, Rules},
    scripts::ScriptRun,
    units::Units,
    wishes::{Wishes, lasts},
};
use crate::core::{
    death::WaitStatus,
    effect::Effect,
    entity::{EntitySpec, StartMethod},
    event::{Delay, Event, Occasion, Outcome, StartEnd},
    gate::GateEvent,
    identity::Identity,
    notice::Notice,
    pulse::PulseEvent,
    recovery::{AfterStop, Recovery, Stage},
    time::Time,
};

/// One host with one entity.
#[derive(Debug)]
pub(super) struct World {
    pub(super) spec: EntitySpec,
    pub(super) recovery: Recovery,
    pub(super) random: Random,
    pub(super) now: Time,
    pub(super) rules: Rules,
    pub(super) queue: BTreeMap<(Time, u64), Happening>,
    ordinal: u64,
    /// An operator's request was being carried out before this step.
    was_manual: bool,
    ticks: u32,
    ticked_at: Time,
    /// Live processes of the entity.
    pub(super) processes: BTreeSet<Identity>,
    /// Dead, with a pidfd that is not readable yet: looks take them for alive.
    pub(super) dying: BTreeSet<Identity>,
    /// Whom they have left behind when they went into the background.
    pub(super) children: BTreeMap<Identity, Identity>,
    pub(super) pidfile: Option<Identity>,
    pub(super) known: Option<Identity>,
    /// The kernel's table, with generations.
    pub(super) entries: BTreeMap<Identity, u64>,
    pub(super) handovers: BTreeMap<Identity, Handover>,
    /// Unregistered, and watched until they are gone.
    pub(super) leaving: Vec<Identity>,
    generation: u64,
    pub(super) next_pid: u32,
    pub(super) lane: VecDeque<Effect>,
    pub(super) foreign_script: bool,
    pub(super) gates: Option<Gates>,
    pub(super) units: Option<Units>,
    pub(super) wishes: Wishes,
    /// In status mode: the script at work, and whether the service is up.
    pub(super) script: Option<ScriptRun>,
    pub(super) serves: bool,
    pub(super) turns: Turns,
    /// Everything goes well from now on.
    pub(super) calm: bool,
    /// There are people and start commands that start a process behind pmon's
    /// back, so that two may live.
    pub(super) meddlers: bool,
    /// One of them has.
    pub(super) meddled: bool,
    pub(super) recoveries: u64,
    pub(super) deaths: u64,
    /// How often what has come to pass.
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// Whether the story is kept.
    tells: bool,
    pub(super) story: VecDeque<String>,
}

/// Who gives it its turns.
#[derive(Debug)]
pub(super) enum Turns {
    /// It is alone, and chance does.
    Chance,
    /// Others are beside it (`related`), who are told in this order.
    Related(Vec<Word>),
}

/// What the other entities' host has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    AsksTurn,
    ReturnsTurn,
    Fell,
    /// It is started, and whether for an operator.
    Starts {
        manual: bool,
    },
}

/// Lines of the story that are kept for a failure's report.
const STORY: usize = 700;
/// An entity may pass through several stages at one time, but not for ever.
const TICKS: u32 = 8;

impl World {
    pub(super) fn new(
        spec: EntitySpec,
        random: Random,
        tells: bool,
        gates: impl FnOnce(&mut Self, Time) -> Option<Gates>,
    ) -> Self {
        let now = Time::from_boot_ns(1_000_000_000_000);
        let (recovery, effects) = Recovery::new(&spec, now);
        let unit = matches!(spec.start, StartMethod::Unit { .. });
        let mut world = Self {
            spec,
            recovery,
            random,
            now,
            rules: Rules::default(),
            queue: BTreeMap::new(),
            ordinal: 0,
            was_manual: false,
            ticks: 0,
            ticked_at: now,
            processes: BTreeSet::new(),
            dying: BTreeSet::new(),
            children: BTreeMap::new(),
            pidfile: None,
            known: None,
            entries: BTreeMap::new(),
            handovers: BTreeMap::new(),
            leaving: Vec::new(),
            generation: 0,
            next_pid: 1000,
            lane: VecDeque::new(),
            foreign_script: false,
            gates: None,
            units: unit.then(Units::default),
            wishes: Wishes::default(),
            script: None,
            serves: false,
            turns: Turns::Chance,
            calm: false,
            meddlers: false,
            meddled: false,
            recoveries: 0,
            deaths: 0,
            seen: BTreeMap::new(),
            tells,
            story: VecDeque::new(),
        };
        // systemd runs no second one.
        world.meddlers = world.random.percent(50) && !unit;
        world.gates = gates(&mut world, now);
        if world.random.percent(70) {
            let first = world.new_identity();
            world.processes.insert(first);
            world.pidfile = Some(first);
            world.known = Some(first);
            world.serves = true;
            world.unit_is_up();
        }
        if world.place_before_gates() {
            world.carry_out(effects, None).unwrap();
        }
        world
    }

    /// That something has come to pass which the model is there for.
    pub(super) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if !self.tells {
            return;
        }
        if self.story.len() == STORY {
            self.story.pop_front();
        }
        let line = line(self);
        if line.contains("Pulse") || line.ends_with("Tick") {
            return;
        }
        let at = self.now.as_boot_ns() / 1000;
        self.story.push_back(format!("{at} us: {line}"));
    }

    pub(super) fn later(&mut self, delay: Duration, happening: Happening) {
        self.ordinal += 1;
        self.queue
            .insert((self.now + delay, self.ordinal), happening);
    }

    pub(super) fn soon(&mut self, happening: Happening) {
        let delay = self.random.up_to(Duration::from_millis(20));
        self.later(delay, happening);
    }

    /// When something comes to pass next.
    pub(super) fn due(&self) -> Option<Time> {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        queued.into_iter().chain(self.recovery.deadline()).min()
    }

    /// Lets that come to pass.
    pub(super) fn advance(&mut self) -> Result<(), String> {
        let Some(due) = self.due() else {
            return Ok(());
        };
        self.now = self.now.max(due);
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        if queued == Some(due)
            && let Some((_, happening)) = self.queue.pop_first()
        {
            return self.come_to_pass(happening);
        }
        self.step(Event::Tick, None)?;
        if self.ticked_at != self.now {
            self.ticks = 0;
            self.ticked_at = self.now;
        }
        self.ticks += 1;
        if self.ticks > TICKS {
            return Err(format!("ticked {} times at {due:?}", self.ticks));
        }
        Ok(())
    }

    /// Lets time pass, event by event.
    pub(super) fn run_for(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        while self.due().is_some_and(|due| due <= end) {
            self.advance()?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    /// From now on everything goes well.
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.calm = true;
        self.gates_turn(true)
    }

    pub(super) fn step(&mut self, event: Event, found: Option<Identity>) -> Result<(), String> {
        self.note(|world| format!("{} <- {event:?}", world.recovery.stage().as_str()));
        if let Event::Seen(sighting) = &event {
            self.rules.saw(match &sighting.outcome {
                Outcome::Process(identity) => Some(*identity),
                Outcome::Nothing { .. } | Outcome::Unverifiable { .. } => None,
            });
            self.rules.manager_said(sighting);
        }
        match &event {
            Event::Died(death) => self.rules.ended(death.identity),
            Event::Followed { death, child } => {
                self.rules.ended(death.identity);
                self.rules.saw(Some(*child));
            }
            Event::StartEnded { run, end } => {
                self.rules.start_has_ended(*run);
                if let StartEnd::Running(identity) = end {
                    self.rules.saw(Some(*identity));
                }
            }
            Event::ScriptEnded { run, .. } => self.rules.start_has_ended(*run),
            Event::RegisterFailed { identity, .. } | Event::Unwatchable { identity, .. } => {
                self.rules.ended(*identity);
            }
            Event::Gate(GateEvent::Verdict(verdict)) => self.rules.gate_said(verdict),
            Event::Gate(GateEvent::ConditionMet { .. })
            | Event::Seen(_)
            | Event::Registered { .. }
            | Event::Hint(_)
            | Event::StatusKnown { .. }
            | Event::Gone { .. }
            | Event::Operator(_)
            | Event::Pulse(_)
            | Event::Turn
            | Event::Delayed(_)
            | Event::Cycle { .. }
            | Event::Tick => {}
        }
        self.was_manual = self.recovery.is_manual();
        let effects = self.recovery.step(&self.spec, event, self.now);
        self.carry_out(effects, found)
    }

    pub(super) fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        found: Option<Identity>,
    ) -> Result<(), String> {
        let mut events = Vec::new();
        for effect in effects {
            self.note(|_| format!("    {effect:?}"));
            let facts = self.facts();
            self.rules.check(&effect, &facts)?;
            match effect {
                Effect::Register { identity } => events.push(self.register(identity, found)),
                Effect::Look { .. } => self.soon(Happening::Look(Occasion::Asked)),
                Effect::Unregister { identity } => {
                    if self.entries.remove(&identity).is_some() {
                        if self.exists(identity) {
                            self.leaving.push(identity);
                        } else {
                            let gone = Event::Gone { identity };
                            self.soon(Happening::Tell(gone, None));
                        }
                    }
                }
                Effect::Release { identity } => self.leaving.retain(|one| *one != identity),
                Effect::CancelStart if self.spec.status.is_some() => self.cancel_script(),
                Effect::CancelStart => self.cancel_start(),
                Effect::RemovePidfile { .. }
                | Effect::Signal { .. }
                | Effect::EndLeftovers { .. }
                | Effect::StopUnit => {
                    self.lane.push_back(effect);
                    self.soon(Happening::Work);
                }
                Effect::RequestPulse { round, sequence } => self.request(round, sequence),
                Effect::CollectPulse { round } => {
                    let initialised = self.random.percent(90);
                    let silent = PulseEvent::Silent { round, initialised };
                    self.soon(Happening::Tell(Event::Pulse(silent), None));
                }
                Effect::Say(Notice::Recovered(_) | Notice::Restarted(_)) => self.recoveries += 1,
                Effect::Say(Notice::Died(_)) => self.deaths += 1,
                Effect::AskTurn => events.extend(self.ask_turn()),
                Effect::ReturnTurn => {
                    // It is not given any more.
                    (self.queue).retain(|_, it| !matches!(it, Happening::Tell(Event::Turn, _)));
                    self.send(Word::ReturnsTurn);
                }
                Effect::Fell => self.send(Word::Fell),
                Effect::Start { .. } => {
                    self.saw("starts");
                    self.check_alone()?;
                    if self.recovery.releasing().is_some() {
                        self.saw("started early");
                    }
                    let manual = self.recovery.is_manual();
                    self.send(Word::Starts { manual });
                    self.lane.push_back(effect);
                    self.soon(Happening::Work);
                }
                Effect::AskGate => self.ask_gate(),
                Effect::RunScript { task, run, .. } => self.run_script(task, run)?,
                Effect::Alarm(_) | Effect::FlappingAlarm(_) | Effect::Say(_) => {}
            }
        }
        for event in events {
            self.step(event, found)?;
        }
        self.settle_wishes();
        self.check_state()
    }

    fn facts(&self) -> Facts {
        let registered = self.rules.registered();
        Facts {
            manual: self.recovery.is_manual() || self.was_manual,
            held: lasts(self.wishes.hold, self.now),
            stopped: lasts(self.wishes.stop, self.now),
            stop_is_over: self
                .wishes
                .stop
                .flatten()
                .is_some_and(|until| until <= self.now),
            shut: self.is_shut(),
            guarded: self.gates.is_some(),
            can_run: registered.is_some_and(|it| self.processes.contains(&it)),
            releasing: self.recovery.releasing(),
            stopping: matches!(self.recovery.stage(), Stage::Stopping { .. }),
            staying_down: matches!(
                self.recovery.stage(),
                Stage::Stopping {
                    then: AfterStop::StayDown,
                    ..
                }
            ),
        }
    }

    fn check_state(&self) -> Result<(), String> {
        self.rules.check_state(&self.recovery)?;
        self.check_wishes()?;
        let believed = self.recovery.status().running();
        let at_work = self.script.map(|script| (script.task, script.run));
        if believed != at_work {
            return Err(format!(
                "the core believes in the script {believed:?}, and {at_work:?} is at work"
            ));
        }
        Ok(())
    }

    /// Nothing lives that a start would double. The manager's own may be younger than
    /// the look; systemd makes one of two starts.
    fn check_alone(&self) -> Result<(), String> {
        let known_of = |identity: &&Identity| {
            let started = Time::from_start_ticks(identity.start_time);
            self.units.is_none() || self.now.since(started) > Duration::from_millis(200)
        };
        if !self.meddled
            && let Some(identity) = self.processes.iter().find(known_of)
        {
            return Err(format!("started beside {identity}"));
        }
        Ok(())
    }

    fn send(&mut self, word: Word) {
        if let Turns::Related(words) = &mut self.turns {
            words.push(word);
        }
    }

    fn ask_turn(&mut self) -> Option<Event> {
        if matches!(self.turns, Turns::Related(_)) {
            self.send(Word::AsksTurn);
            return None;
        }
        if self.random.percent(70) {
            return Some(Event::Turn);
        }
        self.saw("waited for its turn");
        let longest = *self
            .random
            .one_of(&[Duration::from_millis(20), Duration::from_secs(30)]);
        let waits = self.random.up_to(longest);
        self.later(waits, Happening::Tell(Event::Turn, None));
        Some(Event::Delayed(Delay::Budget { ahead: 1 }))
    }

    /// As the engine does it: with the process that the event has brought along,
    /// or by taking over the kernel's entry.
    fn register(&mut self, identity: Identity, found: Option<Identity>) -> Event {
        if found != Some(identity) {
            let reason = "it was not verified".to_owned();
            return Event::RegisterFailed { identity, reason };
        }
        if !self.calm && self.random.percent(2) {
            self.known = Some(identity);
            let reason = "the table is full".to_owned();
            return Event::Unwatchable { identity, reason };
        }
        self.leaving.retain(|one| *one != identity);
        self.generation += 1;
        let generation = self.generation;
        self.entries.insert(identity, generation);
        self.known = Some(identity);
        if !self.exists(identity) {
            // Its pidfd is readable already.
            self.soon(Happening::Released(identity, WaitStatus(9)));
        }
        Event::Registered {
            identity,
            generation,
        }
    }

    fn come_to_pass(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Tell(Event::Seen(sighting), found) => return self.looked(sighting, found),
            Happening::Tell(event, found) => return self.step(event, found),
            Happening::Look(occasion) => self.make_look(occasion),
            Happening::Work => {
                if let Some(job) = self.lane.pop_front() {
                    self.work(&job);
                }
            }
            // The manager runs no second one.
            Happening::Appear(..) if self.units.is_some() && !self.processes.is_empty() => {}
            Happening::Appear(identity, _) => self.appear(identity),
            Happening::Die(identity, status) => self.die(identity, status),
            Happening::IntoBackground(identity) => self.go_into_background(identity),
            Happening::Released(identity, status) => return self.released(identity, status),
            Happening::HandedOver(identity) => return self.handed_over(identity),
            Happening::ForeignScriptEnds(starts) => {
                self.foreign_script = false;
                if starts {
                    self.start_by_hand();
                }
            }
            Happening::ScriptEnds(run, end) => return self.script_ends(run, end),
            Happening::GatesLookedAt(question) => self.gates_looked_at(question),
            Happening::GatesTold(question, open) => return self.gates_told(question, open),
            Happening::GatesTurn(open) => return self.gates_turn(open || self.calm),
            Happening::UnitWork(work) => self.unit_work_is_done(work),
        }
        Ok(())
    }

    fn work(&mut self, job: &Effect) {
        match *job {
            Effect::Start { run, .. } => self.start(run),
            Effect::RemovePidfile { identity } => {
                if self.pidfile == Some(identity) {
                    self.pidfile = None;
                }
            }
            Effect::Signal { identity, signal } => {
                let obeys = signal == 9 || self.calm || self.random.percent(80);
                if obeys {
                    self.end_process(identity, WaitStatus(signal.unsigned_abs()));
                }
            }
            Effect::StopUnit => {
                self.unit_is_ended();
                let living: Vec<Identity> = self.processes.iter().copied().collect();
                for identity in living {
                    self.end_process(identity, WaitStatus(15));
                }
            }
            Effect::Look { .. }
            | Effect::Register { .. }
            | Effect::Unregister { .. }
            | Effect::Release { .. }
            | Effect::EndLeftovers { .. }
            | Effect::CancelStart
            | Effect::RunScript { .. }
            | Effect::RequestPulse { .. }
            | Effect::CollectPulse { .. }
            | Effect::AskGate
            | Effect::AskTurn
            | Effect::ReturnTurn
            | Effect::Fell
            | Effect::Alarm(_)
            | Effect::FlappingAlarm(_)
            | Effect::Say(_) => {}
        }
    }

    fn request(&mut self, round: u64, sequence: u32) {
        self.soon(Happening::Tell(
            Event::Pulse(PulseEvent::Sent { round }),
            None,
        ));
        if self.calm || self.random.percent(80) {
            let answered = PulseEvent::Answered { round, sequence };
            self.later(
                Duration::from_millis(25),
                Happening::Tell(Event::Pulse(answered), None),
            );
        }
    }

    /// Another member of its group has failed.
    pub(super) fn cycle(&mut self) -> Result<(), String> {
        // As with an operator's restart (`wishes`).
        self.meddled |= self.recovery.current().is_some() && self.is_on_its_way();
        let group = "group".to_owned();
        self.step(Event::Cycle { group }, None)
    }
}
