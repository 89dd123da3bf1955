//! `pmon-bench detect` end to end, with few deaths: every observer sees every
//! death, the orders that the kernel guarantees hold, and an interrupt leaves no
//! process behind. The figures themselves are not judged here.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pmon-bench");

/// Loading BPF, SCHED_FIFO and the proc connector need root's rights.
fn may_run(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIP: {test}: needs root to load BPF and to use SCHED_FIFO");
    }
    root
}

#[test]
fn every_observer_sees_every_death() {
    if !may_run("every_observer_sees_every_death") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("sub/detect.json");
    let output = Command::new(PROGRAM)
        .args(["detect", "--quick", "--only", "small", "--output"])
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.starts_with("QUICK: "), "{text}");

    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let rows = report["sizes"][0]["rows"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["observer"].as_str().unwrap())
        .collect();
    let expected = [
        "floor",
        "pmon_hint",
        "pmon_confirmed",
        "pidfd",
        "waitpid",
        "proc_connector",
    ];
    assert_eq!(names, expected);
    for row in rows {
        let n = row["all"]["n"].as_u64().unwrap();
        assert!(n >= 20 && row["missed"] == 0, "{row}");
        let figure = |name: &str| row["all"][name].as_f64().unwrap();
        let order = ["min", "p50", "p90", "p99", "max"].map(figure);
        assert!(order[0] > 0.0 && order.is_sorted(), "{row}");
    }
    // A death is verified after its hint, whatever the machine does meanwhile.
    let minimum = |index: usize| rows[index]["all"]["min"].as_f64().unwrap();
    assert!(minimum(1) < minimum(2));
}

#[test]
fn an_interrupt_leaves_no_process_behind() {
    if !may_run("an_interrupt_leaves_no_process_behind") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("detect.json");
    let mut bench = Command::new(PROGRAM)
        .args(["detect", "--only", "small", "--output"])
        .arg(&json)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(bench.stderr.take().unwrap()).lines();
    let first = progress.next().unwrap().unwrap();
    assert!(first.contains("deaths per observer"), "{first}");
    let children = children(&bench);
    assert!(!children.is_empty());

    kill_process(pid(bench.id()), Signal::INT).unwrap();
    assert!(!bench.wait().unwrap().success());
    let rest: Vec<String> = progress.map_while(Result::ok).collect();
    assert!(
        rest.iter().any(|line| line == "error: interrupted"),
        "{rest:?}"
    );
    for child in children {
        assert!(test_kill_process(pid(child)).is_err(), "{child} is left");
    }
    assert!(!json.exists());
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// The nursery.
fn children(process: &Child) -> Vec<u32> {
    let process = procfs::process::Process::new(i32::try_from(process.id()).unwrap()).unwrap();
    process.task_main_thread().unwrap().children().unwrap()
}
