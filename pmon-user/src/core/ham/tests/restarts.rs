//! §1.2, §1.5, §1.6: death, restart, what outlives it, detaching.

use super::*;

fn with_restart(condition: ConditionFlags, action: ActionFlags) -> World {
    let mut world = World::with(&["inetd"]);
    world.condition("inetd", "death", Kind::Death, condition);
    world.action(("inetd", "death"), "restart", restart(), action);
    world
}

#[test]
fn without_a_restart_a_dead_entity_goes() {
    let mut world = World::with(&["a"]);
    world.condition("a", "death", Kind::Death, ConditionFlags::REARM);
    world.action(("a", "death"), "delay", delay(50), REARM);
    world.action(("a", "death"), "do", execute("x"), REARM);
    world.die("a");
    assert_eq!(world.asked(), ["buried a"]);
    // Its list is carried out all the same.
    world.pass(Duration::from_millis(50));
    assert_eq!(world.asked(), ["execute x"]);
}

#[test]
fn what_is_armed_again_restarts_it_again() {
    let mut world = with_restart(ConditionFlags::REARM, REARM);
    for restarts in 1..=5 {
        world.die("inetd");
        world.answer("restart", true);
        let entity = world.ham.tree.entity("inetd").unwrap();
        assert_eq!(entity.restarts, restarts);
        assert_eq!(
            entity.process().unwrap().pid,
            101 + u32::try_from(restarts).unwrap()
        );
    }
    assert_eq!(world.listing("inetd"), ["death/restart"]);
}

/// A1c, A1d.
#[test]
fn what_is_not_armed_again_goes_with_the_first_restart() {
    for (condition, action, left) in [
        (ConditionFlags::empty(), NO_FLAGS, &[][..]),
        (ConditionFlags::empty(), REARM, &[][..]),
        (ConditionFlags::REARM, NO_FLAGS, &[][..]),
        (
            ConditionFlags::REARM | ConditionFlags::KEEP_ON_EMPTY,
            NO_FLAGS,
            &["death/"][..],
        ),
        (ConditionFlags::REARM, REARM, &["death/restart"][..]),
    ] {
        let mut world = with_restart(condition, action);
        world.die("inetd");
        world.answer("restart", true);
        assert_eq!(world.listing("inetd"), left);
        if left.is_empty() {
            world.asked();
            world.die("inetd");
            assert_eq!(world.asked(), ["buried inetd"]);
            assert_eq!(world.listing("inetd"), ["gone"]);
        }
    }
}

/// D11.
#[test]
fn pruning_does_not_cut_the_list_short_that_restarts() {
    let mut world = with_restart(ConditionFlags::empty(), NO_FLAGS);
    world.action(("inetd", "death"), "after", execute("after"), NO_FLAGS);
    world.die("inetd");
    world.answer("restart", true);
    assert_eq!(world.asked(), ["restart inetd", "execute after"]);
    assert_eq!(world.listing("inetd"), Vec::<String>::new());
}

/// A3.1.
#[test]
fn a_restart_is_told_after_it_has_succeeded_also_by_what_it_prunes() {
    let mut world = with_restart(ConditionFlags::REARM, REARM);
    let rearm = ConditionFlags::REARM | ConditionFlags::INDEPENDENT;
    world.condition("inetd", "restart", Kind::Restart, rearm);
    world.action(("inetd", "restart"), "p4", pulse(4), REARM);
    world.action(("inetd", "restart"), "delay", delay(6532), REARM);
    world.action(("inetd", "restart"), "p5", pulse(5), REARM);
    world.condition("inetd", "once", Kind::Restart, ConditionFlags::INDEPENDENT);
    world.action(("inetd", "once"), "p6", pulse(6), NO_FLAGS);
    world.die("inetd");
    assert_eq!(world.asked(), ["restart inetd"]);
    world.answer("restart", true);
    assert_eq!(world.asked(), ["pulse 4 13", "pulse 6 13"]);
    world.answer("pulse 4", true);
    world.answer("pulse 6", true);
    world.pass(Duration::from_millis(6532));
    assert_eq!(world.asked(), ["pulse 5 13"]);
    world.answer("pulse 5", true);
    assert_eq!(
        world.listing("inetd"),
        ["death/restart", "restart/p4", "restart/delay", "restart/p5"]
    );
    world.die("inetd");
    world.answer("restart", true);
    assert_eq!(world.asked(), ["restart inetd", "pulse 4 13"]);
}

#[test]
fn a_restart_that_fails_buries_it_when_its_list_is_over() {
    let mut world = with_restart(ConditionFlags::REARM, REARM);
    world.action(("inetd", "death"), "after", execute("after"), REARM);
    world.die("inetd");
    world.answer("restart", false);
    assert_eq!(world.asked(), ["restart inetd", "execute after"]);
    // D07.
    assert_eq!(world.listing("inetd"), ["death/after"]);
    world.answer("execute", true);
    assert_eq!(world.asked(), ["buried inetd"]);
}

/// D12, A3.7.
#[test]
fn who_is_kept_is_a_placeholder_with_what_is_armed_again() {
    let mut world = World::with(&["a"]);
    world.ham.tree.entity_mut("a").unwrap().flags = EntityFlags::KEEP_ON_DEATH;
    for (name, flags) in [
        ("stays", ConditionFlags::REARM),
        ("goes", ConditionFlags::empty()),
    ] {
        world.condition("a", name, Kind::Attach, flags);
        world.action(("a", name), "tell", log(name), REARM);
    }
    world.die("a");
    assert_eq!(world.asked(), ["kept a"]);
    assert_eq!(world.listing("a"), ["stays/tell"]);
    assert_eq!(
        world.ham.tree.entity("a").unwrap().attachment.as_str(),
        "UNATTACHED"
    );
    let process = world.process();
    let effects = world
        .ham
        .attach("a", process, EntityFlags::empty(), world.now);
    world.take(effects.unwrap());
    assert_eq!(world.asked(), ["log stays"]);
}

/// D17, D18.
#[test]
fn a_name_that_has_a_process_is_taken_except_for_that_process() {
    let mut world = World::with(&["a"]);
    let process = world.process();
    let ham = &mut world.ham;
    let refused = ham.attach("a", process, EntityFlags::empty(), world.now);
    assert_eq!(refused.unwrap_err().errno(), "EEXIST");
    let refused = ham.attach_self("a", process, false, None, world.now);
    assert_eq!(refused.unwrap_err().errno(), "EEXIST");
    ham.attach_self("a", process, true, None, world.now)
        .unwrap();
    assert_eq!(
        ham.tree.entity("a").unwrap().attachment.as_str(),
        "ATTACHEDSELF"
    );
}

/// D13, D14, A3.4.
#[test]
fn who_is_detached_is_gone_and_its_list_still_runs() {
    let mut world = World::with(&["a"]);
    world.condition("a", "detach", Kind::Detach, ConditionFlags::REARM);
    world.action(("a", "detach"), "delay", delay(10), REARM);
    world.action(("a", "detach"), "tell", pulse(2), REARM);
    let refused = world.ham.detach("a", true, world.now);
    assert_eq!(refused.unwrap_err().errno(), "EINVAL");
    let effects = world.ham.detach("a", false, world.now).unwrap();
    world.take(effects);
    assert_eq!(world.listing("a"), ["gone"]);
    world.pass(Duration::from_millis(10));
    assert_eq!(world.asked(), ["pulse 2 13"]);
    world.die("a");
    assert_eq!(world.asked(), Vec::<String>::new());
    assert_eq!(
        world.ham.detach("a", false, world.now).unwrap_err().errno(),
        "ENOENT"
    );
}

/// A3.9.
#[test]
fn an_abnormal_death_is_a_death_too() {
    for (abnormal, told) in [
        (true, &["log any", "log death", "log abnormal"][..]),
        (false, &["log any", "log death"]),
    ] {
        let mut world = World::with(&["a"]);
        for (name, kind) in [
            ("any", Kind::Any),
            ("death", Kind::Death),
            ("abnormal", Kind::AbnormalDeath),
            ("detach", Kind::Detach),
        ] {
            world.condition("a", name, kind, ConditionFlags::empty());
            world.action(("a", name), "tell", log(name), NO_FLAGS);
        }
        let effects = world.ham.died("a", abnormal, world.now);
        world.take(effects);
        let mut asked = world.asked();
        assert_eq!(asked.pop().unwrap(), "buried a");
        assert_eq!(asked, told);
    }
}

/// A3.8, D15.
#[test]
fn the_global_entitys_conditions_hear_of_everybody() {
    let mut world = World::with(&["a", "b"]);
    let tree = &mut world.ham.tree;
    let any = When::Kind(Kind::Any);
    tree.add_condition(Owner::Global, "all", any, ConditionFlags::empty())
        .unwrap();
    let deed = Deed::Log {
        message: "!".to_owned(),
        prefix: true,
        verbosity: 0,
    };
    tree.add_action(Owner::Global, "all", "tell", deed, NO_FLAGS)
        .unwrap();
    let refused = tree.add_action(Owner::Global, "all", "r", restart(), NO_FLAGS);
    assert_eq!(refused.unwrap_err().errno(), "EINVAL");
    world.die("a");
    world.die("b");
    assert_eq!(
        world.asked(),
        [
            "log a/all/tell: !",
            "buried a",
            "log b/all/tell: !",
            "buried b"
        ]
    );
    assert_eq!(world.ham.tree.global().len(), 1);
}

/// A restart by the daemon's other means leaves the tree as it is.
#[test]
fn a_process_that_goes_on_as_another_is_no_death() {
    let mut world = with_restart(ConditionFlags::empty(), NO_FLAGS);
    let child = world.process();
    world.ham.continues_as("inetd", child);
    assert_eq!(world.asked(), Vec::<String>::new());
    assert_eq!(
        world.ham.tree.entity("inetd").unwrap().process(),
        Some(child)
    );
    assert_eq!(world.listing("inetd"), ["death/restart"]);
}

/// §6: a tree that is handed over goes on where it was.
#[test]
fn a_list_that_is_under_way_goes_on_from_what_was_written() {
    let mut world = with_restart(ConditionFlags::REARM, REARM);
    world.action(("inetd", "death"), "delay", delay(2000), REARM);
    world.action(("inetd", "death"), "after", execute("after"), REARM);
    world.die("inetd");
    world.answer("restart", true);
    world.pass(Duration::from_millis(700));
    let written = serde_json::to_string(&world.ham).unwrap();
    let read: Ham = serde_json::from_str(&written).unwrap();
    assert_eq!(read, world.ham);
    world.ham = read;
    world.asked();
    world.pass(Duration::from_millis(1299));
    assert_eq!(world.asked(), Vec::<String>::new());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.asked(), ["execute after"]);
}
