//! Taken out of recovery by an operator: told and registered, never acted upon.

use super::*;

const HOLD: OperatorAction = OperatorAction::Hold { lasts: None };

fn hold_for(seconds: u64) -> OperatorAction {
    OperatorAction::Hold {
        lasts: Some(Duration::from_secs(seconds)),
    }
}

/// Everything but looking, registering and telling.
fn acts(world: &Simulation<'_>) -> Vec<u64> {
    times(world, |effect| match effect {
        Effect::Look { .. }
        | Effect::Register { .. }
        | Effect::Unregister { .. }
        | Effect::Release { .. }
        | Effect::Alarm(AlarmChange::Clear)
        | Effect::RequestPulse { .. }
        | Effect::CollectPulse { .. }
        | Effect::AskGate
        | Effect::AskTurn
        | Effect::ReturnTurn
        | Effect::Fell
        | Effect::Say(_) => false,
        Effect::RemovePidfile { .. }
        | Effect::Signal { .. }
        | Effect::EndLeftovers { .. }
        | Effect::Start { .. }
        | Effect::RunScript { .. }
        | Effect::StopUnit
        | Effect::CancelStart
        | Effect::FlappingAlarm(_)
        | Effect::Alarm(AlarmChange::Raise(_) | AlarmChange::Refresh(_)) => true,
    })
}

#[test]
fn a_death_is_told_and_nothing_is_done_until_it_is_resumed() {
    for severity in [Severity::Minor, Severity::Major, Severity::Critical] {
        for restarts in [0, 3] {
            let spec = spec(severity, restarts);
            let mut world = healthy(&spec, works());
            world.happen(request(HOLD));
            assert!(world.recovery().is_held());
            assert_eq!(world.recovery().current().unwrap().identity, FIRST);
            world.kill(KILLED);
            assert_eq!(said(&world, "died"), [0]);
            world.run_until(second(86_400));
            assert_eq!(acts(&world), NEVER);
            assert_eq!(world.recovery().deadline(), None);
            assert_eq!(world.recovery().last_death().unwrap().identity, FIRST);

            world.happen(request(OperatorAction::Resume));
            let resumed = 86_400;
            if restarts == 0 {
                assert_eq!(raised(&world, severity), [resumed]);
                assert_eq!(starts(&world), NEVER);
            } else {
                assert_eq!(starts(&world), [resumed]);
                assert_eq!(said(&world, "first_failure"), [resumed]);
                world.run_for(Duration::from_secs(60));
                assert_eq!(*world.recovery().stage(), Stage::Manage);
                assert_eq!(world.recovery().alarm(), None);
            }
        }
    }
}

#[test]
fn a_hold_ends_by_itself_and_what_is_down_is_recovered_then() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(hold_for(1800)));
    assert_eq!(world.recovery().deadline(), Some(second(1800)));
    world.run_until(second(100));
    world.kill(KILLED);
    world.run_until(second(1799));
    assert_eq!(acts(&world), NEVER);
    world.run_until(second(1900));
    assert_eq!(said(&world, "resumed"), [1800]);
    assert_eq!(starts(&world), [1800]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_healthy_process_is_as_it_was_when_the_hold_is_over() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(hold_for(10)));
    world.run_until(second(5));
    // A further hold takes its place.
    world.happen(request(hold_for(10)));
    world.run_until(second(14));
    assert!(world.recovery().is_held());
    world.run_until(second(15));
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().current().unwrap().identity, FIRST);
    assert_eq!(acts(&world), NEVER);
    assert_eq!(world.recovery().starts(), Starts::default());
}

#[test]
fn operators_of_a_held_entity_change_nothing() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(HOLD));
    for action in [
        OperatorAction::Start,
        OperatorAction::Stop,
        OperatorAction::StopFor {
            lasts: Duration::from_secs(5),
        },
        OperatorAction::Restart,
    ] {
        world.happen(request(action));
        world.run_for(Duration::from_secs(60));
        assert_eq!(acts(&world), NEVER, "{action:?}");
        assert!(world.recovery().is_held());
    }
}

#[test]
fn what_somebody_starts_meanwhile_is_registered_and_counted() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(HOLD));
    world.kill(KILLED);
    world.run_until(second(20));
    let by_hand = world.start_by_hand();
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    assert_eq!(world.recovery().starts().external, 1);
    assert_eq!(said(&world, "recovered"), [20]);
    assert!(world.recovery().is_held());
    // Killed once more, and again told only.
    world.kill(KILLED);
    world.run_until(second(500));
    assert_eq!(said(&world, "died"), [0, 20]);
    assert_eq!(acts(&world), NEVER);
}

#[test]
fn an_alarm_is_cleared_by_a_hold_and_raised_again_only_after_it() {
    let spec = spec(Severity::Major, 1);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(12));
    assert_eq!(raised(&world, Severity::Major), [10]);
    world.happen(request(hold_for(100)));
    assert_eq!(world.recovery().alarm(), None);
    world.clear_log();
    world.run_until(second(111));
    assert_eq!(acts(&world), NEVER);
    world.run_until(second(122));
    assert_eq!(starts(&world), [112, 122]);
    assert_eq!(raised(&world, Severity::Major), [122]);
}

/// Never a second start beside one that is at work.
#[test]
fn a_start_command_at_work_is_left_alone_and_not_doubled() {
    let slow = Duration::from_secs(20);
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(
        &spec,
        StartBehaviour::Works {
            appears: slow,
            exits: slow,
            lives: None,
        },
    );
    world.kill(KILLED);
    world.run_until(second(2));
    world.happen(request(hold_for(5)));
    world.run_until(second(100));
    assert_eq!(starts(&world), [0]);
    assert_eq!(times(&world, |e| *e == Effect::CancelStart), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Manage);

    // Held until after it has done its work.
    let mut world = healthy(
        &spec,
        StartBehaviour::Works {
            appears: slow,
            exits: slow,
            lives: None,
        },
    );
    world.kill(KILLED);
    world.run_until(second(2));
    world.happen(request(hold_for(50)));
    world.run_until(second(51));
    assert!(world.recovery().current().is_some());
    assert_eq!(world.recovery().starts().external, 0);
    world.run_until(second(100));
    assert_eq!(starts(&world), [0]);
    assert_eq!(said(&world, "recovered"), [72], "after `debounce`");
}

#[test]
fn what_was_stopped_stays_so_after_a_hold_and_a_stop_under_way_ends() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(OperatorAction::Stop));
    world.run_until(second(1));
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    world.happen(request(hold_for(10)));
    world.run_until(second(100));
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    assert_eq!(starts(&world), NEVER);

    // In the midst of a restart: it goes on afterwards.
    let mut world = healthy(&spec, works());
    world.happen(request(OperatorAction::Restart));
    world.happen(request(hold_for(10)));
    world.run_until(second(9));
    assert_eq!(starts(&world), NEVER);
    world.run_until(second(60));
    assert_eq!(starts(&world), [10]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_hold_outlives_the_daemon() {
    let spec = spec(Severity::Major, 3);
    let held = |until| Recovery::new_held(&spec, DEATH, AfterHold::Recover, until);
    let sight = |outcome| {
        Event::Seen(Sighting {
            occasion: Occasion::Asked,
            outcome,
            foreign_script: None,
            unit: None,
        })
    };
    // Alive: registered, and nobody else's start.
    let (mut recovery, effects) = held(Some(second(60)));
    assert!(matches!(effects[..], [Effect::Look { .. }]));
    let effects = recovery.step(&spec, sight(Outcome::Process(FIRST)), DEATH);
    assert_eq!(effects, [Effect::Register { identity: FIRST }]);
    assert!(recovery.is_held());
    assert_eq!(recovery.starts().external, 0);
    assert_eq!(recovery.deadline(), Some(second(60)));
    // Gone: told once.
    let (mut recovery, _) = held(None);
    for told in [true, false] {
        let nothing = Outcome::Nothing {
            reason: "no pidfile".to_owned(),
        };
        let effects = recovery.step(&spec, sight(nothing), DEATH);
        let missing = matches!(effects[..], [Effect::Say(Notice::Missing { .. })]);
        assert_eq!((missing, effects.is_empty()), (told, !told), "{effects:?}");
    }
    // Died while there was no daemon.
    let (mut recovery, _) = held(None);
    assert!(recovery.recall(FIRST, 7));
    // Over before anybody has looked: the look decides.
    let (recovery, _) = held(Some(second(1)));
    let mut world = Simulation::of(&spec, recovery, DEATH, works());
    world.run_until(second(1));
    assert_eq!(starts(&world), [1]);
}

/// Its start command has ended well, and it is out of everybody's sight.
#[test]
fn a_process_on_its_way_when_the_hold_began_is_not_doubled() {
    let spec = spec(Severity::Major, 3);
    let start = StartBehaviour::Works {
        appears: Duration::from_secs(3),
        exits: Duration::from_secs(1),
        lives: None,
    };
    let mut world = healthy(&spec, start);
    world.kill(KILLED);
    world.run_until(second(2));
    world.happen(request(HOLD));
    world.happen(request(OperatorAction::Resume));
    world.run_until(second(100));
    assert_eq!(starts(&world), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

/// Somebody starts another one while the old one is still on its way out.
#[test]
fn what_replaces_a_process_that_is_being_ended_rests_when_the_hold_is_over() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = healthy(&spec, works()).recovery().clone();
    recovery.step(&spec, request(OperatorAction::Stop), DEATH);
    recovery.step(&spec, request(HOLD), DEATH);
    let identity = Identity {
        pid: 900,
        start_time: 9,
    };
    let seen = Event::Seen(Sighting {
        occasion: Occasion::PidfileChanged,
        outcome: Outcome::Process(identity),
        foreign_script: None,
        unit: None,
    });
    recovery.step(&spec, seen, second(1));
    let generation = 2;
    let registered = Event::Registered {
        identity,
        generation,
    };
    recovery.step(&spec, registered, second(1));
    recovery.step(&spec, request(OperatorAction::Resume), second(2));
    recovery.step(&spec, Event::Gone { identity: FIRST }, second(3));
    assert_eq!(*recovery.stage(), Stage::Manage);
    assert_eq!(recovery.current().unwrap().identity, identity);
}
