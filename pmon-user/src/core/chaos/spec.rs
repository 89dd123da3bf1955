//! Random entities: every monitoring mode and start method, with settings that
//! let everything happen within minutes.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::random::Random;
use crate::core::{
    dependency::Dependencies,
    entity::{
        ActiveSpec, CommandSpec, EntitySpec, Mode, Origin, Severity, StartMethod, StatusSpec,
        StopPolicy, UnitPolicy,
    },
    storm::{BackoffPolicy, StormPolicy},
};

fn seconds(random: &mut Random, most: u64) -> Duration {
    Duration::from_secs(random.below(most))
}

/// A program that pmon executes itself.
fn command(daemonizes: bool, early: bool) -> StartMethod {
    StartMethod::Command(CommandSpec {
        argv: vec!["/usr/sbin/probe".to_owned()],
        environment: BTreeMap::new(),
        directory: PathBuf::from("/"),
        user: None,
        group: None,
        daemonizes,
        log: None,
        early,
        sockets: Vec::new(),
    })
}

fn script() -> StartMethod {
    StartMethod::Script {
        path: PathBuf::from("/etc/init.d/probe"),
    }
}

fn start_method(random: &mut Random) -> StartMethod {
    match random.below(12) {
        0 => StartMethod::None {
            reason: "none is configured".to_owned(),
        },
        1..=3 => StartMethod::Unit {
            unit: "probe.service".to_owned(),
            policy: UnitPolicy::Leave,
        },
        4 | 5 => script(),
        6 | 7 => command(true, false),
        8 | 9 => command(false, false),
        _ => command(false, true),
    }
}

fn storm(random: &mut Random) -> StormPolicy {
    if random.percent(50) {
        return StormPolicy::PMOND;
    }
    StormPolicy {
        backoff: Some(BackoffPolicy {
            max: Duration::from_secs(30),
            ..BackoffPolicy::after(Duration::from_secs(1))
        }),
        ..StormPolicy::PMOND
    }
}

/// An entity of any kind.
pub(super) fn any(random: &mut Random) -> EntitySpec {
    let status = random.percent(10).then(|| StatusSpec {
        script: PathBuf::from("/etc/init.d/probe"),
        start_arg: "start".to_owned(),
        status_arg: "status".to_owned(),
        period: Duration::from_secs(1 + random.below(20)),
        timeout: Duration::from_secs(1 + random.below(10)),
        failure_text: None,
    });
    let active = (status.is_none() && random.percent(25)).then(|| ActiveSpec {
        port: 2201,
        period: Duration::from_secs(1 + random.below(5)),
        timeout: Duration::from_secs(1),
        threshold: 1 + u32::try_from(random.below(4)).unwrap(),
        full_init_required: random.percent(20),
    });
    let start = if status.is_some() {
        script()
    } else {
        start_method(random)
    };
    let (foreground, early) = match &start {
        StartMethod::Command(command) => (!command.daemonizes, command.early),
        StartMethod::Unit { .. } | StartMethod::Script { .. } | StartMethod::None { .. } => {
            (false, false)
        }
    };
    let follow = foreground && !early && random.percent(40);
    let pidfile = !follow && (!foreground || random.percent(30));
    EntitySpec {
        name: "probe".to_owned(),
        mode: match (&status, &active) {
            (Some(_), _) => Mode::Status,
            (None, Some(_)) => Mode::Active,
            (None, None) => Mode::Passive,
        },
        severity: *random.one_of(&[Severity::Minor, Severity::Major, Severity::Critical]),
        restarts: u32::try_from(random.below(5)).unwrap(),
        interval: seconds(random, 8),
        debounce: seconds(random, 20),
        startuptime: Duration::from_secs(1) + seconds(random, 5),
        start_timeout: Duration::from_secs(5) + seconds(random, 25),
        adoption_window: if random.percent(15) {
            seconds(random, 10)
        } else {
            Duration::ZERO
        },
        pidfile: pidfile.then(|| PathBuf::from("/run/probe.pid")),
        start,
        stop: if random.percent(70) {
            StopPolicy::Graceful {
                signal: 15,
                timeout: seconds(random, 10),
            }
        } else {
            StopPolicy::KillFirst
        },
        follow,
        quorum: random.percent(20),
        subfunction: random.percent(20).then(|| "worker".to_owned()),
        active,
        status,
        dependencies: Dependencies::default(),
        storm: storm(random),
        origin: Origin::Operator,
    }
}

/// One of several related entities, which pmon can start.
pub(super) fn related(random: &mut Random, name: &str) -> EntitySpec {
    EntitySpec {
        name: name.to_owned(),
        mode: Mode::Passive,
        restarts: 1 + u32::try_from(random.below(4)).unwrap(),
        pidfile: Some(PathBuf::from("/run/probe.pid")),
        start: if random.percent(50) {
            script()
        } else {
            command(true, false)
        },
        follow: false,
        active: None,
        status: None,
        ..any(random)
    }
}
