//! Plans: one for a burst, ended in reverse order, nobody twice.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use super::*;

const NOW: Time = Time::from_boot_ns(1_000_000_000_000);

fn group(strategy: Strategy) -> Group {
    Group {
        name: "shop".to_owned(),
        strategy,
        members: ["db", "cache", "web", "mail"].map(str::to_owned).to_vec(),
    }
}

/// Members and how they stand; everybody who is ended obeys at once.
struct World(BTreeMap<String, Standing>);

impl World {
    fn up() -> Self {
        let members = group(Strategy::All).members;
        Self(members.into_iter().map(|one| (one, Standing::Up)).collect())
    }

    fn set(&mut self, name: &str, standing: Standing) {
        self.0.insert(name.to_owned(), standing);
    }

    fn advance(&self, plan: &mut Plan, now: Time) -> Next {
        plan.advance(now, |name| self.0[name])
    }

    /// Who is ended, in that order.
    fn carry_out(&mut self, plan: &mut Plan) -> Vec<String> {
        let mut ended = Vec::new();
        loop {
            match self.advance(plan, NOW + GATHERING) {
                Next::Wait => panic!("nobody is being ended"),
                Next::Over | Next::InVain(_) => return ended,
                Next::End(name) => {
                    ended.push(name.to_string());
                    self.set(&name, Standing::Ending);
                    assert_eq!(self.advance(plan, NOW + GATHERING), Next::Wait);
                    self.set(&name, Standing::UnderWay);
                }
            }
        }
    }
}

fn plan(strategy: Strategy, fallen: &str) -> Option<Plan> {
    Plan::new(&group(strategy), Name::from(fallen), NOW)
}

#[test]
fn each_strategy_ends_its_own_in_reverse_order() {
    assert_eq!(plan(Strategy::One, "cache"), None);
    for (strategy, fallen, expected) in [
        (Strategy::All, "cache", vec!["mail", "web", "db"]),
        (Strategy::Rest, "cache", vec!["mail", "web"]),
        (Strategy::Rest, "mail", vec![]),
    ] {
        let mut world = World::up();
        world.set(fallen, Standing::UnderWay);
        let mut plan = plan(strategy, fallen).unwrap();
        assert_eq!(
            world.advance(&mut plan, NOW),
            Next::Wait,
            "others may follow"
        );
        assert_eq!(plan.deadline(), NOW + GATHERING);
        assert_eq!(world.carry_out(&mut plan), expected, "{strategy:?}");
    }
}

#[test]
fn a_burst_is_one_plan_and_ends_nobody_who_has_failed() {
    let mut world = World::up();
    let mut plan = plan(Strategy::All, "web").unwrap();
    plan.fell(Name::from("db"));
    plan.fell(Name::from("cache"));
    for name in ["web", "db"] {
        world.set(name, Standing::UnderWay);
    }
    // Somebody else has started a successor already.
    world.set("cache", Standing::Up);
    assert_eq!(world.carry_out(&mut plan), ["mail"]);
}

#[test]
fn who_fails_while_others_are_ended_joins_in() {
    let mut world = World::up();
    let mut plan = plan(Strategy::Rest, "web").unwrap();
    world.set("web", Standing::UnderWay);
    let now = NOW + GATHERING;
    assert_eq!(world.advance(&mut plan, now), Next::End("mail".into()));
    world.set("mail", Standing::Ending);
    // An earlier one: more belong to the rest.
    plan.fell(Name::from("db"));
    world.set("db", Standing::UnderWay);
    assert_eq!(world.advance(&mut plan, now), Next::Wait);
    world.set("mail", Standing::UnderWay);
    assert_eq!(world.advance(&mut plan, now), Next::End("cache".into()));
    // It dies before it could be ended.
    plan.fell(Name::from("cache"));
    world.set("cache", Standing::UnderWay);
    assert_eq!(world.advance(&mut plan, now), Next::Over);
}

#[test]
fn who_is_down_is_left_down_and_a_plan_does_not_last_for_ever() {
    let mut world = World::up();
    world.set("mail", Standing::Resting);
    world.set("db", Standing::UnderWay);
    let mut plan = plan(Strategy::All, "db").unwrap();
    let now = NOW + GATHERING;
    assert_eq!(world.advance(&mut plan, now), Next::End("web".into()));
    world.set("web", Standing::Ending);
    assert_eq!(world.advance(&mut plan, now), Next::Wait);
    assert_eq!(plan.deadline(), NOW + PATIENCE);
    let over = world.advance(&mut plan, NOW + PATIENCE);
    assert_eq!(
        over,
        Next::InVain("web".into()),
        "and says who is in its way"
    );
}
