//! Without BTF, bpffs, capabilities or root the daemon runs with what is left,
//! says what it lost, and still notices a death and makes it good.

use std::{fs, os::unix::fs::chown, process::Command};

use pmon_tests::{
    daemon::{self, Daemon, LONG, source},
    kernel::{self, Version},
    place::Place,
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if, wait,
};

/// Without the kernel program: the proc connector and the pidfds are a matter of
/// microseconds apart, and not every kernel gives the connector to everybody.
const OTHERS: &[&str] = &["proc-connector", "pidfd"];

/// Starts the daemon with `command`; a kill is recovered, and the death is seen
/// by one of `detected_by`.
fn still_recovers(
    place: &Place,
    detected_by: &[&str],
    command: impl FnOnce(&Place) -> Command,
) -> serde_json::Value {
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::launch(place, command(place));
    let events = daemon.events();
    let pid = daemon.up(&name);
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });
    let successor = daemon.up(&name);
    assert_eq!(process::instances(&name), [successor]);
    let death = daemon.entity(&name)["last_death"].clone();
    let by = death["detected_by"].as_str().unwrap_or_default();
    assert!(detected_by.contains(&by), "{death:#}");
    assert_eq!(death["pid"], pid);
    let status = daemon.status();
    println!("degraded: {:#}", status["degraded"]);
    let human = daemon.ask(&["status"]);
    assert_eq!(human.code, Some(0), "{human:?}");
    assert!(daemon.terminate().success());
    status
}

fn ebpf_is_off(status: &serde_json::Value, because: &str) {
    let ebpf = source(status, "ebpf");
    assert_eq!(ebpf["state"], "off", "{ebpf:#}");
    let reason = ebpf["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(because), "`{because}` in: {reason}");
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains(because), "`{because}` in: {degraded}");
    assert_eq!(source(status, "pidfd")["state"], "healthy");
}

/// Runs the daemon in a mount namespace of its own after `mounts`.
fn in_own_mounts(place: &Place, mounts: &str) -> Command {
    let script = format!("{mounts} && exec \"$@\"");
    daemon::command_behind(
        &[
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ],
        place,
    )
}

#[test]
fn without_btf() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    // What is left of the kernel program tells of every thread's exit, and
    // no more: any source may be the first.
    let all = [&["ebpf"], OTHERS].concat();
    let status = still_recovers(&place, &all, |place| {
        in_own_mounts(place, "mount -t tmpfs none /sys/kernel/btf")
    });
    assert_ne!(source(&status, "ebpf")["state"], "off");
    let degraded = status["degraded"].to_string();
    for lost in ["`pmon_exit`", "`pmon_signal`", "/sys/kernel/btf/vmlinux"] {
        assert!(degraded.contains(lost), "`{lost}` in: {degraded}");
    }
}

#[test]
fn without_bpffs() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let status = still_recovers(&place, &["ebpf"], |place| {
        in_own_mounts(place, "mount -t tmpfs none /sys/fs/bpf")
    });
    assert_ne!(source(&status, "ebpf")["state"], "off");
    assert_eq!(status["daemon"]["pin_dir"], serde_json::Value::Null);
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("not pinned"), "{degraded}");
    assert!(degraded.contains("mount -t bpf"), "no remedy: {degraded}");
}

#[test]
fn without_cap_bpf() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("setpriv"));
    let place = Place::new();
    let dropped = "-bpf,-sys_admin,-perfmon";
    let status = still_recovers(&place, OTHERS, |place| {
        daemon::command_behind(
            &["setpriv", "--bounding-set", dropped, "--inh-caps", dropped],
            place,
        )
    });
    ebpf_is_off(&status, "CAP_BPF");
}

#[test]
fn without_cap_sys_nice() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("setpriv"));
    let place = Place::new();
    let status = still_recovers(&place, &["ebpf"], |place| {
        daemon::command_behind(
            &[
                "setpriv",
                "--bounding-set",
                "-sys_nice",
                "--inh-caps",
                "-sys_nice",
            ],
            place,
        )
    });
    let scheduling = status["daemon"]["receiver_scheduling"].to_string();
    assert!(scheduling.contains("other"), "{scheduling}");
    assert!(status["degraded"].to_string().contains("CAP_SYS_NICE"));
}

/// With the two capabilities alone, as a container would give them. Before
/// Linux 5.11 it must be given locked memory, too.
#[test]
fn without_any_other_capability() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("setpriv"));
    let place = Place::new();
    let kept = "-all,+bpf,+perfmon";
    let memory = if kernel::version() < MEMORY_CGROUP {
        "unlimited"
    } else {
        "64"
    };
    let status = still_recovers(&place, &["ebpf"], |place| {
        with_locked_memory(place, memory, &["--bounding-set", kept, "--inh-caps", kept])
    });
    assert_ne!(source(&status, "ebpf")["state"], "off");
}

/// A limit that cannot be raised matters before Linux 5.11 only.
#[test]
fn without_locked_memory() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("setpriv"));
    let place = Place::new();
    let matters = kernel::version() < MEMORY_CGROUP;
    let detected_by = if matters { OTHERS } else { &["ebpf"] };
    let dropped = "-sys_resource";
    let status = still_recovers(&place, detected_by, |place| {
        with_locked_memory(
            place,
            "64",
            &["--bounding-set", dropped, "--inh-caps", dropped],
        )
    });
    if matters {
        ebpf_is_off(&status, "LimitMEMLOCK");
    } else {
        assert_ne!(source(&status, "ebpf")["state"], "off");
    }
}

/// Maps are charged to the memory cgroup and no longer to `RLIMIT_MEMLOCK`.
const MEMORY_CGROUP: Version = Version(5, 11);

/// Runs the daemon with this limit (`ulimit -l`, KiB), then behind setpriv(1)
/// with these options.
fn with_locked_memory(place: &Place, limit: &str, options: &[&str]) -> Command {
    let script = format!("ulimit -l {limit} && exec setpriv \"$@\"");
    let shell = ["sh", "-c", &script, "sh"];
    daemon::command_behind(&[&shell, options].concat(), place)
}

#[test]
fn without_root() {
    skip_if!(privilege::no_root());
    skip_if!(privilege::no_program("setpriv"));
    let place = Place::new();
    for directory in [place.run(), place.state()] {
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(65534), Some(65534)).unwrap();
    }
    // Somebody else's program must be executable for it.
    let status = still_recovers(&place, OTHERS, |place| {
        daemon::command_behind(
            &[
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ],
            place,
        )
    });
    ebpf_is_off(&status, "CAP_BPF");
    assert!(!place.socket().exists());
}

#[test]
fn when_told_to_use_pidfds_alone() {
    let place = Place::new();
    let status = still_recovers(&place, &["pidfd"], |place| {
        let mut command = daemon::command(place);
        command.args(["--source", "pidfd"]);
        command
    });
    assert_eq!(source(&status, "ebpf")["state"], "off");
}

/// State that cannot be written is told, and does not stop the work.
#[test]
fn without_a_state_directory() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    fs::write(place.state(), "in the way").unwrap();
    let status = still_recovers(&place, &["ebpf"], daemon::command);
    let degraded = status["degraded"].to_string();
    assert!(
        degraded.contains(&*place.state().to_string_lossy()),
        "{degraded}"
    );
}

/// The directory goes away while the daemon runs.
#[test]
fn when_the_state_directory_is_taken_away() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&name);
    fs::rename(place.state(), place.path("gone")).unwrap();
    fs::write(place.state(), "in the way").unwrap();
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });
    let status = wait::until_seen(
        "it is told",
        LONG,
        || daemon.status(),
        |status| status["degraded"] != serde_json::json!([]),
    );
    println!("degraded: {:#}", status["degraded"]);
    assert!(
        status["degraded"]
            .to_string()
            .contains("registrations.json")
    );
    // It is put right by itself when the directory is back.
    fs::remove_file(place.state()).unwrap();
    wait::until_seen(
        "it is put right",
        LONG,
        || daemon.status(),
        |status| status["degraded"] == serde_json::json!([]),
    );
}
