//! The doctor as a whole, on the host the tests run on.

use std::{collections::BTreeSet, path::PathBuf};

use super::*;
use crate::{
    config::{self, Sources, settings::DaemonSettings},
    control::client::ClientError,
    doctor::{Asked, NAMES, Situation, check_all, with_daemon, without_daemon},
    source::btf::VMLINUX_BTF,
    view::{
        diagnosis::{CheckResult, CheckView},
        samples,
        status::SourceState,
    },
};

fn names(checks: &[CheckView]) -> Vec<&str> {
    checks.iter().map(|check| check.name.as_str()).collect()
}

fn named<'a>(checks: &'a [CheckView], name: &str) -> &'a CheckView {
    checks.iter().find(|check| check.name == name).unwrap()
}

#[test]
fn inside_the_daemon_everything_is_checked_in_order() {
    let status = samples::status(Vec::new());
    let checks = with_daemon(&status, &DaemonSettings::default());
    assert_eq!(names(&checks), NAMES);
    for check in checks {
        assert_eq!(
            check.fix.is_none(),
            check.result == CheckResult::Ok,
            "{check:?}"
        );
        assert!(!check.found.is_empty());
    }
}

#[test]
fn outside_the_daemon_the_host_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        explicit: true,
        pmon_toml: directory.path().join("absent.toml"),
        pmon_d: Some(directory.path().to_owned()),
    };
    let loaded = config::load(&sources, &config::LocalHost::detect());
    assert!(loaded.refused());
    let error = ClientError::Unreachable {
        path: PathBuf::from("/run/pmon/pmon.sock"),
        source: std::io::ErrorKind::NotFound.into(),
    };
    let checks = without_daemon(&loaded, &error);
    let last = NAMES
        .iter()
        .position(|name| *name == "source-pidfd")
        .unwrap();
    assert_eq!(names(&checks), NAMES[..=last]);
    assert_eq!(
        named(&checks, "source-pidfd").found,
        "works: a canary came through"
    );
    assert_eq!(named(&checks, "daemon").result, CheckResult::Failed);
    assert_eq!(named(&checks, "configuration").result, CheckResult::Failed);
}

#[test]
fn this_host() {
    let status = samples::status(Vec::new());
    let checks = with_daemon(&status, &DaemonSettings::default());
    let result = |name| named(&checks, name).result;
    // Nothing of pmon works without these, its other tests included.
    assert_eq!(result("pidfd"), CheckResult::Ok);
    assert_ne!(result("kernel"), CheckResult::Failed);
    assert_eq!(result("inotify"), CheckResult::Ok);
    assert_eq!(
        result("btf") == CheckResult::Ok,
        fs::File::open(VMLINUX_BTF).is_ok()
    );
    let release = rustix::system::uname();
    let release = release.release().to_str().unwrap();
    assert!(named(&checks, "kernel").found.contains(release));
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not root: what only root has is not asserted");
        assert_eq!(result("user"), CheckResult::Degraded);
        return;
    }
    let user_namespace = fs::read_link("/proc/self/ns/user").unwrap();
    let initial = user_namespace.as_os_str() == "user:[4026531837]";
    assert_eq!(result("user") == CheckResult::Ok, initial);
}

/// A root directory in which nothing is: every fact that is read from files is
/// missing, and no check breaks.
#[test]
fn an_empty_host() {
    let empty = tempfile::tempdir().unwrap();
    let mut status = samples::status(Vec::new());
    status.sources[0].state = SourceState::Off;
    status.sources[0].reason = Some("no BTF".to_owned());
    let checks = check_all(
        &Asked {
            settings: &DaemonSettings::default(),
            entities: 0,
        },
        empty.path(),
        &Situation::Running(&status),
    );
    let complaints: BTreeSet<&str> = checks
        .iter()
        .filter(|check| check.result != CheckResult::Ok)
        .map(|check| check.name.as_str())
        .collect();
    for name in [
        "kernel",
        "btf",
        "pid-namespace",
        "cgroup",
        "source-ebpf",
        "audit",
    ] {
        assert!(complaints.contains(name), "{name}: {complaints:?}");
    }
    assert_eq!(
        named(&checks, "source-ebpf").fix.as_deref(),
        Some(
            "see `kernel`: mount procfs: `mount -t proc proc /proc`; then see `uname -r`; \
             then restart the daemon"
        )
    );
}

#[test]
fn the_settings_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let run_dir = directory.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    fs::write(directory.path().join("state"), "").unwrap();
    let settings = DaemonSettings {
        run_dir: run_dir.clone(),
        state_dir: directory.path().join("state"),
        pin_dir: None,
        ..DaemonSettings::default()
    };
    let checks = with_daemon(&samples::status(Vec::new()), &settings);
    let run = named(&checks, "run-directory");
    assert!(
        run.found
            .starts_with(&format!("`{}`, mode", run_dir.display()))
    );
    let state = named(&checks, "state-directory");
    assert_eq!(state.result, CheckResult::Degraded);
    assert!(state.found.contains("is not a directory"), "{state:?}");
    assert_eq!(named(&checks, "bpffs").found, "nothing is to be pinned");
}

#[test]
fn every_check_has_a_section_in_the_manual() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    let manual = fs::read_to_string(path).unwrap();
    let sections: Vec<(&str, &str)> = manual
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .collect();
    let headings: Vec<&str> = sections
        .iter()
        .map(|(heading, _)| heading.trim_matches('`'))
        .collect();
    assert_eq!(headings, NAMES);
    for (heading, text) in sections {
        for part in ["**Symptom.**", "**Cause.**", "**Fix.**"] {
            assert!(text.contains(part), "{heading} has no {part}");
        }
    }
}
