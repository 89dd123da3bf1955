//! A number in a pidfile outlives its process. Whoever has the number now is
//! never taken for the entity, never signalled, and does not keep the entity
//! from being recovered.

use std::{
    fs::{self, File},
    io::{PipeReader, PipeWriter, pipe},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    kernel,
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, entity, executable, foreground, quoted},
    skip_if, wait,
};

/// A stranger under a chosen pid, told apart by the count it leaves.
struct Stranger {
    pid: u32,
    hold: Option<PipeWriter>,
    report: PathBuf,
}

impl Stranger {
    /// Under this pid, as soon as it is free.
    fn take(place: &Place, pid: u32) -> Self {
        let (stdin, hold): (PipeReader, PipeWriter) = pipe().unwrap();
        let report = place.path(&format!("stranger-{pid}"));
        let out = File::create(&report).unwrap();
        wait::until("the pid is free", LONG, || {
            let program = binary::bystander();
            kernel::spawn_with_pid(pid, &program, &["bystander"], stdin.as_fd(), out.as_fd()).ok()
        });
        // Ready to count once it catches SIGTERM.
        wait::until("the stranger is ready", LONG, || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            (caught >> 14 & 1 == 1).then_some(())
        });
        Self {
            pid,
            hold: Some(hold),
            report,
        }
    }

    /// How many signals it got; none at all when it was killed.
    fn signals(mut self) -> Option<u32> {
        drop(self.hold.take());
        kernel::reap(self.pid).unwrap();
        let line = fs::read_to_string(&self.report).unwrap();
        let (pid, count) = line.trim().split_once(' ')?;
        assert_eq!(pid, self.pid.to_string());
        count.parse().ok()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Its end of the pipe closes, and it ends.
        self.hold.take();
    }
}

/// A pidfile of a minute ago, complete from the start.
fn write_long_ago(pidfile: &Path, pid: u32) {
    let beside = pidfile.with_extension("restored");
    fs::write(&beside, format!("{pid}\n")).unwrap();
    let file = File::options().write(true).open(&beside).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
    fs::rename(&beside, pidfile).unwrap();
}

/// pmon's command starts the daemon whatever the pidfile says.
fn plain_daemon(place: &Place, name: &str) -> (PathBuf, String) {
    let pidfile = place.path(&format!("{name}.pid"));
    let options = ["--background", "--pidfile", &pidfile.to_string_lossy()];
    let command = foreground(name, &options);
    let quoted = quoted(&pidfile);
    let toml = entity(
        name,
        &[
            ("command", &command),
            ("daemonizes", "true"),
            ("pidfile", &quoted),
        ],
    );
    (pidfile, toml)
}

#[test]
fn that_is_not_mistaken_after_a_restart_of_pmon() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    let (pidfile, toml) = plain_daemon(&place, &name);
    place.configure(&toml);
    let daemon = Daemon::start(&place);
    let old = daemon.up(&name);
    assert!(daemon.terminate().success());
    let process = Process::open(old).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    let stranger = Stranger::take(&place, old);
    assert_eq!(
        fs::read_to_string(&pidfile).unwrap().trim(),
        old.to_string()
    );

    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&name);
    assert_ne!(pid, old);
    assert_eq!(process::instances(&name), [pid]);
    assert_eq!(events.count(&name, "died"), 0);
    daemon.json(&["restart", &name, "--wait"]);
    daemon.json(&["stop", &name, "--wait"]);
    assert_eq!(stranger.signals(), Some(0));
}

/// Nothing is remembered: only the times speak against the pidfile.
#[test]
fn that_is_not_mistaken_by_a_new_pmon() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    let (pidfile, toml) = plain_daemon(&place, &name);
    place.configure(&toml);
    // A pid that is free, in a pidfile of long ago.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    write_long_ago(&pidfile, gone.id());
    let stranger = Stranger::take(&place, gone.id());
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&name);
    assert_ne!(pid, gone.id());
    assert_eq!(process::instances(&name), [pid]);
    let missing = events.matching(|event| event.is(&name, "missing"));
    assert!(missing[0].text.contains("stranger"), "{missing:?}");
    println!("{}", missing[0].text);
    assert_eq!(stranger.signals(), Some(0));
}

/// The pid is reused while pmon runs: the successor's pidfile is awaited, the
/// stranger left alone, whatever operators ask for.
#[test]
fn that_is_left_alone_while_the_service_is_recovered() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    let (pidfile, toml) = plain_daemon(&place, &name);
    // Nothing starts until the stranger is in place.
    let gate = place.path("gate");
    let toml = toml.replacen("command = [", &format!("command = [{}, ", quoted(&gate)), 1);
    executable(&gate, "#!/bin/sh\nexec \"$@\"\n");
    place.configure(&toml);
    let daemon = Daemon::start(&place);
    let old = daemon.up(&name);
    executable(&place.path("gate.new"), "#!/bin/sh\nexit 1\n");
    fs::rename(place.path("gate.new"), &gate).unwrap();
    Process::open(old).unwrap().kill();
    let stranger = Stranger::take(&place, old);
    // As if somebody restored it: it was written before the stranger started.
    write_long_ago(&pidfile, old);
    thread::sleep(Duration::from_millis(500));
    let entity = daemon.entity(&name);
    println!("state {}, {}", entity["state"], entity["problem"]);
    assert_ne!(entity["pid"], old, "{entity:#}");
    executable(&place.path("gate.new"), "#!/bin/sh\nexec \"$@\"\n");
    fs::rename(place.path("gate.new"), &gate).unwrap();
    let pid = daemon.up(&name);
    assert_ne!(pid, old);
    daemon.json(&["restart", &name, "--wait"]);
    daemon.json(&["stop", &name, "--wait"]);
    assert_eq!(stranger.signals(), Some(0));
}

/// An init script is fooled where pmon is not: it finds "its" process running
/// and starts nothing. pmon has removed the stale pidfile before.
#[test]
fn that_does_not_fool_the_init_script() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    place.configure(&lsb.entity(&[]));
    let daemon = Daemon::start(&place);
    let old = daemon.up(&lsb.name);
    assert!(daemon.terminate().success());
    let process = Process::open(old).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    let stranger = Stranger::take(&place, old);
    assert_eq!(lsb.pid(), Some(old));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&lsb.name);
    assert_ne!(pid, old);
    assert_eq!(process::instances(&lsb.name), [pid]);
    assert_eq!(daemon.entity(&lsb.name)["restarts"]["auto"], 1);
    assert_eq!(stranger.signals(), Some(0));
}
