//! `pmon-bench overhead`, `storm`, `scale` and `detect --load` end to end, with
//! few processes: they measure what they say they do, lose no death, and leave
//! neither process nor pin nor setting behind. The figures themselves are not
//! judged here.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pmon-bench");

/// What a measurement prints, and its JSON; `None` where it may not run.
fn measure(verb: &str, arguments: &[&str]) -> Option<(String, Value)> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: {verb}: needs root to load BPF and to raise `kernel.pid_max`");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("sub/figures.json");
    let bench = Command::new(PROGRAM)
        .arg(verb)
        .args(arguments)
        .arg("--output")
        .arg(&json)
        .env("PMON_BIN", pmon_tests::binary::pmon())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = bench.id();
    let output = bench.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let figures = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let left = leavings(pid);
    assert!(left.is_empty(), "{left:?} is left");
    Some((text, figures))
}

/// Directories and pins of a measurement's daemons.
fn leavings(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("pmon-bench-{pid}-");
    let entries = [std::env::temp_dir(), PathBuf::from("/sys/fs/bpf")].map(|directory| {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path())
    });
    (entries.into_iter().flatten())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(&prefix)
        })
        .collect()
}

#[test]
fn overhead_counts_every_exit() {
    let Some((text, figures)) = measure("overhead", &["--quick"]) else {
        return;
    };
    assert!(text.starts_with("QUICK: "), "{text}");
    let statistics = figures["statistics"].as_array().unwrap();
    let registrations: Vec<_> = statistics.iter().map(|it| &it["registrations"]).collect();
    assert_eq!(registrations, [10, 100_000]);
    for each in statistics {
        let programs = each["programs"].as_array().unwrap();
        let exit = &programs[0];
        assert_eq!(exit["name"], "pmon_exit");
        // Others' exits are counted, too.
        assert!(
            exit["runs"].as_u64() >= each["strangers"].as_u64(),
            "{each}"
        );
        assert!(each["empty_ns"].as_f64().unwrap() > 0.0, "{each}");
    }
    let rows = figures["wall_time"].as_array().unwrap();
    assert!(rows.len() >= 3, "{figures}");
    assert_eq!(text.matches("aim: ").count(), 4, "{text}");
}

#[test]
fn a_storm_loses_no_death() {
    let Some((text, figures)) = measure("storm", &["--quick"]) else {
        return;
    };
    let storms = figures["storms"].as_array().unwrap();
    for storm in storms {
        assert_eq!(storm["lost"], 0, "{storm}");
        assert_eq!(storm["heard"], storm["processes"], "{storm}");
        assert!(storm["told_s"].as_f64().unwrap() > 0.0, "{storm}");
        assert!(storm["peak_rss"].as_u64().unwrap() > 1 << 20, "{storm}");
    }
    assert!(
        text.contains("aim: deaths lost ≤ 0.000: 0.000, reached"),
        "{text}"
    );
}

#[test]
fn scale_tells_what_an_entry_costs() {
    let Some((text, figures)) = measure("scale", &["--quick"]) else {
        return;
    };
    assert_eq!(figures["registrations"], 200);
    // An entry has 128 bytes, beside its key and the kernel's own.
    let kernel = figures["kernel_bytes_each"].as_u64().unwrap();
    assert!((132..1024).contains(&kernel), "{figures}");
    assert!(figures["registered_s"].as_f64() >= figures["answered_s"].as_f64());
    assert!(text.contains("aim: wake-ups per minute"), "{text}");
}

#[test]
fn detection_is_measured_under_load() {
    let Some((text, figures)) = measure("detect", &["--load", "--quick"]) else {
        return;
    };
    assert_eq!(figures["sizes"][0]["size"]["loaded"], true);
    let aims = text.matches("aim: under load, pmon p99 / pidfd").count();
    assert_eq!(aims, 4, "two sizes, two ways to wait: {text}");
}

#[test]
fn a_killed_measurement_is_cleaned_up_after() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: a_killed_measurement_is_cleaned_up_after: needs root to load BPF");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Command::new(PROGRAM)
        .args(["scale", "--output"])
        .arg(directory.path().join("scale.json"))
        .env("PMON_BIN", pmon_tests::binary::pmon())
        .spawn()
        .unwrap();
    let long = pmon_tests::daemon::LONG;
    let pid = bench.id();
    pmon_tests::wait::until("the daemon has pinned its programs", long, || {
        let mut left = leavings(pid).into_iter();
        left.find(|path| {
            path.read_dir().is_ok_and(|mut pins| {
                pins.any(|pin| pin.unwrap().path().join("pmon_exit").exists())
            })
        })
    });
    bench.kill().unwrap();
    bench.wait().unwrap();
    pmon_tests::wait::until("pins and directory are gone", long, || {
        leavings(pid).is_empty().then_some(())
    });
}
