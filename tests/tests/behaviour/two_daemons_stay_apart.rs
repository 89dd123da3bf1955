//! Daemons with directories of their own do not notice each other; where two
//! would share a directory, the second one says so, and has the pins when the
//! first one is gone.

use std::{path::Path, process::Stdio};

use pmon_tests::{
    daemon::{self, Daemon, LONG, answer, source},
    pins,
    place::{Place, is_bpffs},
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if, wait,
};

#[test]
fn side_by_side() {
    skip_if!(privilege::no_bpf());
    let (one, two) = (Place::new(), Place::new());
    let (web, db) = (one.name("web"), two.name("db"));
    one.configure(&foreground_entity(&web, &[]));
    two.configure(&foreground_entity(&db, &[]));
    let (first, second) = (Daemon::start(&one), Daemon::start(&two));
    let (first_events, second_events) = (first.events(), second.events());
    let (pid, other) = (first.up(&web), second.up(&db));

    // The same process with two daemons: each reports its death once.
    let shared = one.name("shared");
    let mut child = std::process::Command::new(pmon_tests::binary::service())
        .args(["--tag", &shared])
        .spawn()
        .unwrap();
    for daemon in [&first, &second] {
        daemon.json(&["register", &shared, "--pid", &child.id().to_string()]);
        assert_eq!(daemon.up(&shared), child.id());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for events in [&first_events, &second_events] {
        events.after(0, "died", LONG, |event| event.is(&shared, "died"));
    }

    let mark = first_events.mark();
    Process::open(pid).unwrap().kill();
    first_events.after(mark, "recovered", LONG, |event| event.is(&web, "recovered"));
    assert_eq!(second.up(&db), other);
    assert_eq!(second_events.count(&web, "died"), 0);
    assert_eq!(second_events.count(&shared, "died"), 1);

    // The end of one leaves the other's kernel side alone.
    assert!(first.terminate().success());
    assert!(!one.pins().exists());
    let mark = second_events.mark();
    Process::open(other).unwrap().kill();
    second_events.after(mark, "recovered", LONG, |event| event.is(&db, "recovered"));
    assert_eq!(second.entity(&db)["last_death"]["detected_by"], "ebpf");
}

#[test]
fn a_second_one_on_the_same_run_directory_is_refused() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let refused = answer(daemon::command(&place).stdin(Stdio::null()));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains(&format!("pid {}", daemon.pid())),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains(&*place.run().to_string_lossy()),
        "{refused:?}"
    );
    assert!(daemon.is_running());
    let _still_answers = daemon.status();
}

#[test]
fn a_second_one_on_the_same_pin_directory_goes_unpinned() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let (one, two) = (Place::new(), Place::new());
    let name = two.name("web");
    two.configure(&foreground_entity(&name, &[]));
    let first = Daemon::start(&one);
    let second = Daemon::launch(&two, daemon::command_with_pins(&two, one.pins()));

    let status = second.status();
    assert_eq!(status["daemon"]["pin_dir"], serde_json::Value::Null);
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("in use by another daemon"), "{degraded}");
    assert!(
        degraded.contains(&*one.pins().to_string_lossy()),
        "{degraded}"
    );
    let ebpf = source(&status, "ebpf");
    assert_ne!(ebpf["state"], "off", "{ebpf:#}");
    let events = second.events();
    let pid = second.up(&name);
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });
    assert_eq!(second.entity(&name)["last_death"]["detected_by"], "ebpf");

    // The second one's end leaves the first one's pins.
    assert!(second.terminate().success());
    let pins = first.status()["daemon"]["pin_dir"].clone();
    let pins = Path::new(pins.as_str().unwrap());
    assert!(pins.join("pmon_pids").exists());
    assert_eq!(process::instances(&name).len(), 1, "left alone");
}

/// The second one's pins outlive it: they are really its own.
fn takes_the_pins_over(end: impl FnOnce(Daemon)) {
    let (one, two) = (Place::new(), Place::new());
    let name = two.name("web");
    let settings = "[daemon]\naudit_interval = \"1s\"\n";
    two.configure(&format!("{settings}{}", foreground_entity(&name, &[])));
    let first = Daemon::start(&one);
    let start = || Daemon::launch(&two, daemon::command_with_pins(&two, one.pins()));
    let second = start();
    let pid = second.up(&name);
    let degraded = second.status()["degraded"].to_string();
    assert!(degraded.contains("in use by another daemon"), "{degraded}");
    end(first);
    wait::until_seen(
        "nothing is amiss any more",
        LONG,
        || second.status(),
        |status| status["degraded"] == serde_json::json!([]),
    );
    let directory = pins::directory(&second);
    assert!(directory.starts_with(one.pins()), "{directory:?}");
    second.source_when("ebpf", "healthy");

    let identity = process::identity(pid).unwrap();
    second.kill();
    let process = Process::open(pid).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    let second = start();
    let _successor = second.up(&name);
    let told = pins::deaths(&second, &name);
    let told: Vec<_> = told.iter().filter(|(who, _)| *who == identity).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.is_some(), "with the kernel's time");
    assert!(second.terminate().success());
    assert!(!one.pins().exists());
}

#[test]
fn the_second_one_has_the_pins_when_the_first_one_ended() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    takes_the_pins_over(|first| assert!(first.terminate().success()));
}

#[test]
fn the_second_one_has_the_pins_when_the_first_one_was_killed() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    takes_the_pins_over(Daemon::kill);
}
