//! TOML files: every key, every error with its place.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, fs, time::Duration};

use super::*;
use crate::{
    config::{
        host::invented::InventedHost,
        settings::{Settings, SourceChoice},
    },
    core::{
        entity::{
            ActiveSpec, CommandSpec, EntitySpec, Mode, Severity, StartMethod, StatusSpec,
            StopPolicy,
        },
        storm::StormPolicy,
    },
};

fn host() -> InventedHost {
    let mut host = InventedHost::with_systemd(&["sshd.service"])
        .script_at("/usr/bin/x")
        .script_at("/etc/init.d/x");
    host.users = vec!["www".into()];
    host
}

/// Loads these files: `pmon.toml` and others in `conf.d`.
fn loaded(files: &[(&str, &str)]) -> (Loaded, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    for (name, text) in files {
        let path = match *name {
            "pmon.toml" => directory.path().join(name),
            other => directory.path().join("conf.d").join(other),
        };
        fs::write(path, text).unwrap();
    }
    let sources = Sources {
        pmon_toml: directory.path().join("pmon.toml"),
        explicit: false,
        pmon_d: None,
    };
    let mut loaded = Loaded::default();
    load(&mut loaded, &sources, &host());
    let prefix = format!("{}/", directory.path().display());
    let texts = loaded
        .findings
        .iter()
        .map(|finding| finding.to_string().replace(&prefix, ""))
        .collect();
    (loaded, texts)
}

fn settings(text: &str) -> Settings {
    let (loaded, texts) = loaded(&[("pmon.toml", text)]);
    assert_eq!(texts, [""; 0]);
    loaded.settings
}

pub(super) fn entity(keys: &str) -> (EntitySpec, Vec<String>) {
    let text = format!("[[entity]]\nname = \"x\"\n{keys}");
    let (loaded, texts) = loaded(&[("pmon.toml", &text)]);
    assert!(!loaded.refused(), "{texts:#?}");
    (loaded.entities[0].clone(), texts)
}

/// The one error of a refused `pmon.toml`.
pub(super) fn error(text: &str) -> String {
    let (loaded, texts) = loaded(&[("pmon.toml", text)]);
    assert!(loaded.refused(), "{text}");
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert_eq!(loaded.entities, []);
    assert!(!texts[0].contains('\n'));
    texts[0].clone()
}

#[test]
fn every_setting_can_be_set() {
    let set = settings(
        r#"
        [daemon]
        run_dir = "/r"
        state_dir = "/s"
        pin_dir = "none"
        socket_group = "adm"
        audit_interval = "1min"
        canary_interval = "2s"
        settle = "5ms"
        source = "proc-connector"
        receiver_priority = 0
        max_pids = 100
        ring_bytes = 4096
        pidfd_budget = 10
        [control]
        read_gids = [1]
        write_uids = [2, 3]
        write_gids = [4]
        [defaults]
        stop = { signal = "INT" }
        start_timeout = "2min"
        [pmon_d]
        directory = "/p"
        "#,
    );
    let daemon = &set.daemon;
    assert_eq!(daemon.run_dir, Path::new("/r"));
    assert_eq!(daemon.state_dir, Path::new("/s"));
    assert_eq!(daemon.pin_dir, None);
    assert_eq!(daemon.socket_group, "adm");
    assert_eq!(daemon.audit_interval, Duration::from_secs(60));
    assert_eq!(daemon.canary_interval, Duration::from_secs(2));
    assert_eq!(daemon.settle, Duration::from_millis(5));
    assert_eq!(daemon.source, SourceChoice::ProcConnector);
    assert_eq!(daemon.receiver_priority, 0);
    assert_eq!((daemon.max_pids, daemon.ring_bytes), (100, 4096));
    assert_eq!(daemon.pidfd_budget, Some(10));
    assert_eq!(set.control.read_gids, [1]);
    assert_eq!(set.control.write_uids, [2, 3]);
    assert_eq!(set.control.write_gids, [4]);
    assert_eq!(
        set.defaults.stop,
        StopPolicy::Graceful {
            signal: 2,
            timeout: Duration::from_secs(10)
        }
    );
    assert_eq!(set.defaults.start_timeout, Duration::from_secs(120));
    assert_eq!(set.pmon_d.directory.as_deref(), Some(Path::new("/p")));
    assert_eq!(settings(""), Settings::default());
}

#[test]
fn later_files_win_setting_by_setting_and_entity_by_entity() {
    let (loaded, texts) = loaded(&[
        (
            "pmon.toml",
            "[daemon]\nsettle = \"1s\"\nmax_pids = 5\n[[entity]]\nname = \"x\"\nseverity = \"minor\"\ncommand = [\"/usr/bin/x\"]\n",
        ),
        ("2.toml", "[daemon]\nsettle = \"3s\"\n"),
        (
            "1.toml",
            "[daemon]\nsettle = \"2s\"\n[[entity]]\nname = \"x\"\nrestarts = 8\ncommand = [\"/usr/bin/x\"]\n",
        ),
        ("0.toml.disabled", "rubbish"),
        (".hidden.toml", "rubbish"),
    ]);
    assert!(!loaded.refused());
    assert_eq!(loaded.settings.daemon.settle, Duration::from_secs(3));
    assert_eq!(loaded.settings.daemon.max_pids, 5);
    assert_eq!(loaded.entities.len(), 1);
    // Replaced as a whole: the severity is the default again.
    let x = &loaded.entities[0];
    assert_eq!((x.severity, x.restarts), (Severity::Major, 8));
    assert_eq!(
        texts,
        ["conf.d/1.toml:4:8: note: entity `x` replaces the one at pmon.toml:5"]
    );
}

#[test]
fn a_foreground_command_with_all_defaults() {
    let (x, texts) = entity("command = [\"/usr/bin/x\", \"a b\"]\n");
    assert_eq!(texts, [""; 0]);
    let Origin::File { line, .. } = &x.origin else {
        panic!("{:?}", x.origin)
    };
    assert_eq!(*line, 2);
    assert_eq!(
        x,
        EntitySpec {
            name: "x".into(),
            mode: Mode::Passive,
            severity: Severity::Major,
            restarts: 3,
            interval: Duration::from_secs(5),
            debounce: Duration::from_secs(20),
            startuptime: Duration::from_secs(5),
            start_timeout: Duration::from_secs(30),
            adoption_window: Duration::ZERO,
            pidfile: None,
            start: StartMethod::Command(CommandSpec {
                argv: vec!["/usr/bin/x".into(), "a b".into()],
                environment: BTreeMap::new(),
                directory: "/".into(),
                user: None,
                group: None,
                daemonizes: false,
                log: None,
                early: false,
                sockets: Vec::new(),
            }),
            stop: StopPolicy::Graceful {
                signal: 15,
                timeout: Duration::from_secs(10)
            },
            follow: false,
            quorum: false,
            subfunction: None,
            active: None,
            status: None,
            dependencies: crate::core::dependency::Dependencies::default(),
            storm: StormPolicy::native(Duration::from_secs(5)),
            origin: x.origin.clone(),
        }
    );
}

#[test]
fn every_entity_key_can_be_set() {
    let (x, texts) = entity(
        r#"
        mode = "active"
        severity = "critical"
        restarts = 0
        interval = "0s"
        debounce = "1500ms"
        startuptime = "40s"
        start_timeout = "10s"
        stop = { signal = "HUP", timeout = "1s" }
        pidfile = "/run/x.pid"
        command = ["/usr/bin/x"]
        environment = { A = "1", B = "" }
        directory = "/tmp"
        user = "www"
        group = "www"
        daemonizes = true
        log = "/var/log/x"
        quorum = true
        subfunction = "worker"
        active = { port = 5, period = "3s", timeout = "2s", threshold = 4, full_init_required = true }
        "#,
    );
    assert_eq!(texts, [""; 0]);
    assert_eq!(
        (x.mode, x.severity, x.restarts),
        (Mode::Active, Severity::Critical, 0)
    );
    assert_eq!(x.interval, Duration::ZERO);
    assert_eq!(x.debounce, Duration::from_millis(1500));
    assert_eq!(x.startuptime, Duration::from_secs(40));
    assert_eq!(x.start_timeout, Duration::from_secs(40));
    assert_eq!(
        x.stop,
        StopPolicy::Graceful {
            signal: 1,
            timeout: Duration::from_secs(1)
        }
    );
    assert_eq!(x.pidfile.as_deref(), Some(Path::new("/run/x.pid")));
    assert_eq!(
        x.start,
        StartMethod::Command(CommandSpec {
            argv: vec!["/usr/bin/x".into()],
            environment: BTreeMap::from([("A".into(), "1".into()), ("B".into(), String::new())]),
            directory: "/tmp".into(),
            user: Some("www".into()),
            group: Some("www".into()),
            daemonizes: true,
            log: Some("/var/log/x".into()),
            early: false,
            sockets: Vec::new(),
        })
    );
    assert!(x.quorum);
    assert_eq!(x.subfunction.as_deref(), Some("worker"));
    assert_eq!(
        x.active,
        Some(ActiveSpec {
            port: 5,
            period: Duration::from_secs(3),
            timeout: Duration::from_secs(2),
            threshold: 4,
            full_init_required: true,
        })
    );
}

#[test]
fn a_process_is_followed_if_that_is_asked_for() {
    for (keys, follow) in [
        ("follow = true", true),
        ("follow = false", false),
        ("pidfile = \"/run/x.pid\"\nfollow = false", false),
        ("", false),
    ] {
        let (x, texts) = entity(&format!("command = [\"/usr/bin/x\"]\n{keys}\n"));
        assert_eq!(texts, [""; 0]);
        assert_eq!(x.follow, follow, "{keys}");
    }
}

#[test]
fn unit_before_script_before_command() {
    let all = "pidfile = \"/run/x\"\nscript = \"/etc/init.d/x\"\ncommand = [\"/usr/bin/x\"]\n";
    let (x, _) = entity(&format!("service = \"sshd\"\n{all}"));
    assert_eq!(
        x.start,
        StartMethod::Unit {
            unit: "sshd.service".into()
        }
    );
    let (x, texts) = entity(&format!("service = \"other\"\n{all}"));
    assert_eq!(
        x.start,
        StartMethod::Script {
            path: "/etc/init.d/x".into()
        }
    );
    assert_eq!(
        texts,
        [
            "pmon.toml:3:11: error: systemd unit `other.service` does not exist on this host (install the unit or correct `service`)"
        ]
    );
}

#[test]
fn status_mode() {
    let (x, texts) = entity(
        "mode = \"status\"\n[entity.status]\nscript = \"/usr/bin/x\"\nperiod = \"3s\"\ntimeout = \"9s\"\n",
    );
    assert_eq!(texts, [""; 0]);
    assert_eq!(
        x.status,
        Some(StatusSpec {
            script: "/usr/bin/x".into(),
            start_arg: "start".into(),
            status_arg: "status".into(),
            period: Duration::from_secs(3),
            timeout: Duration::from_secs(9),
            failure_text: None,
        })
    );
}

#[test]
fn what_the_host_lacks_is_told_and_refuses_nothing() {
    let (x, texts) = entity("command = [\"/usr/bin/y\"]\nuser = \"nobody-here\"\ngroup = \"g\"\n");
    assert!(matches!(x.start, StartMethod::Command(_)));
    assert_eq!(
        texts,
        [
            "pmon.toml:4:8: error: user `nobody-here` does not exist on this host; `command` cannot be started",
            "pmon.toml:5:9: error: group `g` does not exist on this host; `command` cannot be started",
            "pmon.toml:3:11: warning: program `/usr/bin/y` does not exist on this host at present",
        ]
    );
    let (x, texts) = entity("pidfile = \"/run/x.pid\"\n");
    assert!(matches!(x.start, StartMethod::None { .. }));
    assert!(
        texts[0].starts_with("pmon.toml:2:8: warning: no start method is configured"),
        "{texts:#?}"
    );
}

#[test]
fn errors_name_place_expectation_and_nearest_spelling() {
    for (text, expected) in [
        (
            "[deamon]\n",
            "1:2: error: unknown key `deamon` (did you mean `daemon`?)",
        ),
        (
            "[daemon]\nxyzzy = 1\n",
            "2:1: error: unknown key `xyzzy` (expected one of `run_dir`, ",
        ),
        (
            "[daemon]\nsource = \"epbf\"\n",
            "2:10: error: unknown value `epbf` (did you mean `ebpf`?)",
        ),
        (
            "[daemon]\nsettle = 5\n",
            "2:10: error: a duration carries its unit, expected for instance \"5s\"",
        ),
        (
            "[daemon]\nsettle = \"5 foo\"\n",
            "2:10: error: `5 foo` is not a duration, expected a number with its unit",
        ),
        (
            "[daemon]\naudit_interval = \"10ms\"\n",
            "2:18: error: `audit_interval` must be at least 1s",
        ),
        (
            "[daemon]\ncanary_interval = \"999ms\"\n",
            "2:19: error: `canary_interval` must be at least 1s",
        ),
        (
            "[daemon]\nreceiver_priority = 100\n",
            "2:21: error: `receiver_priority` must be 0 to 99",
        ),
        (
            "[daemon]\nreceiver_priority = -1\n",
            "2:21: error: invalid value: integer `-1`, expected u8",
        ),
        (
            "[daemon]\nring_bytes = 5000\n",
            "2:14: error: `ring_bytes` must be a power of two, at least 4096",
        ),
        (
            "[daemon]\nmax_pids = 0\n",
            "2:12: error: `max_pids` must be at least 1",
        ),
        (
            "[daemon]\nrun_dir = \"x\"\n",
            "2:11: error: `x` is not an absolute path, expected one that begins with `/`",
        ),
        ("[daemon]\nrun_dir = \"/x\n", "2:14: error: "),
        ("a = \"\u{e4}\" b\n", "1:9: error: "),
        ("[daemon]\n[daemon]\n", "2:2: error: "),
        (
            "[defaults]\nstop = \"kil-first\"\n",
            "2:8: error: unknown value `kil-first` (did you mean `kill-first`?)",
        ),
        (
            "[defaults]\nstop = { singal = 1 }\n",
            "2:10: error: unknown key `singal` (did you mean `signal`?)",
        ),
        (
            "[defaults]\nstop = { signal = \"STOP\" }\n",
            "2:19: error: `STOP` is not a signal that ends a process",
        ),
    ] {
        let error = error(text);
        assert!(
            error.starts_with(&format!("pmon.toml:{expected}")),
            "{text}: {error}"
        );
    }
}

#[test]
fn entity_errors_refuse_the_configuration() {
    for (keys, expected) in [
        (
            "severty = \"minor\"",
            "3:1: error: unknown key `severty` (did you mean `severity`?)",
        ),
        (
            "severity = \"Minor\"",
            "3:12: error: unknown value `Minor` (did you mean `minor`?)",
        ),
        (
            "mode = \"pasive\"",
            "3:8: error: unknown value `pasive` (did you mean `passive`?)",
        ),
        (
            "restarts = -1",
            "3:12: error: invalid value: integer `-1`, expected u32",
        ),
        (
            "restarts = 4294967296",
            "3:12: error: invalid value: integer `4294967296`, expected u32",
        ),
        (
            "command = []",
            "3:11: error: `command` must begin with the absolute path",
        ),
        (
            "command = [\"x\"]",
            "3:11: error: `command` must begin with the absolute path",
        ),
        (
            "command = \"x\"",
            "3:11: error: invalid type: string \"x\", expected a sequence",
        ),
        (
            "command = [\"/x\", \"a\\u0000\"]",
            "3:18: error: NUL characters cannot be passed",
        ),
        (
            "command = [\"/x\"]\nenvironment = { \"A=B\" = \"\" }",
            "4:17: error: `A=B` cannot be the name",
        ),
        (
            "command = [\"/x\"]\nenvironment = { A = \"\\u0000\" }",
            "4:21: error: NUL characters cannot be passed",
        ),
        (
            "pidfile = \"/x\"\ndirectory = \"/\"",
            "2:8: error: `directory` has no effect without `command`",
        ),
        ("service = \"sshd\"", "2:8: error: `pidfile` is missing"),
        (
            "command = [\"/x\"]\ndaemonizes = true",
            "2:8: error: `pidfile` is missing",
        ),
        (
            "command = [\"/x\"]\ndaemonizes = true\nfollow = true",
            "2:8: error: `pidfile` is missing",
        ),
        (
            "command = [\"/x\"]\npidfile = \"/x\"\nfollow = true",
            "5:10: error: `follow` and `pidfile` exclude each other",
        ),
        (
            "command = [\"/x\"]\nfollow = 1",
            "4:10: error: invalid type: integer `1`, expected a boolean",
        ),
        ("", "2:8: error: `pidfile` is missing"),
        (
            "mode = \"active\"\ncommand = [\"/x\"]",
            "2:8: error: `mode = \"active\"` needs a table `active`",
        ),
        (
            "command = [\"/x\"]\nactive = { port = 1, period = \"1s\", timeout = \"1s\", threshold = 1 }",
            "4:10: error: `active` has no effect in another mode",
        ),
        (
            "mode = \"active\"\ncommand = [\"/x\"]\nactive = { port = 1, period = \"121s\", timeout = \"1s\", threshold = 1 }",
            "5:31: error: `period` must be 1s to 120s",
        ),
        (
            "mode = \"active\"\ncommand = [\"/x\"]\nactive = { port = 1, period = \"2s\", timeout = \"3s\", threshold = 1 }",
            "5:47: error: `timeout` must be more than 0s and at most `period`",
        ),
        (
            "mode = \"active\"\ncommand = [\"/x\"]\nactive = { port = 0, period = \"2s\", timeout = \"3s\", threshold = 1 }",
            "5:19: error: invalid value: integer `0`",
        ),
    ] {
        let error = error(&format!("[[entity]]\nname = \"x\"\n{keys}\n"));
        assert!(
            error.starts_with(&format!("pmon.toml:{expected}")),
            "{keys}: {error}"
        );
    }
    let missing = error("[[entity]]\npidfile = \"/x\"\n");
    assert!(missing.contains("error: missing key `name`"), "{missing}");
    let name = error("[[entity]]\nname = \"a/b\"\n");
    assert_eq!(name, "pmon.toml:2:8: error: name `a/b` looks like a path");
}

#[test]
fn an_entity_that_is_refused_is_listed() {
    let (loaded, _) = loaded(&[("pmon.toml", "[[entity]]\nname = \"x\"\n")]);
    assert_eq!(loaded.unmonitored.len(), 1);
    assert!(
        loaded.unmonitored[0]
            .reason
            .starts_with("`pidfile` is missing")
    );
}

#[test]
fn duplicates_within_a_file_are_refused() {
    let table = "[[entity]]\nname = \"x\"\ncommand = [\"/usr/bin/x\"]\n";
    let (loaded, texts) = loaded(&[("pmon.toml", &table.repeat(2))]);
    assert!(loaded.refused());
    assert_eq!(
        texts,
        [
            "pmon.toml:5:8: error: entity `x` is already configured at pmon.toml:2 (rename or remove one of the two)"
        ]
    );
}

#[test]
fn files_that_cannot_be_read_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        pmon_toml: directory.path().join("pmon.toml"),
        explicit: false,
        pmon_d: None,
    };
    let attempt = || {
        let mut loaded = Loaded::default();
        load(&mut loaded, &sources, &host());
        assert!(loaded.refused());
        loaded.findings[0].message.clone()
    };
    fs::write(&sources.pmon_toml, b"# \xff\n").unwrap();
    assert_eq!(attempt(), "not valid UTF-8");
    fs::write(&sources.pmon_toml, b"# \0\n").unwrap();
    assert_eq!(attempt(), "is binary (NUL byte at offset 2): refused");
    fs::write(&sources.pmon_toml, vec![b'\n'; 10 * 1024 * 1024]).unwrap();
    assert_eq!(attempt(), "is larger than 1048576 bytes: refused");
    fs::remove_file(&sources.pmon_toml).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &sources.pmon_toml, 0o644.into()).unwrap();
    assert_eq!(attempt(), "is a FIFO, not a regular file");
}
