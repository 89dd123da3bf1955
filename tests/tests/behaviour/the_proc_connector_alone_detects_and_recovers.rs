//! With the proc connector instead of the kernel program every death is noticed
//! once, with its true status, and made good; where the connector cannot be had
//! either, that is told, and the pidfds do.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use pmon_tests::{
    binary,
    daemon::{self, Daemon, LONG, source},
    place::Place,
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if, wait,
};
use rustix::process::Signal;
use serde_json::Value;

/// Long enough for a second report of a death to arrive.
const SETTLED: Duration = Duration::from_millis(500);

fn with_connector(mut command: Command) -> Command {
    command.args(["--source", "proc-connector"]);
    command
}

/// Kills a service and waits until it is up again; its death.
fn dies_and_is_recovered(daemon: &Daemon, name: &str) -> Value {
    let events = daemon.events();
    let pid = daemon.up(name);
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| event.is(name, "recovered"));
    let successor = daemon.up(name);
    assert_eq!(process::instances(name), [successor]);
    // Whoever reaps it may be between the pidfd and us; then how it ended is told
    // a moment later.
    let entity = daemon.entity_when(name, "how it ended is known", LONG, |entity| {
        !entity["last_death"]["signal"].is_null()
    });
    let death = entity["last_death"].clone();
    assert_eq!(death["pid"], pid, "{death:#}");
    death
}

/// Whether a signal is in `SigCgt` of the process.
fn catches(pid: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}

fn seen_by_connector_or_pidfd(death: &Value) {
    let by = death["detected_by"].as_str().unwrap_or_default();
    assert!(matches!(by, "proc-connector" | "pidfd"), "{death:#}");
}

#[test]
fn a_killed_service() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::launch(&place, with_connector(daemon::command(&place)));
    // Who is first, the connector or the pidfd, is a matter of microseconds.
    for _ in 0..3 {
        seen_by_connector_or_pidfd(&dies_and_is_recovered(&daemon, &name));
    }
    let connector = daemon.source_when("proc-connector", "healthy");
    let status = daemon.status();
    assert_eq!(connector["lost"], 0);
    let events = |name| source(&status, name)["events"].as_u64().unwrap();
    // Canaries die as well.
    assert!(events("proc-connector") + events("pidfd") >= 3);
    assert_eq!(source(&status, "ebpf")["state"], "off");
    assert_eq!(status["degraded"], serde_json::json!([]));
    let human = daemon.ask(&["status"]);
    assert!(human.stdout.contains("proc-connector healthy"), "{human:?}");
    assert!(daemon.terminate().success());
}

/// How a service of two threads is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By exit_group(2) with 7 from the thread that is not the leader.
    Exit,
    /// By SIGKILL.
    Kill,
    /// By SIGABRT, whose default is to dump core.
    Abort,
    /// The other thread ends alone, with 5; SIGKILL later.
    ThreadThenKill,
    /// The leader ends alone, with 3; SIGKILL later.
    LeaderThenKill,
    /// The leader ends alone, with 3; exit_group(2) with 7 later.
    LeaderThenExit,
}

impl End {
    const ALL: [Self; 6] = [
        Self::Exit,
        Self::Kill,
        Self::Abort,
        Self::ThreadThenKill,
        Self::LeaderThenKill,
        Self::LeaderThenExit,
    ];

    const fn last_signal(self) -> Signal {
        match self {
            Self::Exit | Self::LeaderThenExit => Signal::TERM,
            Self::Kill | Self::ThreadThenKill | Self::LeaderThenKill => Signal::KILL,
            Self::Abort => Signal::ABORT,
        }
    }
}

/// A service of the tester's own, reaped the moment it ends: what the kernel
/// does not tell of its end cannot be read afterwards.
struct Service {
    name: String,
    end: End,
    child: Child,
    process: Process,
}

impl Service {
    fn start(name: String, end: End) -> Self {
        let child = Command::new(binary::service())
            .args(["--tag", &name, "--on-usr1", "leader-exits", "--code", "7"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process::open(child.id()).unwrap();
        Self {
            name,
            end,
            child,
            process,
        }
    }

    /// One of its threads ends, where that is wanted; it must go on living.
    fn loses_a_thread(&self) {
        let pid = self.process.pid();
        let (signal, what) = match self.end {
            End::Exit | End::Kill | End::Abort => return,
            End::ThreadThenKill => (Signal::USR2, "the thread is gone"),
            End::LeaderThenKill | End::LeaderThenExit => (Signal::USR1, "the leader is gone"),
        };
        self.process.signal(signal).unwrap();
        wait::until(what, LONG, || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
            let (_, rest) = stat.rsplit_once(") ")?;
            let is_gone = if signal == Signal::USR1 {
                rest.starts_with('Z')
            } else {
                tasks == 1
            };
            is_gone.then_some(())
        });
        assert!(self.process.is_alive());
    }

    fn ends(mut self) -> (String, Ended) {
        self.process.signal(self.end.last_signal()).unwrap();
        let status = self.child.wait().unwrap();
        let ended = Ended {
            pid: self.process.pid(),
            end: self.end,
            status,
        };
        (self.name, ended)
    }
}

/// What `wait(2)` said.
struct Ended {
    pid: u32,
    end: End,
    status: ExitStatus,
}

/// Their threads end alone, their leaders leave early, they exit and are
/// killed, and nobody leaves a zombie: each death is told once, and how it came
/// is told as `wait(2)` tells it or not at all.
#[test]
fn two_hundred_services_with_threads() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    place.configure("");
    let daemon = Daemon::launch(&place, with_connector(daemon::command(&place)));
    let events = daemon.events();
    let services: Vec<Service> = (0..200)
        .map(|number: usize| {
            let name = place.name(&format!("s{number}"));
            Service::start(name, End::ALL[number % End::ALL.len()])
        })
        .collect();
    for service in &services {
        let pid = service.process.pid();
        wait::until("it catches its signals", LONG, || {
            [10, 12, 15]
                .iter()
                .all(|signal| catches(pid, *signal))
                .then_some(())
        });
        daemon.json(&["register", &service.name, "--pid", &pid.to_string()]);
    }
    for service in &services {
        service.loses_a_thread();
    }
    let alive = daemon.status();
    for entity in alive["entities"].as_array().unwrap() {
        assert_eq!(entity["state"], "up", "{entity:#}");
    }
    let ended: BTreeMap<String, Ended> = services.into_iter().map(Service::ends).collect();
    let status = wait::until_seen(
        "all deaths are told",
        LONG,
        || daemon.status(),
        |status| {
            let entities = status["entities"].as_array().unwrap();
            entities
                .iter()
                .all(|entity| entity["last_death"].is_object())
        },
    );
    thread::sleep(SETTLED);
    let entities = status["entities"].as_array().unwrap();
    assert_eq!(entities.len(), ended.len());
    let (mut by_connector, mut unknown) = (0, 0);
    for entity in entities {
        let name = entity["name"].as_str().unwrap();
        let (ended, death) = (&ended[name], &entity["last_death"]);
        assert_eq!(death["pid"], ended.pid);
        assert_eq!(events.count(name, "died"), 1, "{name}");
        assert_eq!(entity["deaths_1h"], 1);
        seen_by_connector_or_pidfd(death);
        by_connector += usize::from(death["detected_by"] == "proc-connector");
        let told = (death["exit_code"].as_i64(), death["signal"].as_i64());
        if told == (None, None) {
            unknown += 1;
            continue;
        }
        let expected = (
            ended.status.code().map(i64::from),
            ended.status.signal().map(i64::from),
        );
        assert_eq!(told, expected, "{:?}: {death:#}", ended.end);
    }
    println!("the connector was first {by_connector} times, {unknown} ends are unknown");
    assert!(unknown < ended.len() / 2, "{unknown} ends are unknown");
    assert!(daemon.terminate().success());
}

fn is_off(status: &Value, remedy: &str) {
    let connector = source(status, "proc-connector");
    assert_eq!(connector["state"], "off", "{connector:#}");
    let reason = connector["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(remedy), "`{remedy}` in: {reason}");
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains(remedy), "`{remedy}` in: {degraded}");
}

/// The daemon behind `unshare`, which must not end before it does.
fn in_another_namespace(options: &[&str], remedy: &str) {
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let unshare = [&["unshare"], options].concat();
    let command = with_connector(daemon::command_behind(&unshare, &place));
    let daemon = Daemon::launch(&place, command);
    let status = daemon.status();
    println!("{:#}", status["degraded"]);
    is_off(&status, remedy);
    let death = dies_and_is_recovered(&daemon, &name);
    assert_eq!(death["detected_by"], "pidfd", "{death:#}");
}

#[test]
fn without_the_hosts_network_the_pidfds_do() {
    skip_if!(privilege::no_root());
    in_another_namespace(&["--net"], "--network=host");
}

/// The kernel keeps silent; only that it does not answer tells it.
#[test]
fn without_the_hosts_users_the_pidfds_do() {
    skip_if!(privilege::no_root());
    in_another_namespace(&["--user", "--map-root-user"], "--pid=host");
}

/// As in a container without the host's pids. The kernel keeps silent there, too.
#[test]
fn without_the_hosts_pids_it_is_told() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    let unshare = [
        "unshare",
        "--fork",
        "--kill-child",
        "--pid",
        "--mount-proc",
        "--",
    ];
    let command = with_connector(daemon::command_behind(&unshare, &place));
    let daemon = Daemon::launch(&place, command);
    let status = daemon.status();
    assert_eq!(source(&status, "proc-connector")["events"], 0);
    is_off(&status, "--pid=host");
    // unshare(1) disregards SIGTERM, and takes the daemon with it.
    daemon.kill();
}
