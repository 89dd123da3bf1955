//! The kernel counts the runs of its programs only while somebody looks, and
//! what nobody counted is unknown, not 0.

use std::{
    fs,
    process::{Command, Stdio},
};

use pmon_tests::{
    daemon::{self, Answer, Daemon, LONG},
    place::Place,
    privilege,
    process::Process,
    script::foreground_entity,
    skip_if, wait,
};
use serde_json::Value;

/// Whether this process has the kernel count (`bpf_enable_runtime_stats` of
/// `kernel/bpf/syscall.c` gives the descriptor its name).
fn counts(pid: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut links = descriptors.flatten().map(|it| fs::read_link(it.path()));
    links.any(|link| link.is_ok_and(|link| link.as_os_str() == "anon_inode:bpf-stats"))
}

fn unknown(view: &Value, why: &str) {
    assert_eq!(view["counted_s"], Value::Null);
    let said = view["uncounted"].as_str().unwrap();
    assert!(said.contains(why), "{said}");
    let programs = view["programs"].as_array().unwrap();
    assert!(!programs.is_empty());
    for program in programs {
        assert_eq!(program["run_count"], Value::Null, "{program:#}");
        assert_eq!(program["ns_per_run"], Value::Null, "{program:#}");
    }
}

#[test]
fn and_no_longer() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let first = daemon.up(&name);
    unknown(
        &daemon.json(&["bpf", "show", "--seconds", "0"]),
        "not asked for",
    );
    assert!(!counts(daemon.pid()));

    let mut client = daemon.client(&["bpf", "show", "--seconds", "3", "-o", "json"]);
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    wait::until("the kernel counts", LONG, || {
        counts(daemon.pid()).then_some(())
    });
    // What is started meanwhile does not keep it counting.
    Process::open(first).unwrap().kill();
    let successor = wait::until("it has a successor", LONG, || {
        let pid = daemon.entity(&name)["pid"].as_u64()?;
        let pid = u32::try_from(pid).unwrap();
        (pid != first).then_some(pid)
    });
    assert!(!counts(successor));
    assert_eq!(client.try_wait().unwrap(), None, "it still looks");
    let output = client.wait_with_output().unwrap();
    let answer = Answer {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::new(),
    };
    let view = answer.json();
    assert!(view["counted_s"].as_f64().unwrap() >= 3.0, "{view:#}");
    assert_eq!(view["uncounted"], Value::Null);
    // At least the killed one's exit, each thread's own.
    let exit = &view["programs"][0];
    assert!(exit["run_count"].as_u64().unwrap() >= 1, "{exit:#}");
    assert!(exit["ns_per_run"].as_f64().unwrap() > 0.0, "{exit:#}");
    assert!(!counts(daemon.pid()));

    let too_long = daemon.ask(&["bpf", "show", "--seconds", "21"]);
    assert_eq!(too_long.code, Some(2), "{too_long:?}");
}

#[test]
fn and_not_without_the_privilege() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("setpriv"));
    let place = Place::new();
    place.configure("");
    let kept = "-all,+bpf,+perfmon";
    let setpriv = ["setpriv", "--bounding-set", kept, "--inh-caps", kept];
    let daemon = Daemon::launch(&place, daemon::command_behind(&setpriv, &place));
    unknown(&daemon.json(&["bpf", "show"]), "CAP_SYS_ADMIN");
    let human = daemon.ask(&["bpf", "show"]).stdout;
    assert!(human.contains("runs unknown: "), "{human}");
}

#[test]
fn and_not_where_there_is_nothing() {
    let place = Place::new();
    place.configure("");
    let mut command: Command = daemon::command(&place);
    command.args(["--source", "pidfd"]);
    let daemon = Daemon::launch(&place, command);
    let view = daemon.json(&["bpf", "show"]);
    assert!(view["off"].as_str().unwrap().contains("pidfd"), "{view:#}");
    assert_eq!(view["counted_s"], Value::Null);
    assert_eq!(view["log"], Value::Null);
    assert_eq!(view["links"], serde_json::json!([]));
}
