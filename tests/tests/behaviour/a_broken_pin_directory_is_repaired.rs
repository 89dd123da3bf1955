//! Somebody has been at the pins: what is missing is pinned again, what is in the
//! way is set aside, and both are said. On a bpffs that is read-only the daemon
//! says so, goes on, and pins when it can.

use std::{fs, path::Path, process::Command};

use pmon_tests::{
    daemon::{self, Daemon, LONG, source},
    pins,
    place::{Place, is_bpffs},
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if, wait,
};

/// One entity, and pins that are looked at often.
fn configure(place: &Place) -> String {
    let name = place.name("web");
    let entity = foreground_entity(&name, &[]);
    place.configure(&format!("[daemon]\naudit_interval = \"1s\"\n{entity}"));
    name
}

/// The number of pins is that of maps and programs, each of ours.
fn is_complete(daemon: &Daemon) -> bool {
    let view = daemon.json(&["bpf", "show", "--seconds", "0"]);
    let count = |what: &str| view[what].as_array().unwrap().len();
    count("pins") == count("maps") + count("programs")
}

/// A death is still told by the kernel program, and made good.
fn works(daemon: &Daemon, name: &str) {
    let pid = daemon.up(name);
    let identity = process::identity(pid).unwrap();
    Process::open(pid).unwrap().kill();
    daemon.entity_when(name, "it is up again", LONG, |entity| {
        entity["state"] == "up" && entity["registered"] == true && entity["pid"] != pid
    });
    assert_eq!(daemon.entity(name)["last_death"]["detected_by"], "ebpf");
    let told = pins::deaths(daemon, name);
    assert_eq!(told.iter().filter(|(who, _)| *who == identity).count(), 1);
}

#[test]
fn at_the_start() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let name = configure(&place);
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    let directory = pins::directory(&daemon);
    daemon.kill();
    // One is missing, one is somebody else's map, one is a directory, and there
    // are things that nobody knows.
    fs::remove_file(directory.join("pmon_events")).unwrap();
    fs::remove_file(directory.join("pmon_stats")).unwrap();
    pins::create(&directory.join("pmon_stats"), "array", 8, 4, "foreign");
    fs::remove_file(directory.join("pmon_exit")).unwrap();
    fs::create_dir(directory.join("pmon_exit")).unwrap();
    pins::create(&directory.join("strange"), "array", 8, 4, "strange");

    let daemon = Daemon::start(&place);
    assert_eq!(daemon.up(&name), pid);
    assert!(
        is_complete(&daemon),
        "{:#}",
        daemon.json(&["bpf", "show", "--seconds", "0"])
    );
    let log = daemon.log();
    for what in ["pmon_events", "pmon_stats", "pmon_exit", "strange"] {
        let said = log
            .lines()
            .any(|line| line.contains("pins repaired") && line.contains(what));
        assert!(said, "{what}");
    }
    daemon.source_when("ebpf", "healthy");
    // Not thrown away: it is somebody's.
    let aside = fs::read_dir(place.pins()).unwrap().flatten();
    let aside = aside.filter(|it| it.file_name().to_string_lossy().starts_with("aside_"));
    assert_eq!(aside.count(), 3);
    works(&daemon, &name);
    assert!(daemon.terminate().success());
    for left in fs::read_dir(place.pins()).unwrap().flatten() {
        let path = left.path();
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
    }
}

#[test]
fn while_it_runs() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let name = configure(&place);
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&name);
    let directory = pins::directory(&daemon);
    for pin in fs::read_dir(&directory).unwrap() {
        fs::remove_file(pin.unwrap().path()).unwrap();
    }
    wait::until("everything is pinned again", LONG, || {
        is_complete(&daemon).then_some(())
    });
    fs::remove_file(directory.join("pmon_pids")).unwrap();
    fs::create_dir(directory.join("pmon_pids")).unwrap();
    wait::until("the table is pinned again", LONG, || {
        directory.join("pmon_pids").is_file().then_some(())
    });
    assert!(daemon.log().contains("pins repaired"));
    // These pins do their job.
    let pid = daemon.up(&name);
    let identity = process::identity(pid).unwrap();
    daemon.kill();
    let process = Process::open(pid).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    let daemon = Daemon::start(&place);
    let _successor = daemon.up(&name);
    let told = pins::deaths(&daemon, &name);
    assert_eq!(told.iter().filter(|(who, _)| *who == identity).count(), 1);
    works(&daemon, &name);
}

/// A bpffs of one's own.
struct Bpffs<'a>(&'a Path);

impl Bpffs<'_> {
    fn mount(&self, options: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-t", "bpf", "-o", options, "bpf"]).arg(self.0);
        mount.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Bpffs<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

#[test]
fn when_the_file_system_can_be_written_again() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = configure(&place);
    let mount_point = place.path("bpffs");
    fs::create_dir(&mount_point).unwrap();
    let bpffs = Bpffs(&mount_point);
    skip_if!((!bpffs.mount("rw")).then_some("needs the right to mount a bpffs"));
    let base = mount_point.join("pmon");
    let start = || Daemon::launch(&place, daemon::command_with_pins(&place, &base));
    let unpinned = |daemon: &Daemon| {
        let degraded = daemon.status()["degraded"].to_string();
        degraded.contains("not pinned")
    };

    let daemon = start();
    let pid = daemon.up(&name);
    assert!(!unpinned(&daemon));
    assert!(bpffs.mount("remount,ro"));
    wait::until("it says that it cannot pin", LONG, || {
        unpinned(&daemon).then_some(())
    });
    let degraded = daemon.status()["degraded"].to_string();
    assert!(degraded.contains("read-only"), "{degraded}");
    assert_eq!(source(&daemon.status(), "ebpf")["state"], "degraded");

    // Killed meanwhile, its programs go on, and the next one reads what they wrote.
    let identity = process::identity(pid).unwrap();
    daemon.kill();
    let process = Process::open(pid).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    let daemon = start();
    let _successor = daemon.up(&name);
    let told = pins::deaths(&daemon, &name);
    let told: Vec<_> = told.iter().filter(|(who, _)| *who == identity).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.is_some(), "with the kernel's time");
    assert!(unpinned(&daemon));

    assert!(bpffs.mount("remount,rw"));
    wait::until("it pins again", LONG, || {
        (!unpinned(&daemon) && is_complete(&daemon)).then_some(())
    });
    works(&daemon, &name);
    assert!(daemon.terminate().success());
    assert!(!base.exists());
}

/// What is pinned there can neither be used nor replaced: the source starts anew
/// with maps that are not pinned, and pins them when it can.
#[test]
fn when_its_frozen_map_is_on_a_read_only_file_system() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!(
        "[daemon]\naudit_interval = \"1s\"\ncanary_interval = \"1s\"\n{}",
        foreground_entity(&name, &[])
    ));
    let mount_point = place.path("bpffs");
    fs::create_dir(&mount_point).unwrap();
    let bpffs = Bpffs(&mount_point);
    skip_if!((!bpffs.mount("rw")).then_some("needs the right to mount a bpffs"));
    let base = mount_point.join("pmon");
    let daemon = Daemon::launch(&place, daemon::command_with_pins(&place, &base));
    let events = daemon.events();
    let pid = daemon.up(&name);
    let identity = process::identity(pid).unwrap();
    let maps = |daemon: &Daemon| daemon.json(&["bpf", "show", "--seconds", "0"])["maps"].clone();
    let before = maps(&daemon)[0]["id"].clone();
    let mark = events.mark();
    assert!(bpffs.mount("remount,ro"));
    let freeze = Command::new("bpftool")
        .args(["map", "freeze", "id", &before.to_string()])
        .status();
    assert!(freeze.unwrap().success());
    events.after(mark, "it is told", LONG, |event| {
        event.kind == "source_failed" && event.text.contains("ebpf")
    });
    events.after(mark, "it works again", LONG, |event| {
        event.kind == "source_recovered" && event.text.contains("ebpf")
    });
    let fresh = maps(&daemon)[0]["id"].clone();
    assert_ne!(before, fresh);
    let degraded = daemon.status()["degraded"].to_string();
    assert!(degraded.contains("not pinned"), "{degraded}");
    assert!(degraded.contains("read-only"), "{degraded}");
    // What was registered is, and its death is told by the new programs.
    assert_eq!(daemon.up(&name), pid);
    works(&daemon, &name);
    let refused = daemon.ask(&["bpf", "log", "on"]);
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.stderr.contains("read-only"), "{refused:?}");

    assert!(bpffs.mount("remount,rw"));
    wait::until("it pins again", LONG, || {
        let is_well = daemon.status()["degraded"] == serde_json::json!([]);
        (is_well && is_complete(&daemon)).then_some(())
    });
    assert_eq!(maps(&daemon)[0]["id"], fresh);
    works(&daemon, &name);
    let told = pins::deaths(&daemon, &name);
    assert_eq!(told.iter().filter(|(who, _)| *who == identity).count(), 1);
    assert!(daemon.terminate().success());
    assert!(!base.exists());
}
