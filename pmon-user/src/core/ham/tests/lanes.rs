//! §1.3: the three lanes, and repeated triggers.

use super::*;

fn two_with_delays(first: ConditionFlags, second: ConditionFlags) -> World {
    let mut world = World::with(&["a", "b"]);
    for (entity, flags) in [("a", first), ("b", second)] {
        world.condition(entity, "death", Kind::Death, flags | ConditionFlags::REARM);
        if !flags.contains(ConditionFlags::NO_WAIT) {
            world.action((entity, "death"), "delay", delay(1000), REARM);
        }
        world.action((entity, "death"), "do", execute(entity), REARM);
        // Keeps the entity there.
        world.ham.tree.entity_mut(entity).unwrap().flags = EntityFlags::KEEP_ON_DEATH;
    }
    world
}

fn executed(world: &mut World) -> Vec<String> {
    let mut asked = world.asked();
    asked.retain(|word| word.starts_with("execute"));
    asked
}

#[test]
fn a_wait_delays_those_behind_it_in_the_shared_lane() {
    for flags in [ConditionFlags::empty(), ConditionFlags::OTHER] {
        let mut world = two_with_delays(flags, ConditionFlags::empty());
        world.die("a");
        world.die("b");
        world.pass(Duration::from_millis(1000));
        assert_eq!(executed(&mut world), ["execute a"]);
        world.answer("execute a", true);
        world.pass(Duration::from_millis(999));
        assert_eq!(executed(&mut world), Vec::<String>::new());
        world.pass(Duration::from_millis(1));
        assert_eq!(executed(&mut world), ["execute b"]);
    }
}

#[test]
fn an_independent_condition_waits_for_nobody_else() {
    let mut world = two_with_delays(ConditionFlags::empty(), ConditionFlags::INDEPENDENT);
    world.die("a");
    world.die("b");
    world.pass(Duration::from_millis(1000));
    let mut both = executed(&mut world);
    both.sort_unstable();
    assert_eq!(both, ["execute a", "execute b"]);
}

#[test]
fn nothing_delays_the_lane_that_never_waits() {
    let both = ConditionFlags::NO_WAIT | ConditionFlags::INDEPENDENT;
    let mut world = two_with_delays(ConditionFlags::empty(), both);
    world.condition("a", "too", Kind::Death, ConditionFlags::NO_WAIT);
    world.action(("a", "too"), "do", execute("a too"), NO_FLAGS);
    world.die("a");
    world.die("b");
    // One of them is carried out at a time, in their order: NOWAIT wins.
    assert_eq!(executed(&mut world), ["execute a too"]);
    world.answer("execute a too", true);
    assert_eq!(executed(&mut world), ["execute b"]);
}

/// D04.
#[test]
fn a_second_occurrence_waits_for_the_first_ones_list() {
    let mut world = World::with(&["a"]);
    let flags = ConditionFlags::INDEPENDENT;
    world.condition("a", "raised", Kind::Any, flags);
    world.action(("a", "raised"), "delay", delay(100), NO_FLAGS);
    world.action(("a", "raised"), "do", execute("a"), NO_FLAGS);
    for _ in 0..3 {
        let effects = world.ham.raise("a", (1, 1, 1), world.now).unwrap();
        world.take(effects);
    }
    for _ in 0..3 {
        world.pass(Duration::from_millis(100));
        assert_eq!(world.asked(), ["execute a"]);
        world.answer("execute a", true);
    }
    assert!(world.ham.lanes().is_empty());
}

#[test]
fn nothing_may_wait_in_the_lane_that_never_waits() {
    let mut world = World::with(&["a"]);
    world.condition("a", "n", Kind::Death, ConditionFlags::NO_WAIT);
    world.condition("a", "o", Kind::Death, ConditionFlags::empty());
    world.action(("a", "n"), "do", execute("x"), NO_FLAGS);
    world.action(("a", "o"), "do", execute("x"), NO_FLAGS);
    let owner = Owner::Entity("a");
    let tree = &mut world.ham.tree;
    let refused = tree.add_action(owner, "n", "wait", delay(5), NO_FLAGS);
    assert_eq!(refused.unwrap_err().errno(), "EINVAL");
    // D24.
    let refused = tree.add_fail_item(owner, "n", "do", "wait", delay(5));
    assert_eq!(refused.unwrap_err().errno(), "EINVAL");
    tree.add_fail_item(owner, "o", "do", "wait", delay(5))
        .unwrap();
    let no_wait = super::super::tree::FlagChange::Add(ConditionFlags::NO_WAIT.bits());
    let refused = tree.change_condition_flags(owner, "o", no_wait);
    assert_eq!(refused.unwrap_err().errno(), "EINVAL");
    tree.remove_fail_item(owner, "o", "do", "wait").unwrap();
    tree.change_condition_flags(owner, "o", no_wait).unwrap();
}

#[test]
fn what_is_disabled_is_left_out() {
    let mut world = World::with(&["a"]);
    let owner = Owner::Entity("a");
    world.condition("a", "c", Kind::Any, ConditionFlags::empty());
    for name in ["one", "two", "three"] {
        world.action(("a", "c"), name, log(name), NO_FLAGS);
    }
    let raise = |world: &mut World| {
        let effects = world.ham.raise("a", (1, 1, 1), world.now).unwrap();
        world.take(effects);
        world.asked()
    };
    world
        .ham
        .tree
        .enable_action(owner, "c", "two", false)
        .unwrap();
    assert_eq!(raise(&mut world), ["log one", "log three"]);
    world
        .ham
        .tree
        .enable_condition(owner, "c", false, false)
        .unwrap();
    assert_eq!(raise(&mut world), Vec::<String>::new());
    // Its own switch is not that of its actions.
    world
        .ham
        .tree
        .enable_condition(owner, "c", true, false)
        .unwrap();
    assert_eq!(raise(&mut world), ["log one", "log three"]);
    world.ham.tree.enable_entity("a", false, true).unwrap();
    assert_eq!(raise(&mut world), Vec::<String>::new());
    world.ham.tree.enable_entity("a", true, false).unwrap();
    assert_eq!(raise(&mut world), Vec::<String>::new());
    world
        .ham
        .tree
        .enable_condition(owner, "c", true, true)
        .unwrap();
    assert_eq!(raise(&mut world), ["log one", "log two", "log three"]);
}
