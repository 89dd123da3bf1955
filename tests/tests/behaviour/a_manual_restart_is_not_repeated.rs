//! Somebody restarts the service by hand, at whatever moment: pmon adopts the
//! new process, counts it, and starts nothing of its own beside or after it.

use std::{fs, thread, time::Duration};

use pmon_tests::{
    daemon::{Daemon, LONG},
    events::Events,
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, executable},
    skip_if, wait,
};

/// Long enough for a needless start to show.
const SETTLED: Duration = Duration::from_millis(800);

/// A service whose start can be made to fail or to take its time.
struct Scene {
    // Dropped in this order.
    events: Events,
    daemon: Daemon,
    lsb: Lsb,
    unknown: Lsb,
    _place: Place,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let lsb = Lsb::new(&place, &place.name("web"), &[]);
        // A way to start it that pmon does not know, and cannot see at work.
        let unknown = Lsb {
            script: place.path("unknown"),
            ..lsb.clone()
        };
        executable(&unknown.script, &fs::read_to_string(&lsb.script).unwrap());
        let mut all = vec![("restarts", "5")];
        all.extend(settings);
        place.configure(&lsb.entity(&all));
        // Some of these pmon would not start itself.
        lsb.by_hand("start");
        let daemon = Daemon::start(&place);
        let events = daemon.events();
        let scene = Self {
            _place: place,
            lsb,
            unknown,
            daemon,
            events,
        };
        let _pid = scene.daemon.up(scene.name());
        scene
    }

    fn name(&self) -> &str {
        &self.lsb.name
    }

    /// Gives pmon another script.
    fn rewrite(&self, body: &str) {
        executable(&self.lsb.script, &format!("#!/bin/sh\n{body}\n"));
    }

    fn kill(&self) {
        Process::open(self.daemon.up(self.name())).unwrap().kill();
    }

    fn external(&self) -> u64 {
        let entity = self.daemon.entity(self.name());
        entity["restarts"]["external"].as_u64().unwrap()
    }

    /// After `by_hand`, the one instance is the one that the pidfile names, it
    /// was counted as somebody else's, and nothing was started by pmon.
    fn is_adopted_after(&self, by_hand: impl FnOnce()) {
        let counted = self.external();
        let mark = self.events.mark();
        by_hand();
        let pid = self.lsb.pid().unwrap();
        self.daemon
            .entity_when(self.name(), "adopted", LONG, |entity| {
                entity["state"] == "up" && entity["pid"] == pid && entity["registered"] == true
            });
        thread::sleep(SETTLED);
        assert_eq!(self.daemon.up(self.name()), pid);
        assert_eq!(process::instances(self.name()), [pid]);
        assert_eq!(self.external(), counted + 1);
        let spawned = self.events.all();
        let spawned = spawned
            .iter()
            .skip(mark)
            .filter(|event| event.is(self.name(), "spawned") || event.is(self.name(), "signalled"));
        let lines: Vec<_> = spawned.map(pmon_tests::events::line).collect();
        assert!(lines.is_empty(), "pmon acted: {lines:#?}");
        assert_eq!(
            self.daemon.entity(self.name())["alarm"],
            serde_json::Value::Null
        );
    }

    fn restart(&self) {
        self.lsb.by_hand("restart");
    }

    /// Waits until pmon's own start attempt fails.
    fn fails(&self) {
        self.rewrite("exit 1");
        self.kill();
    }
}

#[test]
fn of_a_healthy_service() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[]);
    for _ in 0..3 {
        scene.is_adopted_after(|| scene.restart());
    }
}

#[test]
fn of_a_healthy_service_at_the_original_clock() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    place.pmon_d_file("web", lsb.pmon_d(1, 1, 1));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let name = lsb.name.clone();
    let _pid = daemon.up(&name);
    let scene = Scene {
        _place: place,
        unknown: lsb.clone(),
        lsb,
        daemon,
        events,
    };
    scene.is_adopted_after(|| scene.restart());
    assert_eq!(
        scene.daemon.entity(&name)["restarts"]["auto"],
        1,
        "the first start"
    );
}

/// An operator's own way: no script at work while the process is down.
#[test]
fn by_kill_and_start_while_pmon_looks() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[]);
    let old = Process::open(scene.daemon.up(scene.name())).unwrap();
    // `restart` by hand before the death can have been dealt with: whoever is
    // first, there is one instance in the end.
    old.kill();
    scene.lsb.by_hand("restart");
    thread::sleep(SETTLED);
    let pid = scene.daemon.up(scene.name());
    assert_eq!(process::instances(scene.name()), [pid]);
    assert_eq!(scene.lsb.pid(), Some(pid));
}

#[test]
fn while_the_scripts_stop_is_followed_by_a_slow_start() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[]);
    let script = scene.unknown.script.display();
    scene.rewrite(&format!("{script} stop; sleep 1; {script} start"));
    scene.is_adopted_after(|| scene.restart());
    assert_eq!(scene.events.count(scene.name(), "waiting"), 1);
}

#[test]
fn while_pmon_waits_for_its_own_start() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[("startuptime", "\"5s\"")]);
    let script = scene.unknown.script.display().to_string();
    // pmon's own start command takes its time, and then finds it running.
    scene.rewrite(&format!("sleep 4; exec {script} start"));
    scene.kill();
    scene.daemon.in_stage(scene.name(), "monitor_wait");
    scene.unknown.by_hand("restart");
    let pid = scene.lsb.pid().unwrap();
    scene
        .daemon
        .entity_when(scene.name(), "adopted", LONG, |entity| {
            entity["state"] == "up" && entity["pid"] == pid
        });
    thread::sleep(SETTLED);
    assert_eq!(process::instances(scene.name()), [pid]);
    assert_eq!(scene.daemon.entity(scene.name())["restarts"]["auto"], 1);
}

#[test]
fn while_a_successor_is_monitored() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[("debounce", "\"5s\"")]);
    scene.kill();
    scene.daemon.in_stage(scene.name(), "monitor");
    scene.is_adopted_after(|| scene.restart());
}

#[test]
fn while_pmon_pauses_between_attempts() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[("interval", "\"60s\"")]);
    scene.fails();
    scene.daemon.in_stage(scene.name(), "restart_wait");
    scene.is_adopted_after(|| scene.unknown.by_hand("start"));
    assert_eq!(scene.events.count(scene.name(), "recovered"), 1);
}

#[test]
fn after_pmon_gave_up() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[("restarts", "0")]);
    scene.kill();
    let entity = scene.daemon.in_stage(scene.name(), "ignore");
    assert_eq!(entity["state"], "failed");
    assert_eq!(entity["alarm"], "major");
    scene.is_adopted_after(|| scene.unknown.by_hand("start"));
}

#[test]
fn after_an_operators_stop() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[]);
    scene.daemon.json(&["stop", scene.name(), "--wait"]);
    assert!(process::instances(scene.name()).is_empty());
    scene.is_adopted_after(|| scene.unknown.by_hand("start"));
}

/// While pmon ends the process for an operator's restart, somebody else starts
/// another one: that is the successor.
#[test]
fn while_pmon_ends_the_process() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    // The first one takes SIGTERM calmly.
    let stubborn = Lsb::new(&place, &name, &["--ignore-term"]);
    place.configure(&stubborn.entity(&[("stop", "{ signal = \"TERM\", timeout = \"5s\" }")]));
    let daemon = Daemon::start(&place);
    let old = daemon.up(&name);
    let _same_script = Lsb::new(&place, &name, &[]);
    daemon.json(&["restart", &name]);
    daemon.in_stage(&name, "stopping");
    wait::until("pmon removed the pidfile", LONG, || {
        stubborn.pid().is_none().then_some(())
    });
    stubborn.by_hand("start");
    let new = stubborn.pid().unwrap();
    daemon.entity_when(&name, "adopted", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] == new && entity["registered"] == true
    });
    thread::sleep(SETTLED);
    assert_ne!(new, old);
    assert_eq!(process::instances(&name), [new]);
}
