//! The budget: order by severity, no starvation, nobody lost.

use proptest::prelude::*;

use super::*;

fn at(millisecond: u64) -> Time {
    Time::from_boot_ns(millisecond * 1_000_000)
}

const TWO: Limits = Limits {
    at_once: 2,
    starts: 100,
    within: Duration::from_secs(1),
};

#[test]
fn there_is_room_for_so_many_and_then_the_severest_go_first() {
    let mut budget = Budget::new(TWO);
    assert!(budget.ask("a", Severity::Minor, at(0)));
    assert!(budget.ask("b", Severity::Minor, at(0)));
    for (name, severity) in [
        ("minor", Severity::Minor),
        ("major", Severity::Major),
        ("critical", Severity::Critical),
        ("critical too", Severity::Critical),
    ] {
        assert!(!budget.ask(name, severity, at(1)));
    }
    assert_eq!(budget.grant(at(2)), [""; 0]);
    assert_eq!(budget.due(), None, "it waits for others, not for time");
    assert_eq!(budget.ahead_of(&"minor"), Some(3));
    budget.give_back(&"a");
    assert_eq!(budget.due(), Some(Time::default()));
    assert_eq!(budget.grant(at(3)), ["critical"]);
    budget.give_back(&"critical");
    budget.give_back(&"b");
    assert_eq!(budget.grant(at(4)), ["critical too", "major"]);
    budget.give_back(&"minor");
    budget.give_back(&"major");
    assert_eq!(budget.grant(at(5)), [""; 0], "it has left the queue");
    assert_eq!((budget.held(), budget.queue()), (1, 0));
}

#[test]
fn no_more_than_so_many_begin_within_the_time() {
    let limits = Limits {
        at_once: 100,
        starts: 3,
        within: Duration::from_secs(1),
    };
    let mut budget = Budget::new(limits);
    for name in 0..3 {
        assert!(budget.ask(name, Severity::Major, at(100 * name)));
    }
    assert!(!budget.ask(3, Severity::Major, at(300)));
    assert!(!budget.ask(4, Severity::Major, at(300)));
    assert_eq!(budget.due(), Some(at(1000)));
    assert_eq!(budget.grant(at(999)), [0; 0]);
    assert_eq!(budget.grant(at(1000)), [3]);
    assert_eq!(budget.due(), Some(at(1100)));
    assert_eq!(budget.grant(at(1100)), [4]);
}

#[test]
fn one_that_has_waited_long_goes_before_a_severer_one() {
    let mut budget = Budget::new(Limits { at_once: 1, ..TWO });
    assert!(budget.ask("first", Severity::Major, at(0)));
    assert!(!budget.ask("minor", Severity::Minor, at(0)));
    assert!(!budget.ask("critical", Severity::Critical, at(59_999)));
    assert!(!budget.ask("late critical", Severity::Critical, at(60_001)));
    let mut order = Vec::new();
    budget.give_back(&"first");
    while let Some(name) = budget.grant(at(70_000)).pop() {
        order.push(name);
        budget.give_back(&name);
    }
    assert_eq!(order, ["critical", "minor", "late critical"]);
}

#[test]
fn smaller_limits_take_nothing_away() {
    let mut budget = Budget::new(TWO);
    assert!(budget.ask(1, Severity::Major, at(0)));
    assert!(budget.ask(2, Severity::Major, at(0)));
    budget.set_limits(Limits {
        at_once: 1,
        starts: 1,
        within: Duration::from_secs(1),
    });
    assert!(budget.ask(1, Severity::Major, at(1)), "it has one");
    assert!(!budget.ask(3, Severity::Major, at(1)));
    budget.give_back(&1);
    assert_eq!(budget.grant(at(5000)), [0; 0]);
    budget.give_back(&2);
    assert_eq!(budget.grant(at(5000)), [3]);
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u8, Severity),
    GiveBack(u8),
    Grant,
    Pass(u64),
}

fn severity() -> impl Strategy<Value = Severity> {
    prop_oneof![
        Just(Severity::Minor),
        Just(Severity::Major),
        Just(Severity::Critical)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40u8, severity()).prop_map(|(name, severity)| Step::Ask(name, severity)),
        (0..40u8).prop_map(Step::GiveBack),
        Just(Step::Grant),
        (1..5_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Limits hold at every moment, and whoever asks is served in the end.
    #[test]
    fn limits_hold_and_nobody_is_lost(
        at_once in 1..5u32,
        starts in 1..8u32,
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let within = Duration::from_secs(1);
        let mut budget = Budget::new(Limits { at_once, starts, within });
        let mut now = 0;
        let mut wanted: BTreeSet<u8> = BTreeSet::new();
        let mut begun: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Ask(name, severity) => {
                    let fresh = !budget.holding.contains(&name);
                    let given = budget.ask(name, severity, at(now));
                    if given && fresh {
                        begun.push(now);
                    } else if !given {
                        wanted.insert(name);
                    }
                }
                Step::GiveBack(name) => {
                    budget.give_back(&name);
                    wanted.remove(&name);
                }
                Step::Grant => for name in budget.grant(at(now)) {
                    prop_assert!(wanted.remove(&name), "{name} had not asked");
                    begun.push(now);
                },
                Step::Pass(milliseconds) => now += milliseconds,
            }
            prop_assert!(budget.held() <= at_once as usize);
            let recent = begun.iter().filter(|begun| now - **begun < 1000).count();
            prop_assert!(recent <= starts as usize, "{recent} within a second");
            prop_assert_eq!(budget.queue(), wanted.len());
        }
        // Everybody gives back what they hold, as starts end.
        for _ in 0..1000 {
            for name in budget.holding.clone() {
                budget.give_back(&name);
            }
            if let Some(due) = budget.due() {
                prop_assert!(due <= at(now + 1000));
            }
            now += 1000;
            for name in budget.grant(at(now)) {
                wanted.remove(&name);
            }
        }
        prop_assert!(wanted.is_empty(), "{wanted:?} starve");
    }

    /// Those who ask at once go by severity, equals in the order of asking.
    #[test]
    fn a_burst_goes_by_severity(severities in proptest::collection::vec(severity(), 2..60)) {
        let mut budget = Budget::new(Limits { at_once: 1, ..TWO });
        budget.ask(usize::MAX, Severity::Minor, at(0));
        for (name, severity) in severities.iter().enumerate() {
            budget.ask(name, *severity, at(0));
        }
        budget.give_back(&usize::MAX);
        let mut order = Vec::new();
        while let Some(name) = budget.grant(at(2000 * (order.len() as u64 + 1))).pop() {
            budget.give_back(&name);
            order.push(name);
        }
        let mut expected: Vec<usize> = (0..severities.len()).collect();
        expected.sort_by_key(|name| std::cmp::Reverse(severities[*name]));
        prop_assert_eq!(order, expected);
    }

    /// Under a load that never ends, with newcomers severer than who waits, the
    /// wait is bounded by the handicap and those who were there before.
    #[test]
    fn nobody_starves(before in 0..20u64, period in 1..500u64) {
        let mut budget = Budget::new(Limits { at_once: 1, ..TWO });
        budget.ask(u64::MAX, Severity::Critical, at(0));
        for name in 0..before {
            budget.ask(name, Severity::Critical, at(0));
        }
        let minor = u64::MAX - 1;
        budget.ask(minor, Severity::Minor, at(0));
        let mut holder = u64::MAX;
        let mut rounds = 0;
        // One start takes `period`, and in each a new critical one asks.
        while holder != minor {
            rounds += 1;
            let now = at(rounds * period);
            budget.ask(1000 + rounds, Severity::Critical, now);
            budget.give_back(&holder);
            if let Some(next) = budget.grant(now).pop() {
                holder = next;
            }
            let newcomers = 60_000 / period + 1;
            let slow = 11; // One start in 10 ms at most: 100 within a second.
            prop_assert!(rounds <= slow * (before + newcomers + 2), "{rounds}");
        }
    }
}
