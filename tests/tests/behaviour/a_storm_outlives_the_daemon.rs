//! One that fails again and again gets no fresh start because the daemon has one:
//! attempts, back-off, the limit of restarts and flapping count on.

use std::{fs, thread, time::Duration};

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
                    "{ initial = \"100ms\", factor = 60, max = \"1h\", jitter = 0 }",
                ),
            ],
        );
        let daemon = Daemon::start(&place);
        let events = daemon.events();
        // 100 ms before the alarm; then 100 ms, 6 s, 360 s.
        let paused = |text: &'static str| {
            events.after(0, text, LONG, |event| {
                event.is(&name, "attempt_failed") && event.text.ends_with(text)
            })
        };
        paused("next in 6s");
        let made = starts(&place);
        let due = daemon.in_stage(&name, "restart_wait")["next_action_at"].clone();
        end.of(daemon);
        let daemon = Daemon::start(&place);
        let waits = daemon.in_stage(&name, "restart_wait");
        assert_eq!(waits["next_action_at"], due, "the same pause");
        assert_eq!(waits["next_action"], "backs off, then starts again");
        assert_eq!(starts(&place), made);
        let events = daemon.events();
        events.after(0, "the next pause", LONG, |event| {
            event.is(&name, "attempt_failed") && event.text.ends_with("next in 360s")
        });
        assert_eq!(starts(&place), made + 1);
        end.of(daemon);

        // Minutes are left, and an operator does not wait.
        let daemon = Daemon::start(&place);
        daemon.in_stage(&name, "restart_wait");
        thread::sleep(SETTLED);
        assert_eq!(starts(&place), made + 1);
        daemon.json(&["start", &name]);
        wait::until("the operator's start", LONG, || {
            (starts(&place) > made + 1).then_some(())
        });
        // It begins with the first pause again, and is not punished by the next daemon.
        let events = daemon.events();
        events.after(0, "the first pause", LONG, |event| {
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
        assert_eq!(flapping(&daemon), since);
        // An operator's stop ends it.
        daemon.json(&["stop", &name, "--wait"]);
        assert_eq!(flapping(&daemon), Value::Null);
        end.of(daemon);
        let daemon = Daemon::start(&place);
        daemon.in_stage(&name, "stopped");
        assert_eq!(flapping(&daemon), Value::Null);
    }
}
