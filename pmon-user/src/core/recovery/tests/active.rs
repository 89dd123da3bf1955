//! Active monitoring in the recovery around it (spec/pmond.md §4.4), with the
//! vectors of §2.12 that concern it. Figures as shipped, 5/4/5: requests 4 s
//! apart, six right answers make a failure good.

use super::*;
use crate::core::{entity::ActiveSpec, simulation::AnswerBehaviour};

pub(super) fn active(severity: Severity, restarts: u32) -> EntitySpec {
    EntitySpec {
        mode: Mode::Active,
        active: Some(ActiveSpec {
            port: 2202,
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            threshold: 5,
            full_init_required: false,
        }),
        ..spec(severity, restarts)
    }
}

/// Healthy until [`DEATH`], at which a request was answered.
pub(super) fn answering(spec: &EntitySpec, start: StartBehaviour) -> Simulation<'_> {
    let world = healthy(spec, start);
    assert_eq!(world.recovery().pulse().last_answer(), Some(DEATH));
    world
}

pub(super) fn requests(world: &Simulation<'_>) -> Vec<u64> {
    times(world, |e| matches!(e, Effect::RequestPulse { .. }))
}

pub(super) fn alarms(world: &Simulation<'_>) -> Vec<u64> {
    times(world, |e| matches!(e, Effect::Alarm(_)))
}

/// What was done to processes, in order.
fn deeds(world: &Simulation<'_>) -> Vec<&'static str> {
    let deed = |(_, effect): &(Time, Effect)| match effect {
        Effect::Unregister { .. } => Some("unregister"),
        Effect::RemovePidfile { .. } => Some("pidfile"),
        Effect::Signal { .. } => Some("signal"),
        Effect::StopUnit => Some("stop unit"),
        Effect::Start { .. } => Some("start"),
        _ => None,
    };
    world.log().iter().filter_map(deed).collect()
}

#[test]
fn v1_one_crash_ends_with_answers() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.kill(KILLED);
    world.run_until(second(25));
    assert_eq!(said(&world, "stable"), [25]);
    assert_eq!(said(&world, "recovered"), NEVER, "it has not answered yet");
    assert!(world.recovery().is_failed());
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    world.run_until(second(100));
    assert_eq!(said(&world, "recovered"), [45], "with the sixth answer");
    assert!(!world.recovery().is_failed());
    assert_eq!(world.recovery().attempts(), 0);
    assert_eq!(alarms(&world), NEVER);
    assert_eq!(starts(&world), [0]);
}

#[test]
fn v2_a_start_command_that_always_fails() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(35));
    assert_eq!(starts(&world), [0, 10, 20, 30]);
    assert_eq!(raised(&world, Severity::Major), [30]);
    assert_eq!(requests(&world), NEVER, "nobody is there to be asked");
    // Mended: the alarm goes with the sixth answer, not with the process.
    world.set_start(works());
    world.run_until(second(200));
    assert_eq!(said(&world, "stable"), [65]);
    assert_eq!(said(&world, "alarm_cleared"), [85]);
    assert_eq!(said(&world, "recovered"), [85]);
}

#[test]
fn v4_critical_repeats_at_every_threshold() {
    let spec = active(Severity::Critical, 3);
    let mut world = answering(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(95));
    assert_eq!(raised(&world, Severity::Critical), [30]);
    assert_eq!(said(&world, "alarm_refreshed"), [60, 90]);
}

#[test]
fn v8_a_restart_of_a_healthy_process() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.happen(request(OperatorAction::Restart));
    world.run_until(second(5));
    assert_eq!(said(&world, "restarted"), [5]);
    assert_eq!(deeds(&world), ["unregister", "pidfile", "signal", "start"]);
    world.run_until(second(20));
    assert_eq!(requests(&world), [5, 9, 13, 17], "asked at once");
    assert_eq!(said(&world, "first_failure"), NEVER);
    assert_eq!(alarms(&world), NEVER);
    assert_eq!(world.recovery().attempts(), 0);
    assert_eq!(world.recovery().pulse().sequence(), 4);
}

#[test]
fn v12_it_stops_answering_and_is_replaced() {
    for stop in [
        StopPolicy::KillFirst,
        StopPolicy::Graceful {
            signal: 15,
            timeout: Duration::from_secs(10),
        },
    ] {
        let mut spec = active(Severity::Major, 3);
        spec.stop = stop;
        let mut world = answering(&spec, works());
        world.set_answers(AnswerBehaviour::Silent);
        world.run_until(second(23));
        assert_eq!(said(&world, "unanswered"), NEVER);
        assert_eq!(deeds(&world), [""; 0]);
        world.run_until(second(24));
        // The request at 4 was the first without an answer: 5 times 4 s.
        assert_eq!(said(&world, "unanswered"), [24]);
        assert_eq!(said(&world, "first_failure"), [24]);
        assert_eq!(deeds(&world), ["unregister", "pidfile", "signal", "start"]);
        assert_eq!(starts(&world), [24]);
        world.set_answers(AnswerBehaviour::Answers);
        world.run_until(second(200));
        assert_eq!(said(&world, "stable"), [49]);
        assert_eq!(said(&world, "recovered"), [69]);
        assert_eq!(alarms(&world), NEVER);
        assert_eq!(starts(&world), [24]);
    }
}

#[test]
fn v12_a_unit_is_stopped_by_its_service_manager() {
    let mut spec = active(Severity::Major, 3);
    spec.start = StartMethod::Unit {
        unit: "probe.service".to_owned(),
        policy: crate::core::entity::UnitPolicy::Leave,
    };
    let mut world = answering(&spec, works());
    world.set_answers(AnswerBehaviour::Silent);
    world.run_until(second(24));
    assert_eq!(deeds(&world), ["unregister", "stop unit", "start"]);
}

#[test]
fn v13_a_successor_that_never_answers_is_tolerated_and_then_counted() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.set_answers(AnswerBehaviour::Silent);
    world.run_until(second(1500));
    // 24: failed. 24 s for an attempt until it is stable, then 36 misses, 144 s.
    let every = 25 + 144;
    let failures: Vec<u64> = (0..).map(|n| 24 + n * every).take(9).collect();
    assert_eq!(said(&world, "unanswered"), failures);
    assert_eq!(starts(&world), failures);
    // It is not restarted for ever without an alarm: the fourth pass raises it.
    assert_eq!(said(&world, "first_failure"), [24]);
    assert_eq!(raised(&world, Severity::Major), [failures[3]]);
    assert_eq!(said(&world, "alarm_cleared"), NEVER);
    // What exists is no recovery.
    assert_eq!(said(&world, "recovered"), NEVER);
    world.set_answers(AnswerBehaviour::Answers);
    world.run_until(second(1700));
    assert_eq!(said(&world, "alarm_cleared").len(), 1);
    assert_eq!(said(&world, "recovered").len(), 1);
    assert_eq!(world.recovery().attempts(), 0);
    assert_eq!(world.recovery().alarm(), None);
}

#[test]
fn critical_is_told_again_at_every_threshold_of_silence() {
    let spec = active(Severity::Critical, 1);
    let mut world = answering(&spec, works());
    world.set_answers(AnswerBehaviour::Silent);
    world.run_until(second(24 + 3 * 169));
    // Passes at 24 (LOG), 193 (raised), 362 and 531 (told again), beside the
    // refreshing every 40 s.
    assert_eq!(raised(&world, Severity::Critical), [193]);
    let refreshed = said(&world, "alarm_refreshed");
    assert!(
        refreshed.contains(&362) && refreshed.contains(&531),
        "{refreshed:?}"
    );
}

#[test]
fn v5_and_v6_without_restarts_it_is_told_of_and_left_alone() {
    for severity in [Severity::Minor, Severity::Major, Severity::Critical] {
        let spec = active(severity, 0);
        let mut world = answering(&spec, works());
        world.set_answers(AnswerBehaviour::Silent);
        world.run_until(second(1000));
        assert_eq!(raised(&world, severity), [24]);
        assert_eq!(deeds(&world), [""; 0], "nobody would start another one");
        assert_eq!(said(&world, "unanswered"), [24], "told once");
        assert_eq!(said(&world, "pulse_missed"), [16, 20, 24], "told once");
        assert!(world.recovery().is_failed());
        assert_eq!(world.recovery().current().unwrap().identity, FIRST);
        // It comes round; six answers clear the alarm.
        world.set_answers(AnswerBehaviour::Answers);
        world.run_until(second(1100));
        assert_eq!(said(&world, "alarm_cleared").len(), 1);
        assert_eq!(said(&world, "recovered").len(), 1);
        assert!(!world.recovery().is_failed());
    }
}

#[test]
fn a_death_before_the_answers_adds_up() {
    let spec = active(Severity::Major, 2);
    let mut world = answering(&spec, works());
    world.set_answers(AnswerBehaviour::Silent);
    for _ in 0..3 {
        world.kill(KILLED);
        world.run_for(Duration::from_secs(30));
        assert_eq!(*world.recovery().stage(), Stage::Manage);
    }
    assert_eq!(said(&world, "first_failure"), [0]);
    assert_eq!(raised(&world, Severity::Major), [60], "the third pass");
}

#[test]
fn another_process_starts_anew() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.set_answers(AnswerBehaviour::Silent);
    world.run_until(second(20));
    assert_eq!(world.recovery().pulse().misses(), 4);
    world.start_by_hand();
    assert_eq!(world.recovery().pulse().misses(), 0);
    assert_eq!(world.recovery().pulse().sequence(), 1);
    world.run_until(second(20 + 143));
    assert_eq!(said(&world, "unanswered"), NEVER, "it may be coming up");
    world.run_until(second(20 + 144));
    assert_eq!(said(&world, "unanswered"), [164]);
}

#[test]
fn an_operators_stop_ends_the_asking() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.happen(request(OperatorAction::Stop));
    world.run_until(second(1000));
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    assert_eq!(requests(&world), NEVER);
    assert!(!world.recovery().pulse().is_asking());
}

#[test]
fn after_a_restart_of_the_daemon_a_recovery_still_needs_answers() {
    let spec = active(Severity::Major, 3);
    let (mut recovery, _) = Recovery::new(&spec, DEATH);
    recovery.resume();
    let mut world = Simulation::of(&spec, recovery, DEATH, works());
    world.start_by_hand();
    world.run_until(second(100));
    assert_eq!(said(&world, "stable"), [20]);
    assert_eq!(said(&world, "recovered"), [40]);
}
