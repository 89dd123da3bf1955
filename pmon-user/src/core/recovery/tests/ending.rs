//! What operators ask for, and how a live process is ended.

use super::*;

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
            unit: None,
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
fn what_a_cancelled_start_leaves_behind_is_ended_and_a_later_start_adopted() {
    let spec = spec(Severity::Major, 3);
    let (mut recovery, _) = Recovery::new(&spec, DEATH);
    let seen = |outcome| {
        Event::Seen(Sighting {
            occasion: Occasion::Asked,
            outcome,
            foreign_script: None,
            unit: None,
        })
    };
    let started_at = |pid, time: Time| Identity {
        pid,
        start_time: time.as_boot_ns() / pmon_common::START_TICK_NS,
    };
    let nothing = Outcome::Nothing {
        reason: "no pidfile".to_owned(),
    };
    recovery.step(&spec, seen(nothing), DEATH);
    recovery.step(&spec, Event::Turn, DEATH);
    assert_eq!(recovery.stage().as_str(), "monitor_wait");
    let effects = recovery.step(&spec, request(OperatorAction::Stop), second(2));
    assert!(effects.contains(&Effect::CancelStart));
    assert_eq!(*recovery.stage(), Stage::Stopped);

    let late = started_at(600, second(1));
    let effects = recovery.step(&spec, seen(Outcome::Process(late)), second(3));
    assert!(effects.contains(&Effect::Signal {
        identity: late,
        signal: 15
    }));
    recovery.step(&spec, Event::Gone { identity: late }, second(4));
    assert_eq!(*recovery.stage(), Stage::Stopped);
    assert_eq!(recovery.starts().external, 0);

    let wanted = started_at(700, second(5));
    recovery.step(&spec, seen(Outcome::Process(wanted)), second(6));
    assert_eq!(*recovery.stage(), Stage::Manage);
    assert_eq!(recovery.starts().external, 1);
}

/// It was raised because the old process did not go.
#[test]
fn the_alarm_of_an_old_process_ends_with_the_restart() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = healthy(&spec, works()).recovery().clone();
    recovery.step(&spec, request(OperatorAction::Restart), DEATH);
    for tick in [second(10), second(20)] {
        recovery.step(&spec, Event::Tick, tick);
    }
    assert_eq!(recovery.alarm(), Some(Severity::Major));
    let seen = |outcome| {
        Event::Seen(Sighting {
            occasion: Occasion::Asked,
            outcome,
            foreign_script: None,
            unit: None,
        })
    };
    let nothing = Outcome::Nothing {
        reason: "gone".to_owned(),
    };
    recovery.step(&spec, Event::Gone { identity: FIRST }, second(21));
    recovery.step(&spec, seen(nothing), second(21));
    let successor = Identity {
        pid: 900,
        start_time: 9,
    };
    recovery.step(&spec, seen(Outcome::Process(successor)), second(22));
    let end = StartEnd::Exited {
        code: 0,
        last_line: None,
    };
    recovery.step(&spec, Event::StartEnded { run: 1, end }, second(23));
    let effects = recovery.step(&spec, Event::Tick, second(26));
    assert!(effects.contains(&Effect::Alarm(AlarmChange::Clear)));
    assert_eq!(*recovery.stage(), Stage::Manage);
}
