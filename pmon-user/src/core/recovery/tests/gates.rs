//! Before the gates: a host that is not ready or shuts down (V15), and parts of
//! it that are not configured yet (field story S4).

use super::*;
use crate::core::{
    entity::{ActiveSpec, UnitPolicy},
    gate::{Condition, Flag, GateEvent, Verdict},
    simulation::AnswerBehaviour,
    unit::UnitReport,
};

fn shutting_down() -> Verdict {
    Verdict::Closed {
        why: "the host is shutting down".to_owned(),
    }
}

/// A healthy entity before open gates.
fn guarded(spec: &EntitySpec, start: StartBehaviour) -> Simulation<'_> {
    let mut recovery = Recovery::new(spec, Time::default()).0;
    recovery.guard();
    let mut world = Simulation::of(spec, recovery, Time::default(), start);
    world.happen(seen(Occasion::Asked, Outcome::Process(FIRST)));
    world.run_until(DEATH);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    world.clear_log();
    world
}

fn seen(occasion: Occasion, outcome: Outcome) -> Event {
    Event::Seen(Sighting {
        occasion,
        outcome,
        foreign_script: None,
        unit: None,
    })
}

fn nothing() -> Outcome {
    Outcome::Nothing {
        reason: "no pidfile".to_owned(),
    }
}

/// The process of a [`guarded`] entity dies.
fn die(world: &mut Simulation<'_>) {
    let death = world.death(FIRST, KILLED);
    world.happen(Event::Died(death));
}

#[test]
fn v15_a_host_that_shuts_down_recovers_nothing_and_tells_nobody() {
    let spec = spec(Severity::Critical, 3);
    let mut world = guarded(&spec, works());
    world.set_gate(shutting_down());
    die(&mut world);
    world.run_for(Duration::from_secs(600));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(said(&world, "first_failure"), NEVER);
    assert_eq!(times(&world, |e| matches!(e, Effect::Alarm(_))), NEVER);
    assert_eq!(said(&world, "died"), [0], "it is on record all the same");
    assert_eq!(said(&world, "gated"), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Gated);
    let problem = world.recovery().problem();
    assert_eq!(problem, Some("not recovered: the host is shutting down"));
}

#[test]
fn v15_a_cancelled_shutdown_is_undone() {
    let spec = spec(Severity::Major, 3);
    let mut world = guarded(&spec, works());
    world.set_gate(shutting_down());
    die(&mut world);
    world.run_for(Duration::from_secs(100));
    world.set_gate(Verdict::Open);
    world.run_for(Duration::from_secs(100));
    assert_eq!(starts(&world), [100]);
    assert_eq!(said(&world, "first_failure"), [100]);
    assert_eq!(said(&world, "recovered"), [125]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn an_answer_is_good_for_one_attempt() {
    let spec = spec(Severity::Major, 3);
    let mut world = guarded(&spec, StartBehaviour::Fails(1));
    die(&mut world);
    // Attempts at 0 and 10; then the shutdown begins.
    world.run_for(Duration::from_secs(11));
    assert_eq!(starts(&world), [0, 10]);
    world.set_gate(shutting_down());
    world.run_for(Duration::from_secs(600));
    assert_eq!(starts(&world), [0, 10]);
    assert_eq!(raised(&world, Severity::Major), NEVER);
}

#[test]
fn open_gates_change_nothing_of_the_ladder() {
    let spec = spec(Severity::Major, 3);
    let mut world = guarded(&spec, StartBehaviour::Fails(1));
    die(&mut world);
    world.run_for(Duration::from_secs(100));
    let mut without = healthy(&spec, StartBehaviour::Fails(1));
    without.kill(KILLED);
    without.run_for(Duration::from_secs(100));
    assert_eq!(starts(&world), starts(&without));
    assert_eq!(
        raised(&world, Severity::Major),
        raised(&without, Severity::Major)
    );
}

#[test]
fn behind_closed_gates_processes_are_adopted_and_nothing_is_started() {
    let spec = spec(Severity::Major, 3);
    let (mut recovery, _) = Recovery::new(&spec, DEATH);
    recovery.guard();
    let mut world = Simulation::of(&spec, recovery, DEATH, works());
    let why = "waiting for `/var/run/.goenabled`".to_owned();
    world.set_gate(Verdict::Closed { why });
    world.happen(seen(Occasion::Asked, nothing()));
    world.run_for(Duration::from_secs(300));
    assert_eq!(*world.recovery().stage(), Stage::Gated);
    assert_eq!(starts(&world), NEVER);
    assert_eq!(said(&world, "missing"), NEVER, "nothing is wrong yet");
    world.start_by_hand();
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(world.recovery().problem(), None);
    assert_eq!(said(&world, "registered"), [300]);
}

#[test]
fn an_operator_passes_closed_gates() {
    let spec = spec(Severity::Major, 3);
    let mut world = guarded(&spec, works());
    world.set_gate(shutting_down());
    die(&mut world);
    world.run_for(Duration::from_secs(10));
    world.happen(request(OperatorAction::Start));
    world.run_for(Duration::from_secs(100));
    assert_eq!(starts(&world), [10]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

/// A process that has started, in a part of the host that is not configured.
fn deferred(spec: &EntitySpec, condition: Condition) -> Simulation<'_> {
    let (mut recovery, _) = Recovery::new(spec, DEATH);
    assert!(recovery.defer(spec, condition));
    recovery.guard();
    let mut world = Simulation::of(spec, recovery, DEATH, works());
    world.start_by_hand();
    world
}

fn worker() -> EntitySpec {
    EntitySpec {
        subfunction: Some("last-config".to_owned()),
        ..spec(Severity::Critical, 3)
    }
}

const WORKER: Condition = Condition::Flag(Flag::WorkerConfigured);

#[test]
fn s4_no_audit_promotes_what_is_deferred() {
    let spec = worker();
    for condition in [WORKER, Condition::Never] {
        let mut world = deferred(&spec, condition);
        let process = world.alive().unwrap();
        for occasion in [Occasion::Asked, Occasion::PidfileChanged, Occasion::Sweep] {
            for outcome in [Outcome::Process(process), nothing()] {
                world.happen(seen(occasion, outcome));
                world.happen(Event::Tick);
                world.run_for(Duration::from_secs(60));
            }
        }
        let open = Event::Gate(GateEvent::Verdict(Verdict::Open));
        world.happen(open);
        assert_eq!(*world.recovery().stage(), Stage::Polling { condition });
        assert!(world.recovery().is_deferred());
        assert_eq!(world.recovery().current(), None);
        assert_eq!(world.log(), [], "nothing was done");
        assert_eq!(world.recovery().deadline(), None);
    }
}

#[test]
fn s4_monitoring_begins_when_its_part_is_configured_and_a_pause_has_passed() {
    let spec = worker();
    let mut world = deferred(&spec, WORKER);
    world.run_for(Duration::from_secs(100));
    let pause = Duration::from_secs(30);
    world.happen(Event::Gate(GateEvent::ConditionMet { pause }));
    world.run_for(Duration::from_secs(29));
    assert!(world.recovery().is_deferred());
    assert_eq!(world.log(), []);
    world.run_for(Duration::from_secs(1));
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    assert_eq!(said(&world, "registered"), [130]);
    assert_eq!(world.recovery().problem(), None);
}

#[test]
fn an_operators_restart_breaks_out_of_the_deferral() {
    let spec = worker();
    let mut world = deferred(&spec, WORKER);
    world.happen(request(OperatorAction::Restart));
    world.run_for(Duration::from_secs(100));
    assert_eq!(said(&world, "signalled"), [0], "the process is replaced");
    assert_eq!(starts(&world), [0]);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn an_operators_stop_ends_what_was_not_even_looked_at() {
    let spec = worker();
    let mut world = deferred(&spec, WORKER);
    world.happen(request(OperatorAction::Stop));
    world.run_for(Duration::from_secs(100));
    assert_eq!(said(&world, "signalled"), [0]);
    assert_eq!(starts(&world), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
    // Without a process there is nothing to end.
    let (mut recovery, _) = Recovery::new(&spec, DEATH);
    assert!(recovery.defer(&spec, WORKER));
    recovery.guard();
    let mut world = Simulation::of(&spec, recovery, DEATH, works());
    world.happen(request(OperatorAction::Stop));
    world.run_for(Duration::from_secs(100));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
}

#[test]
fn v15_a_process_that_does_not_answer_any_more_is_left_alone_in_a_shutdown() {
    let spec = EntitySpec {
        mode: Mode::Active,
        active: Some(ActiveSpec {
            port: 2202,
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            threshold: 5,
            full_init_required: false,
        }),
        ..spec(Severity::Major, 3)
    };
    let mut world = guarded(&spec, works());
    world.set_gate(shutting_down());
    world.set_answers(AnswerBehaviour::Silent);
    world.run_for(Duration::from_secs(600));
    assert_eq!(said(&world, "signalled"), NEVER);
    assert_eq!(said(&world, "first_failure"), NEVER);
    assert_eq!(said(&world, "gated").len(), 1, "told once");
    assert_eq!(*world.recovery().stage(), Stage::Manage);
    // The shutdown is cancelled, and it still does not answer.
    world.set_gate(Verdict::Open);
    world.run_for(Duration::from_secs(150));
    assert_eq!(said(&world, "signalled").len(), 1);
    assert_eq!(starts(&world).len(), 1);
}

/// Nobody starts another one: its answers make it good, as without gates.
#[test]
fn who_is_left_alone_before_gates_is_healthy_once_it_answers_again() {
    let spec = EntitySpec {
        mode: Mode::Active,
        active: Some(ActiveSpec {
            port: 2202,
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            threshold: 5,
            full_init_required: false,
        }),
        ..spec(Severity::Major, 0)
    };
    let mut world = guarded(&spec, works());
    world.set_answers(AnswerBehaviour::Silent);
    world.run_for(Duration::from_secs(300));
    assert_eq!(raised(&world, Severity::Major).len(), 1);
    world.set_answers(AnswerBehaviour::Answers);
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.recovery().alarm(), None);
    assert!(!world.recovery().is_failed());
}

/// Its group wants it restarted, and stands before the gates as it does.
#[test]
fn no_live_member_of_a_group_is_ended_behind_closed_gates() {
    let spec = spec(Severity::Major, 3);
    let mut world = guarded(&spec, works());
    world.set_gate(shutting_down());
    world.happen(Event::Cycle {
        group: "storage".to_owned(),
    });
    world.run_until(second(10));
    assert_eq!(said(&world, "cycled"), NEVER);
    assert_eq!(world.recovery().current().unwrap().identity, FIRST);
    // Whoever is restarted with it waits for that.
    let ending = crate::core::dependency::Standing::Ending;
    assert_eq!(world.recovery().standing(), ending);
    world.set_gate(Verdict::Open);
    assert_eq!(said(&world, "cycled"), [10]);
    assert_eq!(said(&world, "unregistered"), [10]);
}

/// And a hold that begins meanwhile.
#[test]
fn an_operators_stop_of_what_is_deferred_outlasts_somebody_elses_job() {
    let spec = EntitySpec {
        subfunction: Some("worker".to_owned()),
        start: StartMethod::Unit {
            unit: "probe.service".to_owned(),
            policy: UnitPolicy::Leave,
        },
        ..spec(Severity::Major, 3)
    };
    let mut recovery = Recovery::new(&spec, DEATH).0;
    recovery.guard();
    assert!(recovery.defer(&spec, Condition::Flag(Flag::WorkerConfigured)));
    let mut world = Simulation::of(&spec, recovery, DEATH, works());
    world.set_unit(Some(UnitReport::AtWork {
        what: "somebody's job".to_owned(),
    }));
    world.happen(request(OperatorAction::Stop));
    world.run_until(second(5));
    let lasts = Some(Duration::from_secs(1));
    world.happen(request(OperatorAction::Hold { lasts }));
    world.run_until(second(7));
    world.set_unit(Some(UnitReport::Down {
        result: "success".to_owned(),
    }));
    world.run_until(second(100));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Stopped);
}

/// Once it was waited for, it is not waited for again because the gates were asked.
#[test]
fn a_foreign_script_that_hangs_is_waited_for_once() {
    let spec = spec(Severity::Major, 3);
    let mut world = guarded(&spec, works());
    world.set_foreign_script(Some(77));
    let death = world.death(FIRST, WaitStatus(15));
    world.happen(Event::Died(death));
    world.run_until(second(100));
    assert_eq!(starts(&world), [30]);
}

/// Asked one after the other, before the look at what was deferred is answered.
#[test]
fn the_last_of_two_operators_counts_while_what_is_deferred_is_looked_at() {
    let spec = EntitySpec {
        subfunction: Some("worker".to_owned()),
        ..spec(Severity::Major, 3)
    };
    for last in [OperatorAction::Restart, OperatorAction::Start] {
        let mut recovery = Recovery::new(&spec, DEATH).0;
        recovery.guard();
        assert!(recovery.defer(&spec, Condition::Flag(Flag::WorkerConfigured)));
        recovery.step(&spec, request(OperatorAction::Stop), DEATH);
        recovery.step(&spec, request(last), DEATH);
        let mut effects = recovery.step(&spec, seen(Occasion::Asked, nothing()), DEATH);
        effects.retain(|effect| matches!(effect, Effect::Start { .. }));
        assert_eq!(effects.len(), 1, "{last:?}");
    }
}
