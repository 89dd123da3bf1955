//! Processes that go into the background and end, while somebody else's script
//! starts the service.

use super::*;

const LAUNCHER: Identity = Identity {
    pid: 900,
    start_time: 9,
};
const DAEMON: Identity = Identity {
    pid: 901,
    start_time: 10,
};

fn at(ms: u64) -> Time {
    DEATH + Duration::from_millis(ms)
}

/// After a death, with a script that was found at work.
fn waiting(spec: &EntitySpec) -> Recovery {
    let world = healthy(spec, works());
    let died = Event::Died(world.death(FIRST, KILLED));
    let mut recovery = world.recovery().clone();
    recovery.step(spec, died, DEATH);
    asked(&mut recovery, spec, nothing(), Some(55), at(0));
    assert_eq!(recovery.stage().as_str(), "waiting");
    recovery
}

fn nothing() -> Outcome {
    Outcome::Nothing {
        reason: "no pidfile".to_owned(),
    }
}

fn look(
    recovery: &mut Recovery,
    spec: &EntitySpec,
    occasion: Occasion,
    (outcome, foreign_script): (Outcome, Option<u32>),
    now: Time,
) -> Vec<Effect> {
    let sighting = Sighting {
        occasion,
        outcome,
        foreign_script,
        unit: None,
    };
    recovery.step(spec, Event::Seen(sighting), now)
}

fn asked(
    recovery: &mut Recovery,
    spec: &EntitySpec,
    outcome: Outcome,
    script: Option<u32>,
    now: Time,
) -> Vec<Effect> {
    look(recovery, spec, Occasion::Asked, (outcome, script), now)
}

fn registers(effects: &[Effect], identity: Identity) -> bool {
    effects.contains(&Effect::Register { identity })
}

#[test]
fn who_is_gone_when_the_script_has_ended_was_never_the_daemon() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = waiting(&spec);
    for occasion in [Occasion::PidfileStirred, Occasion::PidfileChanged] {
        let seen = (Outcome::Process(LAUNCHER), None);
        let effects = look(&mut recovery, &spec, occasion, seen, at(5));
        assert!(!registers(&effects, LAUNCHER), "{effects:?}");
    }
    assert_eq!(recovery.deadline(), Some(at(25)));
    let seen = (Outcome::Process(DAEMON), None);
    let effects = look(&mut recovery, &spec, Occasion::PidfileChanged, seen, at(9));
    assert!(!registers(&effects, DAEMON), "{effects:?}");
    // The script has ended.
    let effects = asked(&mut recovery, &spec, Outcome::Process(DAEMON), None, at(29));
    assert!(registers(&effects, DAEMON), "{effects:?}");
    assert_eq!(recovery.starts().external, 1);
}

#[test]
fn who_lives_on_is_taken_although_the_script_goes_on() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = waiting(&spec);
    let seen = || Outcome::Process(DAEMON);
    let mut taken = None;
    for ms in (10..200).step_by(20) {
        let effects = asked(&mut recovery, &spec, seen(), Some(55), at(ms));
        if registers(&effects, DAEMON) {
            taken = Some(ms);
            break;
        }
        assert_eq!(recovery.deadline(), Some(at(ms + 20)));
    }
    assert_eq!(taken, Some(90));
}

#[test]
fn nobody_is_started_beside_one_that_came_before_its_launcher_was_gone() {
    let spec = spec(Severity::Major, 3);
    let mut recovery = waiting(&spec);
    let seen = (Outcome::Process(LAUNCHER), None);
    look(&mut recovery, &spec, Occasion::PidfileChanged, seen, at(5));
    // Its pidfile is empty for a moment.
    let effects = asked(&mut recovery, &spec, nothing(), Some(55), at(25));
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Start { .. }))
    );
    let effects = asked(&mut recovery, &spec, nothing(), None, at(225));
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Start { .. }))
    );
    let effects = asked(
        &mut recovery,
        &spec,
        Outcome::Process(DAEMON),
        None,
        at(425),
    );
    assert!(registers(&effects, DAEMON), "{effects:?}");
}
