//! The gate: who waits for whom, for how long, and that everybody comes through.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::core::dependency::{Dependencies, Group, Strategy as GroupStrategy};

const NOW: Time = Time::from_boot_ns(1_000_000_000_000);

fn gate(rows: &[(&str, Dependencies)]) -> Gate {
    let rows = rows.iter();
    let graph = Graph::of(rows.map(|(name, relations)| (*name, Severity::Major, relations)));
    let mut gate = Gate::default();
    gate.set_graph(graph);
    gate
}

fn after(names: &[&str]) -> Dependencies {
    Dependencies {
        after: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Dependencies::default()
    }
}

fn requires(names: &[&str]) -> Dependencies {
    Dependencies {
        requires: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Dependencies::default()
    }
}

fn name(text: &str) -> Name {
    Name::from(text)
}

#[test]
fn each_relation_waits_for_what_it_says() {
    let rows = [
        ("db", Dependencies::default()),
        ("web", after(&["db"])),
        ("shop", requires(&["db"])),
    ];
    let mut gate = gate(&rows);
    for (standing, order, need) in [
        (Standing::Up, false, false),
        (Standing::UnderWay, true, true),
        (Standing::Ending, true, true),
        (Standing::Failing, false, true),
        (Standing::Resting, false, true),
        (Standing::Unknown, false, false),
    ] {
        let web = gate.ask(&name("web"), NOW, |_| standing);
        assert_eq!(web, order.then(|| Blocker::After(name("db"))), "{standing}");
        let shop = gate.ask(&name("shop"), NOW, |_| standing);
        let expected = need.then(|| Blocker::Required(name("db")));
        assert_eq!(shop, expected, "{standing}");
        assert_eq!(gate.ask(&name("db"), NOW, |_| standing), None);
    }
    assert_eq!(gate.queue(), 0);
}

/// One that waits for its own turn to be started has nothing to end, and stands as
/// before when it is told.
#[test]
fn a_plan_goes_on_when_there_is_nothing_to_end() {
    let members = ["db", "web", "shop"];
    let group = Group {
        name: "storage".to_owned(),
        strategy: GroupStrategy::All,
        members: members.map(str::to_owned).to_vec(),
    };
    let rows = members.map(|name| {
        let group = Some(group.clone());
        let dependencies = Dependencies {
            group,
            ..Dependencies::default()
        };
        (name, dependencies)
    });
    let mut gate = gate(&rows);
    gate.advance(NOW, |_| Standing::UnderWay);
    gate.fell(&name("db"), NOW);
    let gathered = gate.due().unwrap();
    let ended = |order: &Order| match order {
        Order::End { name, .. } => Some(Name::clone(name)),
        Order::LetThrough { .. } | Order::Wait { .. } | Order::GroupInVain { .. } => None,
    };
    for expected in ["shop", "web"] {
        assert!(gate.due().is_some_and(|due| due <= gathered), "{expected}");
        let orders = gate.advance(gathered, |_| Standing::UnderWay);
        let ended: Vec<Name> = orders.iter().filter_map(ended).collect();
        assert_eq!(ended, [name(expected)]);
    }
    gate.advance(gathered, |_| Standing::UnderWay);
    let blocker = gate.ask(&name("db"), gathered, |_| Standing::UnderWay);
    assert_eq!(blocker, None, "the plan is over");
}

#[test]
fn who_waits_is_let_through_when_that_one_comes() {
    let rows = [
        ("db", Dependencies::default()),
        ("other", Dependencies::default()),
        ("shop", requires(&["db"])),
    ];
    let mut gate = gate(&rows);
    let shop = name("shop");
    gate.advance(NOW, |_| Standing::Up);
    assert!(gate.ask(&shop, NOW, |_| Standing::Resting).is_some());
    assert_eq!(gate.due(), None, "it waits for an event, not for time");
    // Whoever else changes is no concern of it.
    gate.changed(&name("other"));
    assert_eq!(gate.due(), None);
    gate.changed(&name("db"));
    assert_eq!(gate.due(), Some(Time::default()));
    let blocker = Blocker::Required(name("db"));
    let waits = Order::Wait {
        name: shop.clone(),
        blocker,
    };
    assert_eq!(gate.advance(NOW, |_| Standing::UnderWay), [waits]);
    gate.changed(&name("db"));
    let through = Order::LetThrough {
        name: shop.clone(),
        in_vain: None,
    };
    assert_eq!(gate.advance(NOW, |_| Standing::Up), [through]);
    assert_eq!(gate.queue(), 0);
    assert!(gate.ask(&shop, NOW, |_| Standing::Resting).is_some());
    gate.leave(&shop);
    gate.changed(&name("db"));
    assert_eq!(gate.advance(NOW, |_| Standing::Up), []);
}

#[test]
fn mere_order_is_not_waited_for_for_ever() {
    let rows = [
        ("db", Dependencies::default()),
        ("web", after(&["db"])),
        ("shop", requires(&["db"])),
    ];
    let mut gate = gate(&rows);
    gate.advance(NOW, |_| Standing::Up);
    for one in ["web", "shop"] {
        assert!(gate.ask(&name(one), NOW, |_| Standing::UnderWay).is_some());
    }
    let late = NOW + PATIENCE;
    assert_eq!(gate.due(), Some(late));
    assert_eq!(
        gate.advance(late - Duration::from_nanos(1), |_| Standing::UnderWay),
        []
    );
    let through = Order::LetThrough {
        name: name("web"),
        in_vain: Some(name("db")),
    };
    assert_eq!(gate.advance(late, |_| Standing::UnderWay), [through]);
    assert_eq!(gate.queue(), 1, "need is need");
    assert_eq!(gate.due(), None);
}

#[test]
fn a_plan_holds_its_group_until_it_is_over_and_then_order_counts() {
    let group = Group {
        name: "pair".to_owned(),
        strategy: GroupStrategy::All,
        members: vec!["db".to_owned(), "web".to_owned()],
    };
    let member = Dependencies {
        group: Some(group),
        ..Dependencies::default()
    };
    let mut gate = gate(&[("web", member.clone()), ("db", member)]);
    let (db, web) = (name("db"), name("web"));
    gate.advance(NOW, |_| Standing::Up);
    gate.fell(&db, NOW);
    gate.fell(&web, NOW);
    let blocked = Some(Blocker::Group(name("pair")));
    assert_eq!(gate.ask(&web, NOW, |_| Standing::UnderWay), blocked);
    assert_eq!(gate.ask(&db, NOW, |_| Standing::UnderWay), blocked);
    gate.advance(NOW, |_| Standing::UnderWay);
    let due = gate.due().unwrap();
    assert!(due > NOW);
    // At its deadline it is due still, and the deadline is then another one.
    assert_eq!(gate.due(), Some(due));
    let orders = gate.advance(due, |_| Standing::UnderWay);
    let expected = [
        Order::LetThrough {
            name: db.clone(),
            in_vain: None,
        },
        Order::Wait {
            name: web.clone(),
            blocker: Blocker::After(db.clone()),
        },
    ];
    assert_eq!(orders, expected);
    gate.changed(&db);
    let orders = gate.advance(due, |_| Standing::Up);
    let expected = Order::LetThrough {
        name: web,
        in_vain: None,
    };
    assert_eq!(orders, [expected]);
}

/// Whoever waits for a group that does not end is started in the end, and told why it
/// took so long.
#[test]
fn a_group_that_cannot_be_ended_is_told_of_to_those_who_waited() {
    let group = Group {
        name: "pair".to_owned(),
        strategy: GroupStrategy::All,
        members: vec!["db".to_owned(), "web".to_owned()],
    };
    let member = Dependencies {
        group: Some(group),
        ..Dependencies::default()
    };
    let mut gate = gate(&[("db", member.clone()), ("web", member)]);
    let (db, web, pair) = (name("db"), name("web"), name("pair"));
    gate.advance(NOW, |_| Standing::Up);
    gate.fell(&db, NOW);
    let blocked = Some(Blocker::Group(pair.clone()));
    assert_eq!(gate.ask(&db, NOW, |_| Standing::Up), blocked);
    let due = gate.due().unwrap();
    let standing = |ends| {
        move |one: &str| match one {
            "web" if ends => Standing::Ending,
            "web" => Standing::Up,
            _ => Standing::UnderWay,
        }
    };
    let end = Order::End {
        name: web.clone(),
        group: pair.clone(),
    };
    assert_eq!(gate.advance(due, standing(false)), [end]);
    // It is looked at once whether there was something to end.
    assert_eq!(gate.advance(due, standing(true)), []);
    let due = gate.due().unwrap();
    let orders = gate.advance(due, standing(true));
    let expected = [
        Order::GroupInVain {
            name: db.clone(),
            group: pair,
            other: web,
        },
        Order::LetThrough {
            name: db,
            in_vain: None,
        },
    ];
    assert_eq!(orders, expected);
}

proptest! {
    /// In a graph without cycles, when all fail at once and each is up some time
    /// after it was let through, all come up, and nobody before whom it needs.
    #[test]
    fn everybody_comes_through_in_order(
        edges in proptest::collection::vec((0..20usize, 0..20usize, any::<bool>()), 0..60),
    ) {
        let names: Vec<String> = (0..20).map(|n| format!("e{n:02}")).collect();
        let mut rows: Vec<(&str, Dependencies)> =
            names.iter().map(|name| (name.as_str(), Dependencies::default())).collect();
        for (one, other, need) in edges {
            // Only towards smaller numbers, so that there is no cycle.
            let (low, high) = (one.min(other), one.max(other));
            if low < high {
                let relations = &mut rows[high].1;
                let list = if need { &mut relations.requires } else { &mut relations.after };
                list.push(names[low].clone());
            }
        }
        let mut gate = gate(&rows);
        let mut up: BTreeSet<String> = BTreeSet::new();
        let mut started: Vec<String> = Vec::new();
        // The last one asks first.
        for one in names.iter().rev() {
            if gate.ask(&name(one), NOW, |_| Standing::UnderWay).is_none() {
                started.push(one.clone());
            }
        }
        for _ in 0..40 {
            for one in started.drain(..) {
                let relations = &rows[names.iter().position(|name| *name == one).unwrap()].1;
                for former in relations.after.iter().chain(&relations.requires) {
                    prop_assert!(up.contains(former), "{one} before {former}");
                }
                gate.changed(&name(&one));
                up.insert(one);
            }
            let standing = |name: &str| {
                if up.contains(name) { Standing::Up } else { Standing::UnderWay }
            };
            for order in gate.advance(NOW, standing) {
                if let Order::LetThrough { name, .. } = order {
                    started.push(name.to_string());
                }
            }
        }
        prop_assert_eq!(up.len(), names.len());
        prop_assert_eq!(gate.queue(), 0);
        prop_assert_eq!(gate.due(), None);
    }
}
