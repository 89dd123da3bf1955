//! Status mode: a script is asked every so often and told to start what is not
//! well; failures are counted, told and cleared as pmond does (spec/pmond.md §5),
//! and nothing that the script or its files do can hang pmon or mislead it.

use std::{fs, os::unix::fs::symlink, path::PathBuf, thread, time::Duration};

use pmon_tests::{
    binary,
    daemon::{Answer, Daemon, LONG},
    events::Event,
    place::Place,
    process::{self, Process},
    script, wait,
};
use serde_json::Value;

/// Long enough for a needless start to show.
const SETTLED: Duration = Duration::from_millis(1500);

/// A service whose script knows whether it is well.
struct World {
    place: Place,
    name: String,
    script: PathBuf,
}

impl World {
    /// With a script that notes how it is called, says that all is well while there
    /// is a file `good`, and does `also` first.
    fn new(also: &str) -> Self {
        let place = Place::new();
        let name = place.name("asked");
        let script = place.path(&format!("{name}.script"));
        let world = Self {
            place,
            name,
            script,
        };
        world.behave(also);
        world
    }

    /// The script does `also` from now on.
    fn behave(&self, also: &str) {
        let directory = self.place.path("");
        let directory = directory.to_str().unwrap().trim_end_matches('/');
        let text = format!(
            "#!/bin/sh\necho \"$#:$1\" >>DIR/calls\n{also}\n\
             case \"$1\" in\n'status of probe') [ -e DIR/good ] ;;\n\
             'start of probe') [ -e DIR/good ] || [ -e DIR/starts ] ;;\n*) exit 9 ;;\nesac\n"
        );
        script::executable(&self.script, &text.replace("DIR", directory));
    }

    /// A native configuration, all of it in one line: TOML of `status`, and others.
    fn configure(&self, status: &str, settings: &[(&str, &str)]) {
        let script = script::quoted(&self.script);
        let table = format!(
            "{{ script = {script}, start_arg = \"start of probe\", \
             status_arg = \"status of probe\", {status} }}"
        );
        let mut all = vec![("mode", "\"status\""), ("status", table.as_str())];
        all.extend(settings);
        self.place.configure(&script::entity(&self.name, &all));
    }

    fn touch(&self, file: &str) {
        fs::write(self.place.path(file), "").unwrap();
    }

    /// How often the script was called like this.
    fn calls(&self, call: &str) -> usize {
        let calls = fs::read_to_string(self.place.path("calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == call).count()
    }

    fn state(&self, daemon: &Daemon, state: &str) -> Value {
        let what = format!("it is {state}");
        daemon.entity_when(&self.name, &what, LONG, |entity| entity["state"] == state)
    }
}

const STATUS: &str = "1:status of probe";
const START: &str = "1:start of probe";

fn kinds_of<'a>(events: &'a [Event], name: &str) -> Vec<&'a str> {
    let of = events
        .iter()
        .filter(|event| event.entity.as_deref() == Some(name));
    of.map(|event| event.kind.as_str()).collect()
}

fn refused(answer: &Answer) -> bool {
    answer.code.is_some_and(|code| code != 0)
}

/// V14 with a period of a second: LOG at the first failure, the alarm at the
/// fourth, cleared by the first good status. And S7: the text that the alarm was
/// raised with is told as long as it is raised.
#[test]
fn and_v14_counts_its_failures() {
    let world = World::new("");
    world.touch("starts");
    let text = world.place.path("why");
    fs::write(&text, "no quorum\nsecond line\n").unwrap();
    world.place.pmon_d_file(
        "asked.conf",
        format!(
            "[process]\nprocess = {}\nscript = {}\nstyle = lsb\nseverity = major\nrestarts = 3\n\
             interval = 1\nmode = status\nperiod = 1\ntimeout = 60\nstart_arg = start of probe\n\
             status_arg = status of probe\nstatus_failure_text = {}\n",
            world.name,
            world.script.display(),
            text.display()
        ),
    );
    let daemon = Daemon::start(&world.place);
    let events = daemon.events();
    let name = world.name.as_str();
    let of = |kind: &'static str| move |event: &Event| event.is(name, kind);
    events.after(0, "the alarm", LONG, of("alarm_raised"));
    let all = events.all();
    let mut kinds = kinds_of(&all, name);
    // Without privileges there is no cgroup of its own, which is told once.
    kinds.retain(|kind| *kind != "trouble");
    let until_alarm: Vec<&str> = kinds
        .iter()
        .copied()
        .take_while(|kind| *kind != "alarm_raised")
        .collect();
    let one = ["status_bad", "spawned"];
    let expected = [&one[..], &["first_failure"], &one, &one, &one].concat();
    assert_eq!(until_alarm, expected);

    let entity = daemon.entity_when(name, "it has its alarm", LONG, |entity| {
        entity["alarm"] == "major"
    });
    assert_eq!(entity["mode"], "status");
    assert_eq!(entity["state"], "recovering");
    assert_eq!(entity["pid"], Value::Null);
    assert_eq!(entity["script"]["alarm_text"], "no quorum");
    // Whatever the file says later.
    fs::remove_file(&text).unwrap();
    let bad = number(&entity["script"], "bad");
    let entity = daemon.entity_when(name, "it was asked again", LONG, |entity| {
        number(&entity["script"], "bad") > bad
    });
    assert_eq!(entity["script"]["alarm_text"], "no quorum");

    let mark = events.mark();
    world.touch("good");
    events.after(mark, "the good status", LONG, of("status_good"));
    let entity = world.state(&daemon, "up");
    assert_eq!(entity["alarm"], Value::Null);
    assert_eq!(entity["script"]["last_status"]["good"], true);
    assert_eq!(events.count(name, "alarm_raised"), 1);
    assert_eq!(events.count(name, "alarm_cleared"), 1);
    assert_eq!(events.count(name, "first_failure"), 1);
    let history = daemon.json(&["history", name]);
    assert_eq!(history["incidents"][0]["result"], "recovered");

    // One argument, blanks and all.
    let calls = fs::read_to_string(world.place.path("calls")).unwrap();
    let mut lines = calls.lines();
    assert!(lines.all(|line| line == STATUS || line == START), "{calls}");
    assert!(world.calls(START) >= 4);
}

fn number(view: &Value, key: &str) -> u64 {
    view[key].as_u64().unwrap_or(0)
}

#[test]
fn and_past_its_deadline_killed_with_its_whole_group_and_nothing_else() {
    let world = World::new(
        "[ -e DIR/good ] || { (trap '' TERM INT HUP; echo $(exec sh -c 'echo $PPID') >DIR/pid.new\n\
         mv DIR/pid.new DIR/pid; while :; do sleep 1000; done) & wait; }",
    );
    let pidfile = world.place.path("probe.pid");
    fs::write(&pidfile, "1\n").unwrap();
    world.configure(
        r#"period = "100ms", timeout = "3s""#,
        &[("pidfile", &script::quoted(&pidfile))],
    );
    let daemon = Daemon::start(&world.place);
    let stubborn = wait::until("the sleeper", LONG, || {
        let pid = fs::read_to_string(world.place.path("pid")).ok()?;
        Process::open(pid.trim().parse().ok()?).ok()
    });
    assert!(stubborn.ends_within(LONG), "the group is killed");
    let entity = daemon.entity_when(&world.name, "it has hung", LONG, |entity| {
        let end = entity["script"]["last_status"]["end"].as_str();
        end.is_some_and(|end| end.contains("deadline"))
    });
    assert_eq!(entity["state"], "recovering");
    // The original deletes it. And whoever is named in it is nobody's business.
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), "1\n");
    assert_eq!(entity["pid"], Value::Null);
    world.touch("good");
    world.state(&daemon, "up");
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), "1\n");
}

#[test]
fn and_its_failure_text_is_no_way_to_other_files() {
    let world = World::new("");
    let secret = world.place.path("secret");
    fs::write(&secret, "sesame\n").unwrap();
    let text = world.place.path("why");
    symlink(&secret, &text).unwrap();
    let status = format!(
        r#"period = "100ms", timeout = "60s", failure_text = {}"#,
        script::quoted(&text)
    );
    world.configure(&status, &[("restarts", "0")]);
    let daemon = Daemon::start(&world.place);
    let events = daemon.events();
    events.after(0, "the alarm", LONG, |event| {
        event.is(&world.name, "alarm_raised")
    });
    let told = events.after(0, "why there is no text", LONG, |event| {
        event.is(&world.name, "trouble") && event.text.contains("symbolic link")
    });
    assert!(told.text.contains("why"), "{told:?}");
    let entity = daemon.entity(&world.name);
    assert_eq!(entity["alarm"], "major");
    assert_eq!(entity["script"]["alarm_text"], Value::Null);
    assert!(!daemon.log().contains("sesame"));

    // A FIFO that nobody writes hangs nobody: the next alarm comes as well.
    world.touch("good");
    world.state(&daemon, "up");
    fs::remove_file(&text).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&text).status();
    assert!(made.unwrap().success());
    let mark = events.mark();
    fs::remove_file(world.place.path("good")).unwrap();
    events.after(mark, "the next alarm", LONG, |event| {
        event.is(&world.name, "alarm_raised")
    });
    events.after(mark, "what it is", LONG, |event| {
        event.is(&world.name, "trouble") && event.text.contains("FIFO")
    });
}

#[test]
fn and_what_it_starts_outlives_the_daemon() {
    for kill in [false, true] {
        let world = World::new("");
        let tag = &world.name;
        let pidfile = world.place.path("service.pid");
        let running = format!(
            "if [ \"$1\" = 'start of probe' ]; then {} --tag {tag} --pidfile '{}' --background \
             >/dev/null 2>&1; touch DIR/good; fi",
            binary::service().display(),
            pidfile.display(),
        );
        world.behave(&running);
        world.configure(r#"period = "300ms", timeout = "60s""#, &[]);
        let daemon = Daemon::start(&world.place);
        world.state(&daemon, "up");
        let instances = process::instances(tag);
        assert_eq!(instances.len(), 1);
        if kill {
            daemon.kill();
        } else {
            assert!(daemon.terminate().success());
        }
        let daemon = Daemon::start(&world.place);
        world.state(&daemon, "up");
        thread::sleep(SETTLED);
        assert_eq!(process::instances(tag), instances, "killed: {kill}");
        assert_eq!(world.calls(START), 1);
    }
}

#[test]
fn and_at_once_by_a_daemon_that_goes_on_with_a_failure() {
    let world = World::new("");
    world.touch("starts");
    world.configure(r#"period = "1h", timeout = "60s""#, &[]);
    let daemon = Daemon::start(&world.place);
    let entity = daemon.entity(&world.name);
    assert_eq!(entity["state"], "unknown", "nobody has asked yet");
    assert_eq!(entity["stage"], "begin");
    assert_eq!(world.calls(STATUS), 0);
    // An operator does not have to wait for an hour.
    let answer = daemon.ask(&["start", &world.name]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    daemon.entity_when(&world.name, "it was started", LONG, |entity| {
        entity["state"] == "recovering" && entity["stage"] == "begin"
    });
    assert_eq!((world.calls(STATUS), world.calls(START)), (1, 1));
    wait::until("the incident is on disk", LONG, || {
        let open = daemon.json(&["history", &world.name]);
        (open["incidents"][0]["result"] == "open").then_some(())
    });
    assert!(daemon.terminate().success());
    world.touch("good");
    let daemon = Daemon::start(&world.place);
    world.state(&daemon, "up");
    assert_eq!(world.calls(START), 1);
}

#[test]
fn and_operators_may_start_and_not_stop_what_has_no_way_to_be_stopped() {
    let world = World::new("");
    world.touch("good");
    world.configure(r#"period = "1h", timeout = "60s""#, &[]);
    let daemon = Daemon::start(&world.place);
    let name = world.name.as_str();
    let answer = daemon.ask(&["stop", name]);
    assert!(refused(&answer), "{answer:?}");
    assert!(answer.stderr.contains("none that stops it"), "{answer:?}");

    let answer = daemon.ask(&["restart", name]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let entity = daemon.entity_when(name, "it was started", LONG, |entity| {
        entity["script"]["last_start"]["good"] == true
    });
    assert_eq!(entity["restarts"]["operator"], 1);
    assert_eq!((world.calls(STATUS), world.calls(START)), (0, 1));

    let answer = daemon.ask(&["start", name]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    world.state(&daemon, "up");
    assert_eq!((world.calls(STATUS), world.calls(START)), (1, 1));

    let explained = daemon.json(&["explain", name]);
    assert_eq!(explained["if_it_died_now"], serde_json::json!([]));
    let forecast = explained["if_its_status_were_bad"].as_array().unwrap();
    let last = forecast.last().unwrap()["what"].as_str().unwrap();
    assert!(last.ends_with("major alarm"), "{forecast:?}");
    let shown = daemon.ask(&["show", name]);
    assert!(
        shown.stdout.contains("status of probe every 1h"),
        "{shown:?}"
    );
}
