//! Processes that die around their registration: between the pidfile and the
//! look, between the look and the kernel table, or before anybody looked. Each
//! attempt ends as a defined failure, and no process is reported twice.

use std::{collections::BTreeMap, process::Command, thread, time::Duration};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    events::Events,
    place::Place,
    privilege,
    script::{Lsb, entity, foreground},
    skip_if, wait,
};

const LIVES: usize = 200;

/// No pid has two deaths, a death has a registration or a successor before it,
/// and each attempt has exactly one end.
fn is_consistent(events: &Events, name: &str) {
    let mut deaths: BTreeMap<u32, usize> = BTreeMap::new();
    for death in events.matching(|event| event.is(name, "died")) {
        *deaths.entry(death.pid.unwrap()).or_default() += 1;
        assert!(
            death.text.contains("exit code 7") || death.text.contains("cause unknown"),
            "{}",
            death.text
        );
    }
    let twice: Vec<_> = deaths.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "reported more than once: {twice:?}");
    let known = events.count(name, "successor") + events.count(name, "pid_changed");
    assert!(
        deaths.len() <= known,
        "{} deaths of {known} processes",
        deaths.len()
    );
    // Both of one moment: it goes on meanwhile.
    let all = events.all();
    let count = |kind| all.iter().filter(|event| event.is(name, kind)).count();
    let (begun, failed) = (count("spawned"), count("attempt_failed"));
    assert!(
        begun == failed || begun == failed + 1,
        "{begun} attempts, {failed} failures"
    );
    assert_eq!(events.count(name, "recovered"), 0);
}

fn runs(name: &str, place: &Place, toml: &str) {
    place.configure(toml);
    let daemon = Daemon::start(place);
    let events = daemon.events();
    wait::until("enough attempts", 3 * LONG, || {
        (events.count(name, "spawned") > LIVES).then_some(())
    });
    is_consistent(&events, name);
    let status = daemon.status();
    println!(
        "{} attempts, {} deaths reported, {} failures; {}",
        events.count(name, "spawned"),
        events.count(name, "died"),
        events.count(name, "attempt_failed"),
        status["audit"]["discrepancies"],
    );
    let problem = events.matching(|event| event.is(name, "attempt_failed"));
    println!("as in: {}", problem.last().unwrap().text);
}

const TIMES: [(&str, &str); 4] = [
    ("startuptime", "\"20ms\""),
    // Nothing that lives so briefly is ever called recovered.
    ("debounce", "\"2s\""),
    ("interval", "\"1ms\""),
    ("restarts", "1000"),
];

#[test]
fn of_a_foreground_process_that_exits_at_once() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("brief");
    let command = foreground(&name, &["--lifetime", "0", "--code", "7"]);
    let mut settings = vec![("command", command.as_str())];
    settings.extend(TIMES);
    runs(&name, &place, &entity(&name, &settings));
}

#[test]
fn of_a_daemon_that_exits_after_writing_its_pidfile() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("brief"), &["--lifetime 3 --code 7"]);
    runs(&lsb.name, &place, &lsb.entity(&TIMES));
}

/// The pid is registered by an operator while its process is dying.
#[test]
fn of_a_process_registered_by_pid() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = Daemon::start(&place);
    /// Around the milliseconds that the client takes on a fast machine, on a busy
    /// one, and far beyond.
    const LIFETIMES_MS: [u64; 12] = [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 100, 1500];
    let events = daemon.events();
    let (mut refused, mut died) = (0, 0);
    for life in 0..5 * LIFETIMES_MS.len() {
        let name = place.name(&format!("brief{life}"));
        let lifetime = LIFETIMES_MS[life % LIFETIMES_MS.len()].to_string();
        let mut child = Command::new(binary::service())
            .args(["--tag", &name, "--lifetime", &lifetime, "--code", "7"])
            .spawn()
            .unwrap();
        let reaper = thread::spawn({
            let delay = Duration::from_millis(life as u64 % 3 * 4);
            move || {
                // A dead process stays a zombie for a while.
                thread::sleep(delay);
                child.wait().unwrap();
                child.id()
            }
        });
        let answer = {
            let child = wait::until("the child", LONG, || {
                pmon_tests::process::instances(&name)
                    .first()
                    .copied()
                    .map(Some)
                    .or_else(|| reaper.is_finished().then_some(None))
            });
            let Some(child) = child else {
                reaper.join().unwrap();
                continue;
            };
            daemon.ask(&["register", &name, "--pid", &child.to_string()])
        };
        let child = reaper.join().unwrap();
        if answer.code == Some(0) {
            // Accepted, so its death is told: once.
            let ended = events.after(0, "its end", LONG, |event| {
                event.is(&name, "died") || event.is(&name, "missing")
            });
            if ended.kind == "died" {
                assert_eq!(ended.pid, Some(child));
                died += 1;
            }
            assert!(events.count(&name, "died") <= 1);
            assert_eq!(daemon.in_stage(&name, "ignore")["state"], "failed");
        } else {
            assert_eq!(answer.code, Some(2), "{answer:?}");
            assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
            refused += 1;
        }
    }
    println!("{died} deaths after registration, {refused} refused");
    assert!(died > 0);
}
