//! §2.2, §2.3: states that entities report, and what anybody raises.

use super::{
    super::{
        condition::Condition,
        condition::ConditionId,
        name::Name,
        trigger::{Occurrence, is_true},
    },
    *,
};

fn on_state(from: u32, to: u32, flags: ConditionFlags) -> Condition {
    let when = When::State { from, to };
    Condition::new(ConditionId(1), Name::new("c").unwrap(), when, flags).unwrap()
}

#[test]
fn a_transition_matches_values_wildcards_and_sets() {
    let reported = |from, to| Occurrence::State { from, to };
    let both_sets = ConditionFlags::FROM_SET | ConditionFlags::TO_SET;
    for (condition, from, to, wanted) in [
        (on_state(1, 2, ConditionFlags::empty()), 1, 2, true),
        (on_state(1, 2, ConditionFlags::empty()), 1, 3, false),
        (on_state(0, 2, ConditionFlags::empty()), 9, 2, true),
        (on_state(0, 0, ConditionFlags::empty()), 9, 7, true),
        (on_state(1, 2, ConditionFlags::TO_INVERTED), 1, 3, true),
        (on_state(1, 2, ConditionFlags::TO_INVERTED), 1, 2, false),
        (on_state(0b110, 0b1000, both_sets), 1, 3, true),
        (on_state(0b110, 0b1000, both_sets), 2, 3, true),
        (on_state(0b110, 0b1000, both_sets), 3, 3, false),
        (
            on_state(0b110, 0b1000, both_sets | ConditionFlags::FROM_INVERTED),
            3,
            3,
            true,
        ),
        // No set has a state beyond its 32.
        (on_state(u32::MAX, u32::MAX, both_sets), 32, 3, false),
        (on_state(u32::MAX, u32::MAX, both_sets), 31, 0, true),
    ] {
        assert_eq!(
            is_true(&condition, reported(from, to)),
            wanted,
            "{condition:?} {from} {to}"
        );
    }
}

#[test]
fn the_last_reported_state_is_the_next_ones_before() {
    let mut world = World::with(&["a"]);
    let tree = &mut world.ham.tree;
    let owner = Owner::Entity("a");
    for (name, from, to) in [("first", 0, 4), ("then", 4, 5)] {
        let when = When::State { from, to };
        tree.add_condition(owner, name, when, ConditionFlags::empty())
            .unwrap();
        tree.add_action(owner, name, "tell", log(name), NO_FLAGS)
            .unwrap();
    }
    for (state, told) in [(4, &["log first"][..]), (5, &["log then"]), (5, &[])] {
        let effects = world.ham.report_state("a", state, world.now).unwrap();
        world.take(effects);
        assert_eq!(world.asked(), told);
    }
    assert_eq!(
        world
            .ham
            .report_state("b", 1, world.now)
            .unwrap_err()
            .errno(),
        "ENOENT"
    );
}

#[test]
fn what_is_raised_must_match_in_all_three() {
    let mut world = World::with(&["a"]);
    let owner = Owner::Entity("a");
    for (name, kind, class, severity) in [("exact", 1, 2, 3), ("class", 0, 2, 0), ("all", 0, 0, 0)]
    {
        let when = When::Raise {
            kind,
            class,
            severity,
        };
        world
            .ham
            .tree
            .add_condition(owner, name, when, ConditionFlags::empty())
            .unwrap();
        world
            .ham
            .tree
            .add_action(owner, name, "tell", log(name), NO_FLAGS)
            .unwrap();
    }
    for (raised, told) in [
        ((1, 2, 3), &["log exact", "log class", "log all"][..]),
        ((1, 2, 4), &["log class", "log all"]),
        ((1, 3, 3), &["log all"]),
        // D21: zero is raised by nobody but those who want to match wildcards only.
        ((0, 0, 0), &["log all"]),
    ] {
        let effects = world.ham.raise("a", raised, world.now).unwrap();
        world.take(effects);
        assert_eq!(world.asked(), told);
    }
}

#[test]
fn nobody_can_have_more_wait_for_its_turn_than_there_is_room() {
    let mut world = World::with(&["a"]);
    world.condition("a", "c", Kind::Any, ConditionFlags::empty());
    world.action(("a", "c"), "wait", delay(1000), NO_FLAGS);
    let mut refused = None;
    for _ in 0..70_000 {
        if let Err(refusal) = world.ham.raise("a", (1, 1, 1), world.now) {
            refused = Some(refusal);
            break;
        }
    }
    assert_eq!(refused.unwrap().errno(), "ENOMEM");
    // Deaths are heard all the same.
    let before = world.ham.lanes().len();
    world.die("a");
    assert_eq!(world.ham.lanes().len(), before + 1);
}
