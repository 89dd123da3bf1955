//! A world for one entity in simulated time: what tests drive the state
//! machine with, and what `pmon explain` forecasts with.
//!
//! It answers every effect as a well-behaved host would, except for the start
//! method, whose behaviour is a parameter. Deterministic; no clock, no process.

use std::time::Duration;

use super::{
    death::{Death, Hint, LastSeen, SourceName, WaitStatus},
    effect::{Effect, ScriptTask},
    entity::{EntitySpec, Severity, StartMethod},
    event::{Event, Occasion, Outcome, Sighting, StartEnd},
    evidence::Evidence,
    gate::{GateEvent, Verdict},
    identity::Identity,
    pulse::PulseEvent,
    recovery::Recovery,
    time::Time,
    unit::UnitReport,
};

/// What the start method does, counted from the moment it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartBehaviour {
    /// A process appears after `appears`, the command exits 0 after `exits`;
    /// the process dies by itself after `lives`, if that is given.
    Works {
        /// When the pidfile names the process.
        appears: Duration,
        /// When the command exits.
        exits: Duration,
        /// How long the process lives.
        lives: Option<Duration>,
    },
    /// The command exits with this code at once and nothing appears.
    Fails(i32),
    /// The command never ends and nothing appears.
    Hangs,
}

/// What processes do with requests of active monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerBehaviour {
    /// They answer at once.
    #[default]
    Answers,
    /// They do not.
    Silent,
}

/// What the script of an entity in status mode does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptBehaviour {
    /// Exit code when asked for the status.
    pub status: i32,
    /// Exit code when told to start.
    pub start: i32,
    /// How long it takes, either way.
    pub takes: Duration,
}

/// What happens when an entity asks for its turn to start a successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TurnBehaviour {
    /// It is its turn: nobody else is being recovered.
    #[default]
    AtOnce,
    /// Whoever drives the simulation decides, with [`Event::Turn`].
    Withheld,
}

/// One entity and its simulated world.
#[derive(Debug)]
pub struct Simulation<'a> {
    spec: &'a EntitySpec,
    recovery: Recovery,
    now: Time,
    start: StartBehaviour,
    answers: AnswerBehaviour,
    gate: Verdict,
    scripts: ScriptBehaviour,
    failure_text: Option<String>,
    turns: TurnBehaviour,
    pending: Vec<(Time, Pending)>,
    alive: Option<Identity>,
    foreign_script: Option<u32>,
    unit: Option<UnitReport>,
    next_pid: u32,
    generation: u64,
    log: Vec<(Time, Effect)>,
}

#[derive(Debug)]
enum Pending {
    Event(Event),
    Appear(Identity),
    Die(Identity),
    Vanish(Identity),
}

impl<'a> Simulation<'a> {
    /// Goes on from a state of the real daemon; `recovery`'s process is alive.
    #[must_use]
    pub fn of(spec: &'a EntitySpec, recovery: Recovery, now: Time, start: StartBehaviour) -> Self {
        let alive = recovery.current().map(|registered| registered.identity);
        Self {
            spec,
            recovery,
            now,
            start,
            answers: AnswerBehaviour::default(),
            gate: Verdict::default(),
            scripts: ScriptBehaviour::default(),
            failure_text: None,
            turns: TurnBehaviour::default(),
            pending: Vec::new(),
            alive,
            foreign_script: None,
            unit: None,
            next_pid: alive.map_or(1000, |identity| identity.pid.wrapping_add(1)),
            generation: 0,
            log: Vec::new(),
        }
    }

    /// A fresh entity whose process is `alive`, configured at time zero.
    #[must_use]
    pub fn new(spec: &'a EntitySpec, alive: Option<Identity>, start: StartBehaviour) -> Self {
        let now = Time::default();
        let (recovery, effects) = Recovery::new(spec, now);
        let mut simulation = Self::of(spec, recovery, now, start);
        simulation.alive = alive;
        simulation.carry_out(effects);
        simulation
    }

    /// The state machine.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// How bad a lasting failure of the entity is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.spec.severity
    }

    /// The present.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Every effect so far, with its time.
    #[must_use]
    pub fn log(&self) -> &[(Time, Effect)] {
        &self.log
    }

    /// Forgets the log, for instance after a prelude.
    pub fn clear_log(&mut self) {
        self.log.clear();
    }

    /// The process that the pidfile names.
    #[must_use]
    pub const fn alive(&self) -> Option<Identity> {
        self.alive
    }

    /// From now on the start method behaves like this.
    pub fn set_start(&mut self, start: StartBehaviour) {
        self.start = start;
    }

    /// From now on processes do this with requests.
    pub fn set_answers(&mut self, answers: AnswerBehaviour) {
        self.answers = answers;
    }

    /// The gates of the host open or close; whoever waits is told.
    pub fn set_gate(&mut self, verdict: Verdict) {
        self.gate = verdict.clone();
        self.happen(Event::Gate(GateEvent::Verdict(verdict)));
    }

    /// From now on the script of status mode does this.
    pub fn set_scripts(&mut self, scripts: ScriptBehaviour) {
        self.scripts = scripts;
    }

    /// From now on this is found where the script explains a failure.
    pub fn set_failure_text(&mut self, text: Option<&str>) {
        self.failure_text = text.map(str::to_owned);
    }

    /// A script that was under way when this began comes to its end as well.
    pub fn end_script_under_way(&mut self) {
        if let Some((task, run)) = self.recovery.status().running() {
            self.run_script(task, run, false);
        }
    }

    /// From now on turns are given like this.
    pub fn set_turns(&mut self, turns: TurnBehaviour) {
        self.turns = turns;
    }

    /// Somebody else's init script begins or ends.
    pub fn set_foreign_script(&mut self, pid: Option<u32>) {
        self.foreign_script = pid;
    }

    /// From now on the service manager says this of the unit.
    pub fn set_unit(&mut self, unit: Option<UnitReport>) {
        self.unit = unit;
    }

    /// The process dies of `status` at this moment.
    pub fn kill(&mut self, status: WaitStatus) {
        if let Some(identity) = self.alive {
            self.die(identity, status);
        }
    }

    /// The pidfile names nobody any more, and nothing is told.
    pub fn lose(&mut self) {
        self.alive = None;
    }

    /// Somebody else starts a process; its pidfile change is noticed.
    pub fn start_by_hand(&mut self) -> Identity {
        let identity = self.new_identity();
        self.appear(identity);
        identity
    }

    /// Something happens.
    pub fn happen(&mut self, event: Event) {
        let effects = self.recovery.step(self.spec, event, self.now);
        self.carry_out(effects);
    }

    /// Lets time pass, event by event.
    pub fn run_until(&mut self, end: Time) {
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            match self.take_pending(due) {
                Some(Pending::Event(event)) => self.happen(event),
                Some(Pending::Appear(identity)) => self.appear(identity),
                Some(Pending::Die(identity)) => self.die(identity, WaitStatus(1 << 8)),
                Some(Pending::Vanish(identity)) => {
                    if self.alive == Some(identity) {
                        self.alive = None;
                    }
                    self.happen(Event::Gone { identity });
                }
                None => self.happen(Event::Tick),
            }
        }
        self.now = self.now.max(end);
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    fn next_due(&self) -> Option<Time> {
        let pending = self.pending.iter().map(|(due, _)| *due).min();
        [pending, self.recovery.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_pending(&mut self, due: Time) -> Option<Pending> {
        let index = self.pending.iter().position(|(at, _)| *at <= due)?;
        Some(self.pending.remove(index).1)
    }

    fn later(&mut self, delay: Duration, pending: Pending) {
        self.pending.push((self.now + delay, pending));
        self.pending.sort_by_key(|(due, _)| *due);
    }

    fn new_identity(&mut self) -> Identity {
        self.next_pid = self.next_pid.wrapping_add(1);
        Identity {
            pid: self.next_pid,
            start_time: self.now.as_boot_ns() / pmon_common::START_TICK_NS,
        }
    }

    fn appear(&mut self, identity: Identity) {
        self.alive = Some(identity);
        self.happen(Event::Seen(Sighting {
            occasion: Occasion::PidfileChanged,
            outcome: Outcome::Process(identity),
            foreign_script: self.foreign_script,
            unit: self.unit.clone(),
        }));
    }

    fn die(&mut self, identity: Identity, status: WaitStatus) {
        if self.alive == Some(identity) {
            self.alive = None;
        }
        if let Some(registered) = self.recovery.current()
            && registered.identity == identity
        {
            let early = matches!(&self.spec.start, StartMethod::Command(it) if it.early);
            if early {
                self.happen(Event::Hint(self.hint(identity, status)));
            }
            self.happen(Event::Died(self.death(identity, status)));
        }
    }

    /// How the kernel side would tell that the last thread of the process exits at
    /// this moment.
    #[must_use]
    pub const fn hint(&self, identity: Identity, status: WaitStatus) -> Hint {
        Hint {
            identity,
            generation: self.generation,
            source: SourceName::Ebpf,
            died_at: Some(self.now),
            status: Some(status),
            last_thread: true,
        }
    }

    /// How the table would tell the death of the process at this moment.
    #[must_use]
    pub fn death(&self, identity: Identity, status: WaitStatus) -> Death {
        Death {
            identity,
            generation: self.generation,
            died_at: Some(self.now),
            detected_at: self.now,
            detected_by: SourceName::Ebpf,
            confirmed_at: self.now,
            status: Some(status),
            evidence: Evidence::default(),
            last_seen: LastSeen::default(),
        }
    }

    /// The process exits with status 0 and leaves a child that was followed.
    pub fn go_into_background(&mut self) -> Option<Identity> {
        let old = self.alive?;
        let child = self.new_identity();
        self.alive = Some(child);
        self.happen(Event::Followed {
            death: self.death(old, WaitStatus(0)),
            child,
        });
        Some(child)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.log.push((self.now, effect.clone()));
            match effect {
                Effect::Look { .. } => {
                    let outcome = match self.alive {
                        Some(identity) => Outcome::Process(identity),
                        None => Outcome::Nothing {
                            reason: "no pidfile".to_owned(),
                        },
                    };
                    self.happen(Event::Seen(Sighting {
                        occasion: Occasion::Asked,
                        outcome,
                        foreign_script: self.foreign_script,
                        unit: self.unit.clone(),
                    }));
                }
                Effect::Register { identity } => {
                    self.generation += 1;
                    self.happen(Event::Registered {
                        identity,
                        generation: self.generation,
                    });
                }
                Effect::Signal { identity, .. } => {
                    self.later(Duration::ZERO, Pending::Vanish(identity));
                }
                Effect::StopUnit => {
                    if let Some(identity) = self.alive {
                        self.later(Duration::ZERO, Pending::Vanish(identity));
                    }
                }
                Effect::Start { run, .. } => self.run_start(run),
                Effect::RequestPulse { round, sequence } => {
                    self.happen(Event::Pulse(PulseEvent::Sent { round }));
                    match self.answers {
                        AnswerBehaviour::Answers => {
                            let heard = PulseEvent::Answered { round, sequence };
                            self.happen(Event::Pulse(heard));
                        }
                        AnswerBehaviour::Silent => {}
                    }
                }
                Effect::CollectPulse { round } => {
                    let initialised = true;
                    let silent = PulseEvent::Silent { round, initialised };
                    self.happen(Event::Pulse(silent));
                }
                Effect::AskGate => {
                    let verdict = self.gate.clone();
                    self.happen(Event::Gate(GateEvent::Verdict(verdict)));
                }
                Effect::RunScript {
                    task,
                    run,
                    failure_text,
                } => self.run_script(task, run, failure_text),
                Effect::AskTurn => match self.turns {
                    TurnBehaviour::AtOnce => self.happen(Event::Turn),
                    TurnBehaviour::Withheld => {}
                },
                Effect::EndLeftovers { .. }
                | Effect::Unregister { .. }
                | Effect::Release { .. }
                | Effect::RemovePidfile { .. }
                | Effect::CancelStart
                | Effect::ReturnTurn
                | Effect::Fell
                | Effect::Alarm(_)
                | Effect::FlappingAlarm(_)
                | Effect::Say(_) => {}
            }
        }
    }

    fn run_start(&mut self, run: u64) {
        match self.start.clone() {
            StartBehaviour::Works {
                appears,
                exits,
                lives,
            } => {
                let identity = self.new_identity();
                self.later(appears, Pending::Appear(identity));
                if let Some(lives) = lives {
                    self.later(appears + lives, Pending::Die(identity));
                }
                self.exit_later(run, exits, 0);
            }
            StartBehaviour::Fails(code) => self.exit_later(run, Duration::ZERO, code),
            StartBehaviour::Hangs => {}
        }
    }

    fn run_script(&mut self, task: ScriptTask, run: u64, failure_text: bool) {
        let code = match task {
            ScriptTask::Status => self.scripts.status,
            ScriptTask::Start => self.scripts.start,
        };
        let ended = Event::ScriptEnded {
            run,
            end: StartEnd::Exited {
                code,
                last_line: None,
            },
            failure_text: self.failure_text.clone().filter(|_| failure_text),
        };
        self.later(self.scripts.takes, Pending::Event(ended));
    }

    fn exit_later(&mut self, run: u64, delay: Duration, code: i32) {
        let end = StartEnd::Exited {
            code,
            last_line: None,
        };
        self.later(delay, Pending::Event(Event::StartEnded { run, end }));
    }
}
