//! Whatever the sweep finds that nobody has told is counted by its kind, put
//! right, and explained in the history: what was seen, what was done.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::{self, Place},
    privilege,
    process::{self, Process},
    script::{Lsb, foreground_entity},
    skip_if, wait,
};
use serde_json::Value;

const SWEEPS: &str = "[daemon]\naudit_interval = \"1s\"\n";

/// A pidfile behind a link that can be turned without inotify noticing.
struct Blind {
    // Dropped in this order.
    daemon: Daemon,
    lsb: Lsb,
    place: Place,
}

impl Blind {
    fn new() -> Self {
        let place = Place::new();
        let mut lsb = Lsb::new(&place, &place.name("web"), &[]);
        for directory in ["one", "two"] {
            fs::create_dir(place.path(directory)).unwrap();
        }
        symlink("one", place.path("current")).unwrap();
        lsb.pidfile = place.path("current").join("web.pid");
        place.configure(&format!(
            "[daemon]\naudit_interval = \"3s\"\n{}",
            lsb.entity(&[("restarts", "0")])
        ));
        Self {
            daemon: Daemon::start(&place),
            lsb,
            place,
        }
    }

    fn write(&self, directory: &str, pid: u32) {
        let path = self.place.path(directory).join("web.pid");
        fs::write(path, format!("{pid}\n")).unwrap();
    }

    /// From now on the other directory is the one. A path that has just begun
    /// to be watched is looked at once more; a sweep ends that.
    fn turn(&self) {
        next_sweep(&self.daemon);
        symlink("two", self.place.path("next")).unwrap();
        fs::rename(self.place.path("next"), self.place.path("current")).unwrap();
    }
}

fn instance(name: &str) -> Child {
    Command::new(binary::service())
        .args(["--tag", name])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn next_sweep(daemon: &Daemon) {
    let sweeps = || daemon.status()["audit"]["sweeps"].as_u64().unwrap();
    let before = sweeps();
    wait::until("a sweep", LONG, || (sweeps() > before).then_some(()));
}

fn found(daemon: &Daemon, kind: &str) -> u64 {
    let audit = &daemon.status()["audit"];
    audit["discrepancies"][kind].as_u64().unwrap()
}

/// The explanation of a discrepancy in `pmon history`, waited for.
fn explained(daemon: &Daemon, kind: &str) -> String {
    let told = format!("audit: {kind}: ");
    let explanation = wait::until(kind, LONG, || {
        let history = daemon.json(&["history"]);
        let incidents = history["incidents"].as_array().unwrap().clone();
        let entries = incidents.iter().flat_map(|incident| {
            let timeline = incident["timeline"].as_array();
            timeline.into_iter().flatten()
        });
        let mut texts = entries.filter_map(|entry| entry["text"].as_str());
        texts
            .find(|text| text.starts_with(&told))
            .map(str::to_owned)
    });
    assert!(found(daemon, kind) > 0, "told and not counted");
    let doctor = daemon.ask(&["doctor", "-o", "json"]).stdout;
    assert!(doctor.contains(kind), "{doctor}");
    println!("{explanation}");
    explanation
}

#[test]
fn stale_pidfile() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    place.configure(&format!("{SWEEPS}{}", lsb.entity(&[])));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&lsb.name);
    fs::remove_file(&lsb.pidfile).unwrap();
    let told = explained(&daemon, "stale_pidfile");
    assert!(told.contains(&format!("{pid}@")), "{told}");
    assert!(told.contains("no pidfile"), "{told}");
    // As long as it lasts it is one.
    next_sweep(&daemon);
    next_sweep(&daemon);
    assert_eq!(found(&daemon, "stale_pidfile"), 1);
    assert_eq!(daemon.up(&lsb.name), pid);
    assert_eq!(process::instances(&lsb.name), [pid]);
}

#[test]
fn duplicate() {
    skip_if!(privilege::no_bpf());
    let blind = Blind::new();
    let name = &blind.lsb.name;
    let (first, second) = (instance(name), instance(name));
    blind.write("one", first.id());
    blind.write("two", second.id());
    assert_eq!(blind.daemon.up(name), first.id());
    blind.turn();
    let told = explained(&blind.daemon, "duplicate");
    let old = process::identity(first.id()).unwrap();
    let new = process::identity(second.id()).unwrap();
    let expected = format!("done: {old} unregistered, {old} let go, {new} registered");
    assert!(told.ends_with(&expected), "{told}");
    assert_eq!(blind.daemon.up(name), second.id());
    end(first);
    end(second);
}

#[test]
fn unregistered() {
    skip_if!(privilege::no_bpf());
    let blind = Blind::new();
    let name = &blind.lsb.name;
    blind.daemon.in_stage(name, "ignore");
    blind.daemon.json(&["stop", name, "--wait"]);
    let other = instance(name);
    blind.write("two", other.id());
    blind.turn();
    let told = explained(&blind.daemon, "unregistered");
    let identity = process::identity(other.id()).unwrap();
    let expected =
        format!("nothing is registered, and {identity} was found; done: {identity} registered");
    assert!(told.ends_with(&expected), "{told}");
    assert_eq!(blind.daemon.up(name), other.id());
    end(other);
}

fn bpftool(arguments: &[&str]) -> String {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn map_of(daemon: &Daemon) -> String {
    let pins = daemon.status()["daemon"]["pin_dir"].clone();
    format!("{}/pmon_pids", pins.as_str().unwrap())
}

/// The words of one entry's key and value.
fn words(entry: &Value, part: &str) -> Vec<String> {
    let bytes = entry[part].as_array().unwrap();
    bytes
        .iter()
        .map(|byte| byte.as_str().unwrap().to_owned())
        .collect()
}

fn entries(map: &str) -> Vec<Value> {
    serde_json::from_str(&bpftool(&["-j", "map", "dump", "pinned", map])).unwrap()
}

fn no_bpftool() -> Option<String> {
    privilege::no_program("bpftool")
        .or_else(|| (!place::is_bpffs()).then(|| "needs a bpffs".to_owned()))
}

#[test]
fn orphan_and_altered_registration() {
    skip_if!(privilege::no_bpf());
    skip_if!(no_bpftool());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!("{SWEEPS}{}", foreground_entity(&name, &[])));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    let map = map_of(&daemon);
    let before = entries(&map);
    assert_eq!(before.len(), 1);
    let (key, value) = (words(&before[0], "key"), words(&before[0], "value"));
    // No process has this pid.
    let nobody: Vec<String> = (1_u32 << 30)
        .to_ne_bytes()
        .iter()
        .map(|byte| format!("{byte:#04x}"))
        .collect();
    let update = |key: &[String]| {
        let mut arguments = vec!["map", "update", "pinned", &map, "key"];
        arguments.extend(key.iter().map(String::as_str));
        arguments.push("value");
        arguments.extend(value.iter().map(String::as_str));
        bpftool(&arguments);
    };
    update(&nobody);
    let told = explained(&daemon, "orphan_registration");
    assert!(told.contains("pid 1073741824"), "{told}");
    assert!(told.ends_with("done: the entry removed"), "{told}");

    let mut arguments = vec!["map", "delete", "pinned", &map, "key"];
    arguments.extend(key.iter().map(String::as_str));
    bpftool(&arguments);
    let told = explained(&daemon, "altered_registration");
    assert!(told.ends_with("done: the entry written anew"), "{told}");
    assert_eq!(entries(&map).len(), 1);
    assert_eq!(daemon.up(&name), pid);
}

/// A registration without a pidfd of its own whose entry somebody deletes: no
/// source can tell that the process dies. The sweep finds it, as an altered
/// entry or as a missed exit, whichever it comes upon first.
#[test]
fn missed_exit() {
    skip_if!(privilege::no_bpf());
    skip_if!(no_bpftool());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let name = &lsb.name;
    place.configure(&format!(
        "[daemon]\naudit_interval = \"3s\"\npidfd_budget = 0\n{}",
        lsb.entity(&[])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(name);
    // Time to be without a pidfd, and all of the time until the next sweep.
    thread::sleep(Duration::from_millis(500));
    next_sweep(&daemon);
    let map = map_of(&daemon);
    let entry = entries(&map);
    let key = words(&entry[0], "key");
    let mut arguments = vec!["map", "delete", "pinned", &map, "key"];
    arguments.extend(key.iter().map(String::as_str));
    bpftool(&arguments);
    Process::open(pid).unwrap().kill();
    let died = events.after(0, "its death", LONG, |event| event.is(name, "died"));
    assert_eq!(died.pid, Some(pid));
    events.after(0, "recovered", LONG, |event| event.is(name, "recovered"));
    let told = found(&daemon, "missed_exit") + found(&daemon, "altered_registration");
    assert!(told > 0, "{:#}", daemon.status()["audit"]);
    assert_eq!(events.count(name, "died"), 1);
    assert_eq!(process::instances(name), [daemon.up(name)]);
    assert!(Path::new(&lsb.pidfile).exists());
}
