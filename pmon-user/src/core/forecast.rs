//! What the policy would do if the process died now: the real state machine,
//! stepped on a copy in a simulated world, once with a start method that works
//! and once with one that keeps failing. In status mode: what it would do if the
//! status were bad from now on.

use std::time::Duration;

use super::{
    death::WaitStatus,
    effect::Effect,
    entity::EntitySpec,
    notice::Notice,
    recovery::Recovery,
    simulation::{ScriptBehaviour, Simulation, StartBehaviour},
    status::State,
    time::Time,
};

/// How far ahead a forecast looks.
const HORIZON: Duration = Duration::from_secs(24 * 3600);
/// A raw wait status: ended by SIGKILL.
const KILLED: WaitStatus = WaitStatus(9);

/// One line of a forecast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// After the death.
    pub after: Duration,
    /// What would happen.
    pub what: String,
}

/// The forecast; empty when there is no process that could die.
#[must_use]
pub fn if_it_died_now(spec: &EntitySpec, recovery: &Recovery, now: Time) -> Vec<Forecast> {
    if recovery.current().is_none() {
        return Vec::new();
    }
    let works = StartBehaviour::Works {
        appears: Duration::ZERO,
        exits: Duration::ZERO,
        lives: None,
    };
    let mut lines = story(spec, recovery, now, works, "", |notice| {
        matches!(notice, Notice::Recovered(_) | Notice::GaveUp { .. })
    });
    let failing = story(
        spec,
        recovery,
        now,
        StartBehaviour::Fails(1),
        "if every attempt fails: ",
        |notice| matches!(notice, Notice::AlarmRaised(_) | Notice::GaveUp { .. }),
    );
    let known = |line: &Forecast| lines.iter().all(|other| !line.what.ends_with(&other.what));
    let new: Vec<Forecast> = failing.into_iter().filter(known).collect();
    lines.extend(new);
    lines
}

/// The forecast for an entity in status mode, up to its alarm; empty for others
/// and for one that is not monitored now.
#[must_use]
pub fn if_its_status_were_bad(spec: &EntitySpec, recovery: &Recovery, now: Time) -> Vec<Forecast> {
    if spec.status.is_none() || recovery.status().state() == State::Rest {
        return Vec::new();
    }
    if let Some(severity) = recovery.alarm() {
        return vec![Forecast {
            after: Duration::ZERO,
            what: format!(
                "the {severity} alarm stays raised; each bad status is followed by: {}",
                spec.describe_start()
            ),
        }];
    }
    let begin = |start| {
        let never = StartBehaviour::Hangs;
        let mut world = Simulation::of(spec, recovery.clone(), now, never);
        world.set_scripts(ScriptBehaviour {
            status: 1,
            start,
            takes: Duration::ZERO,
        });
        world.end_script_under_way();
        world
    };
    let ends = |notice: &Notice| matches!(notice, Notice::AlarmRaised(_));
    let mut lines = tell(begin(0), spec, now, "", ends);
    lines.extend(tell(begin(1), spec, now, "if the start fails, too: ", ends));
    lines
}

fn story(
    spec: &EntitySpec,
    recovery: &Recovery,
    now: Time,
    start: StartBehaviour,
    prefix: &str,
    ends: impl Fn(&Notice) -> bool,
) -> Vec<Forecast> {
    let mut world = Simulation::of(spec, recovery.clone(), now, start);
    world.kill(KILLED);
    tell(world, spec, now, prefix, ends)
}

/// Lets the world go on until the story ends, and tells it.
fn tell(
    mut world: Simulation<'_>,
    spec: &EntitySpec,
    now: Time,
    prefix: &str,
    ends: impl Fn(&Notice) -> bool,
) -> Vec<Forecast> {
    world.run_until(now);
    let mut end = now + HORIZON;
    while let Some(due) = world.recovery().deadline().filter(|due| *due <= end) {
        world.run_until(due);
        let ended = world.log().iter().any(|(_, effect)| match effect {
            Effect::Say(notice) => ends(notice),
            _ => false,
        });
        if ended {
            end = now;
        }
    }
    let mut lines: Vec<Forecast> = Vec::new();
    for (at, effect) in world.log() {
        let Some(what) = describe(spec, effect) else {
            continue;
        };
        lines.push(Forecast {
            after: at.since(now),
            what: format!("{prefix}{what}"),
        });
        if let Effect::Say(notice) = effect
            && ends(notice)
        {
            break;
        }
    }
    lines
}

/// The effects that a forecast tells; the rest is detail.
fn describe(spec: &EntitySpec, effect: &Effect) -> Option<String> {
    match effect {
        Effect::Unregister { .. } => Some("unregister it from the kernel's table".to_owned()),
        Effect::RemovePidfile { .. } => spec
            .pidfile
            .as_ref()
            .map(|path| format!("remove `{}` if it still names it", path.display())),
        Effect::Look { .. } => None,
        Effect::Say(notice) => match notice {
            Notice::Spawned { .. } if spec.status.is_some() => Some(spec.describe_start()),
            Notice::Spawned { attempt, .. } => Some(format!(
                "attempt {attempt} of {}: {}",
                spec.restarts,
                spec.describe_start()
            )),
            Notice::Monitoring(_) => {
                Some("the successor must stay alive for `debounce`".to_owned())
            }
            Notice::AwaitingAnswers { wanted, .. } => {
                Some(format!("the successor must answer {wanted} requests"))
            }
            Notice::AwaitingSuccessor { window } => Some(format!(
                "wait {window:?} for a successor that somebody else starts"
            )),
            Notice::Recovered(_) => Some("recovered".to_owned()),
            Notice::AttemptFailed { next_in, .. } => {
                Some(format!("attempt failed; wait {next_in:?}"))
            }
            Notice::StatusBad { .. } => Some("the status is bad".to_owned()),
            Notice::Resumed { .. } => Some("the hold is over".to_owned()),
            Notice::FirstFailure => Some("first failure is logged".to_owned()),
            Notice::AlarmRaised(severity) => Some(format!("{severity} alarm")),
            Notice::Flapping { .. } => Some("flapping alarm".to_owned()),
            Notice::QuorumFailure => Some("quorum failure".to_owned()),
            Notice::QuorumUnrecoverable => Some("quorum failure, unrecoverable".to_owned()),
            Notice::GaveUp { reason } => Some(format!("no automatic recovery: {reason}")),
            Notice::Registered(_)
            | Notice::Unregistered(_)
            | Notice::Audited { .. }
            | Notice::DuplicateInstance { .. }
            | Notice::DuplicateCleared(_)
            | Notice::OneInstance(_)
            | Notice::NotRegistered { .. }
            | Notice::Hinted(_)
            | Notice::Died(_)
            | Notice::StatusKnown { .. }
            | Notice::Missing { .. }
            | Notice::Unverifiable { .. }
            | Notice::Signalled { .. }
            | Notice::Unkillable(_)
            | Notice::Leftovers { .. }
            | Notice::StartFailed { .. }
            | Notice::Successor { .. }
            | Notice::PidChanged { .. }
            | Notice::Followed { .. }
            | Notice::Stable(_)
            | Notice::Restarted(_)
            | Notice::Operator(_)
            | Notice::Stopped
            | Notice::StopExpired
            | Notice::Held { .. }
            | Notice::Waiting { .. }
            | Notice::Gated { .. }
            | Notice::Yielding { .. }
            | Notice::StoppedElsewhere { .. }
            | Notice::Unanswered { .. }
            | Notice::PulseMissed { .. }
            | Notice::StatusGood
            | Notice::Refused { .. }
            | Notice::AlarmRefreshed(_)
            | Notice::AlarmCleared
            | Notice::StillFlapping { .. }
            | Notice::FlappingEnded
            | Notice::Cycled { .. }
            | Notice::WaitedInVain { .. }
            | Notice::GroupInVain { .. }
            | Notice::Delayed { .. }
            | Notice::StillDelayed { .. }
            | Notice::QuorumCleared => None,
        },
        Effect::EndLeftovers { .. } => {
            Some("end what the dead process left in its process group".to_owned())
        }
        Effect::AskGate => Some("ask whether the host is in a state to recover in".to_owned()),
        Effect::Register { .. }
        | Effect::Release { .. }
        | Effect::Signal { .. }
        | Effect::Start { .. }
        | Effect::StopUnit
        | Effect::RunScript { .. }
        | Effect::CancelStart
        | Effect::RequestPulse { .. }
        | Effect::CollectPulse { .. }
        | Effect::AskTurn
        | Effect::ReturnTurn
        | Effect::Fell
        | Effect::Alarm(_)
        | Effect::FlappingAlarm(_) => None,
    }
}
