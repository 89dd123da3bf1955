//! A daemon without any privilege tells how somebody else's child ended, as soon
//! as that can be known and never wrongly; nothing waits for it.

use std::{
    fs,
    os::unix::fs::chown,
    process::{Child, Command, Stdio},
    thread,
};

use pmon_tests::{
    daemon::{self, Daemon, LONG},
    kernel,
    place::Place,
    privilege,
    process::{self, Process},
    script::foreground,
    skip_if, wait,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// `nobody`, whose daemon it is; the processes are root's.
const NOBODY: u32 = 65_534;

/// A daemon of `nobody` that knows pidfds only.
fn unprivileged(place: &Place) -> Daemon {
    for directory in [place.run(), place.state()] {
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = daemon::command_behind(
        &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ],
        place,
    );
    command.args(["--source", "pidfd"]);
    Daemon::launch(place, command)
}

/// Root's shell, a child of this test, which ends as `script` says once told to.
fn waiting(script: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read _; {script}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

fn register(daemon: &Daemon, name: &str, child: &Child, further: &[&str]) {
    let pid = child.id().to_string();
    daemon.json(&[&["register", name, "--pid", &pid], further].concat());
    assert_eq!(daemon.up(name), child.id());
}

/// `exit_code`, `signal` and `cause` of a certificate.
fn how(death: &Value) -> Value {
    json!([death["exit_code"], death["signal"], death["cause"]])
}

fn ends() -> Vec<(&'static str, Value)> {
    vec![
        ("exit 7", json!([7, null, "exit"])),
        // What a false status looks like.
        ("exit 0", json!([0, null, "exit"])),
        ("kill -KILL $$", json!([null, 9, "signal"])),
    ]
}

/// Before Linux 6.15 nobody tells it: then it is unknown, and not a 0.
#[test]
fn when_the_parent_reaps_at_once() {
    skip_if!(privilege::no_root());
    skip_if!(privilege::no_program("setpriv"));
    let can_be_known = privilege::no_exit_info().is_none();
    kernel::fact(
        "without privilege the status is known",
        if can_be_known {
            "when the process is reaped"
        } else {
            "of pmon's own children"
        },
    );
    let place = Place::new();
    let daemon = unprivileged(&place);
    for (number, (script, expected)) in ends().into_iter().enumerate() {
        let name = place.name(&format!("reaped{number}"));
        let mut child = waiting(script);
        register(&daemon, &name, &child, &[]);
        let stdin = child.stdin.take();
        let parent = thread::spawn(move || child.wait().unwrap());
        drop(stdin);
        parent.join().unwrap();
        let expected = if can_be_known {
            expected
        } else {
            daemon.in_stage(&name, "ignore");
            json!([null, null, "unknown"])
        };
        let entity = daemon.entity_when(&name, "its status is known", LONG, |entity| {
            how(&entity["last_death"]) == expected
        });
        assert_eq!(entity["last_death"]["detected_by"], "pidfd");
        assert_eq!(daemon.events().count(&name, "died"), 1);
    }
}

#[test]
fn when_the_parent_reaps_late() {
    skip_if!(privilege::no_root());
    skip_if!(privilege::no_program("setpriv"));
    skip_if!(privilege::no_exit_info());
    let place = Place::new();
    let daemon = unprivileged(&place);
    let events = daemon.events();
    for (number, (script, expected)) in ends().into_iter().enumerate() {
        let name = place.name(&format!("late{number}"));
        let mut child = waiting(script);
        register(&daemon, &name, &child, &[]);
        drop(child.stdin.take());
        let unknown = events.after(0, "its death", LONG, |event| event.is(&name, "died"));
        assert!(unknown.text.contains("cause unknown"), "{unknown:?}");
        // All that is done about it is done without the status.
        daemon.in_stage(&name, "ignore");
        let death = &daemon.entity(&name)["last_death"];
        assert_eq!(how(death), json!([null, null, "unknown"]), "{death:#}");
        let told = daemon.ask(&["history", &name]).stdout;
        assert!(told.contains("died of an unknown cause after "), "{told}");

        child.wait().unwrap();
        let known = events.after(0, "its status", LONG, |event| {
            event.is(&name, "status_known")
        });
        assert_eq!(known.pid, Some(child.id()));
        assert_eq!(known.incident, unknown.incident);
        let death = &daemon.entity(&name)["last_death"];
        assert_eq!(how(death), expected, "{death:#}");
        // The incident was closed long ago, and is completed in the history.
        let death = &daemon.json(&["history", &name])["incidents"][0]["death"];
        assert_eq!(how(death), expected, "{death:#}");
        assert_eq!(events.count(&name, "died"), 1, "a death is told once");
        assert_eq!(events.count(&name, "status_known"), 1);
    }
    // Also in what is kept.
    let kept = fs::read_to_string(place.state().join("incidents.jsonl")).unwrap();
    println!(
        "{} lines kept of {} incidents",
        kept.lines().count(),
        ends().len()
    );
    drop(daemon);
    let daemon = Daemon::start(&place);
    for (number, (_, expected)) in ends().into_iter().enumerate() {
        let name = place.name(&format!("late{number}"));
        let death = &daemon.json(&["history", &name])["incidents"][0]["death"];
        assert_eq!(how(death), expected, "{death:#}");
    }
}

#[test]
fn when_the_parent_never_reaps() {
    skip_if!(privilege::no_root());
    skip_if!(privilege::no_program("setpriv"));
    let place = Place::new();
    let daemon = unprivileged(&place);
    let events = daemon.events();
    let name = place.name("zombie");
    let successor = place.name("successor");
    let mut child = waiting("exit 0");
    let command: Vec<String> = serde_json::from_str(&foreground(&successor, &[])).unwrap();
    let command = format!("exec {}", command.join(" "));
    register(&daemon, &name, &child, &["--restart", &command]);
    drop(child.stdin.take());
    events.after(0, "a successor", LONG, |event| event.is(&name, "successor"));
    // First it is the shell that executes it.
    let pid = wait::until("the successor runs", LONG, || {
        process::instances(&successor).first().copied()
    });
    let death = daemon.entity(&name)["last_death"].clone();
    assert_eq!(how(&death), json!([null, null, "unknown"]), "{death:#}");
    // The successor's parent is the daemon, which reaps: its status is known.
    Process::open(pid).unwrap().signal(Signal::KILL).unwrap();
    wait::until_seen(
        "the successor's death is known",
        LONG,
        || daemon.entity(&name)["last_death"].clone(),
        |death| death["pid"] == pid && how(death) == json!([null, 9, "signal"]),
    );
    let known = events.matching(|event| event.is(&name, "status_known"));
    assert!(
        known.iter().all(|event| event.pid == Some(pid)),
        "{known:?}"
    );
    child.wait().unwrap();
}

/// With the right to, a zombie's status is read, and a 0 is a 0.
#[test]
fn but_with_privilege_a_zombies_is_known_at_once() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    let mut command = daemon::command(&place);
    command.args(["--source", "pidfd"]);
    let daemon = Daemon::launch(&place, command);
    let events = daemon.events();
    for (number, (script, expected)) in ends().into_iter().enumerate() {
        let name = place.name(&format!("zombie{number}"));
        let mut child = waiting(script);
        register(&daemon, &name, &child, &[]);
        drop(child.stdin.take());
        events.after(0, "its death", LONG, |event| event.is(&name, "died"));
        let death = &daemon.entity(&name)["last_death"];
        assert_eq!(how(death), expected, "{death:#}");
        child.wait().unwrap();
    }
}
