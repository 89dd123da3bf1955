//! §1.1, §2: names, what may stand where, flags, quotas.

use super::{
    super::{
        name::Name,
        tree::{FlagChange, Quota, Tree},
    },
    *,
};

fn errno<T: std::fmt::Debug>(result: Result<T, super::super::refusal::Refusal>) -> &'static str {
    result.unwrap_err().errno()
}

#[test]
fn names_are_names_of_files() {
    for name in ["", ".", "..", ".info", ".global", "a/b", "a\nb", "\u{7f}"] {
        assert_eq!(errno(Name::new(name)), "EINVAL", "{name:?}");
    }
    assert_eq!(errno(Name::new(&"x".repeat(257))), "ENAMETOOLONG");
    for name in ["inetd", "Fs-nfs2", "with blank", "…", &"x".repeat(256)] {
        assert_eq!(Name::new(name).unwrap().as_str(), name);
    }
}

#[test]
fn a_path_is_no_longer_than_a_name_may_be() {
    let mut world = World::with(&["a"]);
    let tree = &mut world.ham.tree;
    let when = When::Kind(Kind::Death);
    let (fits, long) = ("c".repeat(254), "c".repeat(255));
    let owner = Owner::Entity("a");
    assert_eq!(
        errno(tree.add_condition(owner, &long, when, ConditionFlags::empty())),
        "ENAMETOOLONG"
    );
    tree.add_condition(owner, &fits, when, ConditionFlags::empty())
        .unwrap();
    assert_eq!(
        errno(tree.add_action(owner, &fits, "x", log("x"), NO_FLAGS)),
        "ENAMETOOLONG"
    );
}

#[test]
fn names_are_unique_where_they_stand() {
    let mut world = World::with(&["a", "b"]);
    let none = ConditionFlags::empty();
    let when = When::Kind(Kind::Death);
    let tree = &mut world.ham.tree;
    for entity in ["a", "b"] {
        let owner = Owner::Entity(entity);
        tree.add_condition(owner, "c", when, none).unwrap();
        assert_eq!(errno(tree.add_condition(owner, "c", when, none)), "EEXIST");
        tree.add_action(owner, "c", "x", execute("x"), NO_FLAGS)
            .unwrap();
        assert_eq!(
            errno(tree.add_action(owner, "c", "x", log("x"), NO_FLAGS)),
            "EEXIST"
        );
        tree.add_fail_item(owner, "c", "x", "f", log("x")).unwrap();
        assert_eq!(
            errno(tree.add_fail_item(owner, "c", "x", "f", log("x"))),
            "EEXIST"
        );
    }
    // D19.
    let again = tree
        .add_placeholder("a", EntityFlags::empty(), Time::default())
        .unwrap();
    assert!(again.process().is_some());
}

#[test]
fn what_is_missing_is_said() {
    let mut world = World::with(&["a"]);
    let tree = &mut world.ham.tree;
    let when = When::Kind(Kind::Death);
    let (here, gone) = (Owner::Entity("a"), Owner::Entity("b"));
    assert_eq!(
        errno(tree.add_condition(gone, "c", when, ConditionFlags::empty())),
        "ENOENT"
    );
    assert_eq!(
        errno(tree.add_action(here, "c", "x", log("x"), NO_FLAGS)),
        "ENOENT"
    );
    assert_eq!(
        errno(tree.add_fail_item(here, "c", "x", "f", log("x"))),
        "ENOENT"
    );
    assert_eq!(errno(tree.remove_condition(here, "c")), "ENOENT");
    tree.add_condition(here, "c", when, ConditionFlags::empty())
        .unwrap();
    assert_eq!(errno(tree.remove_action(here, "c", "x")), "ENOENT");
    assert_eq!(errno(tree.enable_entity("b", true, false)), "ENOENT");
}

/// §1.4.8, D09.
#[test]
fn an_entity_has_one_restart_under_a_death() {
    let mut world = World::with(&["a"]);
    let tree = &mut world.ham.tree;
    let owner = Owner::Entity("a");
    for (name, kind) in [
        ("death", Kind::Death),
        ("abnormal", Kind::AbnormalDeath),
        ("high", Kind::HeartbeatMissedHigh),
        ("any", Kind::Any),
    ] {
        tree.add_condition(owner, name, When::Kind(kind), ConditionFlags::empty())
            .unwrap();
    }
    for name in ["high", "any"] {
        assert_eq!(
            errno(tree.add_action(owner, name, "r", restart(), NO_FLAGS)),
            "EINVAL"
        );
    }
    tree.add_action(owner, "abnormal", "r", restart(), NO_FLAGS)
        .unwrap();
    assert_eq!(
        errno(tree.add_action(owner, "death", "r2", restart(), NO_FLAGS)),
        "EEXIST"
    );
    tree.remove_action(owner, "abnormal", "r").unwrap();
    tree.add_action(owner, "death", "r2", restart(), NO_FLAGS)
        .unwrap();
}

#[test]
fn a_wait_takes_time_and_a_command_line_has_a_program() {
    let mut world = World::with(&["a"]);
    world.condition("a", "c", Kind::Death, ConditionFlags::empty());
    for deed in [delay(0), wait_for("/x", 0), execute(""), execute("  ")] {
        let refused = world
            .ham
            .tree
            .add_action(Owner::Entity("a"), "c", "x", deed, NO_FLAGS);
        assert_eq!(errno(refused), "EINVAL");
    }
}

#[test]
fn a_fail_list_neither_restarts_nor_heals() {
    let mut world = World::with(&["a"]);
    world.condition("a", "c", Kind::Death, ConditionFlags::empty());
    world.action(("a", "c"), "x", execute("x"), NO_FLAGS);
    for deed in [restart(), Deed::HeartbeatHealthy] {
        let refused = world
            .ham
            .tree
            .add_fail_item(Owner::Entity("a"), "c", "x", "f", deed);
        assert_eq!(errno(refused), "EINVAL");
    }
}

#[test]
fn flags_are_changed_within_what_the_object_can_have() {
    let mut world = World::with(&["a"]);
    world.condition("a", "c", Kind::Death, ConditionFlags::empty());
    world.action(("a", "c"), "x", execute("x"), NO_FLAGS);
    let owner = Owner::Entity("a");
    let tree = &mut world.ham.tree;
    tree.change_action_flags(owner, "c", "x", FlagChange::Set(0x9))
        .unwrap();
    tree.change_action_flags(owner, "c", "x", FlagChange::Remove(0x1))
        .unwrap();
    let action = tree
        .entity("a")
        .unwrap()
        .condition("c")
        .unwrap()
        .action("x")
        .unwrap();
    assert_eq!(action.flags, ActionFlags::KEEP_ON_FAIL);
    // HACTIONDONOW can't be set afterwards.
    assert_eq!(
        errno(tree.change_action_flags(owner, "c", "x", FlagChange::Add(0x2))),
        "EINVAL"
    );
    assert_eq!(
        errno(tree.change_action_flags(owner, "c", "x", FlagChange::Add(0x40))),
        "EINVAL"
    );
    // Flags of a state, on something else.
    assert_eq!(
        errno(tree.change_condition_flags(owner, "c", FlagChange::Add(0x1000))),
        "EINVAL"
    );
    tree.change_condition_flags(owner, "c", FlagChange::Add(0x13))
        .unwrap();
    tree.change_entity_flags("a", FlagChange::Set(0x2)).unwrap();
    assert_eq!(
        errno(tree.change_entity_flags("a", FlagChange::Add(0x4))),
        "EINVAL"
    );
}

#[test]
fn nobody_can_make_the_tree_larger_than_it_may_be() {
    let quota = Quota {
        entities: 2,
        conditions: 2,
        actions: 2,
        fail_items: 2,
    };
    let mut tree = Tree::new(quota);
    let (owner, none) = (Owner::Entity("0"), ConditionFlags::empty());
    let when = When::Kind(Kind::Death);
    for name in ["0", "1"] {
        tree.add_placeholder(name, EntityFlags::empty(), Time::default())
            .unwrap();
    }
    assert_eq!(
        errno(tree.add_placeholder("2", EntityFlags::empty(), Time::default())),
        "ENOMEM"
    );
    for name in ["0", "1"] {
        tree.add_condition(owner, name, when, none).unwrap();
    }
    assert_eq!(errno(tree.add_condition(owner, "2", when, none)), "ENOMEM");
    for name in ["0", "1"] {
        tree.add_action(owner, "0", name, execute("x"), NO_FLAGS)
            .unwrap();
    }
    assert_eq!(
        errno(tree.add_action(owner, "0", "2", log("x"), NO_FLAGS)),
        "ENOMEM"
    );
    for name in ["0", "1"] {
        tree.add_fail_item(owner, "0", "0", name, log("x")).unwrap();
    }
    assert_eq!(
        errno(tree.add_fail_item(owner, "0", "0", "2", log("x"))),
        "ENOMEM"
    );
}
