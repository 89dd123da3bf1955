//! Debian's own `openssh-server`, `cron` and `nginx`, monitored through their
//! own init scripts: with the shipped pmon.d file for sshd and two in its style.
//!
//! What must stay true is told by the event stream: one death is one hint from
//! the kernel, one recovery and one instance afterwards; what an operator's
//! init script does is neither doubled nor fought.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod daemon;
mod sandbox;
mod service;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use daemon::{Daemon, Event, wait_for};
use pmon_tests::daemon::LONG;
use service::Service;

/// SIGKILLs per service.
const KILLS: usize = 10;
/// Longer than `startuptime` and `debounce` of a hurried service together.
const QUIET: Duration = Duration::from_secs(3);

#[test]
fn sshd_is_recovered() {
    sandbox::run(
        "sshd_is_recovered",
        service::missing(&["/usr/sbin/sshd"]),
        || {
            life_of(&service::sshd().hurried());
        },
    );
}

#[test]
fn cron_is_recovered() {
    sandbox::run(
        "cron_is_recovered",
        service::missing(&["/usr/sbin/cron"]),
        || {
            life_of(&service::cron().hurried());
        },
    );
}

#[test]
fn nginx_is_recovered() {
    sandbox::run(
        "nginx_is_recovered",
        service::missing(&["/usr/sbin/nginx"]),
        || {
            life_of(&service::nginx().hurried());
        },
    );
}

/// All of them in one daemon, with the times of their files.
#[test]
fn with_their_own_times() {
    let missing = service::missing(&["/usr/sbin/sshd", "/usr/sbin/cron", "/usr/sbin/nginx"]);
    sandbox::run("with_their_own_times", missing, || {
        let services = [service::sshd(), service::cron(), service::nginx()];
        let _cleaning = Cleaning(&services);
        for service in &services {
            service.script("start");
        }
        let directory = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(directory.path(), &services);
        for service in &services {
            daemon.wait_told(0, service.entity, "registered");
            assert_eq!(count(&daemon.since(0, service.entity), "spawned"), 0);
        }
        let mark = daemon.told();
        let killed: Vec<u32> = services.iter().map(Service::the_one).collect();
        for (service, &pid) in services.iter().zip(&killed) {
            service.kill(pid);
        }
        for (service, &pid) in services.iter().zip(&killed) {
            daemon.wait_told(mark, service.entity, "recovered");
            assert_recovery(&daemon, service, mark, pid);
        }
        daemon.assert_nothing_lost();
        end("all", daemon, &services);
    });
}

/// Everything one service goes through.
fn life_of(service: &Service) {
    let services = std::slice::from_ref(service);
    let _cleaning = Cleaning(services);
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), services);
    wait_for("canary of the kernel source", QUIET * 20, || {
        let status = daemon.ask(&["status"]);
        (status["sources"][0]["state"] == "healthy").then_some(())
    });
    is_started_when_missing(&daemon, service);
    for _ in 0..KILLS {
        is_recovered_from_a_kill(&daemon, service);
    }
    if service.workers {
        leaves_the_death_of_a_worker_alone(&daemon, service);
    }
    is_restarted_by_hand(&daemon, service);
    is_recovered_from_a_stop_by_hand(&daemon, service);
    let status = daemon.entity(service.entity);
    // The kills, and the two that an operator's script brought.
    assert_eq!(status["deaths_24h"], KILLS + 2, "{status:#}");
    assert_eq!(status["alarm"], serde_json::Value::Null, "{status:#}");
    daemon.assert_nothing_lost();
    end(service.entity, daemon, services);
}

fn is_started_when_missing(daemon: &Daemon, service: &Service) {
    daemon.wait_told(0, service.entity, "recovered");
    let told = daemon.since(0, service.entity);
    assert_eq!(count(&told, "spawned"), 1, "{told:#?}");
    assert_calm(&told);
    let status = daemon.entity(service.entity);
    assert_eq!(status["pid"], service.the_one(), "{status:#}");
}

fn is_recovered_from_a_kill(daemon: &Daemon, service: &Service) {
    let old = service.the_one();
    let mark = daemon.told();
    let killed_at = Instant::now();
    service.kill(old);
    daemon.wait_told(mark, service.entity, "recovered");
    println!(
        "{} ({old}) killed, stable again after {:.1} s",
        service.entity,
        killed_at.elapsed().as_secs_f64()
    );
    assert_recovery(daemon, service, mark, old);
}

/// What was told since `mark` is the recovery from one death of `old`.
fn assert_recovery(daemon: &Daemon, service: &Service, mark: usize, old: u32) {
    let new = service.the_one();
    assert_ne!(new, old);
    let told = daemon.since(mark, service.entity);
    for (kind, times) in [
        ("hint", 1),
        ("died", 1),
        ("spawned", 1 + service.failures()),
        ("attempt_failed", service.failures()),
        // The workers that were in the way.
        ("leftovers", service.failures()),
        ("registered", 1),
        ("recovered", 1),
    ] {
        assert_eq!(count(&told, kind), times, "`{kind}` in {told:#?}");
    }
    let of_kind = |kind: &str| told.iter().find(|event| event.kind == kind).unwrap();
    assert!(of_kind("hint").text.starts_with("ebpf "), "{told:#?}");
    assert_eq!(of_kind("hint").pid, Some(old));
    assert_eq!(of_kind("died").pid, Some(old));
    assert_eq!(of_kind("registered").pid, Some(new));
    assert_eq!(of_kind("recovered").pid, Some(new));
    assert_calm(&told);
    let death = &daemon.ask(&["history", service.entity])["incidents"][0]["death"];
    assert_eq!(death["pid"], old, "{death:#}");
    assert_eq!(death["signal"], 9, "{death:#}");
    assert_eq!(death["detected_by"], "ebpf", "{death:#}");
}

/// The death of a worker is the master's business.
fn leaves_the_death_of_a_worker_alone(daemon: &Daemon, service: &Service) {
    let master = service.the_one();
    let worker = service.workers(master)[0];
    let mark = daemon.told();
    service.kill(worker);
    wait_for("another worker", LONG, || {
        let workers = service.workers(master);
        (!workers.is_empty() && !workers.contains(&worker)).then_some(())
    });
    thread::sleep(QUIET);
    let told = daemon.since(mark, service.entity);
    assert!(told.is_empty(), "{told:#?}");
    assert_eq!(service.the_one(), master);
}

fn is_restarted_by_hand(daemon: &Daemon, service: &Service) {
    let old = service.the_one();
    let mark = daemon.told();
    service.script("restart");
    let new = wait_for("settled successor", LONG, || {
        let status = daemon.entity(service.entity);
        let pid = service.main_process()?;
        (pid != old && status["pid"] == pid && status["stage"] == "manage").then_some(pid)
    });
    thread::sleep(QUIET);
    let told = daemon.since(mark, service.entity);
    assert_eq!(count(&told, "spawned"), 0, "{told:#?}");
    assert_eq!(count(&told, "registered"), 1, "{told:#?}");
    assert_calm(&told);
    assert_eq!(service.the_one(), new);
}

fn is_recovered_from_a_stop_by_hand(daemon: &Daemon, service: &Service) {
    let old = service.the_one();
    let mark = daemon.told();
    service.script("stop");
    daemon.wait_told(mark, service.entity, "recovered");
    let told = daemon.since(mark, service.entity);
    assert_eq!(count(&told, "died"), 1, "{told:#?}");
    assert_eq!(count(&told, "spawned"), 1, "{told:#?}");
    assert_eq!(count(&told, "registered"), 1, "{told:#?}");
    assert_calm(&told);
    assert_ne!(service.the_one(), old);
}

/// An operator stops the services through pmon; nothing of them is left but the
/// daemon's log, in the target directory.
fn end(name: &str, daemon: Daemon, services: &[Service]) {
    for service in services {
        let mark = daemon.told();
        sandbox::succeed(&mut daemon.verb(&["stop", service.entity]));
        daemon.wait_told(mark, service.entity, "stopped");
        wait_for("end of the last process", LONG, || {
            service.masters().is_empty().then_some(())
        });
        let told = daemon.since(mark, service.entity);
        assert_eq!(count(&told, "spawned"), 0, "{told:#?}");
    }
    let log = daemon.stop();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("real-services-{name}.log"));
    fs::write(&path, log).unwrap();
    println!("the log is in `{}`", path.display());
}

fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| event.kind == kind).count()
}

/// Nothing was told that has no place in these stories.
fn assert_calm(events: &[Event]) {
    const UNEXPECTED: [&str; 7] = [
        "trouble",
        "unverifiable",
        "not_registered",
        "unkillable",
        "gave_up",
        "pid_changed",
        "alarm_raised",
    ];
    for event in events {
        assert!(!UNEXPECTED.contains(&event.kind.as_str()), "{events:#?}");
    }
}

/// Whatever happens, no service outlives its test.
struct Cleaning<'a>(&'a [Service]);

impl Drop for Cleaning<'_> {
    fn drop(&mut self) {
        for service in self.0 {
            service.clear_away();
        }
    }
}
