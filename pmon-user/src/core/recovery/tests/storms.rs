//! Restart storms: back-off after the ladder, intensity, flapping, turns.

use super::*;
use crate::core::{
    budget::{Budget, Limits},
    event::Delay,
    simulation::TurnBehaviour,
    storm::{BackoffPolicy, FlappingPolicy, IntensityPolicy},
};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn backing_off(jitter: u32) -> EntitySpec {
    EntitySpec {
        storm: StormPolicy {
            backoff: Some(BackoffPolicy {
                initial: seconds(20),
                factor: 2000,
                max: seconds(100),
                jitter,
                reset_after: seconds(600),
            }),
            ..StormPolicy::PMOND
        },
        ..spec(Severity::Major, 3)
    }
}

/// Works, and lives for so long.
fn lives(n: u64) -> StartBehaviour {
    StartBehaviour::Works {
        appears: seconds(0),
        exits: seconds(0),
        lives: Some(seconds(n)),
    }
}

#[test]
fn the_ladder_is_walked_as_ever_and_then_the_pauses_grow() {
    let spec = backing_off(0);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(500));
    // V2 up to the alarm and the attempt with it; then 5 s for each attempt and
    // 20, 40, 80, 100, 100 s of pause.
    let expected = [0, 10, 20, 30, 55, 100, 185, 290, 395, 500];
    assert_eq!(starts(&world), expected);
    assert_eq!(raised(&world, Severity::Major), [30]);
    assert!(world.recovery().alarm().is_some());
    // It tells of the pause that there will be.
    let told: Vec<u64> = world
        .log()
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Say(Notice::AttemptFailed { next_in, .. }) => Some(next_in.as_secs()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [5, 5, 5, 20, 40, 80, 100, 100, 100]);
}

#[test]
fn with_this_seed_the_pauses_are_these() {
    let spec = backing_off(200);
    let pauses = || {
        let mut world = healthy(&spec, StartBehaviour::Fails(1));
        world.kill(KILLED);
        world.run_until(second(500));
        starts(&world)
    };
    assert_eq!(pauses(), [0, 10, 20, 30, 52, 90, 182, 287, 373, 478]);
    assert_eq!(pauses(), pauses());
}

#[test]
fn pauses_begin_anew_only_after_a_time_of_health() {
    for (uptime, first_pause) in [(300, 100), (700, 20)] {
        let spec = backing_off(0);
        let mut world = healthy(&spec, StartBehaviour::Fails(1));
        world.kill(KILLED);
        world.run_until(second(300));
        world.set_start(works());
        world.run_until(second(600));
        assert_eq!(*world.recovery().stage(), Stage::Manage);
        let recovered = said(&world, "recovered")[0];
        world.set_start(StartBehaviour::Fails(1));
        world.run_until(second(recovered + uptime));
        world.clear_log();
        world.kill(KILLED);
        let death = world.now().since(DEATH).as_secs();
        world.run_until(second(death + 36));
        // The ladder comes first in any case.
        let expected = [0, 10, 20, 30].map(|after| death + after);
        assert_eq!(starts(&world), expected);
        let due = world.recovery().stage().deadline().unwrap();
        assert_eq!(due.since(second(death + 35)), seconds(first_pause));
    }
}

#[test]
fn an_operator_waits_for_no_pause_and_makes_it_good() {
    let spec = backing_off(0);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(200));
    assert!(world.recovery().backs_off());
    world.clear_log();
    world.happen(request(OperatorAction::Start));
    assert_eq!(starts(&world), [200]);
    assert!(!world.recovery().backs_off());
    // It fails; the alarm is up still, and the pauses begin with the first.
    world.run_until(second(226));
    assert_eq!(starts(&world), [200, 225]);
}

#[test]
fn too_many_restarts_end_in_rest_with_an_alarm_and_reminders() {
    for severity in [Severity::Minor, Severity::Major] {
        let spec = EntitySpec {
            storm: StormPolicy {
                intensity: Some(IntensityPolicy {
                    restarts: 4,
                    within: seconds(1000),
                }),
                ..StormPolicy::PMOND
            },
            ..spec(severity, 3)
        };
        // Each recovery succeeds: 25 s, and it lives for 40.
        let mut world = healthy(&spec, lives(40));
        world.kill(KILLED);
        world.run_until(second(159));
        assert_eq!(starts(&world), [0, 40, 80, 120]);
        assert_eq!(said(&world, "gave_up"), NEVER);
        world.run_until(second(160));
        assert_eq!(said(&world, "gave_up"), [160]);
        assert_eq!(raised(&world, severity), [160]);
        assert_eq!(*world.recovery().stage(), Stage::Ignore);
        let problem = world.recovery().problem().unwrap();
        assert!(problem.contains("4 restarts within 1000s"), "{problem}");
        // Not silently given up, and for ever.
        world.run_until(second(160 + 24 * 3600));
        assert_eq!(starts(&world), [0, 40, 80, 120]);
        let reminders = said(&world, "alarm_refreshed");
        if severity == Severity::Minor {
            let minutes: Vec<u64> = reminders.iter().map(|at| (at - 160) / 60).collect();
            assert_eq!(minutes, [5, 15, 35, 75, 155, 315, 555, 795, 1035, 1275]);
        } else {
            assert_eq!(reminders.len(), 24 * 3600 / 40);
        }
        // An operator's start is never refused, and a failure after it is dealt
        // with as if nothing had been.
        world.clear_log();
        let now = world.now().since(DEATH).as_secs();
        world.happen(request(OperatorAction::Start));
        world.run_until(second(now + 130));
        assert_eq!(starts(&world), [0, 40, 80, 120].map(|after| now + after));
        assert_eq!(said(&world, "gave_up"), NEVER);
        assert_eq!(world.recovery().alarm(), None);
    }
}

#[test]
fn flapping_is_told_although_each_recovery_succeeds() {
    let spec = EntitySpec {
        storm: StormPolicy {
            flapping: Some(FlappingPolicy {
                deaths: 3,
                within: seconds(200),
                quiet: seconds(1000),
            }),
            ..StormPolicy::PMOND
        },
        ..spec(Severity::Critical, 3)
    };
    let mut world = healthy(&spec, lives(40));
    world.kill(KILLED);
    world.run_until(second(79));
    assert_eq!(said(&world, "flapping"), NEVER);
    world.run_until(second(200));
    assert_eq!(said(&world, "flapping"), [80], "once");
    let told = |world: &Simulation<'_>, change| {
        times(world, |effect| *effect == Effect::FlappingAlarm(change))
    };
    assert_eq!(told(&world, AlarmChange::Raise(FLAPPING)), [80]);
    assert_eq!(
        times(&world, |e| matches!(e, Effect::Alarm(_))),
        NEVER,
        "it is not down"
    );
    assert_eq!(world.recovery().flapping_since(), Some(second(80)));
    world.run_until(second(380));
    assert_eq!(said(&world, "still_flapping"), [380], "a reminder");
    world.set_start(works());
    world.run_until(second(2000));
    // It died last at 400, and was well again at 425.
    assert_eq!(said(&world, "flapping_ended"), [1425]);
    assert_eq!(told(&world, AlarmChange::Clear), [1425]);
    assert_eq!(
        world.recovery().deadline(),
        None,
        "no timer when all is well"
    );
}

#[test]
fn an_operators_restarts_are_no_flapping_and_a_stop_ends_it() {
    let policy = StormPolicy {
        flapping: Some(FlappingPolicy {
            deaths: 2,
            within: seconds(1000),
            quiet: seconds(1000),
        }),
        ..StormPolicy::PMOND
    };
    let spec = EntitySpec {
        storm: policy,
        ..spec(Severity::Major, 3)
    };
    let mut world = healthy(&spec, works());
    for _ in 0..5 {
        world.happen(request(OperatorAction::Restart));
        world.run_for(seconds(30));
    }
    assert_eq!(said(&world, "flapping"), NEVER);
    for _ in 0..2 {
        world.kill(KILLED);
        world.run_for(seconds(30));
    }
    assert_eq!(said(&world, "flapping").len(), 1);
    world.happen(request(OperatorAction::Stop));
    world.run_for(seconds(1));
    assert_eq!(said(&world, "flapping_ended").len(), 1);
    assert_eq!(world.recovery().flapping_since(), None);
}

fn turns_asked(world: &Simulation<'_>) -> usize {
    times(world, |effect| *effect == Effect::AskTurn).len()
}

fn turns_returned(world: &Simulation<'_>) -> usize {
    times(world, |effect| *effect == Effect::ReturnTurn).len()
}

#[test]
fn a_turn_is_given_back_once_the_successor_is_there() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    assert_eq!((turns_asked(&world), turns_returned(&world)), (1, 0));
    world.run_until(second(1));
    assert_eq!((turns_asked(&world), turns_returned(&world)), (1, 1));
    world.run_until(second(100));
    assert_eq!((turns_asked(&world), turns_returned(&world)), (1, 1));
}

#[test]
fn a_turn_is_given_back_with_each_failure() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(99));
    assert_eq!(starts(&world).len(), 10);
    assert_eq!((turns_asked(&world), turns_returned(&world)), (10, 10));
}

#[test]
fn who_waits_for_a_turn_says_so_looks_again_and_loses_no_attempt() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_turns(TurnBehaviour::Withheld);
    world.kill(KILLED);
    assert_eq!(*world.recovery().stage(), Stage::Queued);
    let delay = |ahead| Event::Delayed(Delay::Budget { ahead });
    world.happen(delay(7));
    world.happen(delay(6));
    assert_eq!(said(&world, "delayed"), [0], "once");
    assert_eq!(world.recovery().delay(), Some(&Delay::Budget { ahead: 6 }));
    world.run_until(second(1000));
    assert_eq!(said(&world, "still_delayed"), [300, 900], "reminders");
    assert_eq!(starts(&world), NEVER);
    assert_eq!(world.recovery().attempts(), 0);
    let looks = |world: &Simulation<'_>| times(world, |e| matches!(e, Effect::Look { .. })).len();
    let before = looks(&world);
    world.happen(Event::Turn);
    assert_eq!(looks(&world), before + 1, "much may have happened");
    assert_eq!(starts(&world), [1000]);
    assert_eq!(said(&world, "first_failure"), [0]);
    world.run_until(second(1100));
    assert_eq!(said(&world, "recovered"), [1025]);
    assert_eq!(turns_returned(&world), 1);
}

#[test]
fn what_appears_while_it_waits_is_adopted_and_the_turn_given_back() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_turns(TurnBehaviour::Withheld);
    world.kill(KILLED);
    world.happen(Event::Delayed(Delay::Budget { ahead: 0 }));
    world.start_by_hand();
    assert_eq!(turns_returned(&world), 1);
    // A turn that comes all the same is not kept.
    world.happen(Event::Turn);
    assert_eq!(turns_returned(&world), 2);
    world.run_until(second(100));
    assert_eq!(starts(&world), NEVER);
    assert_eq!(*world.recovery().stage(), Stage::Manage);
}

#[test]
fn an_operator_waits_for_no_turn() {
    for action in [OperatorAction::Start, OperatorAction::Restart] {
        let spec = spec(Severity::Major, 3);
        let mut world = healthy(&spec, works());
        world.set_turns(TurnBehaviour::Withheld);
        world.kill(KILLED);
        world.happen(Event::Delayed(Delay::Budget { ahead: 3 }));
        world.run_until(second(10));
        world.happen(request(action));
        assert_eq!(starts(&world), [10], "{action:?}");
        assert_eq!((turns_asked(&world), turns_returned(&world)), (1, 1));
        assert_eq!(world.recovery().starts().operator, 1);
        assert_eq!(world.recovery().starts().auto, 0);
        assert_eq!(world.recovery().delay(), None);
    }
    // Nor for one it never asked for.
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, works());
    world.set_turns(TurnBehaviour::Withheld);
    world.happen(request(OperatorAction::Restart));
    world.run_for(seconds(10));
    assert_eq!(said(&world, "restarted"), [5]);
    assert_eq!(turns_asked(&world), 0);
}

/// Many worlds with one budget.
struct Host<'a> {
    worlds: Vec<Simulation<'a>>,
    read: Vec<usize>,
    budget: Budget<usize>,
    under_way: usize,
    most: usize,
    order: Vec<usize>,
}

impl<'a> Host<'a> {
    fn new(specs: &'a [EntitySpec], limits: Limits) -> Self {
        let worlds: Vec<_> = specs
            .iter()
            .map(|spec| {
                let mut world = healthy(spec, works());
                world.set_turns(TurnBehaviour::Withheld);
                world
            })
            .collect();
        Self {
            read: vec![0; worlds.len()],
            worlds,
            budget: Budget::new(limits),
            under_way: 0,
            most: 0,
            order: Vec::new(),
        }
    }

    /// Does for the worlds what the engine does for the entities.
    fn attend(&mut self, index: usize) {
        while let Some((at, effect)) = self.worlds[index].log().get(self.read[index]).cloned() {
            self.read[index] += 1;
            match effect {
                Effect::AskTurn => {
                    let severity = self.worlds[index].severity();
                    let event = if self.budget.ask(index, severity, at) {
                        Event::Turn
                    } else {
                        let ahead = self.budget.ahead_of(&index).unwrap();
                        Event::Delayed(Delay::Budget { ahead })
                    };
                    self.worlds[index].happen(event);
                }
                Effect::ReturnTurn => self.budget.give_back(&index),
                Effect::Start { .. } => self.order.push(index),
                _ => {}
            }
            self.under_way = self.budget.held();
            self.most = self.most.max(self.under_way);
        }
    }

    fn run_until(&mut self, end: Time) {
        let mut now = self.worlds[0].now();
        while now < end {
            now = now + Duration::from_millis(100);
            for index in 0..self.worlds.len() {
                self.worlds[index].run_until(now);
                self.attend(index);
            }
            for index in self.budget.grant(now) {
                self.worlds[index].happen(Event::Turn);
                self.attend(index);
            }
        }
    }
}

#[test]
fn a_thousand_deaths_at_once_are_recovered_by_severity_within_the_budget() {
    let specs: Vec<EntitySpec> = (0..1000)
        .map(|number: usize| EntitySpec {
            name: format!("probe-{number}"),
            ..spec(
                match number % 10 {
                    0 => Severity::Critical,
                    1..=4 => Severity::Major,
                    _ => Severity::Minor,
                },
                3,
            )
        })
        .collect();
    let mut host = Host::new(&specs, Limits::default());
    for index in 0..host.worlds.len() {
        host.worlds[index].kill(KILLED);
        host.attend(index);
    }
    let at_once = Limits::default().at_once as usize;
    assert_eq!(host.budget.held(), at_once, "all there is room for");
    // An operator who comes now does not wait.
    let late = 999;
    host.worlds[late].happen(request(OperatorAction::Start));
    host.attend(late);
    assert_eq!(host.order.last(), Some(&late));
    host.run_until(second(120));
    assert_eq!(host.most, at_once);
    assert_eq!(host.order.len(), 1000, "each is started once");
    assert_eq!((host.budget.held(), host.budget.queue()), (0, 0));
    for world in &host.worlds {
        assert_eq!(*world.recovery().stage(), Stage::Manage);
        assert_eq!(world.recovery().alarm(), None);
    }
    // Those who came while there was room, the operator's, and then by severity.
    let waited: Vec<Severity> = host.order[at_once + 1..]
        .iter()
        .map(|index| specs[*index].severity)
        .collect();
    assert!(waited.is_sorted_by(|a, b| a >= b), "by severity");
}
