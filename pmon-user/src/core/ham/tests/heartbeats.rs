//! §3: slots, marks, states.

use super::{
    super::heartbeat::{Commitment, Heartbeat, Missed, SHORTEST, SHORTEST_OF_HAM, State},
    *,
};

const PERIOD: Duration = Duration::from_secs(1);

fn commitment(low: u32, high: u32) -> Commitment {
    Commitment {
        period: PERIOD,
        low,
        high,
    }
}

fn at(ms: u64) -> Time {
    Time::default() + Duration::from_millis(ms)
}

#[test]
fn a_beat_is_accepted_at_the_mark_behind_it() {
    let mut heartbeat = Heartbeat::new(commitment(5, 5), at(0));
    assert_eq!(heartbeat.due(), Some(at(1000)));
    assert_eq!(heartbeat.look(1, at(999)), Missed::Nothing);
    assert_eq!(heartbeat.last(), None);
    // Ten in one slot are one, and a late look does not move the marks.
    assert_eq!(heartbeat.look(10, at(1015)), Missed::Nothing);
    assert_eq!(heartbeat.last(), Some(at(1000)));
    assert_eq!(heartbeat.due(), Some(at(2000)));
}

#[test]
fn marks_are_reached_by_misses_in_a_row() {
    let mut heartbeat = Heartbeat::new(commitment(2, 4), at(0));
    assert_eq!(heartbeat.look(0, at(1000)), Missed::Nothing);
    assert_eq!(heartbeat.look(1, at(2000)), Missed::Nothing);
    let missed: Vec<Missed> = (3..8).map(|s| heartbeat.look(1, at(s * 1000))).collect();
    assert_eq!(
        missed[..4],
        [Missed::Nothing, Missed::Low, Missed::Nothing, Missed::High]
    );
    // It stops counting.
    assert_eq!(missed[4], Missed::Nothing);
    assert_eq!(heartbeat.due(), None);
    assert_eq!(
        (heartbeat.state(), heartbeat.last()),
        (State::MissedHigh, Some(at(2000)))
    );
}

/// D27, and 0 switches a mark off.
#[test]
fn equal_marks_are_reached_together_and_none_is_never_reached() {
    for (low, high, at_three) in [
        (3, 3, Missed::Both),
        (0, 3, Missed::High),
        (3, 0, Missed::Low),
        (0, 0, Missed::Nothing),
    ] {
        let mut heartbeat = Heartbeat::new(commitment(low, high), at(0));
        let missed: Vec<Missed> = (1..=3).map(|s| heartbeat.look(0, at(s * 1000))).collect();
        assert_eq!(missed, [Missed::Nothing, Missed::Nothing, at_three]);
    }
}

/// D28.
#[test]
fn a_late_beat_does_not_make_it_healthy_but_counts() {
    let mut heartbeat = Heartbeat::new(commitment(2, 4), at(0));
    heartbeat.look(0, at(1000));
    assert_eq!(heartbeat.look(0, at(2000)), Missed::Low);
    assert_eq!(heartbeat.look(1, at(3000)), Missed::Nothing);
    assert_eq!(heartbeat.state(), State::MissedLow);
    let missed: Vec<Missed> = (4..=7).map(|s| heartbeat.look(1, at(s * 1000))).collect();
    assert_eq!(missed[..3], [Missed::Nothing; 3], "low is told once");
    assert_eq!(missed[3], Missed::High);
}

/// A4b.6.
#[test]
fn told_healthy_it_is_counted_from_the_start() {
    let mut world = World::with(&[]);
    let process = world.process();
    let effects = world
        .ham
        .attach_self("a", process, true, Some(commitment(2, 4)), world.now);
    world.take(effects.unwrap());
    world.condition("a", "low", Kind::HeartbeatMissedLow, ConditionFlags::REARM);
    world.action(("a", "low"), "tell", log("low"), REARM);
    world.action(("a", "low"), "healthy", Deed::HeartbeatHealthy, REARM);
    world.condition(
        "a",
        "high",
        Kind::HeartbeatMissedHigh,
        ConditionFlags::REARM,
    );
    world.action(("a", "high"), "tell", log("high"), REARM);
    let mut told = Vec::new();
    for second in 1..=6 {
        let (due, name) = world.ham.next_mark().unwrap();
        assert_eq!((due, name.as_str()), (at(second * 1000), "a"));
        world.now = due;
        let effects = world.ham.beats("a", 0, due);
        world.take(effects);
        told.extend(world.asked().into_iter().map(|word| (second, word)));
    }
    let low = |second| (second, "log low".to_owned());
    assert_eq!(told, [low(2), low(4), low(6)]);
}

/// A beat every one and a half periods never misses two in a row.
#[test]
fn a_slower_beat_misses_one_at_a_time() {
    let mut heartbeat = Heartbeat::new(commitment(2, 2), at(0));
    for second in 1..100_u64 {
        let beats = second * 1000 / 1500;
        assert_eq!(
            heartbeat.look(beats, at(second * 1000)),
            Missed::Nothing,
            "{second}"
        );
    }
}

/// D29, D34: what nobody saw is not held against it.
#[test]
fn marks_that_nobody_looked_at_are_not_missed() {
    let mut heartbeat = Heartbeat::new(commitment(0, 3), at(0));
    assert_eq!(heartbeat.look(0, at(9500)), Missed::Nothing);
    assert_eq!(heartbeat.misses(), 1);
    assert_eq!(
        heartbeat.due(),
        Some(at(10_000)),
        "at multiples of the period as before"
    );
    heartbeat.shift(Duration::from_millis(2500));
    assert_eq!(heartbeat.due(), Some(at(12_500)));
}

/// D20.
#[test]
fn a_disabled_entity_is_counted_and_nothing_is_done() {
    let mut world = World::with(&[]);
    let process = world.process();
    (world
        .ham
        .attach_self("a", process, true, Some(commitment(0, 3)), world.now))
    .unwrap();
    world.condition(
        "a",
        "high",
        Kind::HeartbeatMissedHigh,
        ConditionFlags::REARM,
    );
    world.action(("a", "high"), "tell", log("high"), REARM);
    world.ham.tree.enable_entity("a", false, false).unwrap();
    let mut told = Vec::new();
    for second in 1..=2 {
        told.extend(world.ham.beats("a", 0, at(second * 1000)));
    }
    world.ham.tree.enable_entity("a", true, false).unwrap();
    for second in 3..=4 {
        told.extend(world.ham.beats("a", 0, at(second * 1000)));
    }
    assert_eq!(told, []);
    let effects = world.ham.beats("a", 0, at(5000));
    world.take(effects);
    assert_eq!(world.asked(), ["log high"]);
}

#[test]
fn a_commitment_has_bounds() {
    assert_eq!(
        commitment(5, 5).check(SHORTEST_OF_HAM).unwrap(),
        commitment(5, 5)
    );
    let short = |ns, shortest| {
        let period = Duration::from_nanos(ns);
        Commitment {
            period,
            low: 1,
            high: 1,
        }
        .check(shortest)
    };
    assert_eq!(
        short(999_999_999, SHORTEST_OF_HAM).unwrap_err().errno(),
        "EINVAL"
    );
    assert!(short(1_000_000_000, SHORTEST_OF_HAM).is_ok());
    assert!(short(1_000_000, SHORTEST).is_ok());
    assert_eq!(short(999_999, SHORTEST).unwrap_err().errno(), "EINVAL");
    assert_eq!(
        commitment(6, 5).check(SHORTEST).unwrap_err().errno(),
        "EINVAL"
    );
    // The high mark is switched off.
    assert!(commitment(6, 0).check(SHORTEST).is_ok());
}
