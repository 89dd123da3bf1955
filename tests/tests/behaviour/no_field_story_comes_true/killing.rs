//! Stories of a monitor that its own doings and its own signals brought down.

use std::fs;

use pmon_tests::{
    daemon::{self, Daemon, LONG},
    order,
    place::Place,
    privilege,
    process::{self, Process},
    script::{entity, foreground, foreground_entity, quoted},
    skip_if,
    starlingx::{self, Host, Hostwd, healthy},
    wait,
};
use rustix::process::Signal;

/// S1: pmond killed a process that it had registered, its own death signal came
/// back to it in the middle of something, and it hung: one restart in 25 during
/// patching, and hostwd rebooted the host.
#[test]
fn s01_a_process_that_is_killed_for_a_restart_is_no_death() {
    const SERVICES: usize = 6;
    const ROUNDS: usize = 40;
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    let hostwd = Hostwd::new();
    let names: Vec<String> = (0..SERVICES)
        .map(|number| place.name(&format!("patched{number}")))
        .collect();
    let entities: String = names.iter().map(|name| daemonizing(&place, name)).collect();
    let daemon = host.served(&place, &entities);
    for name in &names {
        let _pid = daemon.up(name);
    }
    let events = daemon.events();
    let mark = events.mark();
    let mut petted = 0;
    let mut restart = vec!["restart", "--wait"];
    restart.extend(names.iter().map(String::as_str));
    for round in 1..=ROUNDS {
        let answer = daemon.ask(&restart);
        assert_eq!(answer.code, Some(0), "round {round}: {answer:?}");
        for message in hostwd.waiting() {
            assert_eq!(message, healthy(), "round {round}");
            petted += 1;
        }
        if round % 10 == 0 {
            host.pulses_still();
        }
    }
    assert!(petted > 0, "hostwd was told nothing all the while");
    hostwd.petted(1);
    for name in &names {
        let pid = daemon.up(name);
        assert_eq!(process::instances(name), [pid]);
        let entity = daemon.entity(name);
        assert_eq!(entity["restarts"]["operator"], ROUNDS, "{entity:#}");
        assert_eq!(entity["restarts"]["auto"], 1, "only the first start");
        assert_eq!(entity["deaths_1h"], 0, "{entity:#}");
        assert!(entity["alarm"].is_null(), "{entity:#}");
    }
    let told = events.all();
    for event in told.iter().skip(mark) {
        let harm = [
            "died",
            "hint",
            "first_failure",
            "attempt_failed",
            "alarm_raised",
        ];
        assert!(!harm.contains(&event.kind.as_str()), "{event:?}");
    }
    assert_eq!(starlingx::troubles(&daemon), [""; 0]);
    // Unregistered, then the pidfile, then the signal: each of them.
    let kills = SERVICES * ROUNDS;
    let _seen = wait::until_seen(
        "each kill is in the trace",
        LONG,
        || order::check(&daemon.log()),
        |seen| {
            seen.as_ref()
                .is_ok_and(|seen| seen.signals >= kills && seen.pidfiles >= kills)
        },
    );
}

/// A daemon with a pidfile that is killed at once, as pmond does.
fn daemonizing(place: &Place, name: &str) -> String {
    let pidfile = place.path(&format!("{name}.pid"));
    let options = ["--background", "--pidfile", &pidfile.to_string_lossy()];
    let (command, pidfile) = (foreground(name, &options), quoted(&pidfile));
    entity(
        name,
        &[
            ("command", &command),
            ("daemonizes", "true"),
            ("pidfile", &pidfile),
            ("stop", "\"kill-first\""),
        ],
    )
}

/// A mask of `/proc/PID/status`, as the set of its signals.
fn signals(pid: u32, mask: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(mask));
    let bits = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
    (1..=64)
        .filter(|signal| bits >> (signal - 1) & 1 == 1)
        .collect()
}

/// The first real-time signal that the C library leaves to programs: SIGRTMIN of
/// glibc (signal(7)), which was 34 when pmond's clashed.
const FIRST_REAL_TIME: u32 = 34;

/// S2: timers and deaths came as SIGRTMIN and SIGRTMIN+1, which other parts of
/// the program used as well: no timer was recognised, and a handler deadlocked.
/// Here there are no such signals, so it does not matter who else uses them.
#[test]
fn s02_no_real_time_signal_is_used_for_anything() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    // Whoever starts it has blocked all of them.
    let command = daemon::command_behind(&["env", "--block-signal"], &place);
    let daemon = Daemon::launch(&place, command);
    let first = daemon.up(&name);
    for mask in ["SigCgt:", "SigBlk:", "SigIgn:"] {
        let set = signals(daemon.pid(), mask);
        let real_time = |signal: &&u32| **signal >= FIRST_REAL_TIME;
        assert_eq!(set.iter().find(real_time), None, "{mask} {set:?}");
        if mask != "SigCgt:" {
            let of_service = signals(first, mask);
            assert_eq!(of_service.iter().find(real_time), None, "{mask}");
        }
    }
    // Deaths and timers (`startuptime`, `debounce`, `interval`) are noticed.
    let events = daemon.events();
    let mark = events.mark();
    Process::open(first).unwrap().kill();
    for kind in ["died", "recovered"] {
        events.after(mark, kind, LONG, |event| event.is(&name, kind));
    }
    assert_ne!(daemon.up(&name), first);
    // proc_pid_timers(5), where the kernel has it: no timer of POSIX's, which would
    // have to say what it is by a signal.
    let timers = fs::read_to_string(format!("/proc/{}/timers", daemon.pid()));
    assert_eq!(timers.unwrap_or_default(), "");
    // Ordinary signals do what they say.
    let process = Process::open(daemon.pid()).unwrap();
    process.signal(Signal::HUP).unwrap();
    wait::until("it has reloaded", LONG, || {
        (daemon.status()["daemon"]["config_generation"].as_u64() > Some(1)).then_some(())
    });
}
