//! §1.4: order, success, failure, fail lists.

use super::*;

#[test]
fn actions_run_one_after_another_in_the_order_of_their_addition() {
    let mut world = World::with(&["Fs-nfs2"]);
    world.condition("Fs-nfs2", "Death", Kind::Death, ConditionFlags::REARM);
    let at = ("Fs-nfs2", "Death");
    world.action(at, "Restart", restart(), REARM);
    world.action(at, "Delay1", delay(2000), REARM);
    world.action(at, "MountPPCBE", execute("ppcbe"), REARM);
    world.action(at, "Delay2", delay(2000), REARM);
    world.action(at, "MountWeb", execute("web"), REARM);
    for _ in 0..2 {
        world.die("Fs-nfs2");
        assert_eq!(world.asked(), ["restart Fs-nfs2"]);
        world.answer("restart", true);
        world.pass(Duration::from_millis(1999));
        assert_eq!(world.asked(), Vec::<String>::new());
        world.pass(Duration::from_millis(1));
        assert_eq!(world.asked(), ["execute ppcbe"]);
        world.answer("execute", true);
        world.pass(Duration::from_millis(2000));
        assert_eq!(world.asked(), ["execute web"]);
        world.answer("execute", true);
    }
    assert!(world.ham.lanes().is_empty());
    assert_eq!(world.ham.tree.entity("Fs-nfs2").unwrap().restarts, 2);
}

#[test]
fn what_is_to_be_done_now_is_done_when_it_is_added_and_waits_for_nothing() {
    let mut world = World::with(&["Fs-nfs2"]);
    world.condition("Fs-nfs2", "Death", Kind::Death, ConditionFlags::REARM);
    let at = ("Fs-nfs2", "Death");
    world.action(at, "Delay1", delay(2000), REARM);
    world.action(
        at,
        "MountPPCBE",
        execute("ppcbe"),
        REARM | ActionFlags::DO_NOW,
    );
    world.action(at, "Later", execute("later"), REARM);
    assert_eq!(world.asked(), ["execute ppcbe"]);
    world.answer("execute", true);
    assert_eq!(
        world.listing("Fs-nfs2"),
        ["Death/Delay1", "Death/MountPPCBE", "Death/Later"]
    );
}

/// A1e, §1.4.6: only programs can be executed at once.
#[test]
fn only_an_execution_can_be_wanted_at_once() {
    let mut world = World::with(&["a"]);
    world.condition("a", "d", Kind::Death, ConditionFlags::empty());
    for deed in [
        restart(),
        delay(5),
        pulse(1),
        log("x"),
        Deed::HeartbeatHealthy,
    ] {
        let refused =
            world
                .ham
                .tree
                .add_action(Owner::Entity("a"), "d", "x", deed, ActionFlags::DO_NOW);
        assert_eq!(refused.unwrap_err().errno(), "EINVAL");
    }
}

fn with_fail_list(flags: ActionFlags) -> World {
    let mut world = World::with(&["a"]);
    world.condition("a", "d", Kind::Detach, ConditionFlags::empty());
    world.condition("a", "s", Kind::Attach, ConditionFlags::empty());
    let at = ("a", "s");
    world.action(at, "one", execute("one"), flags);
    world.action(at, "two", execute("two"), NO_FLAGS);
    for (name, deed) in [("f1", execute("f1")), ("f2", log("f2")), ("f3", delay(10))] {
        (world.ham.tree)
            .add_fail_item(Owner::Entity("a"), "s", "one", name, deed)
            .unwrap();
    }
    let process = world.process();
    let effects = world.ham.attach_self("a", process, true, None, world.now);
    world.take(effects.unwrap());
    assert_eq!(world.asked(), ["execute one"]);
    world
}

#[test]
fn a_failure_runs_its_fail_list_and_then_the_rest() {
    let mut world = with_fail_list(NO_FLAGS);
    world.answer("execute one", false);
    assert_eq!(world.asked(), ["execute f1"]);
    // What fails on a fail list has none of its own.
    world.answer("execute f1", false);
    assert_eq!(world.asked(), ["log f2"]);
    world.pass(Duration::from_millis(9));
    assert_eq!(world.asked(), Vec::<String>::new());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.asked(), ["execute two"]);
    // It goes after its list has run.
    assert_eq!(world.listing("a"), ["d/", "s/two"]);
}

#[test]
fn a_failure_that_breaks_leaves_the_rest_out() {
    let mut world = with_fail_list(ActionFlags::BREAK_ON_FAIL | ActionFlags::KEEP_ON_FAIL);
    world.answer("execute one", false);
    world.answer("execute f1", true);
    world.pass(Duration::from_millis(10));
    assert_eq!(world.asked(), ["execute f1", "log f2"]);
    assert!(world.ham.lanes().is_empty());
    assert_eq!(world.listing("a"), ["d/", "s/one", "s/two"]);
}

#[test]
fn success_runs_no_fail_list() {
    let mut world = with_fail_list(NO_FLAGS);
    world.answer("execute one", true);
    assert_eq!(world.asked(), ["execute two"]);
    assert_eq!(world.listing("a"), ["d/", "s/one", "s/two"]);
}

/// A2.4.
#[test]
fn a_path_is_waited_for_until_it_is_there_or_time_is_up() {
    for appears in [true, false] {
        let mut world = World::with(&["a"]);
        world.condition("a", "s", Kind::Attach, ConditionFlags::empty());
        world.action(("a", "s"), "wait", wait_for("/tmp/ready", 5000), NO_FLAGS);
        world.action(("a", "s"), "then", execute("then"), NO_FLAGS);
        let process = world.process();
        let effects = world.ham.attach_self("a", process, true, None, world.now);
        world.take(effects.unwrap());
        let mut looks = 0;
        while world.now < Time::default() + Duration::from_millis(700) {
            assert_eq!(world.asked(), ["look /tmp/ready"]);
            looks += 1;
            world.answer("look", false);
            world.pass(Duration::from_millis(100));
        }
        assert_eq!(looks, 7);
        if appears {
            world.answer("look", true);
            assert_eq!(world.asked(), ["look /tmp/ready", "execute then"]);
            assert_eq!(world.listing("a"), ["s/wait", "s/then"]);
        } else {
            world.answer("look", false);
            world.pass(Duration::from_millis(100));
            world.asked();
            // The last look hangs: time is up all the same.
            world.pass(Duration::from_millis(4199));
            assert_eq!(world.asked(), Vec::<String>::new());
            world.pass(Duration::from_millis(1));
            assert_eq!(world.asked(), ["execute then"]);
            assert_eq!(world.listing("a"), ["s/then"]);
            world.answer("look", true);
            assert_eq!(world.asked(), Vec::<String>::new());
        }
    }
}

#[test]
fn the_condition_goes_with_its_last_action_unless_it_is_to_stay() {
    for (flags, left) in [
        (ConditionFlags::empty(), &[][..]),
        (ConditionFlags::KEEP_ON_EMPTY, &["s/"][..]),
    ] {
        let mut world = World::with(&["a"]);
        world.condition("a", "s", Kind::Attach, flags);
        assert_eq!(world.listing("a"), ["s/"], "a new one stays without any");
        world.action(("a", "s"), "notify", pulse(1), NO_FLAGS);
        let process = world.process();
        let effects = world.ham.attach_self("a", process, true, None, world.now);
        world.take(effects.unwrap());
        world.answer("pulse", false);
        assert_eq!(world.listing("a"), left);
    }
}

/// What failed is taken away where it stands, not one that has its name since.
#[test]
fn an_action_of_the_same_name_is_another() {
    let mut world = World::with(&["a"]);
    world.condition("a", "s", Kind::Attach, ConditionFlags::KEEP_ON_EMPTY);
    world.action(("a", "s"), "notify", pulse(1), NO_FLAGS);
    let process = world.process();
    let effects = world.ham.attach_self("a", process, true, None, world.now);
    world.take(effects.unwrap());
    (world.ham.tree)
        .remove_action(Owner::Entity("a"), "s", "notify")
        .unwrap();
    world.action(("a", "s"), "notify", pulse(2), NO_FLAGS);
    world.answer("pulse 1", false);
    assert_eq!(world.listing("a"), ["s/notify"]);
}

#[test]
fn a_log_names_its_place_if_it_is_to() {
    let mut world = World::with(&["inetd"]);
    world.condition("inetd", "death", Kind::Death, ConditionFlags::empty());
    let deed = Deed::Log {
        message: "died".to_owned(),
        prefix: true,
        verbosity: 3,
    };
    world.action(("inetd", "death"), "tell", deed, NO_FLAGS);
    world.die("inetd");
    assert_eq!(
        world.asked(),
        ["log inetd/death/tell: died", "buried inetd"]
    );
}
