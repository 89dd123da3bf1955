//! Looks at real pidfiles, processes and threads, pid reuse among them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::{Instant, SystemTime},
};

use super::*;
use crate::{
    core::entity::{CommandSpec, Mode, Origin, Severity, StopPolicy},
    specimen::{Sleeper, executable},
};

fn spec(pidfile: Option<PathBuf>) -> EntitySpec {
    EntitySpec {
        name: "entity".to_owned(),
        mode: Mode::Passive,
        severity: Severity::Major,
        restarts: 3,
        interval: Duration::from_secs(5),
        debounce: Duration::from_secs(20),
        startuptime: Duration::from_secs(5),
        start_timeout: Duration::from_secs(60),
        adoption_window: Duration::ZERO,
        pidfile,
        start: StartMethod::None {
            reason: "test".to_owned(),
        },
        stop: StopPolicy::KillFirst,
        follow: false,
        quorum: false,
        subfunction: None,
        active: None,
        status: None,
        dependencies: crate::core::dependency::Dependencies::default(),
        storm: crate::core::storm::StormPolicy::PMOND,
        origin: Origin::Operator,
    }
}

fn request(spec: EntitySpec, known: Option<Remembered>) -> LookRequest {
    LookRequest {
        spec: Arc::new(spec),
        known,
        occasion: Occasion::Sweep,
        check_foreign_script: false,
        own_scripts: Arc::default(),
        former: None,
    }
}

/// A directory with one pidfile in it.
struct Place {
    _directory: tempfile::TempDir,
    pidfile: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let pidfile = directory.path().join("entity.pid");
    Place {
        _directory: directory,
        pidfile,
    }
}

impl Place {
    fn write(&self, text: impl Display) {
        fs::write(&self.pidfile, text.to_string()).unwrap();
    }

    fn look(&self, known: Option<Remembered>) -> Look {
        look(&request(spec(Some(self.pidfile.clone())), known))
    }

    /// As if the pidfile had been written that long ago.
    fn age(&self, age: Duration) {
        let file = File::options().write(true).open(&self.pidfile).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

fn reason(look: &Look) -> (&'static str, String) {
    assert!(look.process.is_none());
    match &look.sighting.outcome {
        Outcome::Process(identity) => panic!("found {identity}"),
        Outcome::Nothing { reason } => ("nothing", reason.clone()),
        Outcome::Unverifiable { reason } => ("unverifiable", reason.clone()),
    }
}

fn assert_reason(look: &Look, kind: &str, part: &str) {
    let (found, reason) = reason(look);
    assert_eq!(found, kind, "{reason}");
    assert!(reason.contains(part), "{reason}");
}

#[test]
fn a_live_process_is_found_and_signalable() {
    let place = place();
    let mut sleeper = Sleeper::spawn();
    place.write(format!("{}\n", sleeper.pid()));
    let look = place.look(None);
    let process = look.process.unwrap();
    assert_eq!(process.identity().pid, sleeper.pid());
    assert_eq!(look.sighting.outcome, Outcome::Process(process.identity()));
    assert!(look.stamp.is_some());
    assert!(look.known_alive.is_none());

    process.signal(9).unwrap();
    sleeper.end();
    let known = Some(Remembered {
        identity: process.identity(),
        stamp: look.stamp,
    });
    assert_reason(&place.look(known), "nothing", "which is gone");
}

#[test]
fn bad_pidfiles_have_their_reasons() {
    let place = place();
    assert_reason(&place.look(None), "nothing", "no pidfile `");
    for text in ["", "-1", "0", "99999999999", "nonsense"] {
        place.write(text);
        place.age(Duration::from_secs(60));
        assert_reason(&place.look(None), "nothing", "expected a pid");
    }
    fs::remove_file(&place.pidfile).unwrap();
    std::os::unix::fs::symlink("/proc/self/stat", &place.pidfile).unwrap();
    assert_reason(&place.look(None), "unverifiable", "is a symbolic link");
    fs::remove_file(&place.pidfile).unwrap();
    fs::create_dir(&place.pidfile).unwrap();
    assert_reason(&place.look(None), "unverifiable", "is a directory");
}

#[test]
fn a_half_written_pidfile_is_read_again() {
    let place = place();
    let sleeper = Sleeper::spawn();
    for pauses in 1..ROUNDS {
        place.write("");
        let mut paused = 0;
        let write_at_last = || {
            paused += 1;
            if paused == pauses {
                place.write(sleeper.pid());
            }
        };
        let found = by_pidfile_with_pauses(&place.pidfile, write_at_last, |pid, _, _| {
            Ok(verify(pid).unwrap())
        });
        let process = found.result.unwrap();
        assert_eq!(process.identity().pid, sleeper.pid());
        assert_eq!(paused, pauses);
    }
}

#[test]
fn a_pidfile_that_changes_meanwhile_is_read_again_and_then_given_up() {
    let place = place();
    let sleeper = Sleeper::spawn();
    for (changes, expected) in [(0, 1), (1, 2), (3, 4), (99, 4)] {
        place.write(sleeper.pid());
        let mut followed = 0;
        let found = by_pidfile(&place.pidfile, |pid, _, _| {
            followed += 1;
            if followed <= changes {
                // A rename makes another inode.
                let staged = place.pidfile.with_extension("new");
                fs::write(&staged, pid.to_string()).unwrap();
                fs::rename(&staged, &place.pidfile).unwrap();
            }
            Ok(verify(pid).unwrap())
        });
        assert_eq!(followed, expected);
        match found.result {
            Ok(process) => {
                assert!(changes < 4);
                assert_eq!(process.identity().pid, sleeper.pid());
            }
            Err(outcome) => assert_eq!(
                outcome,
                unverifiable(format!(
                    "pidfile `{}` changed 4 times while it was looked at",
                    place.pidfile.display()
                ))
            ),
        }
    }
}

#[test]
fn a_pidfile_removed_meanwhile_counts_as_removed() {
    let place = place();
    let sleeper = Sleeper::spawn();
    place.write(sleeper.pid());
    let found = by_pidfile(&place.pidfile, |pid, _, _| {
        fs::remove_file(&place.pidfile).unwrap();
        Ok(verify(pid).unwrap())
    });
    assert!(matches!(found.result, Err(Outcome::Nothing { .. })));
}

#[test]
fn init_kernel_threads_and_pmon_itself_are_never_accepted() {
    let place = place();
    place.write(1);
    assert_reason(&place.look(None), "unverifiable", "which is init");
    place.write(std::process::id());
    assert_reason(&place.look(None), "unverifiable", "which is pmon itself");
    match fs::read_to_string("/proc/2/comm").as_deref() {
        Ok("kthreadd\n") => {
            place.write(2);
            assert_reason(
                &place.look(None),
                "unverifiable",
                "which is a kernel thread",
            );
            // Left from an earlier boot: just stale.
            place.age(Duration::from_secs(10 * 365 * 86_400));
            assert_reason(&place.look(None), "nothing", "is a stranger");
        }
        Ok(_) | Err(_) => println!("partly skipped: no kernel threads in this pid namespace"),
    }
}

#[test]
fn a_thread_is_nothing_or_unverifiable_by_its_leaders_name() {
    let (send, receive) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        send.send(rustix::thread::gettid()).unwrap();
        stopped.recv().ok();
    });
    let place = place();
    place.write(receive.recv().unwrap().as_raw_nonzero().get());
    assert_reason(&place.look(None), "nothing", "thread of a stranger");
    let mut named = spec(Some(place.pidfile));
    let exe = std::env::current_exe().unwrap();
    named.name = exe.file_name().unwrap().to_str().unwrap().to_owned();
    assert_reason(
        &look(&request(named, None)),
        "unverifiable",
        "expected the process itself",
    );
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_process_younger_than_its_pidfile_needs_a_name_that_fits() {
    let place = place();
    let sleeper = Sleeper::spawn();
    place.write(sleeper.pid());
    place.age(Duration::from_secs(3600));
    assert_reason(&place.look(None), "nothing", "is a stranger: it started at");
    let mut named = spec(Some(place.pidfile.clone()));
    named.start = StartMethod::Command(CommandSpec {
        argv: vec!["/usr/bin/sleep".to_owned()],
        environment: BTreeMap::new(),
        directory: "/".into(),
        user: None,
        group: None,
        daemonizes: true,
        log: None,
        early: false,
        sockets: Vec::new(),
    });
    assert!(look(&request(named, None)).process.is_some());
    // Known already: its names are nobody's business.
    let known = Remembered {
        identity: verify(sleeper.pid()).unwrap().identity(),
        stamp: None,
    };
    assert!(place.look(Some(known)).process.is_some());
}

#[test]
fn a_pidfile_that_anybody_can_write_is_not_trusted() {
    let place = place();
    let sleeper = Sleeper::spawn();
    place.write(sleeper.pid());
    fs::set_permissions(&place.pidfile, fs::Permissions::from_mode(0o666)).unwrap();
    assert_reason(&place.look(None), "unverifiable", "everybody may write");
}

#[test]
fn without_a_pidfile_the_known_process_counts() {
    let mut sleeper = Sleeper::spawn();
    let identity = verify(sleeper.pid()).unwrap().identity();
    let ask = |identity| {
        let known = Remembered {
            identity,
            stamp: None,
        };
        look(&request(spec(None), Some(known)))
    };
    assert_reason(&look(&request(spec(None), None)), "nothing", "no process");
    assert_eq!(ask(identity).process.unwrap().identity(), identity);
    let other = Identity {
        start_time: identity.start_time - 1,
        ..identity
    };
    assert_reason(&ask(other), "nothing", "a stranger's");
    sleeper.end();
    assert_reason(&ask(identity), "nothing", "is gone");
}

#[test]
fn a_lost_pidfile_does_not_hide_the_known_process() {
    let place = place();
    let sleeper = Sleeper::spawn();
    place.write(sleeper.pid());
    let first = place.look(None);
    let known = Remembered {
        identity: first.process.unwrap().identity(),
        stamp: first.stamp,
    };
    fs::remove_file(&place.pidfile).unwrap();
    let look = place.look(Some(known));
    assert_reason(&look, "nothing", "is still alive");
    assert_eq!(look.known_alive.unwrap().identity(), known.identity);

    let other = Sleeper::spawn();
    place.write(other.pid());
    let look = place.look(Some(known));
    assert_eq!(look.process.unwrap().identity().pid, other.pid());
    assert_eq!(look.known_alive.unwrap().identity(), known.identity);
}

#[test]
fn a_running_init_script_is_seen_when_asked_for() {
    let place = place();
    let script = place.pidfile.with_extension("sh");
    executable(&script, "#!/bin/sh\nread line\n");
    let mut spec = spec(Some(place.pidfile));
    spec.start = StartMethod::Script {
        path: script.clone(),
    };
    let mut request = request(spec, None);
    let mut child = Command::new(&script)
        .arg("restart")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while fs::read(format!("/proc/{}/cmdline", child.id()))
        .unwrap()
        .is_empty()
    {
        thread::yield_now();
    }
    assert_eq!(look(&request).sighting.foreign_script, None);
    request.check_foreign_script = true;
    assert_eq!(look(&request).sighting.foreign_script, Some(child.id()));
    request.own_scripts = Arc::new(HashSet::from([child.id()]));
    assert_eq!(look(&request).sighting.foreign_script, None);
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Makes the kernel hand out `pid` to a new process, or says why it will not.
fn spawn_as(pid: u32) -> Result<Sleeper, String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
            .map_err(|error| format!("cannot set ns_last_pid: {error}"))?;
        let sleeper = Sleeper::spawn();
        if sleeper.pid() == pid {
            return Ok(sleeper);
        }
        if Instant::now() > deadline {
            return Err("other processes were quicker all the time".to_owned());
        }
    }
}

/// Runs itself once more in a pid namespace of its own: the pids of other tests'
/// dead processes shall not be handed out anew.
#[test]
fn a_stranger_with_a_reused_pid_is_nothing() {
    const INNER: &str = "PMON_TEST_OWN_PIDS";
    if std::env::var_os(INNER).is_some() {
        reuse_a_pid();
        return;
    }
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("look::tests::a_stranger_with_a_reused_pid_is_nothing")
        .env(INNER, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("unshare failed") {
        println!("SKIP: no pid namespace of its own: {stderr}");
        return;
    }
    assert!(output.status.success(), "{stdout}{stderr}");
    if let Some(why) = stdout.lines().find(|line| line.starts_with("SKIP: ")) {
        println!("{why}");
    } else {
        assert!(stdout.contains("inner test passed"), "{stdout}");
    }
}

fn reuse_a_pid() {
    let place = place();
    let mut first = Sleeper::spawn();
    let pid = first.pid();
    place.write(pid);
    let look = place.look(None);
    let known = Remembered {
        identity: look.process.unwrap().identity(),
        stamp: look.stamp,
    };
    first.end();
    thread::sleep(Duration::from_millis(20));
    let stranger = match spawn_as(pid) {
        Ok(stranger) => stranger,
        Err(why) => {
            println!("SKIP: {why}");
            return;
        }
    };
    let found = verify(stranger.pid()).unwrap().identity();
    assert_eq!(found.pid, known.identity.pid);
    assert_ne!(found, known.identity);

    // The stamp says it for certain, however alike the two are.
    let mut alike = spec(Some(place.pidfile.clone()));
    alike.name = "sleep".to_owned();
    let look = super::look(&request(alike, Some(known)));
    assert_reason(&look, "nothing", "has been reused");
    assert!(look.known_alive.is_none());

    // Nothing known, as after a loss of the state: the times say it.
    place.age(Duration::from_secs(10));
    assert_reason(&place.look(None), "nothing", "is a stranger");

    // Without a pidfile.
    let by_memory = super::look(&request(spec(None), Some(known)));
    assert_reason(&by_memory, "nothing", "a stranger's");

    // Its own pidfile, written anew, makes it the entity's process.
    place.write(pid);
    assert_eq!(place.look(Some(known)).process.unwrap().identity(), found);
    println!("inner test passed");
}
