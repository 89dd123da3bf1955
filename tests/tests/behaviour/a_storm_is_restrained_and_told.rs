//! Programs that fail again and again: pauses that grow, an alarm of its own for
//! one that flaps, an end to restarts where one is wanted; and many deaths at once.

use std::collections::BTreeMap;

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{entity, foreground, foreground_entity},
    skip_if, wait,
};
use serde_json::Value;

#[test]
fn one_that_cannot_be_started_backs_off_after_the_ladder() {
    let place = Place::new();
    let name = place.name("broken");
    place.configure(&entity(
        &name,
        &[
            ("command", "[\"/bin/false\"]"),
            ("restarts", "2"),
            (
                "backoff",
                "{ initial = \"300ms\", factor = 4, max = \"1h\", jitter = 0 }",
            ),
        ],
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    // 100 ms before the alarm; then 300 ms, 1.2 s, 4.8 s, 19.2 s.
    let wanted = "next in 19.2s";
    events.after(0, wanted, LONG, |event| {
        event.is(&name, "attempt_failed") && event.text.contains(wanted)
    });
    let pauses: Vec<String> = events
        .all()
        .iter()
        .filter(|event| event.is(&name, "attempt_failed"))
        .filter_map(|event| Some(event.text.split("next in ").nth(1)?.to_owned()))
        .collect();
    let expected = ["100ms", "100ms", "300ms", "1.2s", "4.8s", "19.2s"];
    assert_eq!(pauses, expected);
    let status = daemon.in_stage(&name, "restart_wait");
    assert_eq!(status["alarm"], "major");
    assert_eq!(status["next_action"], "backs off, then starts again");
    assert!(status["next_action_at"].is_string(), "{status:#}");
    // An operator does not wait.
    let mark = events.mark();
    daemon.json(&["start", &name]);
    events.after(mark, "the operator's start", LONG, |event| {
        event.is(&name, "spawned")
    });
    // And the pauses begin with the first again.
    events.after(mark, "the first pause", LONG, |event| {
        event.is(&name, "attempt_failed") && event.text.ends_with("next in 300ms")
    });
}

/// It lives longer than `debounce`, so that each recovery succeeds.
fn short_lived(name: &str, settings: &[(&str, &str)]) -> String {
    let command = foreground(name, &["--lifetime", "1500", "--code", "3"]);
    let mut all = vec![("command", command.as_str())];
    all.extend(settings);
    entity(name, &all)
}

#[test]
fn one_that_dies_after_each_recovery_is_told_to_flap() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("flapping");
    place.configure(&short_lived(
        &name,
        &[(
            "flapping",
            "{ deaths = 3, within = \"1h\", quiet = \"2s\" }",
        )],
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let flapping = events.after(0, "flapping", LONG, |event| event.is(&name, "flapping"));
    assert!(
        flapping.text.contains("failed 3 times within 3600s"),
        "{}",
        flapping.text
    );
    let status = daemon.entity(&name);
    assert!(status["flapping_since"].is_string(), "{status:#}");
    assert_eq!(status["alarm"], Value::Null, "it is not down");
    let because = daemon.json(&["explain", &name])["because"].to_string();
    assert!(because.contains("flapping"), "{because}");
    // Well for so long: over.
    let service = foreground(&name, &[]);
    place.configure(&entity(
        &name,
        &[
            ("command", service.as_str()),
            (
                "flapping",
                "{ deaths = 3, within = \"1h\", quiet = \"2s\" }",
            ),
        ],
    ));
    daemon.json(&["reload"]);
    events.after(0, "the end", LONG, |event| {
        event.is(&name, "flapping_ended")
    });
    assert_eq!(daemon.entity(&name)["flapping_since"], Value::Null);
    assert_eq!(events.count(&name, "flapping"), 1);
    assert_eq!(events.count(&name, "alarm_raised"), 0);
}

#[test]
fn one_that_is_restarted_too_often_rests_until_an_operator_comes() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("tired");
    place.configure(&short_lived(
        &name,
        &[("intensity", "{ restarts = 2, within = \"1h\" }")],
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    // The first start and one restart; the next would be the third.
    let gave_up = events.after(0, "its end", LONG, |event| event.is(&name, "gave_up"));
    assert!(
        gave_up.text.contains("2 restarts within 3600s"),
        "{}",
        gave_up.text
    );
    let status = daemon.entity(&name);
    assert_eq!(status["state"], "failed");
    assert_eq!(status["alarm"], "major");
    assert_eq!(status["restarts"]["auto"], 2);
    let mark = events.mark();
    daemon.json(&["start", &name]);
    events.after(mark, "a successor", LONG, |event| {
        event.is(&name, "recovered")
    });
    // After an operator's start two more are allowed.
    events.after(mark, "its end", LONG, |event| event.is(&name, "gave_up"));
    assert_eq!(daemon.entity(&name)["restarts"]["auto"], 4);
    assert_eq!(daemon.entity(&name)["restarts"]["operator"], 1);
}

#[test]
fn many_that_die_at_once_come_back_by_severity() {
    skip_if!(privilege::no_bpf());
    const EACH: usize = 8;
    let place = Place::new();
    let mut names = Vec::new();
    let mut toml = String::from("[daemon]\nrecovery_budget = { at_once = 1 }\n");
    // The least important first.
    for severity in ["minor", "major", "critical"] {
        for number in 0..EACH {
            let name = place.name(&format!("{severity}-{number}"));
            let quoted = format!("{severity:?}");
            toml += &foreground_entity(&name, &[("severity", &quoted), ("flapping", "\"none\"")]);
            names.push((name, severity));
        }
    }
    place.configure(&toml);
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let victims: Vec<Process> = names
        .iter()
        .map(|(name, _)| Process::open(daemon.up(name)).unwrap())
        .collect();
    let mark = events.mark();
    for victim in &victims {
        victim.kill();
    }
    for (name, _) in &names {
        events.after(mark, "recovered", LONG, |event| event.is(name, "recovered"));
        let pid = daemon.up(name);
        assert_eq!(process::instances(name), [pid], "each once");
    }
    let all = events.all();
    let severity: BTreeMap<&str, &str> = names
        .iter()
        .map(|(name, severity)| (name.as_str(), *severity))
        .collect();
    // Of those who had to wait, nobody overtook a severer one that waited, too.
    let rank = |severity: &str| match severity {
        "critical" => 2,
        "major" => 1,
        _ => 0,
    };
    let mut waiting: BTreeMap<&str, &str> = BTreeMap::new();
    let mut waited = 0;
    for event in all.iter().skip(mark) {
        let Some(name) = event.entity.as_deref() else {
            continue;
        };
        match event.kind.as_str() {
            "delayed" => {
                waiting.insert(name, severity[name]);
            }
            "spawned" if waiting.remove(name).is_some() => {
                waited += 1;
                let passed = waiting
                    .values()
                    .filter(|other| rank(other) > rank(severity[name]))
                    .count();
                // Who comes to ask in the very moment in which a place becomes
                // free may be told of in another order.
                assert!(passed <= 1, "{name} went before {passed} severer ones");
            }
            _ => {}
        }
    }
    println!("{waited} of {} waited", names.len());
    for (name, _) in &names {
        assert_eq!(daemon.entity(name)["restarts"]["auto"], 2, "{name}");
        assert_eq!(daemon.entity(name)["alarm"], Value::Null);
    }
    wait::until("nobody waits", LONG, || {
        let status = daemon.status();
        let entities = status["entities"].as_array()?;
        entities
            .iter()
            .all(|entity| entity["stage"] == "manage")
            .then_some(())
    });
}
