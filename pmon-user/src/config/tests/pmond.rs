//! One file at a time: semantics of §1.3 to §1.5, and what is said about each fault.

use super::*;
use crate::{
    config::{host::invented::InventedHost, settings::Override},
    core::entity::{ActiveSpec, StatusSpec, StopPolicy, UnitPolicy},
};

const GOOD: &str = "\
[process]
process  = sshd
service  = sshd
pidfile  = /var/run/sshd.pid
style    = lsb            ; ocf or lsb
severity = minor          ; minor, major, critical
restarts = 10             ; restart retries before error assertion
interval = 5              ; number of seconds to wait between restarts
debounce = 20             ; number of seconds that a process needs to remain
                          ;   running before degrade is removed
startuptime  = 7
mode  = passive           ; Monitoring mode: passive (default) or active
";

const ACTIVE: &str = "port = 2202\nperiod = 5\ntimeout = 4\nthreshold = 3\n";

fn host() -> InventedHost {
    InventedHost::with_systemd(&["sshd.service"])
}

fn try_load(text: &str) -> (Outcome, Vec<String>) {
    let (outcome, findings) = load(
        Path::new("/p"),
        text.as_bytes(),
        &Settings::default(),
        &host(),
    );
    (outcome, findings.iter().map(Finding::to_string).collect())
}

fn taken(text: &str) -> (EntitySpec, Vec<String>) {
    match try_load(text) {
        (Outcome::Entity(entity), findings) => (*entity, findings),
        (outcome, findings) => panic!("{outcome:?} {findings:#?}"),
    }
}

fn unmonitored(text: &str) -> (Unmonitored, Vec<String>) {
    match try_load(text) {
        (Outcome::Unmonitored(entity), findings) => (entity, findings),
        (outcome, findings) => panic!("{outcome:?} {findings:#?}"),
    }
}

/// [`GOOD`] with `key`'s line replaced by `line` (nothing if empty).
fn with(key: &str, line: &str) -> String {
    let mut found = false;
    let mut text = String::new();
    for old in GOOD.lines() {
        if old.split([' ', '=']).next() == Some(key) {
            found = true;
            if !line.is_empty() {
                text.push_str(line);
                text.push('\n');
            }
        } else {
            text.push_str(old);
            text.push('\n');
        }
    }
    assert!(found, "{key}");
    text
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_complete_file_is_taken_as_it_is_and_without_a_word() {
    let (entity, findings) = taken(GOOD);
    assert_eq!(findings, [""; 0]);
    assert_eq!(
        entity,
        EntitySpec {
            name: "sshd".into(),
            mode: Mode::Passive,
            severity: Severity::Minor,
            restarts: 10,
            interval: seconds(5),
            debounce: seconds(20),
            startuptime: seconds(7),
            start_timeout: seconds(30),
            adoption_window: seconds(0),
            pidfile: Some("/var/run/sshd.pid".into()),
            start: StartMethod::Unit {
                unit: "sshd.service".into(),
                policy: UnitPolicy::Leave,
            },
            stop: StopPolicy::Graceful {
                signal: 15,
                timeout: seconds(10)
            },
            follow: false,
            quorum: false,
            subfunction: None,
            active: None,
            status: None,
            dependencies: crate::core::dependency::Dependencies::default(),
            storm: crate::core::storm::StormPolicy::PMOND,
            origin: Origin::File {
                path: "/p".into(),
                line: 2
            },
        }
    );
}

#[test]
fn each_missing_key_is_told_and_assumed() {
    type Check = fn(&EntitySpec) -> bool;
    let cases: [(&str, &str, Check); 6] = [
        ("style", "warning: `style` is missing", |_| true),
        (
            "severity",
            "error: `severity` is missing; `major` assumed",
            |e| e.severity == Severity::Major,
        ),
        ("restarts", "error: `restarts` is missing; 3 assumed", |e| {
            e.restarts == 3
        }),
        (
            "interval",
            "error: `interval` is missing; 5 s assumed",
            |e| e.interval == seconds(5),
        ),
        (
            "debounce",
            "error: `debounce` is missing; 20 s assumed",
            |e| e.debounce == seconds(20),
        ),
        (
            "service",
            "warning: neither `service` nor `script` is given",
            |e| {
                e.start
                    == StartMethod::Unit {
                        unit: "sshd.service".into(),
                        policy: UnitPolicy::Leave,
                    }
            },
        ),
    ];
    for (key, expected, check) in cases {
        let (entity, findings) = taken(&with(key, ""));
        assert!(check(&entity), "{key}: {entity:?}");
        assert_eq!(findings.len(), 1, "{key}: {findings:#?}");
        assert!(
            findings[0].starts_with(&format!("/p:2:12: {expected}")),
            "{findings:#?}"
        );
    }
}

#[test]
fn optional_keys_are_optional() {
    let (entity, findings) = taken(&with("mode", "").replace("startuptime  = 7\n", ""));
    assert_eq!(findings, [""; 0]);
    assert_eq!(entity.mode, Mode::Passive);
    assert_eq!(entity.startuptime, seconds(1));
    let (entity, _) = taken(&with("startuptime", "startuptime = 0"));
    assert_eq!(entity.startuptime, seconds(1));
}

#[test]
fn without_a_pidfile_it_is_listed_as_unmonitored() {
    for text in [with("pidfile", ""), with("pidfile", "pidfile =")] {
        let (entity, findings) = unmonitored(&text);
        assert_eq!(entity.name, "sshd");
        assert!(entity.reason.starts_with("`pidfile` is missing"));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("/p:2:12: error: `pidfile` is missing"));
        assert!(findings[0].ends_with("(add `pidfile = /run/sshd.pid`)"));
    }
}

#[test]
fn without_a_name_the_file_is_listed() {
    let (entity, findings) = unmonitored(&with("process", ""));
    assert_eq!(entity.name, "p");
    assert_eq!(
        findings,
        [
            "/p: error: `process`, the name, is missing; not monitored (add `process = NAME` to `[process]`)"
        ]
    );
}

#[test]
fn names_that_would_do_harm_are_refused() {
    for bad in ["../x", "a/b", "-x", "..", &"x".repeat(201)] {
        let (entity, findings) = unmonitored(&with("process", &format!("process = {bad}")));
        assert!(entity.reason.starts_with("process name `"), "{entity:?}");
        assert_eq!(findings.len(), 1, "{findings:#?}");
    }
    assert!(taken(&with("process", "process = a b")).0.name == "a b");
}

#[test]
fn another_section_has_no_effect_but_is_told() {
    let (entity, findings) = unmonitored(&GOOD.replace("[process]", "[Process]"));
    assert_eq!(entity.name, "sshd");
    assert!(findings[0].starts_with("/p:1:1: error: keys of section `[Process]` have no effect"));
    assert!(findings[0].ends_with("(did you mean `[process]`?)"));
    let (_, findings) = taken(&format!("{GOOD}[notes]\nowner = me\n"));
    assert_eq!(findings.len(), 1);
    assert!(findings[0].starts_with("/p:13:1: note: "));
}

#[test]
fn a_file_that_is_no_configuration_describes_nothing() {
    for text in ["", "; only comments\n", "just text\n", "[other]\na = b\n"] {
        let (outcome, findings) = try_load(text);
        assert!(matches!(outcome, Outcome::Nothing), "{text}");
        assert!(
            findings
                .iter()
                .any(|f| f.starts_with("/p: error: no `[process]` section with keys")),
            "{findings:#?}"
        );
    }
}

#[test]
fn a_truncated_file_is_suspected() {
    let cut = GOOD
        .split_at(GOOD.find("sshd.pid").unwrap_or_default() + 2)
        .0;
    let (entity, findings) = taken(cut);
    assert_eq!(entity.pidfile, Some("/var/run/ss".into()));
    assert!(
        findings
            .iter()
            .any(|f| f == "/p: warning: last line does not end with a newline (the file may be truncated; end it with a newline)"),
        "{findings:#?}"
    );
    assert!(findings.iter().any(|f| f.contains("`restarts` is missing")));
}

#[test]
fn bad_severities_never_lose_the_entity() {
    for (written, assumed, hint) in [
        ("Critical", Severity::Critical, "did you mean `critical`?"),
        ("majro", Severity::Major, "did you mean `major`?"),
        (
            "high",
            Severity::Major,
            "expected `minor`, `major`, `critical`",
        ),
        ("", Severity::Major, "expected `minor`, `major`, `critical`"),
    ] {
        let (entity, findings) = taken(&with("severity", &format!("severity = {written}")));
        assert_eq!(entity.severity, assumed, "{written}");
        assert_eq!(entity.mode, Mode::Passive);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(findings[0].contains(&format!(
            "error: `{written}` is not a severity; `{assumed}` assumed ({hint})"
        )));
        assert!(findings[0].starts_with("/p:6:1"), "{findings:#?}");
    }
}

#[test]
fn a_continued_severity_keeps_the_valid_value() {
    let text = with("severity", "severity = critical\n  interval = 9");
    let (entity, findings) = taken(&text);
    assert_eq!(entity.severity, Severity::Critical);
    assert_eq!(entity.interval, seconds(5));
    assert_eq!(findings.len(), 2, "{findings:#?}");
    assert!(findings[0].starts_with("/p:7:3: warning: indented line counts as another value"));
    assert!(findings[1].starts_with("/p:7:3: error: `interval = 9` is not a severity"));
}

#[test]
fn modes_are_exact_or_assumed_and_told() {
    for (written, assumed, told) in [
        ("passive", Mode::Passive, false),
        ("ignore", Mode::Ignore, false),
        ("Passive", Mode::Passive, true),
        ("IGNORE", Mode::Ignore, true),
        ("ignroe", Mode::Ignore, true),
        ("off", Mode::Passive, true),
        ("", Mode::Passive, true),
    ] {
        let (entity, findings) = taken(&with("mode", &format!("mode = {written}")));
        assert_eq!(entity.mode, assumed, "{written}");
        assert_eq!(!findings.is_empty(), told, "{findings:#?}");
    }
    // As puppet's sed writes it.
    assert_eq!(
        taken(&with("mode", "mode  = ignore           ; x")).0.mode,
        Mode::Ignore
    );
}

#[test]
fn an_ignored_process_is_spared_errors() {
    let text = "[process]\nprocess = x\nmode = ignore\n";
    let (entity, findings) = taken(text);
    assert_eq!(entity.mode, Mode::Ignore);
    assert!(entity.pidfile.is_none());
    assert!(
        findings.iter().all(|finding| !finding.contains("error:")),
        "{findings:#?}"
    );
}

#[test]
fn numbers_are_read_by_atoi() {
    let (entity, findings) = taken(
        &GOOD
            .replace("restarts = 10", "restarts = 4x")
            .replace("interval = 5", "interval = -3")
            .replace("debounce = 20", "debounce = 99999999999")
            .replace("startuptime  = 7", "startuptime = soon"),
    );
    assert_eq!(entity.restarts, 4);
    assert_eq!(entity.interval, seconds(5));
    assert_eq!(entity.debounce, seconds(30_000));
    assert_eq!(entity.startuptime, seconds(1));
    assert_eq!(
        findings,
        [
            "/p:7:12: warning: restarts: `4x` is read as 4; the rest is ignored",
            "/p:8:12: error: interval: `-3` is negative; 5 s assumed",
            "/p:9:12: error: debounce: `99999999999` is too large; the maximum of 30000 s assumed",
            "/p:11:15: error: startuptime: `soon` is not a number; counts as 0 s",
        ]
    );
}

#[test]
fn start_timeout_is_at_least_startuptime() {
    let (entity, _) = taken(&with("startuptime", "startuptime = 180"));
    assert_eq!(entity.start_timeout, seconds(180));
}

#[test]
fn the_last_value_wins() {
    let (entity, findings) = taken(&format!("{GOOD}restarts = 2\n"));
    assert_eq!(entity.restarts, 2);
    assert_eq!(
        findings,
        ["/p:13:1: warning: `restarts` was already given on line 7; the last value counts"]
    );
    let (entity, findings) = taken(&format!("{GOOD}process = other\n"));
    assert_eq!(entity.name, "other");
    assert!(findings[0].starts_with("/p:13:1: error: `process` was already given on line 2"));
}

#[test]
fn quorum_and_full_init_only_turn_on() {
    assert!(!taken(&format!("{GOOD}quorum = 0\n")).0.quorum);
    assert!(taken(&format!("{GOOD}quorum = 2\n")).0.quorum);
    assert!(!taken(&format!("{GOOD}quorum = yes\n")).0.quorum);
    assert!(!taken(&format!("{GOOD}quorum = -1\n")).0.quorum);
    let (entity, findings) = taken(&format!("{GOOD}quorum = 1\nquorum = 0\n"));
    assert!(entity.quorum);
    assert!(
        findings
            .iter()
            .any(|f| f.contains("cannot be turned off again")),
        "{findings:#?}"
    );
    // The trap of the shipped hbsClient.conf.
    let text = with(
        "mode",
        &format!("mode = active\nfull_init_reqd = 1 ; x\n    ' before we try\n{ACTIVE}"),
    );
    let (entity, findings) = taken(&text);
    assert_eq!(
        entity.active.map(|active| active.full_init_required),
        Some(true)
    );
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(
        findings[0].contains("warning: indented line counts as another value of `full_init_reqd`")
    );
}

#[test]
fn active_keys_count_only_after_the_mode() {
    let (entity, findings) = taken(&with("mode", &format!("mode = active\n{ACTIVE}")));
    assert_eq!(findings, [""; 0]);
    assert_eq!(entity.mode, Mode::Active);
    assert_eq!(
        entity.active,
        Some(ActiveSpec {
            port: 2202,
            period: seconds(5),
            timeout: seconds(4),
            threshold: 3,
            full_init_required: false
        })
    );
    let (entity, findings) = taken(&with("mode", &format!("{ACTIVE}mode = active")));
    assert_eq!((entity.mode, entity.active), (Mode::Passive, None));
    assert_eq!(findings.len(), 4, "{findings:#?}");
    assert_eq!(
        findings[0],
        "/p:12:1: error: `port` comes before `mode = active` and does not count; monitored in passive mode only (move `port` below `mode`)"
    );
}

#[test]
fn active_keys_in_passive_mode_are_only_noted() {
    let (entity, findings) = taken(&format!("{GOOD}{ACTIVE}"));
    assert_eq!((entity.mode, entity.active), (Mode::Passive, None));
    assert_eq!(findings.len(), 4);
    assert_eq!(
        findings[0],
        "/p:13:1: note: `port` has no effect here in mode `passive`"
    );
}

#[test]
fn active_values_are_brought_into_range() {
    let active = |keys: &str| {
        let (entity, findings) = taken(&with("mode", &format!("mode = active\n{keys}")));
        (entity.active, findings)
    };
    let (spec, findings) = active("port = 1\nperiod = 121\ntimeout = 130\nthreshold = 0\n");
    assert_eq!(
        spec,
        Some(ActiveSpec {
            port: 1,
            period: seconds(120),
            timeout: seconds(120),
            threshold: 1,
            full_init_required: false
        })
    );
    assert_eq!(findings.len(), 3, "{findings:#?}");
    for port in ["0", "65536", "-1", "http"] {
        let (spec, findings) = active(&format!(
            "port = {port}\nperiod = 5\ntimeout = 4\nthreshold = 3\n"
        ));
        assert_eq!(spec, None);
        assert!(findings[0].contains("is not a UDP port"), "{findings:#?}");
    }
}

#[test]
fn status_mode_needs_its_script() {
    let status = "mode = status\nperiod = 30\ntimeout = 120\nstart_arg = start mds\nstatus_arg = status mon.${HOSTNAME}\nstatus_failure_text = /tmp/t";
    let text = with("service", "script = /etc/init.d/ceph")
        .replace(GOOD.lines().next_back().unwrap_or_default(), status);
    let host = InventedHost::default().script_at("/etc/init.d/ceph");
    let text = text.replace("pidfile  = /var/run/sshd.pid\n", "");
    let (outcome, findings) = load(
        Path::new("/p"),
        text.as_bytes(),
        &Settings::default(),
        &host,
    );
    assert_eq!(findings, []);
    let Outcome::Entity(entity) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        entity.start,
        StartMethod::Script {
            path: "/etc/init.d/ceph".into()
        }
    );
    assert_eq!(
        entity.status,
        Some(StatusSpec {
            script: "/etc/init.d/ceph".into(),
            start_arg: "start mds".into(),
            status_arg: "status mon.${HOSTNAME}".into(),
            period: seconds(30),
            timeout: seconds(120),
            failure_text: Some("/tmp/t".into()),
        })
    );
    let (entity, _) = unmonitored(&with("mode", status));
    assert!(entity.reason.starts_with("`script` is missing"));
    let (entity, findings) =
        taken(&with("service", "script = /x").replace("mode  = passive", "mode  = status"));
    assert_eq!(
        entity
            .status
            .map(|s| (s.start_arg, s.status_arg, s.period, s.timeout)),
        Some(("start".into(), "status".into(), seconds(30), seconds(120)))
    );
    // Four assumptions and the script that does not exist.
    assert_eq!(findings.len(), 5, "{findings:#?}");
}

#[test]
fn unknown_keys_are_told_with_the_nearest_spelling() {
    let (_, findings) = taken(&format!(
        "{GOOD}debouce = 3\nServices = x\nfrobnicate = 1\n"
    ));
    assert_eq!(
        findings,
        [
            "/p:13:1: warning: unknown key `debouce` is ignored (did you mean `debounce`?)",
            "/p:14:1: warning: unknown key `Services` is ignored (did you mean `service`?)",
            "/p:15:1: warning: unknown key `frobnicate` is ignored",
        ]
    );
}

#[test]
fn subfunctions_are_kept_even_if_unknown() {
    let (entity, findings) = taken(&format!("{GOOD}subfunction = worker ; x\n"));
    assert_eq!(entity.subfunction.as_deref(), Some("worker"));
    assert_eq!(findings, [""; 0]);
    let (entity, findings) = taken(&format!("{GOOD}subfunction = compute\n"));
    assert_eq!(entity.subfunction.as_deref(), Some("compute"));
    assert!(findings[0].contains("warning: `compute` is not a known subfunction"));
}

#[test]
fn an_unusable_start_method_is_told_where_it_is_written() {
    let (entity, findings) = taken(&with("service", "service = sshd2"));
    assert!(matches!(entity.start, StartMethod::None { .. }));
    assert!(
        findings[1].starts_with("/p:3:11: error: systemd unit `sshd2.service` does not exist"),
        "{findings:#?}"
    );
    assert!(
        findings[0].starts_with("/p:2:12: error: no unit or init script for service `sshd2`"),
        "{findings:#?}"
    );
}

#[test]
fn a_relative_pidfile_is_taken_from_the_root() {
    let (entity, findings) = taken(&with("pidfile", "pidfile = var/run/x.pid"));
    assert_eq!(entity.pidfile, Some("/var/run/x.pid".into()));
    assert!(
        findings[0]
            .starts_with("/p:4:11: warning: pidfile: `var/run/x.pid` is not an absolute path")
    );
}

#[test]
fn bytes_that_are_not_utf8_survive_in_paths() {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = GOOD.as_bytes().to_vec();
    bytes.extend_from_slice(b"pidfile = /run/\xe4.pid\n");
    let (outcome, findings) = load(Path::new("/p"), &bytes, &Settings::default(), &host());
    let Outcome::Entity(entity) = outcome else {
        panic!("{outcome:?}")
    };
    let expected = std::ffi::OsString::from_vec(b"/run/\xe4.pid".to_vec());
    assert_eq!(entity.pidfile, Some(expected.into()));
    assert!(
        findings
            .iter()
            .any(|f| f.message.contains("not valid UTF-8"))
    );
}

#[test]
fn settings_and_overrides_apply() {
    let mut settings = Settings::default();
    settings.defaults.stop = StopPolicy::KillFirst;
    settings.defaults.start_timeout = seconds(60);
    let get = |settings: &Settings| match load(Path::new("/p"), GOOD.as_bytes(), settings, &host())
    {
        (Outcome::Entity(entity), _) => (entity.stop, entity.start_timeout),
        (outcome, _) => panic!("{outcome:?}"),
    };
    assert_eq!(get(&settings), (StopPolicy::KillFirst, seconds(60)));
    let stop = StopPolicy::Graceful {
        signal: 2,
        timeout: seconds(1),
    };
    settings.overrides.insert(
        "sshd".into(),
        Override {
            stop: Some(stop),
            start_timeout: Some(seconds(3)),
            systemd: Some(UnitPolicy::TakeOver),
            ..Override::default()
        },
    );
    // Never less than `startuptime`.
    assert_eq!(get(&settings), (stop, seconds(7)));
    assert_eq!(settings.systemd_of("sshd"), UnitPolicy::TakeOver);
    assert_eq!(settings.systemd_of("other"), UnitPolicy::Leave);
}

#[test]
fn any_bytes_are_survived() {
    let words = [
        "[process]\n",
        "process",
        "=",
        " ",
        "\n",
        "mode = active\n",
        "severity",
        ";",
        ":",
        "status",
        "pidfile = /x\n",
        "\u{fffd}",
        "-1",
        "port = 5\n",
        "x",
        "[",
        "]",
        "\n  ",
    ];
    let mut state = 7u64;
    for _ in 0..3000 {
        let mut text = String::from("[process]\n");
        for _ in 0..40 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(words[(state >> 33) as usize % words.len()]);
        }
        let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
        let (outcome, findings) = load(
            Path::new("/p"),
            text.as_bytes(),
            &Settings::default(),
            &host(),
        );
        // Whatever is not monitored has been said.
        if !matches!(outcome, Outcome::Entity(_)) {
            assert!(
                findings.iter().any(|f| f.severity == Level::Error),
                "{text}"
            );
        }
        for finding in findings {
            assert!(
                finding.line.is_none_or(|line| (1..=lines).contains(&line)),
                "{finding}"
            );
        }
    }
}
