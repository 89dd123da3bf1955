//! The entity among others: restarted for its group, waiting for whom it requires.

use super::*;
use crate::core::{dependency::Standing, event::Delay, simulation::TurnBehaviour};

fn cycle() -> Event {
    Event::Cycle {
        group: "shop".to_owned(),
    }
}

#[test]
fn a_restart_for_the_group_is_no_failure() {
    let spec = spec(Severity::Critical, 3);
    let mut world = healthy(&spec, works());
    world.set_turns(TurnBehaviour::Withheld);
    world.happen(cycle());
    assert_eq!(world.recovery().standing(), Standing::Ending);
    world.run_until(second(10));
    // In the order of every kill, and then it waits.
    let ended: Vec<&str> = world
        .log()
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Unregister { .. } => Some("unregister"),
            Effect::RemovePidfile { .. } => Some("pidfile"),
            Effect::Signal { .. } => Some("signal"),
            Effect::AskTurn => Some("ask"),
            _ => None,
        })
        .collect();
    assert_eq!(ended, ["unregister", "pidfile", "signal", "ask"]);
    assert_eq!(world.recovery().standing(), Standing::UnderWay);
    world.happen(Event::Turn);
    world.run_until(second(100));
    assert_eq!(starts(&world), [10]);
    assert_eq!(said(&world, "cycled"), [0]);
    assert_eq!(said(&world, "restarted"), [15]);
    assert_eq!(said(&world, "first_failure"), NEVER);
    assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
    assert_eq!(times(&world, |e| *e == Effect::Fell), NEVER, "no new plan");
    let counts = world.recovery().starts();
    assert_eq!((counts.auto, counts.operator, counts.dependency), (0, 0, 1));
    assert_eq!(world.recovery().attempts(), 0);
}

#[test]
fn one_that_does_not_come_up_again_is_recovered_like_any_other() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.happen(cycle());
    world.run_until(second(200));
    // The group's attempt, three of its own, and the one with the alarm.
    assert_eq!(starts(&world)[..5], [0, 10, 20, 30, 40]);
    assert_eq!(raised(&world, Severity::Major), [40]);
    assert_eq!(world.recovery().starts().dependency, 1);
}

#[test]
fn only_what_lives_is_restarted_for_the_group() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(OperatorAction::Stop));
    world.run_until(second(5));
    world.happen(cycle());
    world.run_until(second(50));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().standing(), Standing::Resting);
    assert_eq!(said(&world, "cycled"), NEVER);
}

#[test]
fn a_fall_is_told_once_and_only_from_health() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    assert_eq!(times(&world, |e| *e == Effect::Fell), [0]);
    world.run_until(second(10));
    // In Monitor: a failed attempt.
    world.kill(KILLED);
    world.run_until(second(100));
    assert_eq!(times(&world, |e| *e == Effect::Fell), [0]);
}

#[test]
fn waiting_for_one_that_is_required_is_no_attempt_and_gets_an_alarm() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_turns(TurnBehaviour::Withheld);
    world.kill(KILLED);
    let delay = |standing| {
        Event::Delayed(Delay::Requires {
            name: "db".to_owned(),
            standing,
        })
    };
    world.happen(delay(Standing::UnderWay));
    world.happen(delay(Standing::Resting));
    assert_eq!(said(&world, "delayed"), [0], "once");
    let why = world.recovery().delay().unwrap().to_string();
    assert_eq!(why, "for `db`, which it requires and which is down");
    world.run_until(second(299));
    assert_eq!(world.recovery().alarm(), None);
    world.run_until(second(1000));
    assert_eq!(
        raised(&world, Severity::Major),
        [300],
        "with the first reminder"
    );
    assert_eq!(said(&world, "still_delayed"), [300, 900]);
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().attempts(), 0);
    world.happen(Event::Turn);
    world.run_until(second(1100));
    assert_eq!(starts(&world), [1000]);
    assert_eq!(said(&world, "alarm_cleared"), [1025]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_hinted_death_counts_as_under_way() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    assert_eq!(world.recovery().standing(), Standing::Up);
    let current = world.recovery().current().unwrap();
    world.happen(Event::Hint(Hint {
        identity: current.identity,
        generation: current.generation.unwrap(),
        source: crate::core::death::SourceName::Ebpf,
        died_at: None,
        status: None,
        last_thread: true,
    }));
    assert_eq!(world.recovery().standing(), Standing::UnderWay);
}
