//! The daemon ends while a start command that goes into the background is at
//! work: the next one waits for that very command, adopts what it brings up, and
//! starts nothing beside it.

use std::{fs, path::PathBuf, thread, time::Duration};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{self, quoted},
    skip_if, wait,
};

/// Long enough for a needless start to show.
const SETTLED: Duration = Duration::from_millis(800);

#[derive(Clone, Copy, Debug)]
enum End {
    Term,
    Kill,
}

const ENDS: [End; 2] = [End::Term, End::Kill];

impl End {
    fn of(self, daemon: Daemon) {
        match self {
            Self::Term => assert!(daemon.terminate().success()),
            Self::Kill => daemon.kill(),
        }
    }
}

/// A service whose start command waits for a file before it starts it.
struct World {
    place: Place,
    name: String,
    pidfile: PathBuf,
}

impl World {
    fn new(settings: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let name = place.name("slow");
        let pidfile = place.path("pidfile");
        let script = place.path("start");
        let text = format!(
            "#!/bin/sh\necho $$ >>'{starts}'\nwhile [ ! -e '{go}' ]; do sleep 0.05; done\n\
             exec '{service}' --tag '{name}' --pidfile '{pidfile}' --background\n",
            starts = place.path("starts").display(),
            go = place.path("go").display(),
            service = binary::service().display(),
            pidfile = pidfile.display(),
        );
        script::executable(&script, &text);
        let command = format!("[{}]", quoted(&script));
        let quoted_pidfile = quoted(&pidfile);
        let mut all = vec![
            ("command", command.as_str()),
            ("daemonizes", "true"),
            ("pidfile", quoted_pidfile.as_str()),
            ("start_timeout", "\"60s\""),
        ];
        all.retain(|(key, _)| settings.iter().all(|(other, _)| key != other));
        all.extend(settings);
        place.configure(&script::entity(&name, &all));
        let world = Self {
            place,
            name,
            pidfile,
        };
        world.may_start(true);
        world
    }

    fn may_start(&self, may: bool) {
        let go = self.place.path("go");
        if may {
            fs::write(go, "").unwrap();
        } else {
            fs::remove_file(go).unwrap();
        }
    }

    /// Pids of all start commands so far.
    fn starts(&self) -> Vec<u32> {
        let starts = fs::read_to_string(self.place.path("starts")).unwrap_or_default();
        starts.lines().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Up once, then killed, and its start command is at work.
    fn is_being_started(&self) -> (Daemon, Process) {
        let daemon = Daemon::start(&self.place);
        let pid = daemon.up(&self.name);
        let before = self.starts().len();
        self.may_start(false);
        Process::open(pid).unwrap().kill();
        let starts = wait::until_seen(
            "a start command is at work",
            LONG,
            || self.starts(),
            |starts| starts.len() == before + 1,
        );
        (daemon, Process::open(*starts.last().unwrap()).unwrap())
    }

    fn is_up_once(&self, daemon: &Daemon, starts: usize) {
        let pid = daemon.up(&self.name);
        assert_eq!(self.starts().len(), starts);
        thread::sleep(SETTLED);
        assert_eq!(daemon.up(&self.name), pid);
        assert_eq!(process::instances(&self.name), [pid]);
        assert_eq!(self.starts().len(), starts);
        let written = fs::read_to_string(&self.pidfile).unwrap();
        assert_eq!(written.trim(), pid.to_string());
    }
}

#[test]
fn it_is_waited_for_and_its_process_adopted() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        let world = World::new(&[]);
        let (daemon, command) = world.is_being_started();
        end.of(daemon);
        assert!(
            command.is_alive(),
            "what pmon has started does not end with it"
        );
        let daemon = Daemon::start(&world.place);
        daemon.in_stage(&world.name, "monitor_wait");
        thread::sleep(SETTLED);
        assert_eq!(world.starts().len(), 2, "{end:?}");
        assert!(command.is_alive());
        // And by the one after that, too.
        end.of(daemon);
        let daemon = Daemon::start(&world.place);
        thread::sleep(SETTLED);
        assert_eq!(world.starts().len(), 2, "{end:?}");
        world.may_start(true);
        world.is_up_once(&daemon, 2);
        // And it is watched as ever.
        let pid = daemon.up(&world.name);
        Process::open(pid).unwrap().kill();
        daemon.entity_when(&world.name, "a successor is up", LONG, |entity| {
            entity["state"] == "up" && entity["pid"] != pid && entity["registered"] == true
        });
        world.is_up_once(&daemon, 3);
    }
}

#[test]
fn what_it_brought_up_while_there_was_no_daemon_is_adopted() {
    skip_if!(privilege::no_bpf());
    let world = World::new(&[]);
    let (daemon, command) = world.is_being_started();
    daemon.kill();
    world.may_start(true);
    assert!(command.ends_within(LONG));
    let daemon = Daemon::start(&world.place);
    world.is_up_once(&daemon, 2);
}

#[test]
fn the_very_first_one_is_waited_for_as_well() {
    skip_if!(privilege::no_bpf());
    let world = World::new(&[]);
    world.may_start(false);
    let daemon = Daemon::start(&world.place);
    wait::until("the first start", LONG, || {
        (world.starts().len() == 1).then_some(())
    });
    daemon.kill();
    let daemon = Daemon::start(&world.place);
    thread::sleep(SETTLED);
    world.may_start(true);
    world.is_up_once(&daemon, 1);
}

#[test]
fn past_its_deadline_it_is_ended_and_another_one_started() {
    skip_if!(privilege::no_bpf());
    let world = World::new(&[("start_timeout", "\"4s\"")]);
    let (daemon, command) = world.is_being_started();
    daemon.kill();
    assert!(command.is_alive());
    let daemon = Daemon::start(&world.place);
    assert!(command.ends_within(LONG), "its time is over");
    wait::until("another start", LONG, || {
        (world.starts().len() == 3).then_some(())
    });
    world.may_start(true);
    let pid = daemon.up(&world.name);
    thread::sleep(SETTLED);
    assert_eq!(process::instances(&world.name), [pid]);
}

#[test]
fn an_operators_stop_ends_it() {
    skip_if!(privilege::no_bpf());
    let world = World::new(&[]);
    let (daemon, command) = world.is_being_started();
    daemon.kill();
    let daemon = Daemon::start(&world.place);
    daemon.in_stage(&world.name, "monitor_wait");
    daemon.json(&["stop", &world.name, "--wait"]);
    assert!(command.ends_within(LONG));
    world.may_start(true);
    thread::sleep(SETTLED);
    assert!(process::instances(&world.name).is_empty());
    assert_eq!(world.starts().len(), 2);
    daemon.in_stage(&world.name, "stopped");
}

#[test]
fn in_status_mode_nobody_starts_beside_it() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("asked");
    let script = place.path("script");
    let at = |file: &str| place.path(file).display().to_string();
    let (starts, go, up) = (at("starts"), at("go"), at("up"));
    let text = format!(
        "#!/bin/sh\ncase $1 in\nstatus) echo asked >>'{starts}.asked'; [ -e '{up}' ] ;;\n\
         start) echo $$ >>'{starts}'\nwhile [ ! -e '{go}' ]; do sleep 0.05; done\n: >'{up}' ;;\n\
         esac\n"
    );
    script::executable(&script, &text);
    let table = format!(
        "{{ script = {}, start_arg = \"start\", status_arg = \"status\", period = \"1s\", \
         timeout = \"60s\" }}",
        quoted(&script)
    );
    place.configure(&script::entity(
        &name,
        &[("mode", "\"status\""), ("status", &table)],
    ));
    let count = |file: &str| fs::read_to_string(file).unwrap_or_default().lines().count();
    let daemon = Daemon::start(&place);
    wait::until("its start is at work", LONG, || {
        (count(&starts) == 1).then_some(())
    });
    daemon.kill();
    let asked = format!("{starts}.asked");
    let before = count(&asked);
    let daemon = Daemon::start(&place);
    thread::sleep(2 * SETTLED);
    assert_eq!(count(&starts), 1);
    assert_eq!(count(&asked), before, "nor is it asked meanwhile");
    fs::write(&go, "").unwrap();
    daemon.entity_when(&name, "it is up", LONG, |entity| entity["state"] == "up");
    assert_eq!(count(&starts), 1);
}
