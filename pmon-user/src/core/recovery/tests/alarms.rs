//! What receivers of alarms are told and when, and what of it outlives a daemon
//! and a configuration. Vectors of spec/pmond.md §2.12; times are seconds after
//! the death.

use super::*;
use crate::core::degrade::{DegradeAudit, DegradeMessage};

/// Every change of the alarm, in order.
fn changes(world: &Simulation<'_>) -> Vec<(u64, AlarmChange)> {
    let change = |(at, effect): &(Time, Effect)| match effect {
        Effect::Alarm(change) => Some((at.since(DEATH).as_secs(), *change)),
        _ => None,
    };
    world.log().iter().filter_map(change).collect()
}

/// What a receiver of host states is sent until then, one event per word.
fn host_events(world: &Simulation<'_>, until: u64) -> Vec<(u64, &'static str)> {
    let name = Arc::from("probe");
    let mut audit = DegradeAudit::new(DEATH);
    let mut log = world.log().iter().peekable();
    let mut sent = Vec::new();
    for now in 0..=until {
        while let Some((_, effect)) = log.next_if(|(at, _)| *at <= second(now)) {
            let message = match effect {
                Effect::Say(Notice::FirstFailure) => {
                    sent.push((now, "LOG"));
                    None
                }
                Effect::Alarm(change) => audit.hear(&name, *change),
                _ => None,
            };
            sent.extend(message.map(|message| (now, word(&message))));
        }
        sent.extend(audit.audit(second(now)).map(|m| (now, word(&m))));
    }
    sent
}

fn word(message: &DegradeMessage) -> &'static str {
    match message {
        DegradeMessage::Clear => "CLEAR",
        DegradeMessage::Major(_) => "MAJOR",
        DegradeMessage::Critical(_) => "CRIT",
    }
}

#[test]
fn v2_major_is_raised_once_and_refreshed_until_it_is_cleared() {
    let spec = spec(Severity::Major, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(115));
    world.set_start(works());
    world.run_until(second(200));
    let major = Severity::Major;
    assert_eq!(
        changes(&world),
        [
            (30, AlarmChange::Raise(major)),
            (70, AlarmChange::Refresh(major)),
            (110, AlarmChange::Refresh(major)),
            (145, AlarmChange::Clear),
        ]
    );
    assert_eq!(
        host_events(&world, 160),
        [
            (0, "LOG"),
            (10, "CLEAR"),
            (20, "CLEAR"),
            (30, "MAJOR"),
            (70, "MAJOR"),
            (110, "MAJOR"),
            (150, "CLEAR"),
            (160, "CLEAR"),
        ]
    );
}

#[test]
fn v4_critical_is_sent_at_once_and_at_every_threshold() {
    let spec = spec(Severity::Critical, 3);
    let mut world = healthy(&spec, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(95));
    let critical = Severity::Critical;
    assert_eq!(
        changes(&world),
        [
            (30, AlarmChange::Raise(critical)),
            (60, AlarmChange::Refresh(critical)),
            (90, AlarmChange::Refresh(critical)),
        ]
    );
    assert_eq!(
        host_events(&world, 95),
        [
            (0, "LOG"),
            (10, "CLEAR"),
            (20, "CLEAR"),
            (30, "CRIT"),
            (60, "CRIT"),
            (90, "CRIT"),
        ]
    );
}

#[test]
fn v5_a_critical_one_that_is_left_alone_is_refreshed_by_the_audit() {
    let spec = spec(Severity::Critical, 0);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(95));
    assert_eq!(
        host_events(&world, 95),
        [(0, "CRIT"), (40, "CRIT"), (80, "CRIT")]
    );
}

#[test]
fn v6_minor_is_raised_and_cleared_and_never_refreshed() {
    let spec = spec(Severity::Minor, 0);
    let mut world = healthy(&spec, works());
    world.kill(KILLED);
    world.run_until(second(300));
    world.start_by_hand();
    assert_eq!(
        changes(&world),
        [
            (0, AlarmChange::Raise(Severity::Minor)),
            (300, AlarmChange::Clear)
        ]
    );
}

/// An entity that a daemon finds at [`DEATH`], with what an earlier one left.
struct Found {
    spec: EntitySpec,
    recovery: Recovery,
    first: Vec<Effect>,
}

fn found(spec: EntitySpec, raised: Severity, quorum: Quorum) -> Found {
    let (mut recovery, _) = Recovery::new(&spec, DEATH);
    let earlier = Time::from_boot_ns(1);
    let first = recovery.resume_alarm(&spec, Some((raised, earlier)), quorum, DEATH);
    Found {
        spec,
        recovery,
        first,
    }
}

impl Found {
    /// The first look shows this.
    fn looks(self, process: Option<Identity>, start: StartBehaviour) -> Vec<(u64, String)> {
        let Self {
            spec,
            recovery,
            first,
        } = self;
        assert_eq!(first, [], "nothing is told before it is known how it is");
        let mut world = Simulation::of(&spec, recovery, DEATH, start);
        world.happen(Event::Seen(Sighting {
            occasion: Occasion::Asked,
            outcome: process.map_or(
                Outcome::Nothing {
                    reason: "no pidfile".to_owned(),
                },
                Outcome::Process,
            ),
            foreign_script: None,
            unit: None,
        }));
        world.run_until(second(45));
        let told = |(at, effect): &(Time, Effect)| {
            let what = match effect {
                Effect::Alarm(AlarmChange::Raise(severity)) => format!("raise {severity}"),
                Effect::Alarm(AlarmChange::Refresh(severity)) => format!("refresh {severity}"),
                Effect::Alarm(AlarmChange::Clear) => "clear".to_owned(),
                Effect::Say(Notice::FirstFailure) => "log".to_owned(),
                Effect::Say(Notice::QuorumFailure) => "strike".to_owned(),
                Effect::Say(Notice::QuorumUnrecoverable) => "unrecoverable".to_owned(),
                Effect::Say(Notice::QuorumCleared) => "forgiven".to_owned(),
                _ => return None,
            };
            Some((at.since(DEATH).as_secs(), what))
        };
        world.log().iter().filter_map(told).collect()
    }
}

fn at(seconds: u64, what: &str) -> (u64, String) {
    (seconds, what.to_owned())
}

#[test]
fn who_is_found_failed_keeps_its_alarm_without_a_second_raise() {
    let found = found(spec(Severity::Major, 3), Severity::Major, Quorum::Sound);
    assert_eq!(
        found.looks(None, StartBehaviour::Fails(1)),
        [at(0, "refresh major"), at(40, "refresh major")],
        "nor a second LOG"
    );
    for severity in [Severity::Minor, Severity::Major, Severity::Critical] {
        let found = found_without_restarts(severity);
        assert_eq!(
            found.looks(None, works())[0],
            at(0, &format!("refresh {severity}"))
        );
    }
}

fn found_without_restarts(severity: Severity) -> Found {
    found(spec(severity, 0), severity, Quorum::Sound)
}

#[test]
fn who_is_found_alive_has_its_alarm_cleared() {
    let member = EntitySpec {
        quorum: true,
        ..spec(Severity::Major, 3)
    };
    let recovers = found(member, Severity::Major, Quorum::Failure);
    assert_eq!(
        recovers.looks(Some(FIRST), works()),
        [at(20, "clear"), at(20, "forgiven")],
        "after `debounce`"
    );
    let left_alone = found_without_restarts(Severity::Major);
    assert_eq!(left_alone.looks(Some(FIRST), works()), [at(0, "clear")]);
}

#[test]
fn strikes_outlive_the_daemon() {
    let member = EntitySpec {
        quorum: true,
        ..spec(Severity::Major, 3)
    };
    let found = found(member, Severity::Major, Quorum::Failure);
    assert_eq!(
        found.looks(None, StartBehaviour::Fails(1)),
        [
            at(0, "refresh major"),
            at(30, "unrecoverable"),
            at(40, "refresh major")
        ]
    );
}

#[test]
fn another_severity_in_the_configuration_is_raised_anew_once_it_is_known_to_last() {
    let found = found(spec(Severity::Critical, 3), Severity::Minor, Quorum::Sound);
    assert_eq!(
        found.looks(None, StartBehaviour::Fails(1))[0],
        at(0, "raise critical")
    );
}

#[test]
fn who_is_not_monitored_any_more_has_its_alarm_cleared_at_once() {
    let ignored = EntitySpec {
        mode: Mode::Ignore,
        ..spec(Severity::Major, 3)
    };
    let found = found(ignored, Severity::Major, Quorum::Failure);
    assert_eq!(
        found.first,
        [
            Effect::Alarm(AlarmChange::Clear),
            Effect::Say(Notice::AlarmCleared),
            Effect::Say(Notice::QuorumCleared),
        ]
    );
    assert_eq!(found.recovery.alarm(), None);
}

#[test]
fn a_new_configuration_raises_at_the_new_severity_and_keeps_the_time() {
    let before = EntitySpec {
        quorum: true,
        ..spec(Severity::Major, 1)
    };
    let mut world = healthy(&before, StartBehaviour::Fails(1));
    world.kill(KILLED);
    world.run_until(second(15));
    let mut recovery = world.recovery().clone();
    assert_eq!(recovery.alarm_since(), Some(second(10)));
    assert_eq!(recovery.reconfigured(&before, second(15)), []);
    let after = spec(Severity::Critical, 1);
    assert_eq!(
        recovery.reconfigured(&after, second(15)),
        [
            Effect::Alarm(AlarmChange::Raise(Severity::Critical)),
            Effect::Say(Notice::AlarmRaised(Severity::Critical)),
            Effect::Say(Notice::QuorumCleared),
        ]
    );
    assert_eq!(recovery.alarm_since(), Some(second(10)));
    assert_eq!(
        recovery.dismissed(&after, second(16)),
        [
            Effect::Alarm(AlarmChange::Clear),
            Effect::Say(Notice::AlarmCleared),
        ]
    );
    assert_eq!(recovery.dismissed(&after, second(17)), []);
}
