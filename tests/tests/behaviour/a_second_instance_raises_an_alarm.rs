//! After every recovery one instance is verified; a second one raises an alarm of
//! its own, which names it, and goes when it goes. Workers and what runs in
//! other namespaces are no instances.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, foreground_entity},
    skip_if, wait,
};

/// Short sweeps: each counts.
const SWEEPS: &str = "[daemon]\naudit_interval = \"1s\"\n";

fn by_hand(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn no_duplicates(entity: &serde_json::Value) -> bool {
    entity["duplicates"].as_array().unwrap().is_empty()
}

/// How often one instance was verified; two more mean a whole sweep between.
fn verified(daemon: &Daemon) -> u64 {
    daemon.status()["audit"]["one_instance"].as_u64().unwrap()
}

#[test]
fn started_by_hand_with_the_same_words() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!("{SWEEPS}{}", foreground_entity(&name, &[])));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let main = daemon.up(&name);

    let second = by_hand(Command::new(binary::service()).args(["--tag", &name]));
    let raised = events.after(0, "the alarm", LONG, |event| {
        event.is(&name, "duplicate_instance")
    });
    assert_eq!(raised.pid, Some(main));
    let pid = second.id();
    assert!(raised.text.contains(&format!("`kill {pid}`")), "{raised:?}");
    let entity = daemon.entity(&name);
    let expected = serde_json::json!([process::identity(pid).unwrap()]);
    assert_eq!(entity["duplicates"], expected, "{entity:#}");
    assert_eq!(entity["state"], "up");
    assert_eq!(entity["pid"], main, "nothing is done to either");
    assert!(entity["problem"].as_str().unwrap().contains("minor alarm"));
    assert_eq!(process::instances(&name).len(), 2);

    end(second);
    events.after(0, "the alarm is cleared", LONG, |event| {
        event.is(&name, "duplicate_cleared") && event.pid == Some(main)
    });
    daemon.entity_when(&name, "none is told", LONG, no_duplicates);

    // And after a recovery there is one.
    let mark = events.mark();
    Process::open(main).unwrap().kill();
    let one = events.after(mark, "one instance", LONG, |event| {
        event.is(&name, "one_instance")
    });
    assert_eq!(one.pid, Some(daemon.up(&name)));
    assert_eq!(events.count(&name, "duplicate_instance"), 1);
}

/// The pidfile was given to another one while the first lived on.
#[test]
fn when_the_one_before_lives_on() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let name = &lsb.name;
    place.configure(&format!("{SWEEPS}{}", lsb.entity(&[])));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let old = daemon.up(name);
    let other = by_hand(Command::new(binary::service()).args(["--tag", name, "--code", "0"]));
    let beside = place.path("pidfile.new");
    fs::write(&beside, format!("{}\n", other.id())).unwrap();
    fs::rename(&beside, &lsb.pidfile).unwrap();
    let raised = events.after(0, "the alarm", LONG, |event| {
        event.is(name, "duplicate_instance")
    });
    assert_eq!(raised.pid, Some(other.id()));
    assert!(raised.text.contains(&format!("`kill {old}`")), "{raised:?}");
    Process::open(old).unwrap().kill();
    events.after(0, "the alarm is cleared", LONG, |event| {
        event.is(name, "duplicate_cleared")
    });
    assert_eq!(daemon.up(name), other.id());
    assert_eq!(daemon.entity(name)["deaths_1h"], 0, "it was let go before");
    end(other);
}

/// A process with the same words is none: in another pid namespace, or with
/// another program.
#[test]
fn but_not_what_only_looks_like_one() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("unshare"));
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!("{SWEEPS}{}", foreground_entity(&name, &[])));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let main = daemon.up(&name);
    let copy = place.path("pmon-test-service");
    fs::copy(binary::service(), &copy).unwrap();
    let another_program = by_hand(Command::new(&copy).args(["--tag", &name]));
    let contained = by_hand(
        Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child"])
            .arg(binary::service())
            .args(["--tag", &name]),
    );
    wait::until("all run", LONG, || {
        // `unshare` itself mentions the tag, too.
        (process::instances(&name).len() == 4).then_some(())
    });
    let mark = verified(&daemon);
    // Enough for a suspicion and its confirmation.
    wait::until("eight more counts", LONG, || {
        (verified(&daemon) >= mark + 8).then_some(())
    });
    assert!(no_duplicates(&daemon.entity(&name)));
    assert_eq!(events.count(&name, "duplicate_instance"), 0);
    assert_eq!(daemon.up(&name), main);
    end(contained);
    end(another_program);
}

#[test]
fn and_a_stop_by_an_operator_clears_it() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!("{SWEEPS}{}", foreground_entity(&name, &[])));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let _main = daemon.up(&name);
    let second = by_hand(Command::new(binary::service()).args(["--tag", &name]));
    events.after(0, "the alarm", LONG, |event| {
        event.is(&name, "duplicate_instance")
    });
    daemon.json(&["stop", &name, "--wait"]);
    events.after(0, "the alarm is cleared", LONG, |event| {
        event.is(&name, "duplicate_cleared")
    });
    assert_eq!(process::instances(&name), [second.id()], "it is not pmon's");
    end(second);
}
