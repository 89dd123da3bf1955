//! Processes that go into the background without a pidfile.

use super::*;

fn followed(severity: Severity) -> EntitySpec {
    EntitySpec {
        pidfile: None,
        follow: true,
        ..spec(severity, 3)
    }
}

#[test]
fn a_process_that_goes_into_the_background_has_not_died() {
    let spec = followed(Severity::Major);
    let mut world = healthy(&spec, works());
    for _ in 0..1000 {
        let child = world.go_into_background().unwrap();
        assert_eq!(world.recovery().current().unwrap().identity, child);
        assert_eq!(*world.recovery().stage(), Stage::Manage);
    }
    assert_eq!(said(&world, "followed").len(), 1000);
    assert_eq!(said(&world, "died"), NEVER);
    assert_eq!(starts(&world), NEVER);
    assert_eq!(
        world
            .recovery()
            .deaths_within(Duration::from_secs(60), second(1)),
        0
    );
    assert_eq!(world.recovery().starts(), Starts::default());
}

#[test]
fn the_death_of_the_one_that_was_followed_is_a_death() {
    let spec = followed(Severity::Major);
    let mut world = healthy(&spec, works());
    world.go_into_background().unwrap();
    world.kill(KILLED);
    assert_eq!(said(&world, "died"), [0]);
    assert_eq!(starts(&world), [0]);
}

#[test]
fn a_successor_may_go_into_the_background_within_its_window() {
    let spec = followed(Severity::Major);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(2));
    let child = world.go_into_background().unwrap();
    world.run_until(second(100));
    assert_eq!(world.recovery().current().unwrap().identity, child);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(starts(&world), [0]);
    assert_eq!(said(&world, "recovered").len(), 1);
}

/// The daemon restarted, and finds that it went while there was none.
#[test]
fn a_process_may_go_into_the_background_while_there_is_no_daemon() {
    let spec = followed(Severity::Major);
    let child = Identity {
        pid: 901,
        start_time: 9,
    };
    for (under_recovery, stage) in [(false, "manage"), (true, "monitor")] {
        let (mut recovery, _) = Recovery::new(&spec, DEATH);
        if under_recovery {
            recovery.resume();
        }
        assert!(recovery.recall(FIRST, 7));
        let death = healthy(&spec, works()).death(FIRST, WaitStatus(0));
        let effects = recovery.step(&spec, Event::Followed { death, child }, DEATH);
        assert!(effects.contains(&Effect::Register { identity: child }));
        assert_eq!(recovery.current().unwrap().identity, child);
        assert_eq!(recovery.stage().as_str(), stage);
        // The look that was asked for at the start has seen the other one end.
        let nothing = Sighting {
            occasion: Occasion::Asked,
            outcome: Outcome::Nothing {
                reason: "gone".to_owned(),
            },
            foreign_script: None,
            unit: None,
        };
        assert_eq!(recovery.step(&spec, Event::Seen(nothing), DEATH), []);
    }
}

/// Another process's end is nothing to go by.
#[test]
fn only_the_registered_process_hands_over() {
    let spec = followed(Severity::Major);
    let mut world = healthy(&spec, works());
    let stranger = Identity {
        pid: 900,
        start_time: 9,
    };
    let death = world.death(stranger, WaitStatus(0));
    let child = Identity {
        pid: 901,
        start_time: 9,
    };
    world.happen(Event::Followed { death, child });
    assert_eq!(world.recovery().current().unwrap().identity, FIRST);
    assert_eq!(said(&world, "followed"), NEVER);
}

#[test]
fn a_process_that_goes_into_the_background_while_it_is_stopped_is_stopped_there() {
    let spec = followed(Severity::Major);
    let mut recovery = healthy(&spec, works()).recovery().clone();
    recovery.step(&spec, request(OperatorAction::Stop), DEATH);
    let child = Identity {
        pid: 901,
        start_time: 9,
    };
    let death = healthy(&spec, works()).death(FIRST, WaitStatus(0));
    let effects = recovery.step(&spec, Event::Followed { death, child }, DEATH);
    let signal = Effect::Signal {
        identity: child,
        signal: 15,
    };
    let register = effects
        .iter()
        .position(|effect| *effect == Effect::Register { identity: child });
    let position = effects.iter().position(|effect| *effect == signal);
    assert!(register.is_some() && register < position, "{effects:?}");
    recovery.step(&spec, Event::Gone { identity: child }, second(1));
    assert_eq!(*recovery.stage(), Stage::Stopped);
}

/// It had exited when the stop came, and its child died before it was looked at.
#[test]
fn a_process_that_nobody_follows_after_all_is_gone_when_it_is_stopped() {
    let spec = followed(Severity::Major);
    let mut recovery = healthy(&spec, works()).recovery().clone();
    recovery.step(&spec, request(OperatorAction::Stop), DEATH);
    let death = healthy(&spec, works()).death(FIRST, WaitStatus(0));
    recovery.step(&spec, Event::Died(death), second(1));
    assert_eq!(*recovery.stage(), Stage::Stopped);
    assert_eq!(recovery.alarm(), None);
}

/// A look had shown it before the end of its start command was told.
#[test]
fn who_has_gone_into_the_background_is_not_taken_for_the_one_that_runs() {
    let spec = followed(Severity::Major);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(2));
    let mut recovery = world.recovery().clone();
    let started = recovery.current().unwrap().identity;
    let child = world.go_into_background().unwrap();
    let death = world.death(started, WaitStatus(0));
    recovery.start = StartCommand::Running;
    recovery.step(&spec, Event::Followed { death, child }, second(2));
    let end = StartEnd::Running(started);
    let run = recovery.run;
    recovery.step(&spec, Event::StartEnded { run, end }, second(2));
    assert_eq!(recovery.current().unwrap().identity, child);
}
