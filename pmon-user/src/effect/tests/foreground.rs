//! Programs that are themselves the monitored process, and what they find
//! around themselves.

use std::{fs::File, sync::Mutex};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

/// RLIMIT_NPROC is the process's and counts for other users only: tests that
/// switch the user take turns.
static USER_SWITCH: Mutex<()> = Mutex::new(());

/// Says everything about itself, then stays.
const PORTRAIT: &str = "tr '\\0' '\\n' </proc/$$/environ >DIR/environ
    pwd -P >DIR/cwd; umask >DIR/umask
    echo hello; echo ready >DIR/ready; exec sleep 1000";

fn portrait(fixture: &Fixture, change: impl FnOnce(&mut CommandSpec)) -> (EntitySpec, VerifiedPid) {
    let directory = fixture.directory.path().to_str().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    let text = PORTRAIT.replace("DIR", directory);
    let mut command = command(&["/bin/sh", "-c", &text]);
    change(&mut command);
    let spec = spec(StartMethod::Command(command));
    fixture.start("entity", &spec);
    let (end, process) = fixture.end();
    let process = process.unwrap();
    assert_eq!(end, StartEnd::Running(process.identity()));
    assert_eq!(fixture.read("ready"), "ready\n");
    settle(&process);
    (spec, process)
}

/// Waits until the shell, with its own descriptors and signals, has become
/// `sleep`, and that has opened and closed its libraries.
fn settle(process: &VerifiedPid) {
    let syscall = format!("/proc/{}/syscall", process.identity().pid);
    let sleeping = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
    eventually(|| {
        let number = fs::read_to_string(&syscall).unwrap();
        let number = number.split(' ').next()?.parse().ok()?;
        (stat(process).comm == "sleep" && sleeping.contains(&number)).then_some(())
    });
}

fn status(process: &VerifiedPid, field: &str) -> String {
    fs::read_to_string(format!("/proc/{}/status", process.identity().pid))
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn descriptors(process: &VerifiedPid) -> Vec<(u32, PathBuf)> {
    let directory = format!("/proc/{}/fd", process.identity().pid);
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            (number, fs::read_link(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn kill(process: &VerifiedPid) {
    process.signal(9).unwrap();
    assert_dies(process);
    // Reaped, not just dead.
    let proc = format!("/proc/{}", process.identity().pid);
    eventually(|| (!Path::new(&proc).exists()).then_some(()));
}

fn end(fixture: &Fixture, process: &VerifiedPid) {
    kill(process);
    fixture.shutdown();
    if let Some(parent) = &fixture.settings.cgroup_parent {
        assert!(!parent.exists());
    }
}

#[test]
fn a_program_finds_nothing_of_pmons() {
    let fixture = Fixture::new();
    // dup(2) clears close-on-exec: a descriptor that would be inherited.
    let leak = rustix::io::dup(File::open("/etc/hostname").unwrap()).unwrap();
    let log = fixture.path("own.log");
    let (_, process) = portrait(&fixture, |command| {
        command.environment = BTreeMap::from([
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("GREETING".to_owned(), "a b=c".to_owned()),
        ]);
        command.directory = "/usr".into();
        command.log = Some(log.clone());
    });
    drop(leak);
    assert_eq!(
        fixture.read("environ"),
        "GREETING=a b=c\nLANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    );
    assert_eq!(
        descriptors(&process),
        [(0, "/dev/null".into()), (1, log.clone()), (2, log)]
    );
    assert_eq!(fixture.read("own.log"), "hello\n");
    assert_eq!(fixture.read("cwd"), "/usr\n");
    assert_eq!(fixture.read("umask"), "0022\n");
    for field in ["SigBlk", "SigIgn", "ShdPnd"] {
        assert_eq!(status(&process, field), "0000000000000000", "{field}");
    }
    let stat = stat(&process);
    assert_eq!((stat.session, stat.pgrp), (stat.pid, stat.pid));
    assert_eq!(stat.tty_nr, 0);
    end(&fixture, &process);
}

#[test]
fn its_status_is_told_when_it_is_reaped() {
    let fixture = Fixture::new();
    let (_, process) = portrait(&fixture, |_| {});
    kill(&process);
    let (_, report) = fixture.reports.recv_timeout(LONG).unwrap();
    let Report::Reaped {
        process: reaped,
        status,
    } = report
    else {
        panic!("{report:?}")
    };
    assert_eq!((reaped, status.0), (process.identity(), 9));
    fixture.shutdown();
}

#[test]
fn a_start_that_is_cancelled_ends_the_program_that_it_has_become() {
    let fixture = Fixture::new();
    let (_, process) = portrait(&fixture, |_| {});
    // The core had not heard of it yet, and will not be told of its end either.
    fixture.submit("entity", Job::CancelStart);
    assert_dies(&process);
    fixture.assert_silence();
}

#[test]
fn another_start_leaves_a_running_program_alone() {
    let fixture = Fixture::new();
    let (spec, process) = portrait(&fixture, |_| {});
    fs::remove_file(fixture.path("ready")).unwrap();
    fixture.start("entity", &spec);
    let second = fixture.end().1.unwrap();
    assert_eq!(fixture.read("ready"), "ready\n");
    assert!(!process.is_dead() && !second.is_dead());
    kill(&process);
    end(&fixture, &second);
    fixture.assert_silence();
}

#[test]
fn a_program_that_ends_at_once_is_either_seen_running_or_seen_ending() {
    let fixture = Fixture::new();
    for _ in 0..20 {
        let spec = spec(StartMethod::Command(command(&["/bin/false"])));
        match fixture.run(&spec) {
            StartEnd::Running(_) => {}
            end @ (StartEnd::Exited { .. }
            | StartEnd::Signalled { .. }
            | StartEnd::TimedOut
            | StartEnd::Untold
            | StartEnd::JobFailed { .. }
            | StartEnd::Yielded { .. }
            | StartEnd::NotExecuted { .. }) => assert_eq!(end, exited(1, "")),
        }
    }
}

#[test]
fn a_program_runs_as_its_user() {
    if !is_root("a user switch") {
        return;
    }
    let _turn = USER_SWITCH.lock().unwrap();
    let fixture = Fixture::new();
    let (_, process) = portrait(&fixture, |command| command.user = Some("daemon".to_owned()));
    for field in ["Uid", "Gid"] {
        assert_eq!(status(&process, field), "1 1 1 1");
    }
    assert_eq!(status(&process, "Groups"), "1");
    assert_eq!(status(&process, "CapEff"), "0000000000000000");
    let environ = fixture.read("environ");
    for variable in ["HOME=/usr/sbin", "USER=daemon", "LOGNAME=daemon"] {
        assert!(environ.lines().any(|line| line == variable), "{environ}");
    }
    assert_eq!(fixture.read("log/entity.log"), "hello\n");
    end(&fixture, &process);

    let fixture = Fixture::new();
    let (_, process) = portrait(&fixture, |command| {
        command.user = Some("54321".to_owned());
        command.group = Some("nogroup".to_owned());
    });
    assert_eq!(status(&process, "Uid"), "54321 54321 54321 54321");
    assert_eq!(status(&process, "Gid"), "65534 65534 65534 65534");
    assert_eq!(status(&process, "Groups"), "65534");
    end(&fixture, &process);
}

/// Gives the limit back, also when the test fails: it is every test's.
struct Restore(Rlimit);

impl Drop for Restore {
    fn drop(&mut self) {
        setrlimit(Resource::Nproc, self.0).unwrap();
    }
}

/// A user with one process, which is more than it may have from now on:
/// execve(2) fails with EAGAIN after a change to this user. Runs `true` as it.
fn start_beyond_the_limit(fixture: &Fixture, uid: &str) -> (VerifiedPid, Restore) {
    let switched = |argv: &[&str], daemonizes| {
        spec(StartMethod::Command(CommandSpec {
            user: Some(uid.to_owned()),
            group: Some(uid.to_owned()),
            daemonizes,
            ..command(argv)
        }))
    };
    fixture.start("first", &switched(&["/bin/sleep", "1000"], false));
    let first = fixture.end().1.unwrap();
    let limit = getrlimit(Resource::Nproc);
    let none = Rlimit {
        current: Some(0),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nproc, none).unwrap();
    let restore = Restore(limit);
    fixture.start("entity", &switched(&["/bin/true"], true));
    (first, restore)
}

#[test]
fn eagain_that_stays_is_not_executed_after_two_seconds() {
    if !is_root("RLIMIT_NPROC of another user") {
        return;
    }
    let _turn = USER_SWITCH.lock().unwrap();
    let fixture = Fixture::new();
    let begun = Instant::now();
    let (first, limited) = start_beyond_the_limit(&fixture, "54322");
    let report = fixture.end().0;
    drop(limited);
    assert_not_executed(&report, &["`/bin/true`: execve: EAGAIN", "7 tries"]);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    end(&fixture, &first);
}

#[test]
fn eagain_that_passes_is_no_failure() {
    if !is_root("RLIMIT_NPROC of another user") {
        return;
    }
    let _turn = USER_SWITCH.lock().unwrap();
    let fixture = Fixture::new();
    let (first, limited) = start_beyond_the_limit(&fixture, "54323");
    let early = fixture.reports.recv_timeout(Duration::from_millis(400));
    drop(limited);
    assert!(early.is_err(), "{early:?}");
    assert_eq!(fixture.end().0, exited(0, ""));
    end(&fixture, &first);
}
