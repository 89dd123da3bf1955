//! Restraint within the recovery: when the counters of [`crate::core::storm`] are
//! asked, and how an entity waits for its turn to start.
//!
//! A turn is *none*, *asked for* (in stage Queued), or *held* from the moment it
//! is given until the start has shown a result. Whoever had to wait for it looks
//! once more before anything is started.
//!
//! Must stay true: what operators ask for is neither counted nor kept waiting,
//! and makes good what was counted; a turn is given back whatever becomes of
//! the start; waiting is told, and told again.

use std::time::Duration;

use super::{Phase, Recovery, Stage, StartCommand, Step};
use crate::core::{
    effect::{AlarmChange, Effect},
    entity::{EntitySpec, Severity},
    event::Delay,
    notice::Notice,
    storm::{
        backoff::Backoff,
        flapping::{Flapping, FlappingPolicy, Turn as FlappingTurn},
        intensity::Intensity,
        jitter::Jitter,
        reminder::Reminder,
    },
    time::Time,
};

/// Severity of the flapping alarm: the service is there nearly always, so that
/// neither the host is degraded nor its services have to go elsewhere.
pub const FLAPPING: Severity = Severity::Minor;

/// What restrains an entity.
#[derive(Clone, Debug)]
pub(super) struct Storm {
    pub(super) backoff: Backoff,
    /// The pause that is under way is one of the back-off's.
    pub(super) backs_off: bool,
    pub(super) intensity: Intensity,
    pub(super) flapping: Flapping,
    /// Since when it has been well, if it is.
    pub(super) well_since: Option<Time>,
    /// The pause of an earlier daemon lasts until then.
    pub(super) paused_until: Option<Time>,
    turn: Turn,
    /// Why it has to wait for its turn, and when that is told again.
    delay: Option<(Delay, Reminder)>,
    /// When a minor alarm is told again; pmond tells of it once.
    pub(super) minor: Option<Reminder>,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    None,
    Asked,
    Held,
}

impl Storm {
    pub(super) fn new(spec: &EntitySpec, now: Time) -> Self {
        Self {
            backoff: Backoff::new(Jitter::of(&spec.name, now)),
            backs_off: false,
            intensity: Intensity::default(),
            flapping: Flapping::default(),
            well_since: None,
            paused_until: None,
            turn: Turn::None,
            delay: None,
            minor: None,
        }
    }
}

impl Recovery {
    /// It was well and is so no longer.
    pub(super) fn fell(&mut self, step: &mut Step<'_>) {
        step.ask(Effect::Fell);
        let policy = step.spec.storm;
        if let (Some(since), Some(backoff)) = (self.storm.well_since.take(), policy.backoff)
            && step.now.since(since) >= backoff.reset_after
        {
            self.storm.backoff.reset();
        }
        if let Some(policy) = policy.flapping
            && let Some(turn) = self.storm.flapping.fell(&policy, step.now)
        {
            self.tell_flapping(step, turn);
        }
    }

    /// It is well.
    pub(super) fn is_well(&mut self, step: &Step<'_>) {
        self.storm.backs_off = false;
        self.storm.well_since.get_or_insert(step.now);
        if let Some(policy) = step.spec.storm.flapping {
            self.storm.flapping.well(&policy, step.now);
        }
    }

    /// The pause before the next attempt.
    pub(super) fn pause(&mut self, step: &Step<'_>) -> Duration {
        let interval = step.spec.interval;
        // Before the alarm the ladder is pmond's.
        self.storm.backs_off = step.spec.storm.backoff.is_some() && self.alarm().is_some();
        match step.spec.storm.backoff {
            Some(policy) if self.storm.backs_off => self.storm.backoff.next(&policy, interval),
            Some(_) | None => interval,
        }
    }

    /// Why no further attempt is made, if there were too many of late.
    pub(super) fn too_many_attempts(&self, step: &Step<'_>) -> Option<String> {
        let policy = step.spec.storm.intensity?;
        let reached = self.storm.intensity.is_reached(&policy, step.now);
        reached.then(|| format!("{} restarts within {:?}", policy.restarts, policy.within))
    }

    /// An automatic attempt is made.
    pub(super) fn count_attempt(&mut self, step: &Step<'_>) {
        self.storm.backs_off = false;
        if let Some(policy) = step.spec.storm.intensity {
            self.storm.intensity.note(&policy, step.now);
        }
    }

    /// An operator asked for it to run: what went wrong before is forgotten.
    pub(super) fn forget_attempts(&mut self) {
        self.storm.backoff.reset();
        self.storm.backs_off = false;
        self.storm.paused_until = None;
        self.storm.intensity.forget();
    }

    /// An operator stopped it.
    pub(super) fn end_flapping(&mut self, step: &mut Step<'_>) {
        self.storm.well_since = None;
        if self.storm.flapping.forget() {
            self.tell_flapping(step, FlappingTurn::Ends);
        }
    }

    pub(super) fn storm_tick(&mut self, step: &mut Step<'_>) {
        if let Some(turn) = self.storm.flapping.tick(step.now) {
            self.tell_flapping(step, turn);
        }
        if self
            .storm
            .minor
            .as_mut()
            .is_some_and(|one| one.ring(step.now))
        {
            // Receivers of alarms are told once, as by pmond (V6).
            step.say(Notice::AlarmRefreshed(Severity::Minor));
        }
        if let Some((delay, reminder)) = &mut self.storm.delay
            && reminder.ring(step.now)
        {
            let why = delay.clone();
            let since = self.since;
            // Nobody may be down for long because of another one, and only the other's
            // alarm say so.
            if matches!(why, Delay::Requires { .. }) {
                self.assert_alarm(step);
            }
            step.say(Notice::StillDelayed {
                why,
                waited: step.now.since(since),
            });
        }
    }

    pub(super) fn storm_deadline(&self) -> Option<Time> {
        let delay = self.storm.delay.as_ref();
        let delay = delay.map(|(_, reminder)| reminder.due());
        let flapping = self.storm.flapping.deadline();
        let minor = self.storm.minor.map(|reminder| reminder.due());
        flapping.into_iter().chain(delay).chain(minor).min()
    }

    fn tell_flapping(&self, step: &mut Step<'_>, turn: FlappingTurn) {
        match turn {
            FlappingTurn::Begins => {
                let policy = step.spec.storm.flapping.unwrap_or(FlappingPolicy::DEFAULT);
                step.ask(Effect::FlappingAlarm(AlarmChange::Raise(FLAPPING)));
                step.say(Notice::Flapping {
                    deaths: policy.deaths,
                    within: policy.within,
                });
            }
            FlappingTurn::Lasts => {
                step.ask(Effect::FlappingAlarm(AlarmChange::Refresh(FLAPPING)));
                let since = self.storm.flapping.since().unwrap_or(step.now);
                step.say(Notice::StillFlapping {
                    lasts: step.now.since(since),
                });
            }
            FlappingTurn::Ends => {
                step.ask(Effect::FlappingAlarm(AlarmChange::Clear));
                step.say(Notice::FlappingEnded);
            }
        }
    }

    /// Makes an attempt, as soon as it is this entity's turn.
    pub(super) fn attempt_in_turn(&mut self, step: &mut Step<'_>) {
        if self.storm.turn == Turn::Held {
            return self.attempt(step);
        }
        self.judged = true;
        self.enter(step, Stage::Queued);
        if self.storm.turn == Turn::None {
            self.storm.turn = Turn::Asked;
            step.ask(Effect::AskTurn);
        }
    }

    /// Whether it has asked for its turn and has not been given it.
    pub(super) fn waits_for_turn(&self) -> bool {
        self.storm.turn == Turn::Asked
    }

    /// It has to wait.
    pub(super) fn delayed(&mut self, step: &mut Step<'_>, why: Delay) {
        if self.storm.turn != Turn::Asked {
            return;
        }
        let news = self
            .storm
            .delay
            .as_ref()
            .is_none_or(|(known, _)| !known.is_like(&why));
        if news {
            step.say(Notice::Delayed { why: why.clone() });
            self.storm.delay = Some((why, Reminder::new(step.now)));
        } else if let Some((known, _)) = &mut self.storm.delay {
            *known = why;
        }
    }

    /// It is its turn.
    pub(super) fn turn(&mut self, step: &mut Step<'_>) {
        if self.storm.turn != Turn::Asked {
            // Nobody wants it any more.
            return step.ask(Effect::ReturnTurn);
        }
        self.storm.turn = Turn::Held;
        let waited = self.storm.delay.take().is_some();
        if self.stage != Stage::Queued {
            // A look is under way; what it shows decides.
            return;
        }
        if waited {
            // Much may have happened meanwhile.
            return self.look(step);
        }
        self.attempt(step);
    }

    /// After every step: who has a minor alarm is to be reminded of it.
    pub(super) fn attend_reminder(&mut self, now: Time) {
        if self.alarm() == Some(Severity::Minor) {
            self.storm.minor.get_or_insert(Reminder::new(now));
        } else {
            self.storm.minor = None;
        }
    }

    /// After every step: a turn that is of no more use is given back.
    pub(super) fn attend_turn(&mut self, step: &mut Step<'_>) {
        let needed = match self.stage {
            // Whoever acts for an operator waits for nobody.
            _ if self.manual => false,
            Stage::Queued | Stage::Looking => true,
            // It was asked for before the answer was there.
            Stage::Gated => !self.is_kept_out(),
            // The heavy part is over with the command's end and a process.
            Stage::MonitorWait { phase, .. } => {
                let started = matches!(phase, Phase::Window { .. }) && self.registered.is_some();
                !(started && self.start != StartCommand::Running)
            }
            // In status mode the script is the heavy part.
            Stage::Manage => self.is_starting(),
            Stage::Unknown
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Held { .. }
            | Stage::Unverifiable
            | Stage::Unmonitored => false,
        };
        if !needed && self.storm.turn != Turn::None {
            self.storm.turn = Turn::None;
            self.storm.delay = None;
            step.ask(Effect::ReturnTurn);
        }
    }

    /// Since when it has been flapping.
    #[must_use]
    pub const fn flapping_since(&self) -> Option<Time> {
        self.storm.flapping.since()
    }

    /// Whether the pause before the next attempt is one of the back-off's.
    #[must_use]
    pub const fn backs_off(&self) -> bool {
        self.storm.backs_off
    }

    /// Why it waits for its turn to start, if it does.
    #[must_use]
    pub fn delay(&self) -> Option<&Delay> {
        self.storm.delay.as_ref().map(|(delay, _)| delay)
    }
}
