//! A death certificate tells who or what ended the process, whether a core was
//! dumped, what was used, and how soon that was known; and no more than that.

use std::{
    fs,
    io::Write as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::Process,
    skip_if,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A user that is nobody in particular.
const USER: u32 = 54_321;

/// A child of this test that pmon is told to watch by its pid, and never starts
/// again.
struct Watched {
    name: String,
    child: Child,
}

impl Watched {
    /// Starts it and has it registered.
    fn begin(place: &Place, daemon: &Daemon, command: &mut Command) -> Self {
        let name = place.name("watched");
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id().to_string();
        let answer = daemon.ask(&["register", &name, "--pid", &pid]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(daemon.up(&name), child.id());
        Self { name, child }
    }

    fn service(place: &Place, daemon: &Daemon, options: &[&str]) -> Self {
        let mut command = Command::new(binary::service());
        // The word of the place, so that it ends with it.
        command
            .args(["--tag", &place.name("service")])
            .args(options);
        Self::begin(place, daemon, &mut command)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; how it ended, the certificate, and the paragraph of
    /// `pmon history`.
    fn end(mut self, daemon: &Daemon) -> (ExitStatus, Value, String) {
        let status = self.child.wait().unwrap();
        let entity = daemon.entity_when(&self.name, "its death is known", LONG, |entity| {
            entity["last_death"]["pid"] == self.child.id()
        });
        let told = daemon.ask(&["history", &self.name]).stdout;
        let start = format!("  pid {}: ", self.child.id());
        let paragraph = told.lines().find_map(|line| line.strip_prefix(&start));
        let paragraph = paragraph.unwrap_or_else(|| panic!("no `{start}` in {told}"));
        println!("{paragraph}");
        let explained = daemon.ask(&["explain", &self.name]).stdout;
        assert!(explained.contains(paragraph), "{explained}");
        let death = entity["last_death"].clone();
        let history = daemon.json(&["history", &self.name]);
        let same = without_wall_times(&history["incidents"][0]["death"]);
        assert_eq!(same, without_wall_times(&death));
        (status, death, paragraph.to_owned())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Ended already where nothing has failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The wall clock is read anew for every view, and may differ by nanoseconds.
fn without_wall_times(death: &Value) -> Value {
    let mut death = death.clone();
    for time in ["start_time", "died_at", "recovered_at"] {
        assert!(
            death[time].is_string() || time == "recovered_at",
            "{death:#}"
        );
        death[time] = Value::Null;
    }
    death
}

/// A shell of this name and user that sends a signal itself and stays, so that
/// its pid is certain.
fn sender(place: &Place, name: &str, user: u32, signal: &str, to: u32) -> Child {
    let shell = place.path(name);
    if !shell.exists() {
        std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
    }
    Command::new(shell)
        .args(["-c", &format!("kill -{signal} {to}; read _")])
        .stdin(Stdio::piped())
        .uid(user)
        .gid(user)
        .spawn()
        .unwrap()
}

fn dismiss(mut sender: Child) {
    drop(sender.stdin.take());
    sender.wait().unwrap();
}

#[test]
fn that_names_who_killed_it() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = Daemon::start(&place);
    for user in [0, USER] {
        let place = Place::new();
        let mut sleeper = Command::new("sleep");
        sleeper.arg("600").uid(user).gid(user);
        let watched = Watched::begin(&place, &daemon, &mut sleeper);
        let killer = sender(&place, "assassin", user, "KILL", watched.pid());
        let (status, death, text) = watched.end(&daemon);
        assert_eq!(status.signal(), Some(9));
        assert_eq!(death["cause"], "signal");
        assert_eq!(death["signal"], 9);
        let expected = json!({"pid": killer.id(), "uid": user, "comm": "assassin"});
        assert_eq!(death["killer"], expected, "{death:#}");
        assert_eq!(death["last_signal"]["from"], "process");
        assert_eq!(death["last_signal"]["sender"], expected);
        assert_eq!(death["oom_victim"], false, "{death:#}");
        let sentence = format!(
            "killed by SIGKILL from `assassin` (pid {}, uid {user}) after ",
            killer.id()
        );
        assert!(text.starts_with(&sentence), "{text}");
        dismiss(killer);
    }
}

/// It ended by itself, and that is what is told; who asked it to is told apart.
#[test]
fn that_tells_an_exit_from_a_kill() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let watched = Watched::service(&place, &daemon, &[]);
    has_become(&binary::service(), watched.pid());
    let asked_by = sender(&place, "polite", 0, "TERM", watched.pid());
    let (status, death, text) = watched.end(&daemon);
    assert_eq!(status.code(), Some(0));
    assert_eq!(death["cause"], "exit");
    assert_eq!(death["exit_code"], 0);
    assert_eq!(death["signal"], Value::Null);
    assert_eq!(death["killer"], Value::Null, "{death:#}");
    let sent = &death["last_signal"];
    assert_eq!(sent["signal"], 15);
    assert_eq!(sent["sender"]["pid"], asked_by.id());
    assert!(text.starts_with("exited 0 after "), "{text}");
    let before = format!(
        " after SIGTERM from `polite` (pid {}, uid 0);",
        asked_by.id()
    );
    assert!(text.contains(&before), "{text}");
    dismiss(asked_by);
}

/// SIGTERM is disregarded, SIGKILL is not: the killer is who sent the latter.
#[test]
fn that_blames_nobody_for_a_signal_that_did_nothing() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let witness = place.path("witness");
    let pidfile = place.path("pidfile");
    let options = [
        "--ignore-term",
        "--witness",
        witness.to_str().unwrap(),
        "--pidfile",
        pidfile.to_str().unwrap(),
    ];
    let watched = Watched::service(&place, &daemon, &options);
    has_become(&binary::service(), watched.pid());
    let first = sender(&place, "polite", 0, "TERM", watched.pid());
    pmon_tests::wait::until("SIGTERM is received", LONG, || {
        witness.exists().then_some(())
    });
    let second = sender(&place, "assassin", 0, "KILL", watched.pid());
    let (_, death, _) = watched.end(&daemon);
    assert_eq!(death["killer"]["pid"], second.id(), "{death:#}");
    dismiss(first);
    dismiss(second);
}

#[test]
fn that_tells_a_fault_and_its_core() {
    skip_if!(privilege::no_bpf());
    for (limit, core_is_wanted) in [("0", false), ("unlimited", true)] {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let directory = place.path("cores");
        fs::create_dir(&directory).unwrap();
        let service = binary::service();
        let script = format!(
            "ulimit -c {limit} && cd '{}' && exec '{}' --tag '{}' --on-usr1 faults",
            directory.display(),
            service.display(),
            place.name("service"),
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        let watched = Watched::begin(&place, &daemon, &mut shell);
        has_become(&service, watched.pid());
        let pid = watched.pid();
        fault(pid);
        let (status, death, text) = watched.end(&daemon);
        assert_eq!(status.signal(), Some(11));
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        println!("core_pattern {}, limit {limit}: {status}", pattern.trim());
        // With another pattern the kernel may do as it likes; it is told in any case.
        if !pattern.starts_with('|') {
            assert_eq!(status.core_dumped(), core_is_wanted);
        }
        assert_eq!(death["core_dumped"], status.core_dumped(), "{death:#}");
        let cause = if status.core_dumped() {
            "core"
        } else {
            "signal"
        };
        assert_eq!(death["cause"], cause, "{death:#}");
        assert_eq!(death["signal"], 11);
        assert_eq!(death["killer"], Value::Null, "{death:#}");
        assert_eq!(death["last_signal"]["from"], "kernel");
        assert_eq!(death["last_signal"]["fault"], true);
        assert!(
            text.starts_with("killed by the kernel (SIGSEGV fault) after "),
            "{text}"
        );
        assert_eq!(
            text.contains(", core dumped;"),
            status.core_dumped(),
            "{text}"
        );
    }
}

/// Until it executes this program and waits for signals.
fn has_become(program: &Path, pid: u32) {
    let status = format!("/proc/{pid}/status");
    let caught = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    pmon_tests::wait::until("the service is at work", LONG, || {
        let executes = fs::read_link(format!("/proc/{pid}/exe")).ok()? == program;
        let caught = caught(&fs::read_to_string(&status).ok()?)?;
        let usr1 = 1 << (Signal::USR1.as_raw() - 1);
        (executes && caught & usr1 != 0).then_some(())
    });
}

/// Until no thread of it runs any more.
fn has_stopped(pid: u32) {
    let stopped = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.starts_with('T')
    };
    pmon_tests::wait::until("the daemon stands still", LONG, || {
        let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks
            .all(|task| stopped(&task.unwrap().path()))
            .then_some(())
    });
}

fn fault(pid: u32) {
    Process::open(pid).unwrap().signal(Signal::USR1).unwrap();
}

#[test]
fn that_tells_what_was_used() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let watched = Watched::service(&place, &daemon, &["--resident", "64"]);
    let pid = watched.pid();
    has_become(&binary::service(), pid);
    let resident = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    pmon_tests::wait::until("its memory is resident", LONG, || {
        let kib = resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
        (kib >= 64 << 10).then_some(())
    });
    Process::open(pid).unwrap().kill();
    let (_, death, text) = watched.end(&daemon);
    let rss = death["rss_bytes"].as_u64().unwrap();
    assert!((64 << 20..256 << 20).contains(&rss), "{death:#}");
    let cpu = death["cpu_s"].as_f64().unwrap();
    assert!(cpu > 0.0 && cpu < 60.0, "{death:#}");
    assert!(text.contains(" MiB of memory at its peak"), "{text}");
}

/// A memory cgroup of its own, with what is in it.
struct Cage {
    path: PathBuf,
}

impl Cage {
    /// Limits of cgroup v1 and v2, the latter alone or beside the former.
    const KINDS: [(&str, &str, &str); 3] = [
        (
            "/sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.swappiness",
        ),
        ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
        ("/sys/fs/cgroup/unified", "memory.max", "memory.swap.max"),
    ];

    /// One that holds `bytes`; why there is none where that is so.
    fn new(place: &Place, bytes: u64) -> Result<Self, String> {
        for (root, limit, swap) in Self::KINDS {
            let path = Path::new(root).join(place.name("cage"));
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let cage = Self { path };
            if fs::write(cage.path.join(limit), bytes.to_string()).is_ok() {
                // Without swap there is nothing to switch off.
                fs::write(cage.path.join(swap), "0").ok();
                return Ok(cage);
            }
        }
        Err("needs a memory cgroup that can be made".to_owned())
    }

    fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let removed = || fs::remove_dir(&self.path).ok();
        let deadline = Instant::now() + LONG;
        while removed().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn that_tells_a_victim_of_the_oom_killer() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let cage = match Cage::new(&place, 32 << 20) {
        Ok(cage) => cage,
        Err(reason) => {
            println!("SKIP: {}: {reason}", module_path!());
            return;
        }
    };
    let daemon = Daemon::start(&place);
    let script = format!(
        "echo $$ > '{}' && read _ && exec tail /dev/zero",
        cage.processes().display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    let mut watched = Watched::begin(&place, &daemon, &mut shell);
    // From here on it takes all the memory that it can get.
    watched
        .child
        .stdin
        .take()
        .unwrap()
        .write_all(b"\n")
        .unwrap();
    let (status, death, text) = watched.end(&daemon);
    assert_eq!(status.signal(), Some(9));
    assert_eq!(death["cause"], "oom", "{death:#}");
    assert_eq!(death["oom_victim"], true);
    assert_eq!(death["signal"], 9);
    assert_eq!(death["killer"], Value::Null, "{death:#}");
    assert_eq!(death["last_signal"]["from"], "kernel");
    assert!(
        text.starts_with("killed by the OOM killer after "),
        "{text}"
    );
}

/// Two entities watch one process; an operator has one of them restarted.
#[test]
fn that_names_pmon_where_it_was_pmon() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let watched = Watched::service(&place, &daemon, &[]);
    has_become(&binary::service(), watched.pid());
    let second = place.name("second");
    let pid = watched.pid().to_string();
    daemon.json(&["register", &second, "--pid", &pid]);
    assert_eq!(daemon.up(&second), watched.pid());
    daemon.json(&["stop", &second]);
    let (_, death, text) = watched.end(&daemon);
    assert_eq!(death["last_signal"]["from"], "pmon", "{death:#}");
    assert_eq!(death["last_signal"]["sender"]["pid"], daemon.pid());
    let why = format!(" after SIGTERM from pmon: stop of `{second}` by uid 0");
    assert!(text.contains(&why), "{text}");
}

/// A daemon that was kept from running says how late it is.
#[test]
fn that_says_when_it_was_late() {
    skip_if!(privilege::no_bpf());
    /// More than what is told as late.
    const AWAY: Duration = Duration::from_millis(1_100);
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let watched = Watched::service(&place, &daemon, &[]);
    let itself = Process::open(daemon.pid()).unwrap();
    itself.signal(Signal::STOP).unwrap();
    has_stopped(daemon.pid());
    let process = Process::open(watched.pid()).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    thread::sleep(AWAY);
    itself.signal(Signal::CONT).unwrap();
    let (_, death, text) = watched.end(&daemon);
    let latency = Duration::from_micros(death["detect_latency_us"].as_u64().unwrap());
    assert!(latency >= AWAY, "{death:#}");
    let released = Duration::from_micros(death["resources_released_us"].as_u64().unwrap());
    assert!(released >= latency, "{death:#}");
    assert!(text.contains("seen by ebpf, but only after "), "{text}");
    assert!(text.contains("; memory released within "), "{text}");
}
