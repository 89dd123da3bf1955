//! The vectors of spec/pmond.md §2.12 (V1, V2, V4–V8) and the rules around
//! them, in simulated time. Times are seconds after the death.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{path::PathBuf, time::Duration};

use super::*;
use crate::core::{
    death::WaitStatus,
    effect::{AlarmChange, StartVerb},
    entity::{Origin, StartMethod, StopPolicy},
    event::{Occasion, OperatorAction, OperatorRequest, Outcome, Sighting},
    simulation::{Simulation, StartBehaviour},
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
        pidfile: Some(PathBuf::from("/run/probe.pid")),
        start: StartMethod::Script {
            path: PathBuf::from("/etc/init.d/probe"),
        },
        stop: StopPolicy::Graceful {
            signal: 15,
            timeout: Duration::from_secs(10),
        },
        quorum: false,
        subfunction: None,
        active: None,
        status: None,
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

#[test]
fn v1_one_crash_and_a_clean_restart() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    // 0: LOG, unregister, start.
    assert_eq!(said(&world, "first_failure"), [0]);
    assert_eq!(
        times(&world, |e| matches!(e, Effect::Unregister { .. })),
        [0]
    );
    assert_eq!(starts(&world), [0]);
    // The successor's own death would be an event as soon as it exists.
    world.run_until(second(1));
    assert!(world.recovery().current().is_some());
    // 5: child ok, MONITOR.
    world.run_until(second(5));
    assert_eq!(said(&world, "monitoring"), [5]);
    assert!(world.recovery().is_failed());
    // ~24: stable, counter 0.
    world.run_until(second(60));
    let stable = said(&world, "stable");
    assert!(stable == [24] || stable == [25], "{stable:?}");
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().attempts(), 0);
    assert!(!world.recovery().is_failed());
    assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
    assert_eq!(starts(&world), [0]);
}

#[test]
fn v2_a_start_command_that_always_fails() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(29));
    assert_eq!(starts(&world), [0, 10, 20]);
    assert_eq!(world.recovery().attempts(), 3);
    assert_eq!(world.recovery().alarm(), None);
    world.run_until(second(30));
    assert_eq!(raised(&world, Severity::Major), [30]);
    assert_eq!(starts(&world), [0, 10, 20, 30]);
    assert_eq!(world.recovery().attempts(), 1);
    world.run_until(second(200));
    // The degrade event follows 30 to 40 s later, then about every 40 s.
    assert_eq!(said(&world, "alarm_refreshed"), [70, 110, 150, 190]);
    assert_eq!(said(&world, "first_failure"), [0], "no second LOG");
    assert_eq!(raised(&world, Severity::Major), [30], "raised once");
}

#[test]
fn v2_ends_when_the_start_command_is_mended() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(35));
    world.set_start(works());
    world.run_until(second(120));
    assert_eq!(starts(&world), [0, 10, 20, 30, 40]);
    assert_eq!(said(&world, "recovered"), [65]);
    assert_eq!(said(&world, "alarm_cleared"), [65]);
    assert_eq!(world.recovery().alarm(), None);
}

#[test]
fn v4_critical_repeats_at_every_threshold() {
    let spec = spec(Severity::Critical, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(95));
    assert_eq!(said(&world, "first_failure"), [0]);
    assert_eq!(raised(&world, Severity::Critical), [30]);
    assert_eq!(said(&world, "alarm_refreshed"), [60, 90]);
    assert_eq!(starts(&world), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
}

#[test]
fn v5_critical_without_restarts() {
    let spec = spec(Severity::Critical, 0);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    assert_eq!(raised(&world, Severity::Critical), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Ignore);
    world.run_until(second(100));
    assert_eq!(starts(&world), NEVER, "no attempt");
    // Recovers by itself if the pidfile's pid comes alive; then the alarm clears.
    let by_hand = world.start_by_hand();
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    assert_eq!(said(&world, "alarm_cleared"), [100]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn v6_minor_and_major_without_restarts() {
    for severity in [Severity::Minor, Severity::Major] {
        let spec = spec(severity, 0);
        let mut world = healthy(&spec, works());
        world.kill(KILLED);
        assert_eq!(said(&world, "first_failure"), [0]);
        assert_eq!(raised(&world, severity), [0]);
        assert_eq!(starts(&world), NEVER);
        world.run_until(second(50));
        world.start_by_hand();
        assert_eq!(said(&world, "alarm_cleared"), [50], "without debounce");
        assert_eq!(world.recovery().starts().external, 1);
    }
}

#[test]
fn v7_dies_while_being_monitored() {
    let spec = spec(Severity::Major, 3);
    let lives = Some(Duration::from_secs(7));
    let mut world = healthy(
        &spec,
        StartBehaviour::Works {
            appears: Duration::from_secs(1),
            exits: Duration::from_secs(1),
            lives,
        },
    );
    world.kill(KILLED);
    // Appears at 1, MONITOR at 5, dies at 8: a failed attempt, the next one
    // `interval` later.
    world.run_until(second(13));
    assert_eq!(said(&world, "attempt_failed"), [8]);
    assert_eq!(starts(&world), [0, 13]);
    world.run_until(second(100));
    assert_eq!(raised(&world, Severity::Major), [39]);
}

#[test]
fn v8_a_restart_of_a_healthy_process() {
    for stop in [
        StopPolicy::KillFirst,
        StopPolicy::Graceful {
            signal: 15,
            timeout: Duration::from_secs(10),
        },
    ] {
        let mut spec = spec(Severity::Major, 3);
        spec.stop = stop;
        let mut world = healthy(&spec, works());
        world.happen(request(OperatorAction::Restart));
        world.run_until(second(5));
        let signal = if stop == StopPolicy::KillFirst { 9 } else { 15 };
        assert_eq!(
            times(
                &world,
                |e| matches!(e, Effect::Signal { signal: s, .. } if *s == signal)
            ),
            [0]
        );
        assert_eq!(said(&world, "restarted"), [5]);
        assert_eq!(said(&world, "first_failure"), NEVER);
        assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
        assert_eq!(world.recovery().attempts(), 0);
        assert_ne!(world.recovery().current().unwrap().identity, FIRST);
        assert_eq!(world.recovery().starts().operator, 1);
        assert_eq!(world.recovery().starts().auto, 0);
    }
}

#[test]
fn the_order_of_a_kill_is_unregister_pidfile_signal() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(OperatorAction::Restart));
    let order: Vec<&Effect> = world
        .log()
        .iter()
        .map(|(_, effect)| effect)
        .filter(|effect| !matches!(effect, Effect::Say(_)))
        .collect();
    assert_eq!(
        order,
        [
            &Effect::Unregister { identity: FIRST },
            &Effect::RemovePidfile { identity: FIRST },
            &Effect::Signal {
                identity: FIRST,
                signal: 15
            },
        ]
    );
}

#[test]
fn nothing_is_started_before_the_old_process_is_gone() {
    let spec = spec(Severity::Major, 3);
    let now = DEATH;
    let (mut recovery, _) = Recovery::new(&spec, now);
    let seen = |outcome| {
        Event::Seen(Sighting {
            occasion: Occasion::Asked,
            outcome,
            foreign_script: None,
        })
    };
    recovery.step(&spec, seen(Outcome::Process(FIRST)), now);
    recovery.step(
        &spec,
        Event::Registered {
            identity: FIRST,
            generation: 1,
        },
        now,
    );
    recovery.step(&spec, request(OperatorAction::Restart), now);
    // It ignores SIGTERM: SIGKILL at the deadline, then people are told.
    assert_eq!(recovery.deadline(), Some(second(10)));
    let effects = recovery.step(&spec, Event::Tick, second(10));
    assert!(effects.contains(&Effect::Signal {
        identity: FIRST,
        signal: 9
    }));
    let effects = recovery.step(&spec, Event::Tick, second(20));
    assert!(effects.contains(&Effect::Say(Notice::Unkillable(FIRST))));
    assert_eq!(recovery.alarm(), Some(Severity::Major));
    let effects = recovery.step(&spec, Event::Gone { identity: FIRST }, second(25));
    assert!(effects.contains(&Effect::Look {
        foreign_script: true
    }));
    let nothing = Outcome::Nothing {
        reason: "no pidfile".to_owned(),
    };
    let effects = recovery.step(&spec, seen(nothing), second(25));
    assert!(effects.iter().any(|e| matches!(e, Effect::Start { .. })));
}

#[test]
fn a_hint_alone_starts_nothing() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(Event::Hint(Hint {
        identity: FIRST,
        generation: 1,
        source: crate::core::death::SourceName::Ebpf,
        died_at: Some(DEATH),
        status: Some(KILLED),
    }));
    world.run_until(second(60));
    assert_eq!(said(&world, "hint"), [0]);
    assert_eq!(starts(&world), NEVER);
    assert!(world.recovery().current().unwrap().hinted);
}

#[test]
fn a_death_of_somebody_else_changes_nothing() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(Event::Died(Death {
        identity: Identity {
            pid: FIRST.pid,
            start_time: 77,
        },
        generation: 9,
        died_at: None,
        detected_at: DEATH,
        detected_by: crate::core::death::SourceName::Pidfd,
        confirmed_at: DEATH,
        status: None,
        last_seen: crate::core::death::LastSeen::default(),
    }));
    assert!(world.log().is_empty());
}

#[test]
fn a_manual_restart_in_every_stage_is_adopted_and_never_doubled() {
    // Seconds after the death at which somebody starts a successor by hand,
    // and the stage that is to be met there.
    let cases = [
        (2, "monitor_wait"),
        (7, "restart_wait"),
        (12, "monitor_wait"),
        (17, "restart_wait"),
    ];
    for (at, expected) in cases {
        let spec = spec(Severity::Major, 3);
        let mut world = healthy(&spec, StartBehaviour::Fails(1));
        world.kill(KILLED);
        world.run_until(second(at));
        assert_eq!(world.recovery().stage().as_str(), expected, "{at}");
        let before = starts(&world).len();
        let by_hand = world.start_by_hand();
        world.run_until(second(200));
        assert_eq!(starts(&world).len(), before, "started again at {at}");
        assert_eq!(world.recovery().current().unwrap().identity, by_hand);
        assert_eq!(*world.recovery().stage(), Stage::Manage, "{at}");
        assert_eq!(said(&world, "recovered").len(), 1);
    }
}

#[test]
fn a_manual_restart_while_being_monitored_is_adopted() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(10));
    let by_hand = world.start_by_hand();
    world.run_until(second(100));
    assert_eq!(said(&world, "pid_changed"), [10]);
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    assert_eq!(starts(&world), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn somebody_elses_init_script_is_waited_for() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_foreign_script(Some(4242));
    world.kill(WaitStatus(15));
    world.run_until(second(3));
    assert_eq!(said(&world, "waiting"), [0]);
    assert_eq!(starts(&world), NEVER, "not while the script is at work");
    let by_hand = world.start_by_hand();
    world.set_foreign_script(None);
    world.run_until(second(60));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_script_that_only_stopped_it_is_not_waited_for_longer_than_it_runs() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_foreign_script(Some(4242));
    world.kill(WaitStatus(15));
    world.run_until(second(2));
    world.set_foreign_script(None);
    world.run_until(second(60));
    assert_eq!(starts(&world), [2]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_hanging_foreign_script_is_waited_for_only_so_long() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_foreign_script(Some(4242));
    world.kill(WaitStatus(15));
    world.run_until(second(29));
    assert_eq!(starts(&world), NEVER);
    world.run_until(second(31));
    assert_eq!(starts(&world).len(), 1);
}

#[test]
fn a_start_command_that_exits_0_without_starting_anything_is_a_failed_attempt() {
    let spec = spec(Severity::Major, 1);
    let mut world = healthy(&spec, StartBehaviour::Fails(0));
    world.kill(KILLED);
    world.run_until(second(5));
    assert_eq!(said(&world, "attempt_failed"), [5]);
    let problem = world.recovery().problem().unwrap();
    assert!(
        problem.contains("exited 0, but no process appeared"),
        "{problem}"
    );
    world.run_until(second(10));
    assert_eq!(raised(&world, Severity::Major), [10]);
}

#[test]
fn a_hanging_start_command_is_cancelled_at_its_deadline_not_before() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Hangs);
    world.kill(KILLED);
    world.run_until(second(100));
    let cancelled = times(&world, |e| *e == Effect::CancelStart);
    assert_eq!(cancelled, [30, 65, 100]);
    assert_eq!(starts(&world), [0, 35, 70]);
}

#[test]
fn a_slow_start_is_not_a_failed_start() {
    let spec = spec(Severity::Major, 3);
    let slow = Duration::from_secs(12);
    let mut world = healthy(
        &spec,
        StartBehaviour::Works {
            appears: slow,
            exits: slow,
            lives: None,
        },
    );
    world.kill(KILLED);
    world.run_until(second(100));
    assert_eq!(starts(&world), [0]);
    assert_eq!(said(&world, "monitoring"), [12]);
    assert_eq!(said(&world, "recovered"), [32]);
}

#[test]
fn the_end_of_an_earlier_run_is_not_taken_for_this_ones() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Hangs);
    world.kill(KILLED);
    world.run_until(second(36));
    assert_eq!(starts(&world), [0, 35]);
    let exited = |run| Event::StartEnded {
        run,
        end: StartEnd::Exited {
            code: 1,
            last_line: None,
        },
    };
    world.happen(exited(1));
    assert_eq!(said(&world, "start_failed"), [30], "run 1 was over");
    world.happen(exited(2));
    assert_eq!(said(&world, "start_failed"), [30, 36]);
}

#[test]
fn a_daemon_that_forks_twice_may_change_its_pid_within_the_window() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Hangs);
    world.kill(KILLED);
    world.run_until(second(1));
    world.start_by_hand();
    world.run_until(second(2));
    world.kill(WaitStatus(0));
    assert!(matches!(
        world.recovery().stage(),
        Stage::MonitorWait { .. }
    ));
    let last = world.start_by_hand();
    world.happen(Event::StartEnded {
        run: 1,
        end: StartEnd::Exited {
            code: 0,
            last_line: None,
        },
    });
    world.run_until(second(60));
    assert_eq!(starts(&world), [0]);
    assert_eq!(world.recovery().current().unwrap().identity, last);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_pidfile_that_cannot_be_verified_starts_nothing_and_kills_nothing() {
    let spec = spec(Severity::Major, 3);
    let (mut recovery, _) = Recovery::new(&spec, DEATH);
    let effects = recovery.step(
        &spec,
        Event::Seen(Sighting {
            occasion: Occasion::Asked,
            outcome: Outcome::Unverifiable {
                reason: "`/run/probe.pid` is a symbolic link".to_owned(),
            },
            foreign_script: None,
        }),
        DEATH,
    );
    assert_eq!(*recovery.stage(), Stage::Unverifiable);
    assert!(effects.iter().all(|e| matches!(e, Effect::Say(_))));
    assert_eq!(recovery.deadline(), None);
}

#[test]
fn an_operators_restart_that_keeps_failing_does_raise_the_alarm() {
    let spec = spec(Severity::Major, 2);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.happen(request(OperatorAction::Restart));
    world.run_until(second(100));
    assert_eq!(starts(&world)[..4], [0, 10, 20, 30]);
    assert_eq!(raised(&world, Severity::Major), [30]);
    assert_eq!(world.recovery().starts().operator, 1);
}

#[test]
fn a_restart_of_a_failed_service_restarts_it_once() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(7));
    world.set_start(works());
    world.happen(request(OperatorAction::Restart));
    world.run_until(second(100));
    assert_eq!(starts(&world), [0, 7]);
    assert_eq!(said(&world, "recovered"), [32]);
}

#[test]
fn stop_leaves_it_down_and_clears_the_alarm() {
    let spec = spec(Severity::Major, 1);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(12));
    assert_eq!(world.recovery().alarm(), Some(Severity::Major));
    world.happen(request(OperatorAction::Stop));
    assert_eq!(world.recovery().alarm(), None);
    let before = starts(&world).len();
    world.run_until(second(5000));
    assert_eq!(starts(&world).len(), before);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    world.set_start(works());
    world.happen(request(OperatorAction::Start));
    world.run_for(Duration::from_secs(60));
    assert_eq!(starts(&world).len(), before + 1);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn an_entity_without_a_start_method_is_reported_not_recovered() {
    let mut spec = spec(Severity::Critical, 3);
    spec.start = StartMethod::None {
        reason: "no unit, no script".to_owned(),
    };
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    assert_eq!(starts(&world), NEVER);
    assert_eq!(raised(&world, Severity::Critical), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Ignore);
}

#[test]
fn a_pid_change_without_a_death_is_followed_without_a_restart() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    let new = world.start_by_hand();
    assert_eq!(said(&world, "pid_changed"), [0]);
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().current().unwrap().identity, new);
    assert_eq!(world.recovery().starts().external, 1);
}

#[test]
fn the_first_attempt_says_start_and_later_ones_restart() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(25));
    let verbs: Vec<StartVerb> = world
        .log()
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Start { verb, .. } => Some(*verb),
            _ => None,
        })
        .collect();
    assert_eq!(
        verbs,
        [StartVerb::Start, StartVerb::Restart, StartVerb::Restart]
    );
}

#[test]
fn ignored_entities_are_never_acted_upon() {
    let mut spec = spec(Severity::Major, 3);
    spec.mode = Mode::Ignore;
    let mut world = Simulation::new(&spec, None, works());
    world.happen(request(OperatorAction::Restart));
    world.run_until(DEATH);
    assert!(
        world
            .log()
            .iter()
            .all(|(_, effect)| matches!(effect, Effect::Say(_)))
    );
}

#[test]
fn a_healthy_entity_has_no_deadline() {
    let spec = spec(Severity::Major, 3);
    let world = healthy(&spec, works());
    assert_eq!(world.recovery().deadline(), None);
}

#[test]
fn deaths_are_counted_within_their_window() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    for _ in 0..3 {
        world.kill(KILLED);
        world.run_for(Duration::from_secs(1800));
    }
    let now = world.now();
    let recovery = world.recovery();
    assert_eq!(recovery.deaths_within(Duration::from_secs(3601), now), 2);
    assert_eq!(recovery.deaths_within(Duration::from_secs(86_400), now), 3);
}

#[test]
fn the_forecast_of_a_healthy_entity_ends_well_or_in_an_alarm() {
    let spec = spec(Severity::Major, 3);
    let world = healthy(&spec, works());
    let forecast = crate::core::forecast::if_it_died_now(&spec, world.recovery(), world.now());
    let lines: Vec<String> = forecast
        .iter()
        .map(|line| format!("{} {}", line.after.as_secs(), line.what))
        .collect();
    let Some(recovered) = lines.iter().position(|line| line == "25 recovered") else {
        panic!("{lines:#?}");
    };
    assert_eq!(lines[2], "0 first failure is logged");
    assert_eq!(lines[3], "0 attempt 1 of 3: /etc/init.d/probe start");
    assert!(lines[recovered..].contains(&"30 if every attempt fails: major alarm".to_owned()));
}
