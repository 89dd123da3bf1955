//! The vectors of spec/pmond.md §2.12 that are not about silence, in active mode:
//! who is asked meanwhile, and that existence alone is no recovery. Times are
//! seconds after the death, the stop or the change; figures as shipped, 5/4/5.

use super::{
    active::{active, alarms, answering, requests},
    *,
};
use crate::core::simulation::AnswerBehaviour;

const STOP: OperatorAction = OperatorAction::StopFor {
    lasts: Duration::from_secs(1800),
};

fn dies_after(lives: u64) -> StartBehaviour {
    StartBehaviour::Works {
        appears: Duration::from_secs(1),
        exits: Duration::from_secs(1),
        lives: Some(Duration::from_secs(lives)),
    }
}

#[test]
fn v7_dies_while_being_monitored_and_nobody_has_asked_it() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, dies_after(7));
    world.kill(KILLED);
    // Appears at 1, MONITOR at 5, dies at 8; the next attempt `interval` later.
    world.run_until(second(13));
    assert_eq!(said(&world, "attempt_failed"), [8]);
    assert_eq!(starts(&world), [0, 13]);
    assert_eq!(requests(&world), NEVER, "debounce comes first");
    world.run_until(second(45));
    assert_eq!(raised(&world, Severity::Major), [39]);
    // The alarm goes with the sixth answer, and not when it stays alive.
    world.set_start(works());
    world.run_until(second(47));
    world.run_until(second(200));
    let stable = said(&world, "stable");
    let cleared = said(&world, "alarm_cleared");
    assert_eq!((stable.len(), cleared.len()), (1, 1));
    assert_eq!(cleared[0], stable[0] + 20);
    assert_eq!(requests(&world)[0], stable[0]);
}

#[test]
fn v7_dies_when_it_has_begun_to_answer_and_is_counted_all_the_same() {
    let spec = active(Severity::Major, 2);
    // Stable at 25, and answers at 25 and 29; it dies at 31.
    let mut world = answering(&spec, dies_after(30));
    world.kill(KILLED);
    world.run_until(second(31));
    assert_eq!(said(&world, "recovered"), NEVER);
    assert_eq!(starts(&world), [0, 31], "a death, and no failed attempt");
    assert_eq!(world.recovery().attempts(), 2);
    world.run_until(second(62));
    assert_eq!(said(&world, "first_failure"), [0]);
    assert_eq!(raised(&world, Severity::Major), [62], "the third pass");
}

#[test]
fn v9_a_stop_of_the_original_and_then_nothing() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.happen(request(STOP));
    world.run_until(second(1799));
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    assert_eq!(requests(&world), NEVER, "nobody is asked");
    assert_eq!(starts(&world), NEVER);
    world.run_until(second(1900));
    assert_eq!(said(&world, "first_failure"), [1800]);
    assert_eq!(starts(&world), [1800]);
    assert_eq!(said(&world, "stable"), [1825]);
    assert_eq!(requests(&world)[0], 1825);
    assert_eq!(said(&world, "recovered"), [1845], "with the sixth answer");
    assert_eq!(world.recovery().attempts(), 0);
    assert_eq!(alarms(&world), NEVER);
}

#[test]
fn v9_who_is_started_meanwhile_is_asked_at_once() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.happen(request(STOP));
    world.run_until(second(60));
    let by_hand = world.start_by_hand();
    world.run_until(second(70));
    assert_eq!(world.recovery().current().unwrap().identity, by_hand);
    assert_eq!(requests(&world), [60, 64, 68]);
    world.run_until(second(4000));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(said(&world, "stop_expired"), NEVER);
}

#[test]
fn v10_a_stop_of_the_original_and_a_start() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.happen(request(STOP));
    world.run_until(second(100));
    world.happen(request(OperatorAction::Start));
    world.run_until(second(4000));
    // V1 without the LOG.
    assert_eq!(starts(&world), [100]);
    assert_eq!(said(&world, "first_failure"), NEVER);
    assert_eq!(said(&world, "monitoring"), [105]);
    assert_eq!(said(&world, "stable"), [125]);
    assert_eq!(said(&world, "recovered"), [145], "with the sixth answer");
    assert_eq!(said(&world, "stop_expired"), NEVER);
    assert_eq!(world.recovery().attempts(), 0);
    assert_eq!(alarms(&world), NEVER);
}

#[test]
fn v10_a_start_of_who_never_answers_is_a_failure_in_the_end() {
    let spec = active(Severity::Major, 3);
    let mut world = answering(&spec, works());
    world.happen(request(STOP));
    world.set_answers(AnswerBehaviour::Silent);
    world.run_until(second(100));
    world.happen(request(OperatorAction::Start));
    world.run_until(second(300));
    // Stable at 125, then 36 misses, 144 s.
    assert_eq!(said(&world, "first_failure"), [269]);
    assert_eq!(starts(&world), [100, 269]);
}

#[test]
fn v11_a_file_that_is_added_has_its_process_asked_at_once() {
    let spec = active(Severity::Major, 3);
    let mut world = Simulation::new(&spec, Some(FIRST), works());
    world.run_until(Time::default() + Duration::from_secs(9));
    let asked = world.log().iter();
    let asked: Vec<u64> = asked
        .filter(|(_, effect)| matches!(effect, Effect::RequestPulse { .. }))
        .map(|(at, _)| at.since(Time::default()).as_secs())
        .collect();
    assert_eq!(asked, [0, 4, 8]);
    assert!(!world.recovery().is_failed());
}

/// The original zeroed everything at each change of any file (spec/pmond.md §1.9).
#[test]
fn v11_a_file_that_is_changed_forgets_nothing() {
    let mut spec = active(Severity::Major, 1);
    let mut before = answering(&spec, works());
    before.set_answers(AnswerBehaviour::Silent);
    // Passes at 24 and 193: the alarm is raised, and the third process is asked.
    before.run_until(second(230));
    assert_eq!(raised(&before, Severity::Major), [193]);
    let pulse = before.recovery().pulse().clone();
    assert!(pulse.misses() > 0);
    let mut recovery = before.recovery().clone();
    spec.active.as_mut().unwrap().threshold = 7;
    let effects = recovery.reconfigured(&spec, second(230));
    assert!(effects.is_empty(), "{effects:?}");
    let mut world = Simulation::of(&spec, recovery, second(230), works());
    assert_eq!(world.recovery().pulse(), &pulse, "nor does it ask anew");
    assert_eq!(world.recovery().alarm(), Some(Severity::Major));
    world.run_until(second(240));
    assert_eq!(
        world.recovery().pulse().sequence(),
        pulse.sequence() + requests(&world).len() as u32
    );
    world.set_answers(AnswerBehaviour::Answers);
    world.run_until(second(300));
    assert_eq!(said(&world, "alarm_cleared").len(), 1);
    assert_eq!(starts(&world), NEVER);
}
