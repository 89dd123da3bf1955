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
