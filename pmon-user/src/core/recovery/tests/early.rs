//! Early start: the successor comes before the old process has let go.

use std::collections::BTreeMap;

use super::*;
use crate::core::{entity::CommandSpec, event::StartEnd, notice::Notice};

/// Where the successor is the process that was executed, as with a command.
fn early(severity: Severity) -> EntitySpec {
    EntitySpec {
        start: StartMethod::Command(CommandSpec {
            argv: vec!["/usr/bin/probe".to_owned()],
            environment: BTreeMap::new(),
            directory: "/".into(),
            user: None,
            group: None,
            daemonizes: false,
            log: None,
            early: true,
            sockets: Vec::new(),
        }),
        ..spec(severity, 3)
    }
}

fn hint(world: &mut Simulation<'_>) {
    let hint = world.hint(FIRST, KILLED);
    world.happen(Event::Hint(hint));
}

/// The table tells the death of the first process.
fn release(world: &mut Simulation<'_>) {
    let death = world.death(FIRST, KILLED);
    world.happen(Event::Died(death));
}

/// A healthy entity whose process has just run its last code.
fn exiting(spec: &EntitySpec, start: StartBehaviour) -> Simulation<'_> {
    let mut world = healthy(spec, start);
    hint(&mut world);
    world
}

fn kinds<'a>(world: &'a Simulation<'_>) -> Vec<&'a str> {
    let said = world.log().iter().filter_map(|(_, effect)| match effect {
        Effect::Say(notice) => Some(notice.kind()),
        _ => None,
    });
    said.collect()
}

#[test]
fn the_successor_is_started_at_the_hint_and_the_death_starts_no_second_one() {
    let spec = early(Severity::Major);
    let mut world = exiting(&spec, works());
    assert_eq!(starts(&world), [0]);
    assert_eq!(said(&world, "died"), NEVER);
    assert_eq!(world.recovery().releasing(), Some(FIRST));
    assert!(world.recovery().current().is_none());
    let asked: Vec<_> = world.log().iter().map(|(_, effect)| effect).collect();
    let at = |wanted: fn(&Effect) -> bool| asked.iter().position(|effect| wanted(effect));
    let pidfile = at(|e| matches!(e, Effect::RemovePidfile { identity } if *identity == FIRST));
    assert!(pidfile.unwrap() < at(|e| matches!(e, Effect::Start { .. })).unwrap());

    // The successor is registered before the old one is gone.
    world.run_until(second(3));
    assert_eq!(world.recovery().releasing(), Some(FIRST));
    let successor = world.recovery().current().unwrap().identity;
    assert_ne!(successor, FIRST);
    release(&mut world);
    assert_eq!(said(&world, "died"), [3]);
    assert_eq!(world.recovery().last_death().unwrap().identity, FIRST);
    assert_eq!(world.recovery().releasing(), None);
    world.run_until(second(100));
    assert_eq!(starts(&world), [0]);
    assert_eq!(said(&world, "recovered"), [25]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().current().unwrap().identity, successor);
    assert_eq!(world.recovery().problem(), None);
    let counted = world.recovery().starts();
    assert_eq!((counted.auto, counted.external), (1, 0));
    let deaths = world
        .recovery()
        .deaths_within(Duration::from_secs(3600), second(100));
    assert_eq!(deaths, 1);
    assert_eq!(kinds(&world)[..2], ["hint", "first_failure"]);
}

#[test]
fn nothing_but_a_checked_hint_of_the_last_thread_starts_early() {
    let early = early(Severity::Major);
    let mut world = healthy(&early, works());
    let unchecked = Hint {
        last_thread: false,
        ..world.hint(FIRST, KILLED)
    };
    world.happen(Event::Hint(unchecked));
    world.run_until(second(1));
    assert_eq!(starts(&world), NEVER);
    release(&mut world);
    assert_eq!(starts(&world), [1], "as ever");

    // Of somebody else.
    let mut world = healthy(&early, works());
    let stranger = Identity {
        start_time: 2,
        ..FIRST
    };
    let other = world.hint(stranger, KILLED);
    world.happen(Event::Hint(other));
    assert_eq!(starts(&world), NEVER);

    // Nobody wants it.
    let late = spec(Severity::Major, 3);
    let mut world = exiting(&late, works());
    world.run_until(second(60));
    assert_eq!(starts(&world), NEVER);
    assert!(world.recovery().current().unwrap().hinted);

    // Nothing is to be recovered.
    let mut never = self::early(Severity::Major);
    never.restarts = 0;
    let mut world = exiting(&never, works());
    world.run_until(second(60));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn without_a_hint_it_is_started_when_the_death_is_verified() {
    let spec = early(Severity::Major);
    let mut world = healthy(&spec, works());
    world.run_until(second(2));
    world.lose();
    release(&mut world);
    assert_eq!(starts(&world), [2]);
    world.run_until(second(100));
    assert_eq!(starts(&world), [2]);
    assert_eq!(said(&world, "recovered"), [27]);
}

#[test]
fn who_never_lets_go_keeps_the_entity_from_being_called_recovered() {
    let spec = early(Severity::Major);
    let mut world = exiting(&spec, works());
    world.run_until(second(1000));
    assert_eq!(starts(&world), [0]);
    assert_eq!(said(&world, "recovered"), NEVER);
    assert!(matches!(world.recovery().stage(), Stage::Monitor { .. }));
    let problem = world.recovery().problem().unwrap();
    assert!(problem.contains("(500) has ended and not yet"), "{problem}");
    assert!(world.recovery().deadline().is_none());
    release(&mut world);
    assert_eq!(said(&world, "died"), [1000]);
    assert_eq!(said(&world, "recovered"), [1000]);
    assert_eq!(world.recovery().problem(), None);
}

#[test]
fn a_failed_early_attempt_is_repeated_only_when_the_old_process_is_gone() {
    let spec = early(Severity::Major);
    let mut world = exiting(&spec, StartBehaviour::Fails(1));
    world.run_until(second(500));
    assert_eq!(said(&world, "attempt_failed"), [5]);
    assert_eq!(starts(&world), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Looking);
    // The sweep sees it in the process table, and nothing comes of that.
    for occasion in [Occasion::Sweep, Occasion::PidfileChanged, Occasion::Asked] {
        world.happen(Event::Seen(Sighting {
            occasion,
            outcome: Outcome::Process(FIRST),
            foreign_script: None,
            unit: None,
        }));
    }
    assert_eq!(starts(&world), [0]);
    world.set_start(works());
    world.lose();
    release(&mut world);
    assert_eq!(starts(&world), [0, 500]);
    world.run_until(second(600));
    assert_eq!(said(&world, "recovered"), [525]);
}

#[test]
fn a_successor_that_dies_while_the_old_process_lets_go_is_a_failure_of_its_own() {
    let spec = early(Severity::Major);
    let short = StartBehaviour::Works {
        appears: Duration::from_secs(1),
        exits: Duration::from_secs(1),
        lives: Some(Duration::from_secs(1)),
    };
    let mut world = exiting(&spec, short);
    world.run_until(second(100));
    assert_eq!(said(&world, "died"), [2], "the successor");
    assert_eq!(starts(&world), [0]);
    world.set_start(works());
    release(&mut world);
    assert_eq!(said(&world, "died"), [2, 100]);
    assert_eq!(starts(&world), [0, 100]);
    world.run_until(second(200));
    assert_eq!(starts(&world), [0, 100]);
    assert_eq!(said(&world, "recovered"), [125]);
}

#[test]
fn an_operator_may_stop_it_while_the_old_process_lets_go() {
    let spec = early(Severity::Major);
    let mut world = exiting(&spec, works());
    world.run_until(second(2));
    world.happen(request(OperatorAction::Stop));
    world.run_until(second(3));
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    release(&mut world);
    world.run_until(second(100));
    assert_eq!(said(&world, "died"), [3]);
    assert_eq!(said(&world, "stopped"), [2, 3], "its incident is closed");
    assert_eq!(starts(&world), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
}

/// Held at the same moment, so that nothing of ours comes up.
#[test]
fn what_somebody_starts_during_a_hold_has_recovered_when_the_old_process_is_gone() {
    let spec = early(Severity::Major);
    let mut world = exiting(&spec, StartBehaviour::Fails(1));
    let hold = OperatorAction::Hold { lasts: None };
    world.happen(request(OperatorAction::Restart));
    world.happen(request(hold));
    let identity = Identity {
        pid: 900,
        start_time: 9,
    };
    world.happen(Event::Seen(Sighting {
        occasion: Occasion::PidfileChanged,
        outcome: Outcome::Process(identity),
        foreign_script: None,
        unit: None,
    }));
    assert_eq!(said(&world, "recovered"), NEVER);
    world.run_until(second(3));
    release(&mut world);
    assert_eq!(said(&world, "recovered"), [3]);
}

/// Its own successor could not be watched, and somebody else's takes its place.
#[test]
fn nobody_has_recovered_before_the_old_process_is_gone() {
    let spec = early(Severity::Major);
    let mut recovery = exiting(&spec, works()).recovery().clone();
    let identity = |pid| Identity { pid, start_time: 9 };
    let end = StartEnd::Running(identity(900));
    recovery.step(&spec, Event::StartEnded { run: 1, end }, second(0));
    let reason = "the table is full".to_owned();
    let unwatchable = Event::Unwatchable {
        identity: identity(900),
        reason,
    };
    recovery.step(&spec, unwatchable, second(0));
    let seen = Event::Seen(Sighting {
        occasion: Occasion::PidfileChanged,
        outcome: Outcome::Process(identity(901)),
        foreign_script: None,
        unit: None,
    });
    let effects = recovery.step(&spec, seen, second(1));
    let recovered = Effect::Say(Notice::Recovered(identity(901)));
    assert!(!effects.contains(&recovered), "{effects:?}");
    assert_eq!(recovery.stage().as_str(), "monitor");
}
