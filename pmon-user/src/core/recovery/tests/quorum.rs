//! The two strikes of a quorum member (spec/pmond.md §2.7).

use super::*;

fn member(severity: Severity, restarts: u32) -> EntitySpec {
    EntitySpec {
        quorum: true,
        ..spec(severity, restarts)
    }
}

#[test]
fn v3_the_second_threshold_is_the_second_strike() {
    let spec = member(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(29));
    assert_eq!(world.recovery().quorum(), Quorum::Sound);
    world.run_until(second(59));
    assert_eq!(said(&world, "quorum_failure"), [30]);
    assert_eq!(world.recovery().quorum(), Quorum::Failure);
    world.run_until(second(500));
    assert_eq!(said(&world, "quorum_unrecoverable"), [60]);
    assert_eq!(said(&world, "quorum_failure"), [30], "told once");
    assert_eq!(world.recovery().quorum(), Quorum::Unrecoverable);
    // It comes back all the same, and starts with none.
    world.set_start(works());
    world.run_until(second(600));
    assert_eq!(said(&world, "quorum_cleared"), said(&world, "recovered"));
    assert_eq!(world.recovery().quorum(), Quorum::Sound);
    world.set_start(StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(600 + 59));
    assert_eq!(said(&world, "quorum_failure"), [30, 630]);
    assert_eq!(said(&world, "quorum_unrecoverable"), [60]);
}

#[test]
fn of_who_is_no_member_nothing_is_counted() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(500));
    for kind in ["quorum_failure", "quorum_unrecoverable", "quorum_cleared"] {
        assert_eq!(said(&world, kind), NEVER);
    }
    assert_eq!(world.recovery().quorum(), Quorum::Sound);
}

#[test]
fn without_restarts_both_strikes_are_at_once_but_for_a_critical_member() {
    for (severity, quorum, unrecoverable) in [
        (Severity::Minor, Quorum::Unrecoverable, &[0][..]),
        (Severity::Major, Quorum::Unrecoverable, &[0]),
        (Severity::Critical, Quorum::Failure, &[]),
    ] {
        let spec = member(severity, 0);
        let mut world = healthy(&spec, works());
        world.kill(KILLED);
        world.run_until(second(500));
        assert_eq!(world.recovery().quorum(), quorum, "{severity}");
        assert_eq!(said(&world, "quorum_failure"), [0]);
        assert_eq!(said(&world, "quorum_unrecoverable"), unrecoverable);
        world.start_by_hand();
        assert_eq!(world.recovery().quorum(), Quorum::Sound);
        assert_eq!(said(&world, "quorum_cleared"), [500]);
    }
}

#[test]
fn a_critical_member_strikes_at_every_threshold() {
    let spec = member(Severity::Critical, 2);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(100));
    assert_eq!(said(&world, "quorum_failure"), [20]);
    assert_eq!(said(&world, "quorum_unrecoverable"), [40]);
}

#[test]
fn an_operators_stop_clears_the_strikes() {
    let spec = member(Severity::Major, 1);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(35));
    assert_eq!(world.recovery().quorum(), Quorum::Unrecoverable);
    world.happen(request(OperatorAction::Stop));
    assert_eq!(world.recovery().quorum(), Quorum::Sound);
    assert_eq!(said(&world, "quorum_cleared"), [35]);
}

#[test]
fn an_active_member_has_to_answer_before_it_is_forgiven() {
    let spec = EntitySpec {
        mode: Mode::Active,
        active: Some(crate::core::entity::ActiveSpec {
            port: 2202,
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            threshold: 5,
            full_init_required: false,
        }),
        ..member(Severity::Major, 3)
    };
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(35));
    assert_eq!(world.recovery().quorum(), Quorum::Failure);
    world.set_start(works());
    world.run_until(second(200));
    assert_eq!(said(&world, "stable"), [65]);
    assert_eq!(said(&world, "quorum_cleared"), [85]);
}
