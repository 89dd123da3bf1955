//! Somebody else starts a service that has no pidfile, at whatever moment pmon does
//! not start it: it is found by the execution of its program, registered, and counted
//! as somebody else's. No sweep has a hand in it. And a process that executes another
//! program is still the same one.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    events::Events,
    place::Place,
    privilege,
    process::{self, Process},
    script::{self, foreground_entity, quoted},
    skip_if,
};

const NO_SWEEP: &str = "[daemon]\naudit_interval = \"1h\"\n";

struct Scene {
    // Dropped in this order.
    events: Events,
    daemon: Daemon,
    name: String,
    _place: Place,
}

impl Scene {
    /// A service that is up, and of which is known what it is like.
    fn new(settings: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let name = place.name("web");
        place.configure(&format!("{NO_SWEEP}{}", foreground_entity(&name, settings)));
        let daemon = Daemon::start(&place);
        let events = daemon.events();
        // Without restarts pmon does not start it by itself.
        let asked = daemon.ask(&["start", &name]);
        assert_eq!(asked.code, Some(0), "{asked:?}");
        let _pid = daemon.up(&name);
        events.after(0, "it is counted", LONG, |event| {
            event.is(&name, "one_instance")
        });
        Self {
            events,
            daemon,
            name,
            _place: place,
        }
    }

    /// Somebody starts it, and it is adopted.
    fn is_adopted(&self) -> Child {
        let mark = self.events.mark();
        // Start times are told in hundredths of a second.
        thread::sleep(Duration::from_millis(100));
        let child = Command::new(binary::service())
            .args(["--tag", &self.name])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let registered = self.events.after(mark, "registered", LONG, |event| {
            event.is(&self.name, "registered")
        });
        assert_eq!(registered.pid, Some(child.id()));
        assert_eq!(process::instances(&self.name), [child.id()]);
        let entity = self.daemon.entity(&self.name);
        assert_eq!(entity["restarts"]["external"], 1, "{entity:#}");
        assert_eq!(
            self.events.count(&self.name, "spawned"),
            1,
            "the first start"
        );
        assert_eq!(
            self.daemon.status()["audit"]["discrepancies"]["unregistered"],
            0
        );
        child
    }

    fn end(self, mut child: Child) {
        self.daemon.json(&["hold", &self.name]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn after_an_operators_stop() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[]);
    scene.daemon.json(&["stop", &scene.name, "--wait"]);
    let child = scene.is_adopted();
    assert_eq!(scene.daemon.up(&scene.name), child.id());
    scene.end(child);
}

#[test]
fn when_pmon_has_given_up() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[("restarts", "0")]);
    Process::open(scene.daemon.up(&scene.name)).unwrap().kill();
    scene.daemon.in_stage(&scene.name, "ignore");
    let child = scene.is_adopted();
    assert_eq!(scene.daemon.up(&scene.name), child.id());
    assert_eq!(
        scene.daemon.entity(&scene.name)["alarm"],
        serde_json::Value::Null
    );
    scene.end(child);
}

#[test]
fn while_it_is_held() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new(&[]);
    scene.daemon.json(&["hold", &scene.name]);
    let mark = scene.events.mark();
    Process::open(scene.daemon.entity(&scene.name)["pid"].as_u64().unwrap() as u32)
        .unwrap()
        .kill();
    scene.events.after(mark, "its death", LONG, |event| {
        event.is(&scene.name, "died")
    });
    let child = scene.is_adopted();
    assert_eq!(scene.daemon.entity(&scene.name)["pid"], child.id());
    scene.end(child);
}

#[test]
fn and_who_executes_another_program_stays_who_it_is() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    let path = place.path("web.script");
    let go = place.path("go");
    script::executable(
        &path,
        &format!(
            "#!/bin/sh\nwhile ! [ -e '{}' ]; do sleep 0.05; done\nexec '{}' --tag {name}\n",
            go.display(),
            binary::service().display()
        ),
    );
    place.configure(&format!(
        "{NO_SWEEP}{}",
        script::entity(&name, &[("command", &format!("[{}]", quoted(&path)))])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&name);
    assert_eq!(process::instances(&name), [0; 0], "it is a shell yet");
    fs::write(&go, "").unwrap();
    pmon_tests::wait::until("it executes the service", LONG, || {
        (process::instances(&name) == [pid]).then_some(())
    });
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    let died = events.after(mark, "its death", LONG, |event| event.is(&name, "died"));
    assert_eq!(died.pid, Some(pid));
    let before = events.all();
    let kinds = before[..mark].iter().filter(|event| {
        event.is(&name, "died") || event.is(&name, "pid_changed") || event.is(&name, "audit")
    });
    assert_eq!(kinds.count(), 0, "{before:#?}");
    events.after(mark, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });
    assert_eq!(daemon.entity(&name)["restarts"]["external"], 0);
}
