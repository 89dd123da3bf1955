//! A host that behaves as badly as hosts do: looks take time and tell of the
//! past, start commands fail, hang, fork twice and come late, processes die in
//! every moment, people restart by hand, sources are silent, and the daemon is
//! killed. Time is simulated; all chance comes from one seed.
//!
//! Must stay true: what is modelled here is what the engine and its executors
//! promise the core (events of one registration in order, one lane per entity,
//! a death told once). The rules themselves are in `rules`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{random::Random, rules::Rules};
use crate::core::{
    death::{Death, Hint, LastSeen, SourceName, WaitStatus},
    effect::Effect,
    entity::{EntitySpec, StartMethod},
    event::{Delay, Event, Occasion, OperatorAction, OperatorRequest, Outcome, Sighting, StartEnd},
    evidence::Evidence,
    identity::Identity,
    notice::Notice,
    pulse::PulseEvent,
    recovery::{AfterStop, Recovery, Stage},
    time::Time,
};

/// What comes to pass at some time.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few of them wait at a time")]
enum Happening {
    /// The core is told. Lost when the daemon is killed.
    Tell(Event, Option<Identity>),
    /// A look is made; what it shows is told later. Lost with the daemon.
    Look(Occasion),
    /// The entity's next job is done.
    Work,
    /// A process begins and its pidfile names it.
    Appear(Identity, Option<u64>),
    Die(Identity, WaitStatus),
    /// The pidfd of a process that died is readable.
    Released(Identity, WaitStatus),
    /// A foreign init script ends, perhaps with a process.
    ScriptEnds(bool),
}

/// One host with one entity.
#[derive(Debug)]
pub(super) struct World {
    pub(super) spec: EntitySpec,
    pub(super) recovery: Recovery,
    pub(super) random: Random,
    pub(super) now: Time,
    rules: Rules,
    queue: BTreeMap<(Time, u64), Happening>,
    ordinal: u64,
    /// Live processes of the entity.
    processes: BTreeSet<Identity>,
    /// Dead, with a pidfd that is not readable yet: looks take them for alive.
    dying: BTreeSet<Identity>,
    pidfile: Option<Identity>,
    known: Option<Identity>,
    /// The entry in the kernel's table.
    entry: Option<(Identity, u64)>,
    /// Unregistered, and watched until they are gone.
    leaving: Vec<Identity>,
    generation: u64,
    next_pid: u32,
    lane: VecDeque<Effect>,
    foreign_script: bool,
    /// Everything goes well from now on.
    pub(super) calm: bool,
    /// The operator's last word was stop.
    pub(super) stopped: bool,
    /// There are people and start commands that start a process behind pmon's
    /// back, so that two may live.
    meddlers: bool,
    /// One of them has.
    meddled: bool,
    pub(super) recoveries: u64,
    pub(super) deaths: u64,
    /// Whether the story is kept.
    tells: bool,
    pub(super) story: VecDeque<String>,
}

/// Lines of the story that are kept for a failure's report.
const STORY: usize = 700;
/// An entity may pass through several stages at one time, but not for ever.
const TICKS: u32 = 8;
const BY_HAND: &str = "uid 0 (pid 1)";

impl World {
    pub(super) fn new(spec: EntitySpec, random: Random, tells: bool) -> Self {
        let now = Time::from_boot_ns(1_000_000_000_000);
        let (recovery, effects) = Recovery::new(&spec, now);
        let mut world = Self {
            spec,
            recovery,
            random,
            now,
            rules: Rules::default(),
            queue: BTreeMap::new(),
            ordinal: 0,
            processes: BTreeSet::new(),
            dying: BTreeSet::new(),
            pidfile: None,
            known: None,
            entry: None,
            leaving: Vec::new(),
            generation: 0,
            next_pid: 1000,
            lane: VecDeque::new(),
            foreign_script: false,
            calm: false,
            stopped: false,
            meddlers: false,
            meddled: false,
            recoveries: 0,
            deaths: 0,
            tells,
            story: VecDeque::new(),
        };
        world.meddlers = world.random.percent(50);
        if world.random.percent(70) {
            let first = world.new_identity();
            world.processes.insert(first);
            world.pidfile = Some(first);
            world.known = Some(first);
        }
        world.carry_out(effects, None).unwrap();
        world
    }

    fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.story.len() == STORY {
            self.story.pop_front();
        }
        if !self.tells {
            return;
        }
        let line = line(self);
        if line.contains("Pulse") || line.ends_with("Tick") {
            return;
        }
        let at = self.now.as_boot_ns() / 1000;
        self.story.push_back(format!("{at} us: {line}"));
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.ordinal += 1;
        self.queue
            .insert((self.now + delay, self.ordinal), happening);
    }

    fn soon(&mut self, happening: Happening) {
        let delay = self.random.up_to(Duration::from_millis(20));
        self.later(delay, happening);
    }

    /// Lets time pass, event by event.
    pub(super) fn run_for(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        let mut ticks = 0;
        loop {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.recovery.deadline();
            let Some(due) = [queued, deadline].into_iter().flatten().min() else {
                break;
            };
            if due > end {
                break;
            }
            if due > self.now {
                ticks = 0;
            }
            self.now = self.now.max(due);
            if queued == Some(due)
                && let Some((_, happening)) = self.queue.pop_first()
            {
                self.come_to_pass(happening)?;
            } else {
                self.step(Event::Tick, None)?;
                ticks += 1;
                if ticks > TICKS {
                    return Err(format!("ticked {ticks} times at {due:?}"));
                }
            }
        }
        self.now = end;
        Ok(())
    }

    fn step(&mut self, event: Event, found: Option<Identity>) -> Result<(), String> {
        self.note(|world| format!("{} <- {event:?}", world.recovery.stage().as_str()));
        if let Event::Seen(sighting) = &event {
            self.rules.saw(match &sighting.outcome {
                Outcome::Process(identity) => Some(*identity),
                Outcome::Nothing { .. } | Outcome::Unverifiable { .. } => None,
            });
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
            Event::RegisterFailed { identity, .. } | Event::Unwatchable { identity, .. } => {
                self.rules.ended(*identity);
            }
            Event::Seen(_)
            | Event::Registered { .. }
            | Event::Hint(_)
            | Event::StatusKnown { .. }
            | Event::Gone { .. }
            | Event::Operator(_)
            | Event::Gate(_)
            | Event::Pulse(_)
            | Event::ScriptEnded { .. }
            | Event::Turn
            | Event::Delayed(_)
            | Event::Cycle { .. }
            | Event::Tick => {}
        }
        let effects = self.recovery.step(&self.spec, event, self.now);
        self.carry_out(effects, found)
    }

    fn carry_out(&mut self, effects: Vec<Effect>, found: Option<Identity>) -> Result<(), String> {
        let mut events = Vec::new();
        for effect in effects {
            self.note(|_| format!("    {effect:?}"));
            self.rules.check(&effect)?;
            match effect {
                Effect::Register { identity } => events.push(self.register(identity, found)),
                Effect::Look { .. } => self.soon(Happening::Look(Occasion::Asked)),
                Effect::Unregister { identity } => {
                    if self.entry.is_some_and(|(entry, _)| entry == identity) {
                        self.entry = None;
                        if self.exists(identity) {
                            self.leaving.push(identity);
                        } else {
                            let gone = Event::Gone { identity };
                            self.soon(Happening::Tell(gone, None));
                        }
                    }
                }
                Effect::Release { identity } => self.leaving.retain(|one| *one != identity),
                Effect::CancelStart => self.cancel(),
                Effect::RemovePidfile { .. }
                | Effect::Signal { .. }
                | Effect::EndLeftovers { .. }
                | Effect::Start { .. }
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
                Effect::AskTurn => {
                    if self.random.percent(70) {
                        events.push(Event::Turn);
                    } else {
                        let ahead = 1;
                        events.push(Event::Delayed(Delay::Budget { ahead }));
                        self.soon(Happening::Tell(Event::Turn, None));
                    }
                }
                // Of gates: those of this host were never closed.
                Effect::AskGate
                | Effect::ReturnTurn
                | Effect::RunScript { .. }
                | Effect::Fell
                | Effect::Alarm(_)
                | Effect::FlappingAlarm(_)
                | Effect::Say(_) => {}
            }
        }
        for event in events {
            self.step(event, found)?;
        }
        self.rules.check_state(&self.recovery)
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
        self.entry = Some((identity, generation));
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
            Happening::Tell(Event::Seen(sighting), found) => self.looked(sighting, found),
            Happening::Tell(event, found) => self.step(event, found),
            Happening::Look(occasion) => {
                let seen = self.look(occasion);
                let found = match &seen.outcome {
                    Outcome::Process(identity) => Some(*identity),
                    Outcome::Nothing { .. } | Outcome::Unverifiable { .. } => None,
                };
                self.soon(Happening::Tell(Event::Seen(seen), found));
                Ok(())
            }
            Happening::Work => {
                if let Some(job) = self.lane.pop_front() {
                    self.work(&job);
                }
                Ok(())
            }
            Happening::Appear(identity, _) => {
                self.note(|_| format!("({}) appears", identity.pid));
                self.processes.insert(identity);
                self.pidfile = Some(identity);
                self.pidfile_changed();
                Ok(())
            }
            Happening::Die(identity, status) => {
                self.die(identity, status);
                Ok(())
            }
            Happening::Released(identity, status) => self.released(identity, status),
            Happening::ScriptEnds(starts) => {
                self.foreign_script = false;
                if starts {
                    self.start_by_hand();
                }
                Ok(())
            }
        }
    }

    /// As the engine tells a look: a death that the table knows comes first, and
    /// who has died since the look was made was not seen.
    fn looked(&mut self, mut sighting: Sighting, found: Option<Identity>) -> Result<(), String> {
        if let Some(current) = self.recovery.current()
            && found != Some(current.identity)
            && !self.exists(current.identity)
        {
            self.released(current.identity, WaitStatus(9))?;
        }
        let mut found = found;
        if let Some(identity) = found
            && !self.exists(identity)
        {
            found = None;
            let reason = "it died since it was seen".to_owned();
            sighting.outcome = Outcome::Nothing { reason };
        }
        if found.is_none() && sighting.occasion == Occasion::Asked {
            found = self.known.filter(|known| self.exists(*known));
            if let Some(known) = found {
                sighting.outcome = Outcome::Process(known);
            }
        }
        self.step(Event::Seen(sighting), found)
    }

    /// Whether its pidfd is not readable.
    fn exists(&self, identity: Identity) -> bool {
        self.processes.contains(&identity) || self.dying.contains(&identity)
    }

    fn look(&mut self, occasion: Occasion) -> Sighting {
        let named = match self.spec.pidfile {
            Some(_) => self.pidfile,
            None => self.known,
        };
        let alive = named.filter(|identity| self.exists(*identity));
        let outcome = if !self.calm && self.random.percent(1) {
            let reason = "there are no descriptors".to_owned();
            Outcome::Unverifiable { reason }
        } else {
            alive.map_or_else(
                || Outcome::Nothing {
                    reason: "it is gone".to_owned(),
                },
                Outcome::Process,
            )
        };
        let foreign_script = self.foreign_script.then_some(77);
        Sighting {
            occasion,
            outcome,
            foreign_script,
            unit: None,
        }
    }

    fn pidfile_changed(&mut self) {
        if self.spec.pidfile.is_some() && (self.calm || self.random.percent(95)) {
            self.soon(Happening::Look(Occasion::PidfileChanged));
        }
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
                if obeys && self.processes.contains(&identity) {
                    let status = WaitStatus(signal.unsigned_abs());
                    let delay = self.random.up_to(Duration::from_secs(3));
                    self.later(delay, Happening::Die(identity, status));
                }
            }
            Effect::StopUnit => {
                if let Some(identity) = self.pidfile
                    && self.processes.contains(&identity)
                {
                    let delay = self.random.up_to(Duration::from_secs(3));
                    self.later(delay, Happening::Die(identity, WaitStatus(15)));
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

    /// The start method is run, and does what start methods do.
    fn start(&mut self, run: u64) {
        let foreground = matches!(&self.spec.start, StartMethod::Command(c) if !c.daemonizes);
        let luck = if self.calm { 0 } else { self.random.below(100) };
        let exited = |code| StartEnd::Exited {
            code,
            last_line: None,
        };
        let window = self.spec.startuptime;
        let unit = matches!(&self.spec.start, StartMethod::Unit { .. });
        match luck {
            90.. if unit => {
                // systemd ends it at a deadline of its own.
                let reason = "ended as `timeout`".to_owned();
                let end = StartEnd::JobFailed { reason };
                let ended = Happening::Tell(Event::StartEnded { run, end }, None);
                self.later(self.spec.start_timeout * 2, ended);
            }
            90.. => {}
            85..90 if unit => {
                let to = "a conflicting job".to_owned();
                self.start_ends(run, StartEnd::Yielded { to }, None);
            }
            80..90 => self.start_ends(run, exited(1), None),
            70..80 if foreground => {
                let reason = "ETXTBSY".to_owned();
                self.start_ends(run, StartEnd::NotExecuted { reason }, None);
            }
            _ if foreground => {
                let identity = self.new_identity();
                self.processes.insert(identity);
                self.pidfile = Some(identity);
                // On record before it executes anything.
                self.known = Some(identity);
                let died = self.perhaps_doomed(identity, luck);
                self.start_ends(run, StartEnd::Running(identity), Some(identity));
                self.note(|_| format!("({}) runs, doomed: {died}", identity.pid));
            }
            60..80 if self.meddlers => {
                // Late: perhaps when it is not expected any more.
                self.meddled = true;
                let identity = self.new_identity();
                let late = self.random.up_to(window * 3);
                self.later(late, Happening::Appear(identity, Some(run)));
                self.start_ends(run, exited(0), None);
            }
            50..60 => {
                // Forks twice: the pidfile names the first, then the second.
                let (first, second) = (self.new_identity(), self.new_identity());
                let delay = self.random.up_to(window / 2);
                self.later(delay, Happening::Appear(first, Some(run)));
                self.later(delay * 2, Happening::Die(first, WaitStatus(0)));
                self.later(delay * 2, Happening::Appear(second, Some(run)));
                self.start_ends(run, exited(0), None);
            }
            _ => {
                let identity = self.new_identity();
                let delay = self.random.up_to(window / 2);
                self.later(delay, Happening::Appear(identity, Some(run)));
                self.perhaps_doomed(identity, luck);
                self.start_ends(run, exited(0), None);
            }
        }
    }

    fn perhaps_doomed(&mut self, identity: Identity, luck: u64) -> bool {
        let doomed = luck >= 35;
        if doomed {
            let longest = self.spec.startuptime + self.spec.debounce * 2;
            let lives = self.random.up_to(longest);
            self.later(
                lives + self.spec.startuptime / 2,
                Happening::Die(identity, WaitStatus(11)),
            );
        }
        doomed
    }

    fn start_ends(&mut self, run: u64, end: StartEnd, found: Option<Identity>) {
        let delay = self.random.up_to(self.spec.startuptime);
        let delay = if found.is_some() { delay / 100 } else { delay };
        self.later(
            delay,
            Happening::Tell(Event::StartEnded { run, end }, found),
        );
    }

    /// The running start command ends with its process group.
    fn cancel(&mut self) {
        let ran = self.queue.values().find_map(|happening| match happening {
            Happening::Tell(Event::StartEnded { .. }, found) => *found,
            _ => None,
        });
        if let Some(identity) = ran {
            self.die(identity, WaitStatus(9));
        }
        self.lane.retain(|job| !matches!(job, Effect::Start { .. }));
        self.queue.retain(|_, happening| match happening {
            Happening::Tell(Event::StartEnded { .. }, None) | Happening::Appear(_, Some(_)) => {
                false
            }
            Happening::Tell(..)
            | Happening::Look(_)
            | Happening::Work
            | Happening::Appear(_, None)
            | Happening::Die(..)
            | Happening::Released(..)
            | Happening::ScriptEnds(_) => true,
        });
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

    fn new_identity(&mut self) -> Identity {
        self.next_pid += 1;
        Identity {
            pid: self.next_pid,
            start_time: self.now.as_boot_ns() / pmon_common::START_TICK_NS,
        }
    }

    fn die(&mut self, identity: Identity, status: WaitStatus) {
        if !self.processes.remove(&identity) {
            return;
        }
        self.note(|_| format!("({}) dies", identity.pid));
        if let Some((entry, generation)) = self.entry
            && entry == identity
            && self.random.percent(80)
        {
            let hint = Hint {
                identity,
                generation,
                source: SourceName::Ebpf,
                died_at: Some(self.now),
                status: Some(status),
                last_thread: true,
            };
            self.later(Duration::ZERO, Happening::Tell(Event::Hint(hint), None));
        }
        // Memory, files and sockets go first.
        self.dying.insert(identity);
        let release = self.random.up_to(Duration::from_millis(400));
        self.later(release, Happening::Released(identity, status));
    }

    fn released(&mut self, identity: Identity, status: WaitStatus) -> Result<(), String> {
        self.dying.remove(&identity);
        if self.leaving.contains(&identity) {
            self.leaving.retain(|one| *one != identity);
            return self.step(Event::Gone { identity }, None);
        }
        let Some((_, generation)) = self.entry.filter(|(entry, _)| *entry == identity) else {
            return Ok(());
        };
        self.entry = None;
        let death = self.death(identity, generation, Some(status));
        self.step(Event::Died(death), None)
    }

    fn death(&self, identity: Identity, generation: u64, status: Option<WaitStatus>) -> Death {
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

    fn start_by_hand(&mut self) {
        self.meddled = true;
        let identity = self.new_identity();
        self.processes.insert(identity);
        self.pidfile = Some(identity);
        self.note(|_| format!("({}) is started by hand", identity.pid));
        self.pidfile_changed();
    }

    /// The process that counts dies.
    pub(super) fn kill(&mut self) {
        let status = *self.random.one_of(&[
            WaitStatus(9),
            WaitStatus(15),
            WaitStatus(11 | 0x80),
            WaitStatus(1 << 8),
            WaitStatus(0),
        ]);
        if let Some(identity) = self.processes.iter().next_back().copied() {
            self.die(identity, status);
        }
    }

    /// Somebody restarts it, at once or with the entity's init script.
    pub(super) fn restart_by_hand(&mut self) {
        self.kill();
        if !self.meddlers {
            return;
        }
        if matches!(self.spec.start, StartMethod::Script { .. }) && self.random.percent(50) {
            self.foreign_script = true;
            let takes = self.random.up_to(Duration::from_secs(5));
            self.later(takes, Happening::ScriptEnds(true));
        } else if self.processes.is_empty() {
            self.start_by_hand();
        }
    }

    pub(super) fn sweep(&mut self) {
        self.soon(Happening::Look(Occasion::Sweep));
    }

    pub(super) fn operate(&mut self, action: OperatorAction) -> Result<(), String> {
        self.stopped = action == OperatorAction::Stop;
        // A daemon on its way between its command's end and its pidfile is out of
        // everybody's sight: who stops now and starts again at once has two.
        // Likewise one that forks twice and is restarted in between.
        let ends = self.stopped
            || (action == OperatorAction::Restart && self.recovery.current().is_some());
        self.meddled |= ends && self.is_on_its_way();
        let request = OperatorRequest {
            action,
            reason: None,
            by: BY_HAND.to_owned(),
        };
        self.step(Event::Operator(request), None)
    }

    fn is_on_its_way(&self) -> bool {
        let mut queued = self.queue.values();
        queued.any(|happening| matches!(happening, Happening::Appear(_, Some(_))))
    }

    /// The daemon is killed and another one goes on, after a while.
    pub(super) fn restart_daemon(&mut self) -> Result<(), String> {
        self.note(|_| "the daemon is killed".to_owned());
        // Between a pidfile's removal and the signal: the process lives on,
        // known from what is remembered.
        self.meddled |= matches!(self.recovery.stage(), Stage::Stopping { .. });
        let stopped = matches!(
            self.recovery.stage(),
            Stage::Stopped
                | Stage::Stopping {
                    then: AfterStop::StayDown,
                    ..
                }
        );
        let failed = self.recovery.is_failed();
        let entry = self.entry.take();
        self.lane.clear();
        self.leaving.clear();
        // A script that was at work goes on and is found as one; other start
        // commands end with the service's cgroup.
        let script = matches!(self.spec.start, StartMethod::Script { .. });
        let at_work = self.queue.iter().find_map(|((at, _), happening)| {
            matches!(happening, Happening::Tell(Event::StartEnded { .. }, _)).then_some(*at)
        });
        self.meddled |= at_work.is_none() && self.is_on_its_way();
        if let Some(ends) = at_work.filter(|_| script) {
            self.foreign_script = true;
            self.later(ends.since(self.now), Happening::ScriptEnds(false));
        }
        self.queue.retain(|_, happening| match happening {
            Happening::Tell(..) | Happening::Look(_) | Happening::Work => false,
            Happening::Appear(_, run) => script || run.is_none(),
            Happening::Die(..) | Happening::Released(..) | Happening::ScriptEnds(_) => true,
        });
        let away = self.random.up_to(Duration::from_secs(2));
        self.now = self.now + away;
        self.rules.begin_anew();
        let (recovery, effects) = if stopped {
            Recovery::new_stopped(&self.spec, self.now, None)
        } else {
            Recovery::new(&self.spec, self.now)
        };
        self.recovery = recovery;
        if failed && !stopped {
            self.recovery.resume();
        }
        if let Some((identity, generation)) = entry
            && !self.exists(identity)
            && self.recovery.recall(identity, generation)
        {
            self.rules.saw(Some(identity));
            self.rules.recall(identity);
            let death = self.death(identity, generation, Some(WaitStatus(9)));
            return self.step(Event::Died(death), None);
        }
        self.carry_out(effects, None)
    }

    /// Another member of its group has failed.
    pub(super) fn cycle(&mut self) -> Result<(), String> {
        let group = "group".to_owned();
        self.step(Event::Cycle { group }, None)
    }

    /// What is wrong although everything has gone well for long.
    pub(super) fn check_rest(&self) -> Result<(), String> {
        let wrong = |what: String| Err(format!("at rest, {what}"));
        let current = self.recovery.current();
        match self.recovery.stage() {
            Stage::Manage => {
                let Some(registered) = current else {
                    return wrong("managed and not registered".to_owned());
                };
                if registered.generation.is_none() {
                    return wrong("registered without a generation".to_owned());
                }
                if !self.processes.contains(&registered.identity) {
                    return wrong(format!("{} is dead", registered.identity));
                }
                // Of two that live the other one may have written it last.
                if self.spec.pidfile.is_some()
                    && self.pidfile != Some(registered.identity)
                    && !self.meddled
                {
                    return wrong(format!("the pidfile names {:?}", self.pidfile));
                }
                if self.recovery.is_failed() || self.recovery.alarm().is_some() {
                    return wrong("healthy and yet failed or with an alarm".to_owned());
                }
                if !self.meddled && self.processes.len() > 1 {
                    return wrong(format!("there are {} processes", self.processes.len()));
                }
                Ok(())
            }
            Stage::Stopped if self.stopped => Ok(()),
            Stage::Ignore if !self.spec.recovers() => Ok(()),
            stage @ (Stage::Unknown
            | Stage::Held { .. }
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Unverifiable
            | Stage::Unmonitored) => wrong(format!("it is stuck in {}", stage.as_str())),
        }
    }
}
