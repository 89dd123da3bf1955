//! Start commands that are slow, hang, lie or leave something behind.

use super::*;

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
        last_thread: true,
    }));
    world.run_until(second(60));
    assert_eq!(said(&world, "hint"), [0]);
    assert_eq!(starts(&world), NEVER);
    assert!(world.recovery().current().unwrap().hinted);
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
    // The one that was there on the way was never taken for the daemon.
    assert_eq!(said(&world, "successor"), [2]);
    assert_eq!(world.recovery().current().unwrap().identity, last);
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
fn leftovers_are_ended_once_and_only_when_an_attempt_has_failed() {
    let ended = |world: &Simulation<'_>| -> Vec<(u64, u32)> {
        world
            .log()
            .iter()
            .filter_map(|(at, effect)| match effect {
                Effect::EndLeftovers { identity, died } => {
                    assert!(*died <= *at);
                    Some((at.since(DEATH).as_secs(), identity.pid))
                }
                _ => None,
            })
            .collect()
    };
    let mut spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(60));
    assert_eq!(ended(&world), []);

    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(60));
    assert_eq!(starts(&world)[..3], [0, 10, 20]);
    assert_eq!(ended(&world), [(10, FIRST.pid)]);
    let at_second_start: Vec<_> = world
        .log()
        .iter()
        .filter(|(at, _)| *at == second(10))
        .map(|(_, effect)| effect)
        .filter(|e| matches!(e, Effect::EndLeftovers { .. } | Effect::Start { .. }))
        .collect();
    assert!(matches!(
        at_second_start[..],
        [Effect::EndLeftovers { .. }, Effect::Start { .. }]
    ));

    // systemd does it itself.
    spec.start = StartMethod::Unit {
        unit: "probe.service".to_owned(),
        policy: crate::core::entity::UnitPolicy::Leave,
    };
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(60));
    assert_eq!(ended(&world), []);
}
