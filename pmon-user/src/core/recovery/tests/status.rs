//! Status mode (spec/pmond.md §5), V14 among it. Times are seconds after the
//! entity was configured.

use proptest::prelude::*;

use super::*;
use crate::core::{
    effect::ScriptTask, entity::StatusSpec, forecast::if_its_status_were_bad,
    simulation::ScriptBehaviour, status::State,
};

pub(super) const GOOD: ScriptBehaviour = ScriptBehaviour {
    status: 0,
    start: 0,
    takes: Duration::ZERO,
};
pub(super) const BAD: ScriptBehaviour = ScriptBehaviour { status: 1, ..GOOD };
pub(super) const HOPELESS: ScriptBehaviour = ScriptBehaviour { start: 1, ..BAD };

pub(super) fn asked_spec(restarts: u32) -> EntitySpec {
    EntitySpec {
        mode: Mode::Status,
        interval: Duration::from_secs(10),
        status: Some(StatusSpec {
            script: PathBuf::from("/etc/init.d/probe"),
            start_arg: "start mds".to_owned(),
            status_arg: "status mds".to_owned(),
            period: Duration::from_secs(30),
            timeout: Duration::from_secs(120),
            failure_text: Some(PathBuf::from("/tmp/text")),
        }),
        ..spec(Severity::Major, restarts)
    }
}

pub(super) fn world(spec: &EntitySpec, scripts: ScriptBehaviour) -> Simulation<'_> {
    let mut world = Simulation::new(spec, None, works());
    world.set_scripts(scripts);
    world
}

pub(super) fn at(seconds: u64) -> Time {
    Time::default() + Duration::from_secs(seconds)
}

pub(super) fn when(world: &Simulation<'_>, wanted: impl Fn(&Effect) -> bool) -> Vec<u64> {
    let log = world.log().iter();
    log.filter(|(_, effect)| wanted(effect))
        .map(|(at, _)| at.since(Time::default()).as_secs())
        .collect()
}

pub(super) fn told(world: &Simulation<'_>, kind: &str) -> Vec<u64> {
    when(
        world,
        |effect| matches!(effect, Effect::Say(notice) if notice.kind() == kind),
    )
}

pub(super) fn runs(world: &Simulation<'_>, wanted: ScriptTask) -> Vec<u64> {
    when(
        world,
        |effect| matches!(effect, Effect::RunScript { task, .. } if *task == wanted),
    )
}

#[test]
fn v14_a_status_that_is_always_bad() {
    let spec = asked_spec(3);
    let mut world = world(&spec, BAD);
    world.run_until(at(29));
    assert!(world.log().is_empty(), "first run one period after load");
    world.run_until(at(125));
    assert_eq!(runs(&world, ScriptTask::Status), [30, 60, 90, 120]);
    assert_eq!(runs(&world, ScriptTask::Start), [30, 60, 90, 120]);
    assert_eq!(told(&world, "status_bad"), [30, 60, 90, 120]);
    assert_eq!(told(&world, "first_failure"), [30]);
    let raise = |effect: &Effect| *effect == Effect::Alarm(AlarmChange::Raise(Severity::Major));
    assert_eq!(when(&world, raise), [120]);
    // The count begins anew, and there is no second LOG.
    world.run_until(at(235));
    assert_eq!(when(&world, raise), [120]);
    assert_eq!(told(&world, "first_failure"), [30]);
    assert_eq!(told(&world, "alarm_refreshed"), [160, 200]);
    // Clear at first good status.
    world.set_scripts(GOOD);
    world.run_until(at(300));
    assert_eq!(
        when(&world, |effect| *effect
            == Effect::Alarm(AlarmChange::Clear)),
        [240]
    );
    assert_eq!(told(&world, "status_good"), [240], "told once");
    assert_eq!(world.recovery().alarm(), None);
    assert_eq!(world.recovery().attempts(), 0);
    assert!(!world.recovery().is_failed());
    // What follows is a new cycle.
    world.set_scripts(BAD);
    world.run_until(at(335));
    assert_eq!(told(&world, "first_failure"), [30, 330]);
}

#[test]
fn a_critical_alarm_is_told_again_at_every_threshold() {
    let spec = EntitySpec {
        severity: Severity::Critical,
        ..asked_spec(3)
    };
    let mut world = world(&spec, BAD);
    world.run_until(at(215));
    assert_eq!(told(&world, "alarm_raised"), [120]);
    // Every 40 s, and at the threshold.
    assert_eq!(told(&world, "alarm_refreshed"), [160, 200, 210]);
}

#[test]
fn without_restarts_the_first_failure_is_an_alarm_and_a_start_all_the_same() {
    let spec = asked_spec(0);
    let mut world = world(&spec, BAD);
    world.run_until(at(65));
    assert_eq!(told(&world, "alarm_raised"), [30]);
    assert_eq!(told(&world, "first_failure"), NEVER);
    assert_eq!(runs(&world, ScriptTask::Start), [30, 60]);
}

#[test]
fn a_start_that_fails_is_repeated_after_the_interval_and_counted_once() {
    let spec = asked_spec(3);
    let mut world = world(&spec, HOPELESS);
    world.run_until(at(65));
    assert_eq!(
        runs(&world, ScriptTask::Status),
        [30],
        "not asked in between"
    );
    assert_eq!(runs(&world, ScriptTask::Start), [30, 40, 50, 60]);
    assert_eq!(told(&world, "attempt_failed"), [30, 40, 50, 60]);
    assert_eq!(told(&world, "alarm_raised"), [60]);
    // A start that works is no good status.
    world.set_scripts(BAD);
    world.run_until(at(99));
    assert_eq!(runs(&world, ScriptTask::Start), [30, 40, 50, 60, 70]);
    assert_eq!(told(&world, "alarm_cleared"), NEVER);
    world.set_scripts(GOOD);
    world.run_until(at(101));
    assert_eq!(told(&world, "alarm_cleared"), [100]);
}

#[test]
fn a_pause_of_zero_is_a_second() {
    let spec = EntitySpec {
        interval: Duration::ZERO,
        ..asked_spec(3)
    };
    let mut world = world(&spec, HOPELESS);
    world.run_until(at(33));
    assert_eq!(runs(&world, ScriptTask::Start), [30, 31, 32, 33]);
}

#[test]
fn the_period_begins_when_a_run_has_ended() {
    let spec = asked_spec(3);
    let takes = Duration::from_secs(7);
    let mut world = world(&spec, ScriptBehaviour { takes, ..GOOD });
    world.run_until(at(110));
    assert_eq!(runs(&world, ScriptTask::Status), [30, 67, 104]);
    assert_eq!(world.recovery().status().last_status().unwrap().took, takes);
}

/// S7: cleared by the name it was raised by, whatever the file says by then.
#[test]
fn s7_the_text_of_the_alarm_stays_until_another_one_is_raised() {
    let spec = asked_spec(1);
    let mut world = world(&spec, BAD);
    world.set_failure_text(Some("too early"));
    let wants_text = |effect: &Effect| {
        matches!(
            effect,
            Effect::RunScript {
                failure_text: true,
                ..
            }
        )
    };
    world.run_until(at(35));
    assert_eq!(world.recovery().failure_text(), None);
    assert_eq!(when(&world, wants_text), NEVER, "read only when asserting");
    world.set_failure_text(Some("no quorum"));
    world.run_until(at(65));
    assert_eq!(told(&world, "alarm_raised"), [60]);
    assert_eq!(world.recovery().failure_text(), Some("no quorum"));
    world.set_failure_text(Some("something else"));
    world.run_until(at(125));
    assert_eq!(world.recovery().failure_text(), Some("no quorum"));
    world.set_scripts(GOOD);
    world.run_until(at(155));
    assert_eq!(told(&world, "alarm_cleared"), [150]);
    assert_eq!(world.recovery().failure_text(), Some("no quorum"));
    assert_eq!(when(&world, wants_text), [60]);
    // The next alarm has a name of its own.
    world.set_scripts(BAD);
    world.set_failure_text(None);
    world.run_until(at(215));
    assert_eq!(told(&world, "alarm_raised"), [60, 210]);
    assert_eq!(world.recovery().failure_text(), None);
}

#[test]
fn s7_an_alarm_of_an_earlier_daemon_is_cleared_by_its_own_name_and_soon() {
    let spec = asked_spec(3);
    for (scripts, told_kind) in [(GOOD, "alarm_cleared"), (BAD, "alarm_refreshed")] {
        let (mut recovery, _) = Recovery::new(&spec, DEATH);
        let raised = Some((Severity::Major, DEATH));
        let effects = recovery.resume_alarm(&spec, raised, Quorum::default(), DEATH);
        assert!(effects.is_empty());
        recovery.recall_failure_text(Some("no quorum".to_owned()));
        let mut world = Simulation::of(&spec, recovery, DEATH, works());
        world.set_scripts(scripts);
        world.set_failure_text(Some("something else"));
        world.run_until(DEATH);
        assert_eq!(said(&world, told_kind), [0], "asked at once");
        world.run_until(second(200));
        assert_eq!(world.recovery().failure_text(), Some("no quorum"));
        assert_eq!(said(&world, "alarm_raised"), NEVER);
    }
}

#[test]
fn a_shorter_period_counts_at_once() {
    let mut shorter = asked_spec(3);
    let (mut recovery, _) = Recovery::new(&shorter, DEATH);
    shorter.status.as_mut().unwrap().period = Duration::from_secs(2);
    recovery.reconfigured(&shorter, second(10));
    let mut world = Simulation::of(&shorter, recovery, second(10), works());
    world.run_until(second(15));
    let asked = times(&world, |effect| matches!(effect, Effect::RunScript { .. }));
    assert_eq!(asked, [12, 14]);
}

/// S18: at boot somebody else may be starting it; a daemon that goes on with a
/// failure asks at once.
#[test]
fn s18_the_first_question_waits_for_a_period_unless_a_failure_is_known() {
    let spec = asked_spec(3);
    let mut fresh = world(&spec, BAD);
    fresh.run_until(at(29));
    assert!(fresh.log().is_empty());

    let (mut recovery, effects) = Recovery::new(&spec, DEATH);
    assert!(effects.is_empty());
    recovery.resume();
    let mut goes_on = Simulation::of(&spec, recovery, DEATH, works());
    goes_on.run_until(DEATH);
    assert_eq!(runs(&goes_on, ScriptTask::Status).len(), 1);
}

#[test]
fn a_pidfile_and_who_is_in_it_are_nobodys() {
    let spec = asked_spec(3);
    let mut world = world(&spec, BAD);
    world.start_by_hand();
    world.run_until(at(95));
    assert_eq!(world.recovery().current(), None);
    let touched = |effect: &Effect| {
        matches!(
            effect,
            Effect::Look { .. }
                | Effect::Register { .. }
                | Effect::RemovePidfile { .. }
                | Effect::Signal { .. }
                | Effect::Start { .. }
        )
    };
    assert_eq!(when(&world, touched), NEVER);
}

#[test]
fn an_operators_restart_starts_now_and_is_no_failure() {
    let spec = asked_spec(3);
    let mut world = world(&spec, GOOD);
    world.run_until(at(35));
    world.happen(request(OperatorAction::Restart));
    world.happen(request(OperatorAction::Restart));
    assert_eq!(runs(&world, ScriptTask::Start), [35]);
    assert!(world.recovery().is_manual());
    world.run_until(at(70));
    assert_eq!(runs(&world, ScriptTask::Status), [30, 65]);
    assert!(!world.recovery().is_manual());
    assert_eq!(told(&world, "first_failure"), NEVER);
    assert_eq!(world.recovery().starts().operator, 1);
    // One that fails is a failure like any other.
    world.set_scripts(HOPELESS);
    world.happen(request(OperatorAction::Restart));
    world.run_until(at(71));
    assert_eq!(told(&world, "first_failure"), [70]);
    assert!(world.recovery().is_failed());
}

#[test]
fn an_operators_restart_ends_a_question() {
    let spec = asked_spec(3);
    let takes = Duration::from_secs(5);
    let mut world = world(&spec, ScriptBehaviour { takes, ..BAD });
    world.run_until(at(31));
    world.happen(request(OperatorAction::Restart));
    let cancelled = when(&world, |effect| *effect == Effect::CancelStart);
    assert_eq!(cancelled, [31]);
    assert_eq!(runs(&world, ScriptTask::Start), [31]);
    world.run_until(at(35));
    // The answer of the question that was ended is nobody's.
    assert_eq!(told(&world, "status_bad"), NEVER);
    world.run_until(at(36));
    assert!(matches!(
        world.recovery().status().state(),
        State::Begin { .. }
    ));
}

#[test]
fn an_operators_start_asks_first_and_hurries_a_failed_one() {
    let spec = asked_spec(3);
    let mut early = world(&spec, GOOD);
    early.run_until(at(3));
    early.happen(request(OperatorAction::Start));
    early.run_until(at(3));
    assert_eq!(runs(&early, ScriptTask::Status), [3]);
    assert_eq!(runs(&early, ScriptTask::Start), NEVER);
    early.happen(request(OperatorAction::Start));
    assert_eq!(runs(&early, ScriptTask::Status), [3], "it is up");

    let mut failed = world(&spec, HOPELESS);
    failed.run_until(at(33));
    failed.happen(request(OperatorAction::Start));
    assert_eq!(runs(&failed, ScriptTask::Start), [30, 33]);
}

#[test]
fn a_stop_is_refused_and_says_why() {
    let spec = asked_spec(3);
    let mut world = world(&spec, GOOD);
    world.run_until(at(35));
    world.happen(request(OperatorAction::Stop));
    assert_eq!(told(&world, "refused"), [35]);
    let why = Recovery::refuses(&spec, OperatorAction::Stop).unwrap();
    assert!(why.contains("none that stops it"), "{why}");
    world.run_until(at(65));
    assert_eq!(runs(&world, ScriptTask::Status), [30, 60]);
}

#[test]
fn one_that_was_stopped_before_is_asked_again_when_it_is_started() {
    let spec = asked_spec(3);
    let (recovery, effects) = Recovery::new_stopped(&spec, Time::default(), None);
    assert!(effects.is_empty());
    let mut world = Simulation::of(&spec, recovery, Time::default(), works());
    world.run_until(at(500));
    assert!(world.log().is_empty());
    world.happen(request(OperatorAction::Start));
    world.run_until(at(535));
    assert_eq!(runs(&world, ScriptTask::Status), [500, 530]);
    assert_eq!(told(&world, "status_good"), [500]);
}

#[test]
fn a_forecast_leads_to_the_alarm() {
    let spec = asked_spec(2);
    let mut world = world(&spec, GOOD);
    world.run_until(at(40));
    let now = world.now();
    let lines: Vec<_> = if_its_status_were_bad(&spec, world.recovery(), now)
        .into_iter()
        .map(|line| (line.after.as_secs(), line.what))
        .collect();
    let start = "/etc/init.d/probe start mds";
    let expected = [
        (20, "the status is bad"),
        (20, start),
        (20, "first failure is logged"),
        (50, "the status is bad"),
        (50, start),
        (80, "the status is bad"),
        (80, start),
        (80, "major alarm"),
    ];
    for (line, (after, what)) in lines.iter().zip(expected) {
        assert_eq!((line.0, &*line.1), (after, what), "{lines:?}");
    }
    assert!(
        lines
            .last()
            .unwrap()
            .1
            .starts_with("if the start fails, too: ")
    );
    assert_eq!(world.recovery().attempts(), 0, "nothing has happened");
}

#[derive(Clone, Debug)]
enum Move {
    Pass(u64),
    Scripts(ScriptBehaviour),
    Ask(OperatorAction),
    Stray(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let scripts = (0..2, 0..2, 0_u64..50).prop_map(|(status, start, takes)| {
        Move::Scripts(ScriptBehaviour {
            status,
            start,
            takes: Duration::from_secs(takes),
        })
    });
    let operator = prop_oneof![
        Just(OperatorAction::Start),
        Just(OperatorAction::Stop),
        Just(OperatorAction::Restart),
    ];
    let one = prop_oneof![
        4 => (1_u64..60).prop_map(Move::Pass),
        2 => scripts,
        1 => operator.prop_map(Move::Ask),
        1 => (0_u64..20).prop_map(Move::Stray),
    ];
    prop::collection::vec(one, 1..60)
}

/// Replays what was asked for, with the ends that the world gave: no two at once.
fn assert_one_at_a_time(world: &Simulation<'_>, takes: &[(Time, Duration)]) {
    let mut busy: Option<(ScriptTask, Time)> = None;
    for (now, effect) in world.log() {
        match effect {
            Effect::CancelStart => busy = None,
            Effect::RunScript { task, .. } => {
                if let Some((earlier, until)) = busy {
                    assert!(until <= *now, "{task:?} at {now:?} beside {earlier:?}");
                }
                let behaviour = takes.iter().rev().find(|(since, _)| since <= now);
                let takes = behaviour.map_or(Duration::ZERO, |(_, takes)| *takes);
                busy = Some((*task, *now + takes));
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn scripts_run_one_at_a_time_and_alarms_end_with_a_good_status(
        restarts in 0_u32..4,
        moves in moves(),
    ) {
        let spec = asked_spec(restarts);
        let mut world = world(&spec, GOOD);
        let mut takes = vec![(Time::default(), Duration::ZERO)];
        for one in moves {
            match one {
                Move::Pass(seconds) => world.run_for(Duration::from_secs(seconds)),
                Move::Scripts(scripts) => {
                    // What began in this very moment keeps its end.
                    takes.push((world.now() + Duration::from_nanos(1), scripts.takes));
                    world.set_scripts(scripts);
                    world.run_for(Duration::from_millis(1));
                }
                Move::Ask(action) => world.happen(request(action)),
                Move::Stray(run) => {
                    let last = world.recovery().status().running().map(|(_, run)| run);
                    if last != Some(run) {
                        let end = StartEnd::TimedOut;
                        world.happen(Event::ScriptEnded { run, end, failure_text: None });
                    }
                }
            }
            let raised = when(&world, |e| matches!(e, Effect::Alarm(AlarmChange::Raise(_)))).len();
            let cleared = when(&world, |e| *e == Effect::Alarm(AlarmChange::Clear)).len();
            prop_assert_eq!(raised - cleared, usize::from(world.recovery().alarm().is_some()));
            prop_assert!(world.recovery().attempts() <= restarts.max(1));
        }
        assert_one_at_a_time(&world, &takes);
        world.set_scripts(GOOD);
        world.run_for(Duration::from_secs(300));
        prop_assert_eq!(world.recovery().alarm(), None);
        prop_assert!(!world.recovery().is_failed());
        let monitor = world.recovery().status();
        prop_assert!(monitor.last_status().is_some_and(|run| run.result.is_ok()));
    }
}

/// The strikes of a quorum member go with the alarm (spec/pmond.md §2.7).
#[test]
fn v3_the_second_alarm_threshold_is_the_second_strike() {
    let spec = EntitySpec {
        quorum: true,
        ..asked_spec(1)
    };
    let mut world = world(&spec, BAD);
    world.run_until(at(125));
    assert_eq!(told(&world, "alarm_raised"), [60]);
    assert_eq!(told(&world, "quorum_failure"), [60]);
    assert_eq!(told(&world, "quorum_unrecoverable"), [90]);
    world.set_scripts(GOOD);
    world.run_until(at(155));
    assert_eq!(told(&world, "quorum_cleared"), [150]);
}
