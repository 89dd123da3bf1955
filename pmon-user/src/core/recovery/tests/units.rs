//! What the service manager says of the unit, heeded in every stage.

use super::*;
use crate::core::{entity::UnitPolicy, event::StartEnd, unit::UnitReport};

fn unit_spec() -> EntitySpec {
    EntitySpec {
        start: StartMethod::Unit {
            unit: "probe.service".to_owned(),
            policy: UnitPolicy::Leave,
        },
        ..spec(Severity::Major, 3)
    }
}

fn at_work() -> Option<UnitReport> {
    Some(UnitReport::AtWork {
        what: "systemd's stop job 7 of `probe.service`".to_owned(),
    })
}

fn stopped() -> Option<UnitReport> {
    Some(UnitReport::Stopped {
        by: "systemd's stop job 7 of `probe.service`".to_owned(),
    })
}

/// For long.
fn up() -> Option<UnitReport> {
    Some(UnitReport::Active {
        up_for: Duration::from_secs(3600),
    })
}

fn down() -> Option<UnitReport> {
    Some(UnitReport::Down {
        result: "signal".to_owned(),
    })
}

#[test]
fn a_stop_through_the_manager_is_not_fought_s13() {
    let spec = unit_spec();
    let mut world = healthy(&spec, works());
    world.set_unit(at_work());
    world.kill(WaitStatus(15));
    world.run_until(second(3));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(said(&world, "yielding"), [0]);
    world.set_unit(stopped());
    world.run_until(second(100));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(said(&world, "stopped_elsewhere"), [3]);
    assert_eq!(said(&world, "first_failure"), NEVER);
    assert_eq!(raised(&world, Severity::Major), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    assert_eq!(world.recovery().deadline(), None);

    // Somebody starts it again.
    world.set_unit(up());
    let again = world.start_by_hand();
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().current().unwrap().identity, again);
    // And a crash is a crash again.
    world.set_unit(down());
    world.kill(KILLED);
    assert_eq!(starts(&world), [100]);
}

#[test]
fn a_restart_by_the_manager_is_adopted_and_nothing_started_s12() {
    let spec = unit_spec();
    let mut world = healthy(&spec, works());
    world.set_unit(Some(UnitReport::AtWork {
        what: "systemd's own restart of `probe.service` (Restart=always)".to_owned(),
    }));
    world.kill(KILLED);
    // Longer than `start_timeout`: RestartSec= is the unit's to choose (S21).
    world.run_until(second(90));
    let new = world.start_by_hand();
    world.set_unit(up());
    world.run_until(second(200));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().starts().auto, 0);
    assert_eq!(world.recovery().starts().external, 1);
    assert_eq!(world.recovery().current().unwrap().identity, new);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_unit_that_the_manager_has_given_up_is_started_s21() {
    let spec = unit_spec();
    let mut world = healthy(&spec, works());
    world.set_unit(at_work());
    world.kill(KILLED);
    world.run_until(second(10));
    world.set_unit(Some(UnitReport::Down {
        result: "start-limit-hit".to_owned(),
    }));
    world.run_until(second(11));
    assert_eq!(starts(&world), [10]);
}

#[test]
fn nothing_is_started_while_the_host_goes_down_s8() {
    let spec = unit_spec();
    for stage in ["at rest", "in a recovery"] {
        let mut world = healthy(&spec, StartBehaviour::Fails(1));
        if stage == "in a recovery" {
            world.kill(KILLED);
            world.run_until(second(7));
            assert_eq!(world.recovery().stage().as_str(), "restart_wait");
        }
        let before = starts(&world).len();
        world.set_unit(Some(UnitReport::GoingDown));
        world.kill(WaitStatus(15));
        world.run_until(second(300));
        assert_eq!(starts(&world).len(), before, "{stage}");
    }
}

#[test]
fn a_job_that_is_slow_is_neither_ended_nor_a_failure_s9_s11() {
    let spec = unit_spec();
    let slow = Duration::from_secs(200);
    let mut world = healthy(
        &spec,
        StartBehaviour::Works {
            appears: slow,
            exits: slow,
            lives: None,
        },
    );
    world.set_unit(down());
    world.kill(KILLED);
    world.run_until(second(400));
    assert_eq!(starts(&world), [0]);
    assert_eq!(times(&world, |e| *e == Effect::CancelStart), NEVER);
    assert_eq!(said(&world, "attempt_failed"), NEVER);
    assert_eq!(raised(&world, Severity::Major), NEVER);
    assert_eq!(said(&world, "recovered"), [220]);
}

#[test]
fn a_start_that_gave_way_is_no_attempt() {
    let spec = unit_spec();
    let mut world = healthy(&spec, StartBehaviour::Hangs);
    world.set_unit(down());
    world.kill(KILLED);
    assert_eq!(world.recovery().attempts(), 1);
    world.run_until(second(1));
    world.set_unit(stopped());
    world.happen(Event::StartEnded {
        run: 1,
        end: StartEnd::Yielded {
            to: "somebody who has cancelled pmon's job".to_owned(),
        },
    });
    world.run_until(second(60));
    assert_eq!(starts(&world), [0]);
    assert_eq!(world.recovery().starts().auto, 0);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    assert_eq!(said(&world, "attempt_failed"), NEVER);
}

#[test]
fn an_operators_start_overrules_an_earlier_stop_but_not_work_under_way() {
    let spec = unit_spec();
    let mut world = healthy(&spec, works());
    world.set_unit(stopped());
    world.kill(WaitStatus(15));
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    world.run_until(second(10));
    world.set_unit(at_work());
    world.happen(request(OperatorAction::Start));
    world.run_until(second(20));
    assert_eq!(starts(&world), NEVER);
    world.set_unit(stopped());
    world.run_until(second(60));
    assert_eq!(starts(&world), [20]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_unit_that_is_up_has_its_startuptime_to_show_its_process() {
    let spec = unit_spec();
    let mut world = healthy(&spec, works());
    world.set_unit(at_work());
    world.kill(WaitStatus(15));
    world.run_until(second(2));
    world.set_unit(up());
    world.run_until(second(4));
    assert_eq!(starts(&world), NEVER);
    // Its pidfile comes late.
    let late = world.start_by_hand();
    world.run_until(second(60));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().current().unwrap().identity, late);
}

#[test]
fn a_unit_that_was_just_started_by_somebody_is_not_started_again_s12() {
    let spec = unit_spec();
    let mut world = healthy(&spec, works());
    // Its restart was over before there was a look; only its pidfile is late.
    world.set_unit(Some(UnitReport::Active {
        up_for: Duration::from_millis(20),
    }));
    world.kill(WaitStatus(15));
    world.run_until(second(2));
    assert_eq!(starts(&world), NEVER);
    let late = world.start_by_hand();
    world.run_until(second(60));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().current().unwrap().identity, late);

    // One that is up without the process is restarted.
    world.set_unit(up());
    world.kill(KILLED);
    assert_eq!(starts(&world), [60]);
}

#[test]
fn a_stop_through_the_manager_does_not_end_with_an_earlier_one_of_ours() {
    let spec = unit_spec();
    let mut world = healthy(&spec, works());
    let lasts = Duration::from_secs(100);
    world.happen(request(OperatorAction::StopFor { lasts }));
    world.run_until(second(10));
    world.happen(request(OperatorAction::Start));
    world.run_until(second(50));
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    world.set_unit(stopped());
    world.kill(WaitStatus(15));
    world.run_until(second(300));
    assert_eq!(said(&world, "stopped_elsewhere"), [50]);
    assert_eq!(said(&world, "stop_expired"), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
}
