//! What starts nothing, and what is told of an entity at any time.

use super::*;

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
        evidence: crate::core::evidence::Evidence::default(),
        last_seen: crate::core::death::LastSeen::default(),
    }));
    assert!(world.log().is_empty());
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

/// Alive, and nothing would tell its death: neither up nor down, and nothing is
/// started beside it. Every look tries again.
#[test]
fn what_cannot_be_watched_is_left_alone_until_it_can() {
    let spec = spec(Severity::Major, 3);
    let (mut recovery, _) = Recovery::new(&spec, DEATH);
    let sight = |occasion| {
        Event::Seen(Sighting {
            occasion,
            outcome: Outcome::Process(FIRST),
            foreign_script: None,
            unit: None,
        })
    };
    let refused = || Event::Unwatchable {
        identity: FIRST,
        reason: "no pidfd is left".to_owned(),
    };
    let registers = |effects: &[Effect]| effects.contains(&Effect::Register { identity: FIRST });
    let effects = recovery.step(&spec, sight(Occasion::Asked), DEATH);
    assert!(registers(&effects));
    let told = recovery.step(&spec, refused(), DEATH);
    assert!(
        matches!(&told[..], [Effect::Say(Notice::NotRegistered { .. })]),
        "{told:?}"
    );
    for n in 1..4 {
        assert_eq!(*recovery.stage(), Stage::Unverifiable);
        assert_eq!(recovery.unwatched(), Some(FIRST));
        assert_eq!(recovery.deadline(), None);
        let effects = recovery.step(&spec, sight(Occasion::Sweep), second(n));
        assert_eq!(effects, [Effect::Register { identity: FIRST }]);
        assert_eq!(recovery.step(&spec, refused(), second(n)), [], "told once");
    }
    let effects = recovery.step(&spec, sight(Occasion::Sweep), second(5));
    assert!(registers(&effects));
    let registered = Event::Registered {
        identity: FIRST,
        generation: 9,
    };
    let effects = recovery.step(&spec, registered, second(5));
    assert_eq!(effects, [Effect::Say(Notice::Registered(FIRST))]);
    assert_eq!(*recovery.stage(), Stage::Manage);
    assert_eq!(recovery.unwatched(), None);
    assert_eq!(recovery.problem(), None);
    assert_eq!(recovery.starts().external, 0);
}
