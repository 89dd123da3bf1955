//! The adoption window: somebody else's successor goes before one of ours.

use super::*;

fn windowed(window: u64) -> EntitySpec {
    EntitySpec {
        adoption_window: Duration::from_secs(window),
        ..spec(Severity::Major, 3)
    }
}

const NEXT: Identity = Identity {
    pid: 600,
    start_time: 2,
};

fn nothing() -> Event {
    Event::Seen(Sighting {
        occasion: Occasion::Asked,
        outcome: Outcome::Nothing {
            reason: "no pidfile".to_owned(),
        },
        foreign_script: None,
        unit: None,
    })
}

#[test]
fn nobody_comes_and_ours_is_started_when_it_closes() {
    let spec = windowed(10);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(60));
    assert_eq!(said(&world, "awaiting_successor"), [0]);
    assert_eq!(starts(&world), [10]);
    assert_eq!(said(&world, "recovered").len(), 1);
}

#[test]
fn without_one_ours_is_started_at_once() {
    let spec = windowed(0);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(60));
    assert_eq!(said(&world, "awaiting_successor"), NEVER);
    assert_eq!(starts(&world), [0]);
}

/// A healthy entity whose process dies, and of which the first look has found
/// nothing.
fn opened(spec: &EntitySpec) -> Recovery {
    let (mut recovery, _) = Recovery::new(spec, DEATH);
    let seen = |identity| {
        Event::Seen(Sighting {
            occasion: Occasion::Asked,
            outcome: Outcome::Process(identity),
            foreign_script: None,
            unit: None,
        })
    };
    recovery.step(spec, seen(FIRST), DEATH);
    let registered = Event::Registered {
        identity: FIRST,
        generation: 1,
    };
    recovery.step(spec, registered, DEATH);
    let death = Death {
        identity: FIRST,
        generation: 1,
        died_at: None,
        detected_at: DEATH,
        detected_by: crate::core::death::SourceName::Pidfd,
        confirmed_at: DEATH,
        status: Some(KILLED),
        evidence: crate::core::evidence::Evidence::default(),
        last_seen: crate::core::death::LastSeen::default(),
    };
    recovery.step(spec, Event::Died(death), DEATH);
    let effects = recovery.step(spec, nothing(), DEATH);
    assert!(!effects.iter().any(|it| matches!(it, Effect::Start { .. })));
    assert_eq!(recovery.stage().as_str(), "waiting");
    assert!(recovery.is_adopting());
    recovery
}

#[test]
fn it_ends_with_the_first_successor_that_is_seen() {
    let spec = windowed(10);
    let mut recovery = opened(&spec);
    for occasion in [Occasion::PidfileStirred, Occasion::PidfileChanged] {
        let half_written = Event::Seen(Sighting {
            occasion,
            outcome: Outcome::Nothing {
                reason: "is empty".to_owned(),
            },
            foreign_script: None,
            unit: None,
        });
        assert_eq!(recovery.step(&spec, half_written, second(1)), []);
    }
    let stirred = Event::Seen(Sighting {
        occasion: Occasion::PidfileStirred,
        outcome: Outcome::Process(NEXT),
        foreign_script: None,
        unit: None,
    });
    let effects = recovery.step(&spec, stirred, second(2));
    assert!(effects.contains(&Effect::Register { identity: NEXT }));
    let external = Notice::Successor {
        identity: NEXT,
        external: true,
    };
    assert!(effects.contains(&Effect::Say(external)));
    assert_eq!(recovery.stage().as_str(), "monitor");
    assert!(!recovery.is_adopting());
    assert_eq!(recovery.starts().external, 1);
}

#[test]
fn an_operator_does_not_wait_for_it() {
    let spec = windowed(10);
    let mut recovery = opened(&spec);
    recovery.step(&spec, request(OperatorAction::Restart), second(1));
    let effects = recovery.step(&spec, nothing(), second(1));
    assert!(effects.iter().any(|it| matches!(it, Effect::Start { .. })));
}

#[test]
fn without_a_pidfile_it_is_looked_for_again_and_again() {
    let with = windowed(10);
    assert_eq!(opened(&with).deadline(), Some(second(10)));
    let without = EntitySpec {
        pidfile: None,
        ..windowed(10)
    };
    let mut recovery = opened(&without);
    let due = recovery.deadline().unwrap();
    assert!(due <= DEATH + Duration::from_millis(100), "{due:?}");
    let effects = recovery.step(&without, Event::Tick, due);
    assert!(matches!(effects[..], [Effect::Look { .. }]), "{effects:?}");
}
