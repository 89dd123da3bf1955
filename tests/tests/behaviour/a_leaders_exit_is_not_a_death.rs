//! A process is its thread group: while one thread lives, it lives, whatever
//! becomes of the leader and whoever executes another program.

use std::{
    os::unix::process::ExitStatusExt as _,
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
    skip_if, wait,
};
use rustix::process::Signal;

/// Long enough for a wrong report of a death to arrive.
const SETTLED: Duration = Duration::from_millis(500);

/// A service of the tester's own, so that its wait status is known, registered
/// with pmon.
struct Registered {
    name: String,
    child: Child,
    process: Process,
}

impl Registered {
    fn new(place: &Place, daemon: &Daemon, events: &Events, on_usr1: &str) -> Self {
        let name = place.name(on_usr1);
        let child = Command::new(binary::service())
            .args(["--tag", &name, "--on-usr1", on_usr1])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        wait::until("it catches SIGUSR1", LONG, || {
            catches(pid, 10).then_some(())
        });
        daemon.json(&["register", &name, "--pid", &pid.to_string()]);
        events.after(0, "registered", LONG, |event| event.is(&name, "registered"));
        Self {
            name,
            child,
            process: Process::open(pid).unwrap(),
        }
    }

    /// Sends SIGUSR1 and lets time pass; it must still be the same, registered.
    fn survives_usr1(&self, daemon: &Daemon, events: &Events, happened: impl Fn(u32) -> bool) {
        let pid = self.process.pid();
        let identity = process::identity(pid).unwrap();
        self.process.signal(Signal::USR1).unwrap();
        wait::until("it did as SIGUSR1 asks", LONG, || {
            happened(pid).then_some(())
        });
        thread::sleep(SETTLED);
        assert!(self.process.is_alive());
        assert_eq!(events.count(&self.name, "died"), 0);
        assert_eq!(events.count(&self.name, "hint"), 0);
        let entity = daemon.entity(&self.name);
        assert_eq!(entity["state"], "up", "{entity:#}");
        assert_eq!(entity["registered"], true);
        assert_eq!(entity["identity"], identity);
    }

    /// Its one death is told as `wait(2)` tells it.
    fn dies_once(mut self, daemon: &Daemon, events: &Events) {
        let died = events.after(0, "died", LONG, |event| event.is(&self.name, "died"));
        assert_eq!(died.pid, Some(self.process.pid()));
        let status = self.child.wait().unwrap();
        let death = daemon.entity(&self.name)["last_death"].clone();
        assert_eq!(
            death["exit_code"].as_i64(),
            status.code().map(i64::from),
            "{death:#}"
        );
        assert_eq!(
            death["signal"].as_i64(),
            status.signal().map(i64::from),
            "{death:#}"
        );
        assert_eq!(death["detected_by"], "ebpf");
        thread::sleep(SETTLED);
        assert_eq!(events.count(&self.name, "died"), 1);
        assert_eq!(daemon.entity(&self.name)["deaths_1h"], 1);
    }
}

/// Whether a signal is in `SigCgt` of the process.
fn catches(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}

fn leader_is_a_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// The program that runs after the exec has no `--on-usr1`.
fn has_executed(pid: u32) -> bool {
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    !cmdline.is_empty()
        && !String::from_utf8_lossy(&cmdline).contains("--on-usr1")
        && catches(pid, 15)
}

fn daemon(place: &Place) -> (Daemon, Events) {
    let daemon = Daemon::start(place);
    let events = daemon.events();
    (daemon, events)
}

#[test]
fn and_a_later_kill_is() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (daemon, events) = daemon(&place);
    let service = Registered::new(&place, &daemon, &events, "leader-exits");
    service.survives_usr1(&daemon, &events, leader_is_a_zombie);
    service.process.kill();
    service.dies_once(&daemon, &events);
}

#[test]
fn and_the_last_threads_exit_is() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (daemon, events) = daemon(&place);
    let service = Registered::new(&place, &daemon, &events, "leader-exits");
    service.survives_usr1(&daemon, &events, leader_is_a_zombie);
    service.process.signal(Signal::USR2).unwrap();
    service.dies_once(&daemon, &events);
}

#[test]
fn and_neither_is_an_exec_by_the_leader() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (daemon, events) = daemon(&place);
    let service = Registered::new(&place, &daemon, &events, "leader-execs");
    service.survives_usr1(&daemon, &events, has_executed);
    service.process.kill();
    service.dies_once(&daemon, &events);
}

#[test]
fn and_neither_is_an_exec_by_another_thread() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (daemon, events) = daemon(&place);
    let service = Registered::new(&place, &daemon, &events, "thread-execs");
    service.survives_usr1(&daemon, &events, has_executed);
    service.process.signal(Signal::TERM).unwrap();
    service.dies_once(&daemon, &events);
}

#[test]
fn and_a_process_registered_without_its_leader_is_alive() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (daemon, events) = daemon(&place);
    let name = place.name("headless");
    let mut child = Command::new(binary::service())
        .args(["--tag", &name, "--on-usr1", "leader-exits"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process::open(child.id()).unwrap();
    wait::until("it catches SIGUSR1", LONG, || {
        catches(child.id(), 10).then_some(())
    });
    process.signal(Signal::USR1).unwrap();
    wait::until("the leader is gone", LONG, || {
        leader_is_a_zombie(child.id()).then_some(())
    });
    daemon.json(&["register", &name, "--pid", &child.id().to_string()]);
    assert_eq!(daemon.up(&name), child.id());
    process.kill();
    events.after(0, "died", LONG, |event| event.is(&name, "died"));
    child.wait().unwrap();
    thread::sleep(SETTLED);
    assert_eq!(events.count(&name, "died"), 1);
    assert_eq!(daemon.entity(&name)["last_death"]["signal"], 9);
}
