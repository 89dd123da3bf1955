//! The rules of the state machine, in simulated time, one file per behaviour;
//! here is what they share. Times are seconds after the death.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod active;
mod active_vectors;
mod adoption;
mod alarms;
mod early;
mod ending;
mod following;
mod gates;
mod holding;
mod manual;
mod quorum;
mod relations;
mod remembered;
mod resumed;
mod standing;
mod starts;
mod status;
mod status_starts;
mod storms;
mod units;
mod vectors;
mod window;

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::*;
use crate::core::{
    death::{Hint, WaitStatus},
    effect::{AlarmChange, StartVerb},
    entity::{Origin, Severity, StartMethod, StopPolicy},
    event::{Occasion, OperatorAction, OperatorRequest, Outcome, Sighting},
    simulation::{Simulation, StartBehaviour},
    storm::StormPolicy,
};

const FIRST: Identity = Identity {
    pid: 500,
    start_time: 1,
};
const KILLED: WaitStatus = WaitStatus(9);
const DEATH: Time = Time::from_boot_ns(1_000_000_000_000);

fn spec(severity: Severity, restarts: u32) -> EntitySpec {
    EntitySpec {
        name: "probe".to_owned(),
        mode: Mode::Passive,
        severity,
        restarts,
        interval: Duration::from_secs(5),
        debounce: Duration::from_secs(20),
        startuptime: Duration::from_secs(5),
        start_timeout: Duration::from_secs(30),
        adoption_window: Duration::ZERO,
        pidfile: Some(PathBuf::from("/run/probe.pid")),
        start: StartMethod::Script {
            path: PathBuf::from("/etc/init.d/probe"),
        },
        stop: StopPolicy::Graceful {
            signal: 15,
            timeout: Duration::from_secs(10),
        },
        follow: false,
        quorum: false,
        subfunction: None,
        active: None,
        status: None,
        dependencies: crate::core::dependency::Dependencies::default(),
        storm: StormPolicy::PMOND,
        origin: Origin::Operator,
    }
}

fn works() -> StartBehaviour {
    StartBehaviour::Works {
        appears: Duration::from_secs(1),
        exits: Duration::from_secs(1),
        lives: None,
    }
}

/// A healthy entity at the moment of [`DEATH`], with an empty log.
fn healthy(spec: &EntitySpec, start: StartBehaviour) -> Simulation<'_> {
    let mut world = Simulation::new(spec, Some(FIRST), start);
    world.run_until(DEATH);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().current().unwrap().identity, FIRST);
    world.clear_log();
    world
}

/// An empty list of seconds.
const NEVER: [u64; 0] = [];

fn second(n: u64) -> Time {
    DEATH + Duration::from_secs(n)
}

/// Seconds after the death at which `wanted` was asked for.
fn times(world: &Simulation<'_>, wanted: impl Fn(&Effect) -> bool) -> Vec<u64> {
    world
        .log()
        .iter()
        .filter(|(_, effect)| wanted(effect))
        .map(|(at, _)| at.since(DEATH).as_secs())
        .collect()
}

fn starts(world: &Simulation<'_>) -> Vec<u64> {
    times(world, |e| matches!(e, Effect::Start { .. }))
}

fn said(world: &Simulation<'_>, kind: &str) -> Vec<u64> {
    times(
        world,
        |e| matches!(e, Effect::Say(notice) if notice.kind() == kind),
    )
}

fn raised(world: &Simulation<'_>, severity: Severity) -> Vec<u64> {
    times(world, |e| *e == Effect::Alarm(AlarmChange::Raise(severity)))
}

fn request(action: OperatorAction) -> Event {
    Event::Operator(OperatorRequest {
        action,
        reason: None,
        by: "uid 0".to_owned(),
    })
}
