//! Start methods that hang, lie, fail or go astray: each ends in a defined state
//! with a message that says what happened.

use std::{
    fs::{self, File},
    thread,
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::Place,
    privilege, process,
    script::{Lsb, entity, executable, foreground, foreground_entity, quoted},
    skip_if, wait,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};

/// The message of a failed start, in `status` and `explain`, and the entity in
/// its pause between attempts.
fn fails_with(daemon: &Daemon, name: &str, expected: &str) {
    let entity = daemon.in_stage(name, "restart_wait");
    let problem = entity["problem"].as_str().unwrap_or_default();
    println!("{problem}");
    assert!(problem.contains(expected), "`{expected}` in: {entity:#}");
    assert!(entity["next_action_at"].is_string(), "{entity:#}");
    assert_eq!(entity["pid"], serde_json::Value::Null);
    let because = daemon.json(&["explain", name])["because"].to_string();
    assert!(because.contains(expected), "`{expected}` in: {because}");
    let human = daemon.ask(&["status", name]);
    assert_eq!(human.code, Some(3), "{human:?}");
    assert!(process::instances(name).is_empty());
}

/// An entity with a pidfile and this script.
fn scripted(place: &Place, body: &str, settings: &[(&str, &str)]) -> String {
    let name = place.name("web");
    let script = place.path("script");
    executable(&script, &format!("#!/bin/sh\n{body}\n"));
    let (script, pidfile) = (quoted(&script), quoted(&place.path("web.pid")));
    let mut all = vec![
        ("script", script.as_str()),
        ("pidfile", pidfile.as_str()),
        ("interval", "\"60s\""),
    ];
    all.extend(settings);
    place.configure(&entity(&name, &all));
    name
}

#[test]
fn that_fails() {
    let place = Place::new();
    let name = scripted(&place, "echo out of luck >&2; exit 4", &[]);
    let daemon = Daemon::start(&place);
    fails_with(&daemon, &name, "exited with code 4: out of luck");
}

#[test]
fn that_exits_0_without_starting_anything() {
    let place = Place::new();
    let name = scripted(&place, "exit 0", &[]);
    let daemon = Daemon::start(&place);
    fails_with(&daemon, &name, "exited 0, but no process appeared");
}

#[test]
fn that_hangs() {
    let place = Place::new();
    let tag = place.name("hanging");
    let body = format!("{} --tag {tag}", binary::service().display());
    let name = scripted(&place, &body, &[("start_timeout", "\"3s\"")]);
    let daemon = Daemon::start(&place);
    wait::until("it hangs", LONG, || {
        (!process::instances(&tag).is_empty()).then_some(())
    });
    fails_with(&daemon, &name, "hung past its deadline and was killed");
    // With everything it had started.
    wait::until("it is killed", LONG, || {
        process::instances(&tag).is_empty().then_some(())
    });
}

#[test]
fn that_is_ended_by_a_signal() {
    let place = Place::new();
    let name = scripted(&place, "kill -SEGV $$", &[]);
    let daemon = Daemon::start(&place);
    fails_with(&daemon, &name, "was ended by signal 11");
}

#[test]
fn that_cannot_be_executed() {
    let place = Place::new();
    let name = scripted(&place, "exit 0", &[]);
    executable(&place.path("script"), "#!/no/such/interpreter\n");
    let daemon = Daemon::start(&place);
    fails_with(&daemon, &name, "could not be executed");
}

/// `ETXTBSY`: an installer still has the program open for writing. pmon waits
/// for it a little, and says so if that is not enough.
#[test]
fn whose_program_is_being_written() {
    let place = Place::new();
    let name = place.name("busy");
    let program = place.path("program");
    fs::copy(binary::service(), &program).unwrap();
    let writer = File::options().append(true).open(&program).unwrap();
    let command =
        foreground(&name, &[]).replacen(&quoted(&binary::service()), &quoted(&program), 1);
    place.configure(&entity(
        &name,
        &[
            ("command", &command),
            ("interval", "\"1s\""),
            ("startuptime", "\"300ms\""),
            ("restarts", "100"),
        ],
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let failed = events.after(0, "a failure", LONG, |event| {
        event.is(&name, "attempt_failed")
    });
    println!("{}", failed.text);
    assert!(
        failed.text.contains("could not be executed"),
        "{}",
        failed.text
    );
    assert!(
        failed.text.contains("busy") || failed.text.contains("being written"),
        "{}",
        failed.text
    );
    drop(writer);
    let pid = daemon.up(&name);
    assert_eq!(process::instances(&name), [pid]);
}

#[test]
fn whose_program_is_busy_for_a_moment_only() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("busy");
    let program = place.path("program");
    fs::copy(binary::service(), &program).unwrap();
    let command =
        foreground(&name, &[]).replacen(&quoted(&binary::service()), &quoted(&program), 1);
    place.configure(&entity(
        &name,
        &[("command", &command), ("startuptime", "\"2s\"")],
    ));
    let writer = File::options().append(true).open(&program).unwrap();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, &program, inotify::WatchFlags::CLOSE_NOWRITE).unwrap();
    let writer = thread::spawn(move || {
        // execve(2) opens the program, sees that it is busy, and closes it.
        let limit = Timespec::try_from(LONG).unwrap();
        let seen = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&limit));
        drop(writer);
        assert_eq!(seen, Ok(1), "no attempt was made");
    });
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&name);
    writer.join().unwrap();
    assert_eq!(process::instances(&name), [pid]);
    assert_eq!(events.count(&name, "attempt_failed"), 0);
}

/// Daemons that fork once more after writing their pidfile: the pid that counts
/// is the last one.
#[test]
fn that_daemonizes_twice() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("twice"), &["--twice"]);
    place.configure(&lsb.entity(&[("startuptime", "\"1s\"")]));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&lsb.name);
    assert_eq!(lsb.pid(), Some(pid));
    assert_eq!(process::instances(&lsb.name), [pid]);
    assert_eq!(events.count(&lsb.name, "attempt_failed"), 0);
    assert_eq!(events.count(&lsb.name, "spawned"), 1);
    // And it is the one that is watched.
    let mark = events.mark();
    process::Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&lsb.name, "recovered")
    });
    let pid = daemon.up(&lsb.name);
    assert_eq!(process::instances(&lsb.name), [pid]);
}

/// The alarm comes after the configured number of failures, and goes with the
/// recovery.
#[test]
fn until_the_alarm_and_beyond() {
    let place = Place::new();
    let obstacle = place.path("obstacle");
    fs::write(&obstacle, "").unwrap();
    let name = place.name("web");
    let command = format!(
        r#"["/bin/sh", "-c", "test ! -e {} && exec {} --tag {name}"]"#,
        obstacle.display(),
        binary::service().display()
    );
    place.configure(&entity(&name, &[("command", &command), ("restarts", "2")]));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    events.after(0, "the alarm", LONG, |event| {
        event.is(&name, "alarm_raised")
    });
    assert_eq!(daemon.entity(&name)["alarm"], "major");
    let before: Vec<_> = events.all();
    let before = before
        .iter()
        .take_while(|event| !event.is(&name, "alarm_raised"));
    let failures = before
        .filter(|event| event.is(&name, "attempt_failed"))
        .count();
    assert_eq!(failures, 2);
    fs::remove_file(&obstacle).unwrap();
    events.after(0, "the alarm's end", LONG, |event| {
        event.is(&name, "alarm_cleared")
    });
    let _pid = daemon.up(&name);
    assert_eq!(events.count(&name, "alarm_cleared"), 1);
    assert_eq!(daemon.entity(&name)["alarm"], serde_json::Value::Null);
}

/// One entity that cannot be started does not hold up another.
#[test]
fn while_others_are_recovered() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let hanging = scripted(&place, "sleep 1000", &[("start_timeout", "\"1h\"")]);
    let other = place.name("other");
    let toml = fs::read_to_string(place.config()).unwrap();
    place.configure(&(toml + &foreground_entity(&other, &[])));
    let daemon = Daemon::start(&place);
    daemon.in_stage(&hanging, "monitor_wait");
    let pid = daemon.up(&other);
    process::Process::open(pid).unwrap().kill();
    daemon.entity_when(&other, "recovered", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != pid
    });
    assert_eq!(daemon.entity(&hanging)["stage"], "monitor_wait");
    // An operator can still end the attempt.
    daemon.json(&["stop", &hanging, "--wait"]);
    assert_eq!(daemon.entity(&hanging)["state"], "down");
}
