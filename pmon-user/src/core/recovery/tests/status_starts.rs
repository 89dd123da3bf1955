//! What may keep a start of status mode waiting: the gates of the host, its part of
//! the host, back-off, intensity, its turn, and holds. Times are seconds after
//! the entity was configured.

use super::{
    status::{BAD, GOOD, HOPELESS, asked_spec, at, runs, told, when, world},
    *,
};
use crate::core::{
    effect::ScriptTask,
    event::Delay,
    gate::{Condition, Flag, GateEvent, Verdict},
    simulation::{ScriptBehaviour, TurnBehaviour},
    status::State,
    storm::{BackoffPolicy, IntensityPolicy},
};

fn shutting_down() -> Verdict {
    Verdict::Closed {
        why: "the host is shutting down".to_owned(),
    }
}

fn guarded(spec: &EntitySpec, scripts: ScriptBehaviour) -> Simulation<'_> {
    let (mut recovery, _) = Recovery::new(spec, Time::default());
    recovery.guard();
    let mut world = Simulation::of(spec, recovery, Time::default(), works());
    world.set_scripts(scripts);
    world
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn v15_a_host_that_shuts_down_starts_nothing_by_script_and_counts_nothing() {
    let spec = asked_spec(0);
    let mut world = guarded(&spec, BAD);
    world.set_gate(shutting_down());
    world.run_until(at(125));
    assert_eq!(
        runs(&world, ScriptTask::Status),
        [30, 60, 90, 120],
        "asking does no harm"
    );
    assert_eq!(runs(&world, ScriptTask::Start), NEVER);
    assert_eq!(told(&world, "gated"), [30], "told once");
    for kind in ["first_failure", "alarm_raised", "gave_up"] {
        assert_eq!(told(&world, kind), NEVER, "{kind}");
    }
    assert_eq!(*world.recovery().stage(), Stage::Gated);
    let problem = world.recovery().problem();
    assert_eq!(problem, Some("not recovered: the host is shutting down"));
}

#[test]
fn v15_when_the_gates_open_the_status_is_asked_once_more_and_at_once() {
    let spec = asked_spec(3);
    let mut cancelled = guarded(&spec, BAD);
    cancelled.set_gate(shutting_down());
    cancelled.run_until(at(40));
    cancelled.set_gate(Verdict::Open);
    cancelled.run_until(at(41));
    assert_eq!(runs(&cancelled, ScriptTask::Status), [30, 40]);
    assert_eq!(runs(&cancelled, ScriptTask::Start), [40]);
    assert_eq!(told(&cancelled, "first_failure"), [40]);

    // S18: somebody else has started it meanwhile.
    let mut started = guarded(&spec, BAD);
    started.set_gate(shutting_down());
    started.run_until(at(40));
    started.set_scripts(GOOD);
    started.set_gate(Verdict::Open);
    started.run_until(at(45));
    assert_eq!(runs(&started, ScriptTask::Start), NEVER);
    assert_eq!(told(&started, "status_good"), [40]);
    assert_eq!(*started.recovery().stage(), Stage::Manage);
    assert_eq!(started.recovery().problem(), None);
}

#[test]
fn a_good_status_needs_no_open_gates() {
    let spec = asked_spec(3);
    let mut world = guarded(&spec, BAD);
    world.set_gate(shutting_down());
    world.run_until(at(40));
    world.set_scripts(GOOD);
    world.run_until(at(65));
    assert_eq!(told(&world, "status_good"), [60]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert!(!world.recovery().is_failed());
    // The answer that comes late is nobody's.
    world.set_gate(Verdict::Open);
    world.run_until(at(70));
    assert_eq!(runs(&world, ScriptTask::Status), [30, 60]);
}

#[test]
fn v14_open_gates_change_nothing_of_the_cadence() {
    let spec = asked_spec(3);
    let mut before_gates = guarded(&spec, BAD);
    before_gates.run_until(at(300));
    let mut without = world(&spec, BAD);
    without.run_until(at(300));
    for task in [ScriptTask::Status, ScriptTask::Start] {
        assert_eq!(runs(&before_gates, task), runs(&without, task));
    }
    assert_eq!(told(&before_gates, "alarm_raised"), [120]);
}

#[test]
fn each_start_asks_the_gates_anew_also_one_after_a_failed_start() {
    let spec = asked_spec(3);
    let mut world = guarded(&spec, HOPELESS);
    world.run_until(at(45));
    assert_eq!(runs(&world, ScriptTask::Start), [30, 40]);
    world.set_gate(shutting_down());
    world.run_until(at(300));
    assert_eq!(runs(&world, ScriptTask::Start), [30, 40]);
    assert_eq!(told(&world, "alarm_raised"), NEVER);
}

#[test]
fn an_operator_passes_the_gates_by_script_too() {
    let spec = asked_spec(3);
    for action in [OperatorAction::Start, OperatorAction::Restart] {
        let mut world = guarded(&spec, BAD);
        world.set_gate(shutting_down());
        world.run_until(at(35));
        world.happen(request(action));
        world.run_until(at(36));
        assert_eq!(runs(&world, ScriptTask::Start), [35], "{action:?}");
        assert_eq!(world.recovery().starts().operator, 1);
        assert_eq!(told(&world, "first_failure"), NEVER, "it was wished");
    }
}

#[test]
fn s4_a_part_of_the_host_that_is_not_configured_is_not_asked() {
    let spec = EntitySpec {
        subfunction: Some("worker".to_owned()),
        ..asked_spec(3)
    };
    let (mut recovery, _) = Recovery::new(&spec, Time::default());
    recovery.guard();
    assert!(recovery.defer(&spec, Condition::Flag(Flag::WorkerConfigured)));
    let mut world = Simulation::of(&spec, recovery, Time::default(), works());
    world.set_scripts(BAD);
    world.run_until(at(500));
    assert!(world.log().is_empty());
    assert!(world.recovery().is_deferred());
    let pause = seconds(7);
    world.happen(Event::Gate(GateEvent::ConditionMet { pause }));
    world.run_until(at(540));
    assert_eq!(
        runs(&world, ScriptTask::Status),
        [537],
        "a whole period later"
    );
    assert_eq!(runs(&world, ScriptTask::Start), [537]);

    let (mut recovery, _) = Recovery::new(&spec, Time::default());
    assert!(recovery.defer(&spec, Condition::Never));
    let mut never = Simulation::of(&spec, recovery, Time::default(), works());
    never.set_scripts(BAD);
    never.run_until(at(5));
    never.happen(request(OperatorAction::Start));
    never.run_until(at(6));
    assert_eq!(runs(&never, ScriptTask::Status), [5], "an operator's word");
}

fn backing_off() -> EntitySpec {
    EntitySpec {
        storm: StormPolicy {
            backoff: Some(BackoffPolicy {
                initial: seconds(100),
                factor: 2000,
                max: seconds(400),
                jitter: 0,
                reset_after: seconds(600),
            }),
            ..StormPolicy::PMOND
        },
        ..asked_spec(1)
    }
}

#[test]
fn after_the_alarm_starts_back_off_and_the_status_is_asked_on() {
    let spec = backing_off();
    let mut world = world(&spec, BAD);
    world.run_until(at(700));
    // The ladder: 30, and 60 with the alarm; then 100, 200 and 400 s of pause.
    assert_eq!(runs(&world, ScriptTask::Start), [30, 60, 160, 360]);
    assert_eq!(told(&world, "alarm_raised"), [60]);
    let asked = runs(&world, ScriptTask::Status);
    let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause <= 30), "{asked:?}");
    // It comes up without us, in the middle of a pause.
    world.set_scripts(GOOD);
    world.run_until(at(735));
    assert_eq!(told(&world, "alarm_cleared").len(), 1);
    assert!(!world.recovery().is_failed());
    assert_eq!(
        world.recovery().status().restrained_until(world.now()),
        None
    );
}

#[test]
fn after_the_alarm_failed_starts_back_off_and_tell_of_the_pause() {
    let spec = backing_off();
    let mut world = world(&spec, HOPELESS);
    world.run_until(at(400));
    assert_eq!(runs(&world, ScriptTask::Start), [30, 40, 140, 340]);
    let told_pauses: Vec<u64> = world
        .log()
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Say(Notice::AttemptFailed { next_in, .. }) => Some(next_in.as_secs()),
            _ => None,
        })
        .collect();
    assert_eq!(told_pauses, [10, 100, 200, 400]);
    // An operator waits for no pause.
    world.happen(request(OperatorAction::Start));
    world.run_until(at(401));
    assert_eq!(runs(&world, ScriptTask::Start), [30, 40, 140, 340, 400]);
}

#[test]
fn too_many_starts_are_given_up_with_an_alarm_until_the_status_is_good() {
    let spec = EntitySpec {
        storm: StormPolicy {
            intensity: Some(IntensityPolicy {
                restarts: 2,
                within: seconds(3600),
            }),
            ..StormPolicy::PMOND
        },
        ..asked_spec(10)
    };
    let mut world = world(&spec, BAD);
    world.run_until(at(400));
    assert_eq!(runs(&world, ScriptTask::Start), [30, 60]);
    assert_eq!(told(&world, "gave_up"), [90]);
    assert_eq!(told(&world, "alarm_raised"), [90]);
    assert_eq!(*world.recovery().stage(), Stage::Ignore);
    let problem = world.recovery().problem().unwrap();
    assert!(problem.contains("no automatic recovery"), "{problem}");
    world.set_scripts(GOOD);
    world.run_until(at(425));
    assert_eq!(told(&world, "alarm_cleared"), [420]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn a_turn_that_has_to_be_waited_for_is_followed_by_one_more_question() {
    let spec = asked_spec(3);
    for (then, started) in [(BAD, vec![45]), (GOOD, NEVER.to_vec())] {
        let mut world = world(&spec, BAD);
        world.set_turns(TurnBehaviour::Withheld);
        world.run_until(at(30));
        assert_eq!(*world.recovery().stage(), Stage::Queued);
        world.happen(Event::Delayed(Delay::Budget { ahead: 3 }));
        world.run_until(at(45));
        world.set_scripts(then);
        world.happen(Event::Turn);
        world.run_until(at(46));
        assert_eq!(runs(&world, ScriptTask::Status), [30, 45]);
        assert_eq!(runs(&world, ScriptTask::Start), started);
        let returned = when(&world, |effect| *effect == Effect::ReturnTurn);
        assert_eq!(returned, [45], "given back, started or not");
        assert_eq!(*world.recovery().stage(), Stage::Manage);
    }
}

#[test]
fn a_turn_is_held_until_the_script_has_ended() {
    let spec = asked_spec(3);
    let takes = seconds(10);
    let mut world = world(&spec, ScriptBehaviour { takes, ..BAD });
    world.run_until(at(100));
    assert_eq!(runs(&world, ScriptTask::Start)[0], 40);
    let returned = when(&world, |effect| *effect == Effect::ReturnTurn);
    assert_eq!(returned[0], 50);
}

#[test]
fn that_it_falls_is_told_to_its_group_once() {
    let spec = asked_spec(3);
    let mut world = world(&spec, GOOD);
    world.run_until(at(45));
    world.set_scripts(BAD);
    world.run_until(at(150));
    assert_eq!(when(&world, |effect| *effect == Effect::Fell), [60]);
}

#[test]
fn a_hold_lets_a_start_that_is_at_work_end_and_asks_nobody() {
    let spec = asked_spec(3);
    let takes = seconds(5);
    let mut world = world(&spec, ScriptBehaviour { takes, ..BAD });
    // The question ends at 35, the start at 40.
    world.run_until(at(36));
    world.happen(request(OperatorAction::Hold { lasts: None }));
    world.happen(request(OperatorAction::Restart));
    assert!(world.recovery().is_held());
    world.run_until(at(200));
    assert_eq!(when(&world, |effect| *effect == Effect::CancelStart), NEVER);
    assert_eq!(runs(&world, ScriptTask::Status), [30]);
    assert_eq!(runs(&world, ScriptTask::Start), [35]);
    assert_eq!(
        told(&world, "first_failure"),
        NEVER,
        "nothing follows from it"
    );
    assert_eq!(world.recovery().status().state(), State::Rest);
    world.happen(request(OperatorAction::Resume));
    world.run_until(at(201));
    assert_eq!(runs(&world, ScriptTask::Status), [30, 200]);
}

#[test]
fn a_hold_that_ends_before_the_start_leaves_it_alone() {
    let spec = asked_spec(3);
    let takes = seconds(5);
    let mut world = world(&spec, ScriptBehaviour { takes, ..BAD });
    world.run_until(at(36));
    world.happen(request(OperatorAction::Hold { lasts: None }));
    world.run_until(at(37));
    world.happen(request(OperatorAction::Resume));
    world.run_until(at(41));
    assert_eq!(
        runs(&world, ScriptTask::Status),
        [30],
        "not asked beside it"
    );
    assert_eq!(when(&world, |effect| *effect == Effect::CancelStart), NEVER);
    world.run_until(at(75));
    assert_eq!(runs(&world, ScriptTask::Status), [30, 70]);
}
