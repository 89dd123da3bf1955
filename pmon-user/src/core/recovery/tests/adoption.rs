//! Processes that somebody else started, and looks that came too late.

use super::*;

#[test]
fn a_look_that_was_overtaken_by_the_death_revives_nobody() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = healthy(&spec, works()).recovery().clone();
    let death = Death {
        identity: FIRST,
        generation: 1,
        died_at: Some(DEATH),
        detected_at: DEATH,
        detected_by: crate::core::death::SourceName::Ebpf,
        confirmed_at: DEATH,
        status: Some(KILLED),
        evidence: crate::core::evidence::Evidence::default(),
        last_seen: crate::core::death::LastSeen::default(),
    };
    recovery.step(&spec, Event::Died(death), DEATH);
    assert_eq!(*recovery.stage(), Stage::Looking);
    for (occasion, stage) in [
        (Occasion::PidfileChanged, "looking"),
        (Occasion::Asked, "queued"),
    ] {
        let sighting = Sighting {
            occasion,
            outcome: Outcome::Process(FIRST),
            foreign_script: None,
            unit: None,
        };
        let effects = recovery.step(&spec, Event::Seen(sighting), DEATH);
        assert!(!effects.contains(&Effect::Register { identity: FIRST }));
        assert_eq!(recovery.stage().as_str(), stage);
    }
    assert_eq!(recovery.starts().external, 0);
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
fn what_somebody_elses_script_started_has_its_startuptime_to_be_seen() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_foreign_script(Some(4242));
    world.kill(WaitStatus(15));
    world.run_until(second(3));
    // A daemon that writes its pidfile after its script has ended.
    world.set_foreign_script(None);
    world.run_until(second(3) + spec.startuptime / 2);
    assert_eq!(starts(&world), NEVER);
    let by_hand = world.start_by_hand();
    world.run_until(second(60));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_script_that_only_stopped_it_is_not_waited_for_longer_than_a_start_takes() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_foreign_script(Some(4242));
    world.kill(WaitStatus(15));
    world.run_until(second(2));
    world.set_foreign_script(None);
    world.run_until(second(60));
    assert_eq!(starts(&world), [2 + spec.startuptime.as_secs()]);
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
            unit: None,
        }),
        DEATH,
    );
    assert_eq!(*recovery.stage(), Stage::Unverifiable);
    assert!(effects.iter().all(|e| matches!(e, Effect::Say(_))));
    assert_eq!(recovery.deadline(), None);
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
