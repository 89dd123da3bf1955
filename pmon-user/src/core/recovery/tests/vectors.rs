//! The vectors of spec/pmond.md §2.12. Times are seconds after the death.

use super::*;

#[test]
fn v1_one_crash_and_a_clean_restart() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    // 0: LOG, unregister, start.
    assert_eq!(said(&world, "first_failure"), [0]);
    assert_eq!(
        times(&world, |e| matches!(e, Effect::Unregister { .. })),
        [0]
    );
    assert_eq!(starts(&world), [0]);
    // The successor's own death would be an event as soon as it exists.
    world.run_until(second(1));
    assert!(world.recovery().current().is_some());
    // 5: child ok, MONITOR.
    world.run_until(second(5));
    assert_eq!(said(&world, "monitoring"), [5]);
    assert!(world.recovery().is_failed());
    // ~24: stable, counter 0.
    world.run_until(second(60));
    let stable = said(&world, "stable");
    assert!(stable == [24] || stable == [25], "{stable:?}");
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().attempts(), 0);
    assert!(!world.recovery().is_failed());
    assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
    assert_eq!(starts(&world), [0]);
}

#[test]
fn v2_a_start_command_that_always_fails() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(29));
    assert_eq!(starts(&world), [0, 10, 20]);
    assert_eq!(world.recovery().attempts(), 3);
    assert_eq!(world.recovery().alarm(), None);
    world.run_until(second(30));
    assert_eq!(raised(&world, Severity::Major), [30]);
    assert_eq!(starts(&world), [0, 10, 20, 30]);
    assert_eq!(world.recovery().attempts(), 1);
    world.run_until(second(200));
    // The degrade event follows 30 to 40 s later, then about every 40 s.
    assert_eq!(said(&world, "alarm_refreshed"), [70, 110, 150, 190]);
    assert_eq!(said(&world, "first_failure"), [0], "no second LOG");
    assert_eq!(raised(&world, Severity::Major), [30], "raised once");
}

#[test]
fn v2_ends_when_the_start_command_is_mended() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(35));
    world.set_start(works());
    world.run_until(second(120));
    assert_eq!(starts(&world), [0, 10, 20, 30, 40]);
    assert_eq!(said(&world, "recovered"), [65]);
    assert_eq!(said(&world, "alarm_cleared"), [65]);
    assert_eq!(world.recovery().alarm(), None);
}

#[test]
fn v4_critical_repeats_at_every_threshold() {
    let spec = spec(Severity::Critical, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(95));
    assert_eq!(said(&world, "first_failure"), [0]);
    assert_eq!(raised(&world, Severity::Critical), [30]);
    assert_eq!(said(&world, "alarm_refreshed"), [60, 90]);
    assert_eq!(starts(&world), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
}

#[test]
fn v5_critical_without_restarts() {
    let spec = spec(Severity::Critical, 0);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    assert_eq!(raised(&world, Severity::Critical), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Ignore);
    world.run_until(second(100));
    assert_eq!(starts(&world), NEVER, "no attempt");
    // Recovers by itself if the pidfile's pid comes alive; then the alarm clears.
    let by_hand = world.start_by_hand();
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    assert_eq!(said(&world, "alarm_cleared"), [100]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn v6_minor_and_major_without_restarts() {
    for severity in [Severity::Minor, Severity::Major] {
        let spec = spec(severity, 0);
        let mut world = healthy(&spec, works());
        world.kill(KILLED);
        assert_eq!(said(&world, "first_failure"), [0]);
        assert_eq!(raised(&world, severity), [0]);
        assert_eq!(starts(&world), NEVER);
        world.run_until(second(50));
        world.start_by_hand();
        assert_eq!(said(&world, "alarm_cleared"), [50], "without debounce");
        assert_eq!(world.recovery().starts().external, 1);
    }
}

#[test]
fn v7_dies_while_being_monitored() {
    let spec = spec(Severity::Major, 3);
    let lives = Some(Duration::from_secs(7));
    let mut world = healthy(
        &spec,
        StartBehaviour::Works {
            appears: Duration::from_secs(1),
            exits: Duration::from_secs(1),
            lives,
        },
    );
    world.kill(KILLED);
    // Appears at 1, MONITOR at 5, dies at 8: a failed attempt, the next one
    // `interval` later.
    world.run_until(second(13));
    assert_eq!(said(&world, "attempt_failed"), [8]);
    assert_eq!(starts(&world), [0, 13]);
    world.run_until(second(100));
    assert_eq!(raised(&world, Severity::Major), [39]);
}

#[test]
fn v8_a_restart_of_a_healthy_process() {
    for stop in [
        StopPolicy::KillFirst,
        StopPolicy::Graceful {
            signal: 15,
            timeout: Duration::from_secs(10),
        },
    ] {
        let mut spec = spec(Severity::Major, 3);
        spec.stop = stop;
        let mut world = healthy(&spec, works());
        world.happen(request(OperatorAction::Restart));
        world.run_until(second(5));
        let signal = if stop == StopPolicy::KillFirst { 9 } else { 15 };
        assert_eq!(
            times(
                &world,
                |e| matches!(e, Effect::Signal { signal: s, .. } if *s == signal)
            ),
            [0]
        );
        assert_eq!(said(&world, "restarted"), [5]);
        assert_eq!(said(&world, "first_failure"), NEVER);
        assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
        assert_eq!(world.recovery().attempts(), 0);
        assert_ne!(world.recovery().current().unwrap().identity, FIRST);
        assert_eq!(world.recovery().starts().operator, 1);
        assert_eq!(world.recovery().starts().auto, 0);
    }
}

/// pmond's stop: 1800 s.
const STOP: OperatorAction = OperatorAction::StopFor {
    lasts: Duration::from_secs(1800),
};

#[test]
fn v9_a_stop_of_the_original_and_then_nothing() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(STOP));
    world.run_until(second(1799));
    assert_eq!(
        times(&world, |e| matches!(e, Effect::Signal { .. })),
        [0],
        "killed"
    );
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    assert_eq!(starts(&world), NEVER, "unmonitored");
    assert_eq!(said(&world, "first_failure"), NEVER);
    // Then found dead, at once where the sweep took up to 50 s, and V1.
    world.run_until(second(1860));
    assert_eq!(said(&world, "stop_expired"), [1800]);
    assert_eq!(said(&world, "first_failure"), [1800]);
    assert_eq!(starts(&world), [1800]);
    assert_eq!(said(&world, "monitoring"), [1805]);
    assert_eq!(said(&world, "stable"), [1825]);
    assert_eq!(world.recovery().attempts(), 0);
    assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
}

#[test]
fn v9_what_was_started_meanwhile_is_left_alone() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(STOP));
    world.run_until(second(60));
    let by_hand = world.start_by_hand();
    world.run_until(second(4000));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(said(&world, "stop_expired"), NEVER);
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    // A stop for good that follows is one.
    world.happen(request(OperatorAction::Stop));
    world.run_until(second(100_000));
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    assert_eq!(starts(&world), NEVER);
}

#[test]
fn v10_a_stop_of_the_original_and_a_start() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.happen(request(STOP));
    world.run_until(second(100));
    world.happen(request(OperatorAction::Start));
    world.run_until(second(4000));
    // V1 without the LOG.
    assert_eq!(starts(&world), [100]);
    assert_eq!(said(&world, "first_failure"), NEVER);
    assert_eq!(said(&world, "monitoring"), [105]);
    assert_eq!(said(&world, "stable"), [125]);
    assert_eq!(said(&world, "stop_expired"), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().attempts(), 0);
    assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
}
