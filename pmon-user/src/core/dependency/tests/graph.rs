//! The graph: what it knows, and that it finds cycles, all and only those.

use proptest::prelude::*;

use super::*;
use crate::core::dependency::Strategy as GroupStrategy;

type Row = (String, Severity, Dependencies);

fn row(name: &str, after: &[&str], requires: &[&str]) -> Row {
    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    let dependencies = Dependencies {
        after: owned(after),
        requires: owned(requires),
        group: None,
    };
    (name.to_owned(), Severity::Minor, dependencies)
}

fn graph(rows: &[Row]) -> Graph {
    let rows = rows.iter();
    Graph::of(rows.map(|(name, severity, dependencies)| (name.as_str(), *severity, dependencies)))
}

fn names<'a>(some: impl Iterator<Item = &'a Name>) -> Vec<String> {
    some.map(ToString::to_string).collect()
}

#[test]
fn a_cycle_is_named_from_its_first_member_on() {
    let rows = [
        row("web", &["cache"], &[]),
        row("cache", &[], &["db"]),
        row("db", &["web"], &[]),
        row("alone", &["web"], &[]),
        row("self", &["self"], &[]),
    ];
    let cycles: Vec<Vec<String>> = (graph(&rows).cycles().iter())
        .map(|cycle| names(cycle.iter()))
        .collect();
    assert_eq!(cycles, [vec!["cache", "db", "web"], vec!["self"]]);
}

#[test]
fn members_of_a_group_follow_one_another() {
    let group = Group {
        name: "shop".to_owned(),
        strategy: GroupStrategy::All,
        members: ["db", "absent", "cache", "web"].map(str::to_owned).to_vec(),
    };
    let rows = ["web", "cache", "db"].map(|name| {
        let mut row = row(name, &["nobody"], &[]);
        row.2.group = Some(group.clone());
        row
    });
    let graph = graph(&rows);
    assert_eq!(names(graph.after("db")), [""; 0]);
    assert_eq!(names(graph.after("cache")), ["db"]);
    assert_eq!(names(graph.after("web")), ["cache"]);
    assert_eq!(graph.group_of("web"), Some(&group));
    assert!(graph.cycles().is_empty());
}

#[test]
fn whoever_is_waited_for_is_as_urgent_as_who_waits() {
    let mut rows = [
        row("web", &[], &["cache"]),
        row("cache", &["db"], &[]),
        row("db", &[], &[]),
        row("other", &[], &[]),
    ];
    rows[0].1 = Severity::Critical;
    let graph = graph(&rows);
    for (name, urgency) in [
        ("db", Severity::Critical),
        ("cache", Severity::Critical),
        ("other", Severity::Minor),
    ] {
        assert_eq!(graph.urgency(name), Some(urgency), "{name}");
    }
    assert_eq!(graph.urgency("nobody"), None);
}

/// Whether there is an order in which everybody comes after whom they need.
fn can_be_ordered(rows: &[Row]) -> bool {
    let mut left: Vec<&Row> = rows.iter().collect();
    loop {
        let before = left.len();
        let open: BTreeSet<String> = left.iter().map(|row| row.0.clone()).collect();
        left.retain(|row| {
            row.2
                .after
                .iter()
                .chain(&row.2.requires)
                .any(|one| open.contains(one))
        });
        if left.len() == before {
            return left.is_empty();
        }
    }
}

proptest! {
    #[test]
    fn cycles_are_found_all_and_only_those(
        edges in proptest::collection::vec((0..12u8, 0..12u8, any::<bool>()), 0..25),
    ) {
        let mut rows: Vec<Row> = (0..12).map(|n| row(&format!("e{n}"), &[], &[])).collect();
        for (from, to, requires) in edges {
            let relations = &mut rows[usize::from(from)].2;
            let list = if requires { &mut relations.requires } else { &mut relations.after };
            list.push(format!("e{to}"));
        }
        let graph = graph(&rows);
        let cycles = graph.cycles();
        prop_assert_eq!(cycles.is_empty(), can_be_ordered(&rows));
        for cycle in cycles {
            for (index, name) in cycle.iter().enumerate() {
                let next = &cycle[(index + 1) % cycle.len()];
                prop_assert!(graph.needs(name).any(|one| one == next), "{name} → {next}");
            }
        }
    }
}
