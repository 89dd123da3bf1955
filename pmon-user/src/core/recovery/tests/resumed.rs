//! A start that an earlier daemon began.

use super::*;
use crate::core::status::State;

const NOW: Time = Time::from_boot_ns(1_000_000_000_000);

/// Began 10 s before [`NOW`]; clock ticks are hundredths of a second.
const COMMAND: Identity = Identity {
    pid: 77,
    start_time: 99_000,
};

const SUCCESSOR: Identity = Identity {
    pid: 78,
    start_time: 99_900,
};

fn resumed(spec: &EntitySpec) -> Recovery {
    let (mut recovery, effects) = Recovery::new(spec, NOW);
    assert_eq!(effects.len(), 1, "the first look is made all the same");
    assert_eq!(recovery.resume_start(spec, COMMAND, NOW), Some(1));
    assert!(recovery.start_is_at_work());
    recovery
}

fn sees(recovery: &mut Recovery, spec: &EntitySpec, outcome: Outcome, at: Time) -> Vec<Effect> {
    let sighting = Sighting {
        occasion: Occasion::Asked,
        outcome,
        foreign_script: None,
        unit: None,
    };
    recovery.step(spec, Event::Seen(sighting), at)
}

fn nothing() -> Outcome {
    Outcome::Nothing {
        reason: "no pidfile".to_owned(),
    }
}

fn is_start(effects: &[Effect]) -> bool {
    effects.iter().any(|it| matches!(it, Effect::Start { .. }))
}

#[test]
fn nothing_is_started_beside_it_and_what_it_brings_up_is_adopted() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = resumed(&spec);
    let seen = sees(&mut recovery, &spec, nothing(), NOW);
    assert!(seen.is_empty(), "{seen:?}");
    // Past `startuptime` it is at work still.
    let late = NOW + spec.startuptime;
    assert_eq!(recovery.deadline(), Some(late));
    let effects = recovery.step(&spec, Event::Tick, late);
    assert!(effects.is_empty(), "{effects:?}");
    // 30 s after its beginning its time would be over.
    assert_eq!(recovery.deadline(), Some(NOW + Duration::from_secs(20)));
    let end = StartEnd::Untold;
    let effects = recovery.step(&spec, Event::StartEnded { run: 1, end }, late);
    assert!(matches!(effects[..], [Effect::Look { .. }]), "{effects:?}");
    assert!(!recovery.start_is_at_work());
    let effects = sees(&mut recovery, &spec, Outcome::Process(SUCCESSOR), late);
    assert!(effects.contains(&Effect::Register {
        identity: SUCCESSOR
    }));
    assert!(!is_start(&effects));
    assert!(matches!(recovery.stage(), Stage::Monitor { .. }));
    assert_eq!(recovery.starts().external, 0);
}

#[test]
fn one_that_brings_up_nothing_is_a_failed_attempt() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = resumed(&spec);
    let end = StartEnd::Untold;
    // It ended before this daemon began: its process still has time to be seen.
    let effects = recovery.step(&spec, Event::StartEnded { run: 1, end }, NOW);
    assert!(matches!(effects[..], [Effect::Look { .. }]), "{effects:?}");
    assert!(sees(&mut recovery, &spec, nothing(), NOW).is_empty());
    let late = NOW + spec.startuptime;
    let effects = recovery.step(&spec, Event::Tick, late);
    assert!(matches!(effects[..], [Effect::Look { .. }]), "{effects:?}");
    let effects = sees(&mut recovery, &spec, nothing(), late);
    assert!(!is_start(&effects), "{effects:?}");
    let until = late + spec.interval;
    assert_eq!(*recovery.stage(), Stage::RestartWait { until });
}

#[test]
fn a_stop_cancels_it_and_a_hold_waits_for_it() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = resumed(&spec);
    let effects = recovery.step(&spec, request(OperatorAction::Stop), NOW);
    assert!(effects.contains(&Effect::CancelStart), "{effects:?}");
    assert!(!recovery.start_is_at_work());

    let then = AfterHold::Recover;
    let (mut recovery, _) = Recovery::new_held(&spec, NOW, then, None);
    assert_eq!(recovery.resume_start(&spec, COMMAND, NOW), Some(1));
    let effects = recovery.step(&spec, request(OperatorAction::Resume), NOW);
    assert!(!effects.contains(&Effect::CancelStart), "{effects:?}");
    assert!(matches!(recovery.stage(), Stage::MonitorWait { .. }));

    // Whoever was stopped has no start under way.
    let (mut recovery, _) = Recovery::new_stopped(&spec, NOW, None);
    assert_eq!(recovery.resume_start(&spec, COMMAND, NOW), None);
}

#[test]
fn in_status_mode_nobody_is_asked_before_it_has_ended() {
    let spec = EntitySpec {
        mode: Mode::Status,
        status: Some(crate::core::entity::StatusSpec {
            script: "/etc/init.d/probe".into(),
            status_arg: "status".to_owned(),
            start_arg: "start".to_owned(),
            failure_text: None,
            period: Duration::from_secs(30),
            timeout: Duration::from_secs(20),
        }),
        ..spec(Severity::Major, 3)
    };
    let (mut recovery, _) = Recovery::new(&spec, NOW);
    assert_eq!(recovery.resume_start(&spec, COMMAND, NOW), Some(1));
    recovery.resume();
    assert_eq!(recovery.deadline(), None);
    let ended = Event::ScriptEnded {
        run: 1,
        end: StartEnd::Untold,
        failure_text: None,
    };
    let effects = recovery.step(&spec, ended, NOW);
    assert!(!effects.iter().any(|it| matches!(it, Effect::Alarm(_))));
    assert!(!recovery.start_is_at_work());
    assert!(matches!(recovery.status().state(), State::Begin { .. }));
}
