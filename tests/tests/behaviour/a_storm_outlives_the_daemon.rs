//! One that fails again and again gets no fresh start because the daemon has one:
//! attempts, back-off, the limit of restarts and flapping count on.

use std::{fs, thread, time::Duration};

use jiff::Timestamp;
use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::Process,
    script::{entity, foreground_entity},
    skip_if, wait,
};
use serde_json::Value;

/// Long enough for a needless start to show.
const SETTLED: Duration = Duration::from_millis(800);

#[derive(Clone, Copy)]
enum End {
    Term,
    Kill,
}

const ENDS: [End; 2] = [End::Term, End::Kill];

impl End {
    fn of(self, daemon: Daemon) {
        match self {
            Self::Term => assert!(daemon.terminate().success()),
            Self::Kill => daemon.kill(),
        }
    }
}

/// A program that notes each of its starts, and fails.
fn failing(place: &Place, name: &str, settings: &[(&str, &str)]) {
    let command = format!(
        r#"["/bin/sh", "-c", "echo >>{}; exit 1"]"#,
        place.path("starts").display()
    );
    let mut all = vec![("command", command.as_str())];
    all.extend(settings);
    place.configure(&entity(name, &all));
}

fn moment(at: &Value) -> Timestamp {
    at.as_str().unwrap().parse().unwrap()
}

/// Seconds until the next action.
fn left(entity: &Value) -> i64 {
    let due = moment(&entity["next_action_at"]);
    due.duration_since(Timestamp::now()).as_secs()
}

/// The host's clock may have been corrected a little in between.
fn assert_same(one: Timestamp, other: Timestamp) {
    let apart = one.duration_since(other).abs();
    assert!(apart.as_millis() < 1000, "{one} and {other}");
}

fn starts(place: &Place) -> usize {
    let starts = fs::read_to_string(place.path("starts")).unwrap_or_default();
    starts.lines().count()
}

#[test]
fn so_that_a_pause_goes_on_and_the_next_one_is_longer() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        let place = Place::new();
        let name = place.name("broken");
        failing(
            &place,
            &name,
            &[
                ("restarts", "1"),
                (
                    "backoff",
                    "{ initial = \"100ms\", factor = 100, max = \"1h\", jitter = 0 }",
                ),
            ],
        );
        let daemon = Daemon::start(&place);
        let events = daemon.events();
        // 100 ms before the alarm; then 100 ms, 10 s, 1000 s.
        events.after(0, "the second pause", LONG, |event| {
            event.is(&name, "attempt_failed") && event.text.ends_with("next in 10s")
        });
        let made = starts(&place);
        end.of(daemon);
        let daemon = Daemon::start(&place);
        let what = "one more attempt, and a long pause";
        let waits = daemon.entity_when(&name, what, LONG, |entity| {
            entity["stage"] == "restart_wait" && left(entity) > 500
        });
        assert_eq!(starts(&place), made + 1, "{waits:#}");
        let due = moment(&waits["next_action_at"]);
        end.of(daemon);

        // It goes on.
        let daemon = Daemon::start(&place);
        let waits = daemon.in_stage(&name, "restart_wait");
        assert_same(moment(&waits["next_action_at"]), due);
        assert_eq!(waits["next_action"], "backs off, then starts again");
        assert_eq!(waits["alarm"], "major", "{waits:#}");
        thread::sleep(SETTLED);
        assert_eq!(starts(&place), made + 1);
        // An operator does not wait, and the pauses begin with the first again.
        let events = daemon.events();
        let mark = events.mark();
        daemon.json(&["start", &name]);
        events.after(mark, "the first pause", LONG, |event| {
            event.is(&name, "attempt_failed") && event.text.ends_with("next in 100ms")
        });
    }
}

#[test]
fn so_that_a_limit_of_restarts_is_one() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        let place = Place::new();
        let name = place.name("limited");
        failing(
            &place,
            &name,
            &[
                ("restarts", "100"),
                ("intensity", "{ restarts = 3, within = \"1h\" }"),
            ],
        );
        let daemon = Daemon::start(&place);
        daemon.in_stage(&name, "ignore");
        assert_eq!(starts(&place), 3);
        end.of(daemon);
        for _ in 0..2 {
            let daemon = Daemon::start(&place);
            let given_up = daemon.in_stage(&name, "ignore");
            assert_eq!(given_up["alarm"], "major", "{given_up:#}");
            thread::sleep(SETTLED);
            assert_eq!(starts(&place), 3);
            end.of(daemon);
        }
        let daemon = Daemon::start(&place);
        daemon.in_stage(&name, "ignore");
        daemon.json(&["start", &name]);
        wait::until("an operator's start and three more", LONG, || {
            (starts(&place) == 7).then_some(())
        });
    }
}

#[test]
fn so_that_falls_before_and_after_add_up_to_flapping() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        let place = Place::new();
        let name = place.name("flaps");
        place.configure(&foreground_entity(
            &name,
            &[(
                "flapping",
                "{ deaths = 4, within = \"1h\", quiet = \"1h\" }",
            )],
        ));
        let fall = |daemon: &Daemon| {
            let pid = daemon.up(&name);
            Process::open(pid).unwrap().kill();
            daemon.entity_when(&name, "a successor is up", LONG, |entity| {
                entity["state"] == "up" && entity["pid"] != pid && entity["registered"] == true
            });
        };
        let daemon = Daemon::start(&place);
        fall(&daemon);
        fall(&daemon);
        end.of(daemon);
        let daemon = Daemon::start(&place);
        fall(&daemon);
        assert_eq!(daemon.entity(&name)["flapping_since"], Value::Null);
        fall(&daemon);
        let flapping = |daemon: &Daemon| daemon.entity(&name)["flapping_since"].clone();
        let since = flapping(&daemon);
        assert!(since.is_string(), "{since}");
        end.of(daemon);
        let daemon = Daemon::start(&place);
        let _pid = daemon.up(&name);
        assert_same(moment(&flapping(&daemon)), moment(&since));
        // An operator's stop ends it.
        daemon.json(&["stop", &name, "--wait"]);
        assert_eq!(flapping(&daemon), Value::Null);
        end.of(daemon);
        let daemon = Daemon::start(&place);
        daemon.in_stage(&name, "stopped");
        assert_eq!(flapping(&daemon), Value::Null);
    }
}
