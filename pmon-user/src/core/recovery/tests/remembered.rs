//! A restart storm over which the daemon is restarted.

use super::*;
use crate::core::storm::{BackoffPolicy, FlappingPolicy, IntensityPolicy, record::StormRecord};

const START: Time = Time::from_boot_ns(1_000_000_000_000);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn restrained() -> EntitySpec {
    EntitySpec {
        storm: StormPolicy {
            backoff: Some(BackoffPolicy {
                initial: seconds(20),
                factor: 2000,
                max: seconds(1000),
                jitter: 0,
                reset_after: seconds(600),
            }),
            intensity: Some(IntensityPolicy {
                restarts: 8,
                within: seconds(100_000),
            }),
            flapping: Some(FlappingPolicy::DEFAULT),
        },
        ..spec(Severity::Major, 3)
    }
}

fn sees_nothing(recovery: &mut Recovery, spec: &EntitySpec, at: Time) -> Vec<Effect> {
    let sighting = Sighting {
        occasion: Occasion::Asked,
        outcome: Outcome::Nothing {
            reason: "no pidfile".to_owned(),
        },
        foreign_script: None,
        unit: None,
    };
    recovery.step(spec, Event::Seen(sighting), at)
}

/// Answers turns, and ends starts in failure, until it pauses or rests; the starts.
fn fails(recovery: &mut Recovery, spec: &EntitySpec, first: Vec<Effect>, at: Time) -> u32 {
    let mut starts = 0;
    let mut asked: VecDeque<Effect> = first.into();
    let mut now = at;
    while let Some(effect) = asked.pop_front() {
        let more = match effect {
            Effect::AskTurn => recovery.step(spec, Event::Turn, now),
            Effect::Start { run, .. } => {
                starts += 1;
                let end = StartEnd::Exited {
                    code: 1,
                    last_line: None,
                };
                let mut more = recovery.step(spec, Event::StartEnded { run, end }, now);
                now = now + spec.startuptime;
                more.extend(recovery.step(spec, Event::Tick, now));
                more
            }
            Effect::Look { .. } => sees_nothing(recovery, spec, now),
            _ => Vec::new(),
        };
        asked.extend(more);
    }
    starts
}

/// What a later daemon makes of what it was told, after a trip to the disk.
fn restarted(spec: &EntitySpec, record: Option<&StormRecord>, now: Time) -> Recovery {
    let (mut recovery, _) = Recovery::new(spec, now);
    let written = serde_json::to_string(&record).unwrap();
    if let Some(record) = serde_json::from_str::<Option<StormRecord>>(&written).unwrap() {
        recovery.resume_storm(spec, record);
    }
    recovery
}

/// A daemon that is restarted in each pause makes no attempt sooner or more than one
/// that lives.
#[test]
fn a_restart_in_each_pause_changes_nothing() {
    let spec = restrained();
    let mut pauses = Vec::new();
    for restarts in [false, true] {
        let mut mine = Vec::new();
        let (mut recovery, _) = Recovery::new(&spec, START);
        let mut now = START;
        let first = sees_nothing(&mut recovery, &spec, now);
        let mut total = fails(&mut recovery, &spec, first, now);
        while let Stage::RestartWait { until } = *recovery.stage() {
            mine.push(until.since(START).as_secs());
            if restarts {
                let alarm = recovery.alarm().map(|severity| (severity, now));
                let backs_off = recovery.backs_off();
                let between = until - seconds(1);
                recovery = restarted(&spec, recovery.storm_record().as_ref(), between);
                let quorum = Quorum::default();
                assert!(
                    recovery
                        .resume_alarm(&spec, alarm, quorum, between)
                        .is_empty()
                );
                // Before the first look it could be restarted once more.
                recovery = {
                    let record = recovery.storm_record();
                    let mut again = restarted(&spec, record.as_ref(), between);
                    again.resume_alarm(&spec, alarm, quorum, between);
                    again
                };
                recovery.resume();
                let effects = sees_nothing(&mut recovery, &spec, between);
                assert!(effects.is_empty(), "{effects:?}");
                assert_eq!(*recovery.stage(), Stage::RestartWait { until });
                assert_eq!(recovery.backs_off(), backs_off);
            }
            now = until;
            let effects = recovery.step(&spec, Event::Tick, now);
            total += fails(&mut recovery, &spec, effects, now);
        }
        assert_eq!(total, 8, "the limit of restarts");
        assert_eq!(*recovery.stage(), Stage::Ignore);
        pauses.push(mine);
        // And it stays given up.
        let mut recovery = restarted(&spec, recovery.storm_record().as_ref(), now);
        let effects = sees_nothing(&mut recovery, &spec, now);
        assert_eq!(fails(&mut recovery, &spec, effects, now), 0);
        assert_eq!(*recovery.stage(), Stage::Ignore);
    }
    assert!(pauses[0].len() > 6, "{pauses:?}");
    assert_eq!(pauses[0], pauses[1]);
}

#[test]
fn an_operator_waits_for_no_pause_of_an_earlier_daemon() {
    let spec = restrained();
    let record = StormRecord {
        attempts: 3,
        steps: 4,
        next_attempt: Some(START + seconds(500)),
        backs_off: true,
        ..StormRecord::default()
    };
    // Before the first look has shown anything, and while it pauses.
    for looked in [false, true] {
        let mut recovery = restarted(&spec, Some(&record), START);
        let mut effects = Vec::new();
        if looked {
            assert!(sees_nothing(&mut recovery, &spec, START).is_empty());
        }
        effects.extend(recovery.step(&spec, request(OperatorAction::Start), START));
        if !looked {
            effects.extend(sees_nothing(&mut recovery, &spec, START));
        }
        assert_eq!(fails(&mut recovery, &spec, effects, START), 1, "{looked}");
    }
}

#[test]
fn who_is_calm_leaves_nothing_to_remember() {
    let spec = restrained();
    let mut world = healthy(&spec, works());
    assert_eq!(world.recovery().storm_record(), None);
    let mark = world.recovery().storm_mark();
    world.kill(KILLED);
    world.run_until(second(60));
    assert_ne!(world.recovery().storm_mark(), mark);
    let record = world.recovery().storm_record().unwrap();
    // Its fall may be the first of many.
    assert_eq!(record.flapping.last_fall(), Some(DEATH));
    assert_eq!((record.attempts, record.next_attempt), (0, None));
    assert!(record.well_since.is_some());
}
