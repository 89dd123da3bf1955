//! Recovery of one entity: the passive state machine of pmond, as a pure function.
//!
//! # Stages, in prose
//!
//! * **Unknown** — just configured; a look for the process has been asked for.
//! * **Manage** — pmond's resting stage: a verified process is in the pid
//!   table, or is on its way into it, and nothing is due. In active mode it is
//!   asked from here on (`core::pulse`); after a failure it counts as recovered
//!   only when it has answered. In status mode there is no process; the entity
//!   rests here, and a script is asked (`core::status`).
//! * **Looking** — there is no process as far as we know; before anything is
//!   started, the pidfile is looked at once more, because somebody may have
//!   started a successor already. The answer leads to *Monitor* (adopted),
//!   *Waiting* (an init script of this entity is at work) or to the decision.
//! * **Waiting** — the adoption window is open (`adoption`), or somebody else's
//!   init script is starting or stopping the process; we look again until it has ended, and then for `startuptime`,
//!   which a start of ours would get as well: a daemon may write its pidfile
//!   after its script has ended.
//! * **Yielding** — the service manager says that a job of the entity's unit is
//!   queued or under way, that it restarts the unit by itself, or that the host goes
//!   down; we look again until that is over, and then for `startuptime` if the unit
//!   is up. A unit that somebody has stopped through the manager leads to *Stopped*.
//! * **Stopping** — the process was unregistered, its pidfile removed, and it
//!   was signalled; we wait until it is gone, and use SIGKILL at the deadline.
//!   Nothing is started before it is gone.
//! * **MonitorWait** — the start method runs. The verdict falls at the end of
//!   `startuptime`, or, when the start command is still at work then, at its
//!   end or deadline. A live, verified successor is success whatever the
//!   command said; without one, nothing the command said is success. A
//!   successor that appears is registered at once, so that its death within
//!   the window is an event; it may still be replaced (daemons that fork
//!   twice), so its death is a failure only when the window closes.
//! * **Monitor** — the successor must stay alive for `debounce`.
//! * **RestartWait** — an attempt failed; wait for `interval`, or longer after the
//!   alarm (back-off).
//! * **Polling**, **StartWait** — its `subfunction` is not configured yet, or
//!   has just been: nothing that is seen is of any consequence.
//! * **Gated** — there is no process, and before anything is done about it the
//!   gates of the host are asked about (`core::gate`); while they are closed, a
//!   process that appears is adopted, and that is all.
//! * **Queued** — an attempt is due and waits for its turn: for other
//!   entities (`core::dependency`) or the host's recovery budget. Then we look once
//!   more. What appears meanwhile is adopted.
//! * **Ignore** — no automatic recovery (any more); a process that appears is
//!   adopted at once.
//! * **Stopped** — an operator stopped it, for good or for some time, or somebody
//!   stopped its unit; a process that appears is adopted.
//! * **Held** — an operator took it out of recovery: deaths are told, processes
//!   registered, and nothing else is done until the hold is over (`hold`).
//! * **Unverifiable** — there is something that cannot be told apart, or whose
//!   death could not be noticed; nothing is done to it and nothing is started
//!   beside it, later looks may resolve it.
//! * **Unmonitored** — shown, never acted upon.
//!
//! # What must stay true
//!
//! * No recovery starts from a hint; only from a verified death or a look that
//!   found nothing. The one exception is asked for in the configuration and told
//!   in `early`.
//! * The order of a kill is unregister, remove the pidfile, signal
//!   (spec/pmond.md §2.8, field story S1).
//! * A start is only asked for while no process of the entity is known alive.
//! * What a dead process left behind is only touched when an attempt has failed
//!   already, for it may be of use, and most successors do not mind it.
//! * An operator's restart is never counted as a failure, and an operator's
//!   restart that fails is (FIX of spec/pmond.md §2.4, S5).

mod active;
mod adoption;
mod alarm;
mod attempt;
mod counts;
mod dying;
mod early;
mod gated;
mod group;
mod hold;
mod operator;
mod quorum;
mod remembered;
mod resumed;
mod returning;
mod sighting;
mod stage;
mod status;
mod status_start;
mod storm;
#[cfg(test)]
mod tests;
mod unit;

use std::collections::VecDeque;

pub use counts::Starts;
pub use quorum::Quorum;
pub use remembered::StormMark;
pub use stage::{AfterHold, AfterStop, Phase, Stage};
pub use storm::FLAPPING;

use super::{
    death::Death,
    effect::Effect,
    entity::{EntitySpec, Mode},
    event::{Event, StartEnd},
    identity::Identity,
    notice::Notice,
    pulse::Pulse,
    status::StatusMonitor,
    time::Time,
};
use alarm::Alarm;
use counts::Deaths;
use gated::Gates;
use storm::Storm;

/// The state of one entity's recovery.
#[derive(Clone, Debug)]
pub struct Recovery {
    stage: Stage,
    since: Time,
    /// The process in the pid table, with its generation once the table told it.
    registered: Option<Registered>,
    /// A live process that could not be registered: nothing is started beside
    /// it, and every look tries again.
    unwatched: Option<Identity>,
    /// A process that was unregistered and is being ended.
    leaving: Option<Identity>,
    /// A process that runs no code any more and has not been seen gone yet, while
    /// its successor has been started; see [`early`].
    releasing: Option<Identity>,
    /// pmond's `failed`: a recovery is under way or was given up.
    failed: bool,
    /// An operator's start or restart is being carried out.
    manual: bool,
    /// It is being restarted because another member of its group has failed.
    cycled: bool,
    /// pmond's `restarts_cnt`: attempts in this cycle.
    attempts: u32,
    /// The failure that is being dealt with has been told and counted already.
    judged: bool,
    /// Active monitoring.
    pulse: Pulse,
    /// Status monitoring.
    status: StatusMonitor,
    /// What the script had to say when the alarm was raised last.
    failure_text: Option<String>,
    /// How the running or last start command ended, and whether it still runs.
    start: StartCommand,
    /// Number of the last run of the start method.
    run: u64,
    alarm: Alarm,
    gates: Gates,
    /// Strikes of a quorum member.
    quorum: Quorum,
    starts: Starts,
    deaths: Deaths,
    last_death: Option<Death>,
    /// Who was ended last because it did not answer, and when that was decided.
    silenced: Option<(Identity, Time)>,
    /// The last process that is known to have ended: a look that was made
    /// before may still show it.
    ended: Option<Identity>,
    /// Until then a successor that somebody else starts is waited for.
    adoption_until: Option<Time>,
    /// When an operator's stop cancelled a start that was under way: what the
    /// start command has left behind may still appear.
    cancelled: Option<Time>,
    /// When the operator's stop is over, if it is not for good.
    returns_at: Option<Time>,
    /// Processes that ended since the last attempt that ended their leftovers,
    /// or since the entity was healthy; and when we knew of it.
    leftovers_of: VecDeque<(Identity, Time)>,
    /// Why it is not healthy, for people.
    problem: Option<String>,
    /// What restrains it.
    storm: Storm,
}

/// The registered process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Who.
    pub identity: Identity,
    /// The table's name for the registration; none until it answered.
    pub generation: Option<u64>,
    /// A kernel source said that it died; the pidfd has not confirmed it yet.
    pub hinted: bool,
}

/// The start command of the current attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StartCommand {
    /// None in this attempt.
    None,
    /// At work.
    Running,
    /// It ended.
    Ended(StartEnd),
}

/// One step under construction: what it looks at and what it asks for.
struct Step<'a> {
    spec: &'a EntitySpec,
    now: Time,
    effects: Vec<Effect>,
}

impl<'a> Step<'a> {
    const fn new(spec: &'a EntitySpec, now: Time) -> Self {
        Self {
            spec,
            now,
            effects: Vec::new(),
        }
    }

    fn ask(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn say(&mut self, notice: Notice) {
        self.effects.push(Effect::Say(notice));
    }
}

impl Recovery {
    /// A newly configured entity, and the first effects.
    #[must_use]
    pub fn new(spec: &EntitySpec, now: Time) -> (Self, Vec<Effect>) {
        let mut recovery = Self {
            stage: Stage::Unknown,
            since: now,
            registered: None,
            unwatched: None,
            leaving: None,
            releasing: None,
            failed: false,
            manual: false,
            cycled: false,
            attempts: 0,
            judged: false,
            pulse: Pulse::default(),
            status: StatusMonitor::default(),
            failure_text: None,
            start: StartCommand::None,
            run: 0,
            alarm: Alarm::default(),
            gates: Gates::default(),
            quorum: Quorum::default(),
            starts: Starts::default(),
            deaths: Deaths::default(),
            last_death: None,
            silenced: None,
            ended: None,
            adoption_until: None,
            cancelled: None,
            returns_at: None,
            leftovers_of: VecDeque::new(),
            problem: None,
            storm: Storm::new(spec, now),
        };
        let effects = match spec.mode {
            Mode::Passive | Mode::Active => vec![Effect::Look {
                foreign_script: true,
            }],
            Mode::Ignore => {
                recovery.stage = Stage::Unmonitored;
                recovery.problem = Some("`mode = ignore`".to_owned());
                Vec::new()
            }
            Mode::Status => {
                match &spec.status {
                    Some(status) => recovery.begin_status(status),
                    None => recovery.stage = Stage::Unmonitored,
                }
                Vec::new()
            }
        };
        (recovery, effects)
    }

    /// A newly configured entity that an operator had stopped before the
    /// daemon restarted, and when that is over if it is not for good.
    #[must_use]
    pub fn new_stopped(
        spec: &EntitySpec,
        now: Time,
        returns_at: Option<Time>,
    ) -> (Self, Vec<Effect>) {
        let (mut recovery, effects) = Self::new(spec, now);
        if recovery.stage != Stage::Unmonitored {
            recovery.stage = Stage::Stopped;
            recovery.status.rest();
            recovery.returns_at = returns_at;
        }
        (recovery, effects)
    }

    /// The daemon restarted in the middle of a recovery: what is found alive has
    /// to prove itself once more before the entity is called healthy. A script is
    /// asked at once.
    pub const fn resume(&mut self) {
        self.failed = true;
        self.status.hurry();
    }

    /// The process that was in the pid table when the daemon ended, and has died
    /// since. Whether that is of any consequence here.
    pub fn recall(&mut self, identity: Identity, generation: u64) -> bool {
        let unseen = matches!(self.stage, Stage::Unknown | Stage::Held { .. });
        if !unseen || self.registered.is_some() {
            return false;
        }
        self.registered = Some(Registered {
            identity,
            generation: Some(generation),
            hinted: true,
        });
        true
    }

    /// A death that belongs to the past: another process has taken its place, or
    /// none is wanted.
    pub fn record(&mut self, death: Death, now: Time) {
        self.deaths.push(now);
        self.last_death = Some(death);
    }

    /// The state machine: what happened, and when, to what is to be done.
    /// Deterministic; effects are to be carried out in order.
    pub fn step(&mut self, spec: &EntitySpec, event: Event, now: Time) -> Vec<Effect> {
        let mut step = Step::new(spec, now);
        match event {
            // Processes are nobody's in status mode.
            Event::Seen(_) if spec.status.is_some() => {}
            Event::Seen(sighting) => self.seen(&mut step, sighting),
            Event::Registered {
                identity,
                generation,
            } => self.registered(&mut step, identity, generation),
            Event::RegisterFailed { identity, reason } => {
                self.register_failed(&mut step, identity, reason);
            }
            Event::Unwatchable { identity, reason } => {
                self.unwatchable(&mut step, identity, &reason);
            }
            Event::Hint(hint) => self.hinted(&mut step, hint),
            Event::Died(death) => self.died(&mut step, death),
            Event::Followed { death, child } => self.followed(&mut step, &death, child),
            Event::StatusKnown {
                identity,
                generation,
                status,
            } => self.status_known(&mut step, identity, generation, status),
            Event::Gone { identity } => self.gone(&mut step, identity),
            Event::StartEnded { run, end } => self.start_ended(&mut step, run, end),
            Event::ScriptEnded {
                run,
                end,
                failure_text,
            } => self.script_ended(&mut step, run, &end, failure_text.as_deref()),
            Event::Operator(request) if spec.status.is_some() => {
                self.status_operator(&mut step, request);
            }
            Event::Operator(request) => self.operator(&mut step, request),
            Event::Gate(event) => self.gate(&mut step, event),
            Event::Pulse(event) => self.pulse_event(&mut step, event),
            Event::Turn => self.turn(&mut step),
            Event::Cycle { group } => self.cycle(&mut step, group),
            Event::Delayed(why) => self.delayed(&mut step, why),
            Event::Tick => self.tick(&mut step),
        }
        self.attend_pulse(&mut step);
        self.attend_status(&mut step);
        self.attend_turn(&mut step);
        self.attend_reminder(now);
        step.effects
    }

    /// When a [`Event::Tick`] is due, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let stage = match self.stage {
            // The death that is still to come decides when this is over.
            Stage::Monitor { .. } if self.releasing.is_some() => None,
            stage => stage.deadline(),
        };
        [
            self.storm_deadline(),
            stage,
            self.alarm.refresh_at(),
            self.pulse.deadline(),
            self.status.deadline(),
            self.returns_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn tick(&mut self, step: &mut Step<'_>) {
        self.refresh_alarm(step);
        self.pulse_tick(step);
        self.status_tick(step);
        self.return_if_due(step);
        self.storm_tick(step);
        if self.stage.deadline().is_none_or(|due| step.now < due) {
            return;
        }
        match self.stage {
            Stage::Monitor { .. } if self.releasing.is_some() => {}
            Stage::MonitorWait { .. } => self.window_closed(step),
            Stage::Monitor { .. } => self.stable(step),
            Stage::RestartWait { .. } => self.look(step),
            Stage::Waiting { .. } | Stage::Yielding { .. } => self.look_again(step),
            Stage::Stopping { then, killed, .. } => self.stop_overdue(step, then, killed),
            Stage::StartWait { .. } => self.begin_monitoring(step),
            Stage::Held { .. } => self.hold_expired(step),
            Stage::Unknown
            | Stage::Manage
            | Stage::Looking
            | Stage::Polling { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Unverifiable
            | Stage::Unmonitored => {}
        }
    }

    /// Asks for a look before anything is started.
    fn look(&mut self, step: &mut Step<'_>) {
        if step.spec.status.is_some() {
            return self.ask_anew(step);
        }
        self.enter(step, Stage::Looking);
        if self.releasing.is_some() {
            // An early start has failed: its death asks for the look.
            return;
        }
        step.ask(Effect::Look {
            foreign_script: !self.crashed_just_now(step),
        });
    }

    fn enter(&mut self, step: &Step<'_>, stage: Stage) {
        self.gates.entered(&stage);
        self.stage = stage;
        self.since = step.now;
    }

    /// The stage.
    #[must_use]
    pub const fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Since when it has been in its stage.
    #[must_use]
    pub const fn since(&self) -> Time {
        self.since
    }

    /// The process in the pid table.
    #[must_use]
    pub const fn current(&self) -> Option<Registered> {
        self.registered
    }

    /// The process that is being ended.
    #[must_use]
    pub const fn leaving(&self) -> Option<Identity> {
        self.leaving
    }

    /// A live process that could not be registered.
    #[must_use]
    pub const fn unwatched(&self) -> Option<Identity> {
        match self.stage {
            Stage::Unverifiable => self.unwatched,
            _ => None,
        }
    }

    /// Whether a recovery is under way or was given up.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        self.failed
    }

    /// Whether an operator's start or restart is being carried out.
    #[must_use]
    pub const fn is_manual(&self) -> bool {
        self.manual
    }

    /// Attempts of this cycle.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts by who caused them.
    #[must_use]
    pub const fn starts(&self) -> Starts {
        self.starts
    }

    /// The last verified death.
    #[must_use]
    pub const fn last_death(&self) -> Option<&Death> {
        self.last_death.as_ref()
    }

    /// Deaths within `window` before `now`.
    #[must_use]
    pub fn deaths_within(&self, window: std::time::Duration, now: Time) -> u32 {
        self.deaths.within(window, now)
    }

    /// Why it is not healthy.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}
