//! Operators' starts and restarts: done once, and never held against the entity
//! (spec/pmond.md §6.4, S5).

use super::*;

/// S5: a manual restart waits `startuptime` for its process, and leaves nothing
/// in the failure counter, so that a single crash afterwards is the first one.
#[test]
fn s5_a_manual_restart_waits_and_counts_nothing() {
    let spec = spec(Severity::Major, 1);
    let slow = Duration::from_secs(4);
    let mut world = healthy(
        &spec,
        StartBehaviour::Works {
            appears: slow,
            exits: Duration::ZERO,
            lives: None,
        },
    );
    for restart in 0..5 {
        world.happen(request(OperatorAction::Restart));
        world.run_until(second(10 * (restart + 1)));
        assert_eq!(world.recovery().attempts(), 0);
        assert_eq!(*world.recovery().stage(), Stage::Manage);
    }
    assert_eq!(starts(&world), [0, 10, 20, 30, 40]);
    assert_eq!(said(&world, "restarted"), [5, 15, 25, 35, 45]);
    world.clear_log();
    world.kill(KILLED);
    assert_eq!(said(&world, "first_failure"), [50]);
    world.run_until(second(100));
    assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
    assert_eq!(starts(&world), [50]);
}

/// In the original a failed process that is restarted by hand is killed and
/// restarted once more.
#[test]
fn a_restart_of_a_failed_process_starts_once() {
    for restarts in [0, 3] {
        let spec = spec(Severity::Major, restarts);
        // Given up, in the pause between attempts, and during an attempt.
        for at in [2, 7] {
            let mut world = healthy(&spec, StartBehaviour::Fails(1));
            world.kill(KILLED);
            world.run_until(second(at));
            assert!(world.recovery().is_failed());
            world.set_start(works());
            world.clear_log();
            world.happen(request(OperatorAction::Restart));
            // Asked for twice is asked for once.
            world.happen(request(OperatorAction::Restart));
            world.run_until(second(200));
            assert_eq!(starts(&world), [at], "restarts = {restarts}");
            assert_eq!(times(&world, |e| matches!(e, Effect::Signal { .. })), NEVER);
            assert_eq!(*world.recovery().stage(), Stage::Manage);
            assert_eq!(world.recovery().alarm(), None);
            assert!(!world.recovery().is_failed());
        }
    }
}

/// Defect 8 of spec/pmond.md §11.1: it loops for ever there, without an alarm.
#[test]
fn a_manual_restart_that_keeps_failing_ends_in_an_alarm() {
    let spec = spec(Severity::Major, 2);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.happen(request(OperatorAction::Restart));
    world.run_until(second(100));
    // By hand, then two counted attempts, then the threshold.
    assert_eq!(starts(&world)[..4], [0, 10, 20, 30]);
    assert_eq!(raised(&world, Severity::Major), [30]);
}
