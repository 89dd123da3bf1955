//! Every way to start a successor, on invented hosts.

use std::collections::BTreeMap;

use super::*;
use crate::config::host::invented::InventedHost;

fn unit(name: &str) -> StartMethod {
    StartMethod::Unit { unit: name.into() }
}

fn script(path: &str) -> StartMethod {
    StartMethod::Script { path: path.into() }
}

/// pmon.d offer.
fn offer<'a>(name: &'a str, service: Option<&'a str>, script: Option<&'a str>) -> Offer<'a> {
    Offer {
        name,
        service,
        script: script.map(Path::new),
        command: None,
        by_name: true,
    }
}

fn abouts(problems: &[Problem]) -> Vec<About> {
    problems.iter().map(|problem| problem.about).collect()
}

#[test]
fn the_unit_wins_on_a_systemd_host() {
    let host = InventedHost::with_systemd(&["sshd.service"]).script_at("/etc/init.d/sshd");
    let all = offer("sshd", Some("sshd"), Some("/etc/init.d/sshd"));
    assert_eq!(start_method(&all, &host), (unit("sshd.service"), vec![]));
    let suffixed = offer("x", Some("sshd.service"), None);
    assert_eq!(start_method(&suffixed, &host).0, unit("sshd.service"));
}

#[test]
fn the_script_wins_without_systemd() {
    let mut host = InventedHost::with_systemd(&["sshd.service"])
        .script_at("/etc/init.d/sshd")
        .script_at("/opt/sshd");
    host.systemd = false;
    let all = offer("sshd", Some("sshd"), Some("/opt/sshd"));
    assert_eq!(start_method(&all, &host), (script("/opt/sshd"), vec![]));
    // Only a service: its LSB script.
    let only_service = offer("x", Some("sshd.service"), None);
    assert_eq!(
        start_method(&only_service, &host),
        (script("/etc/init.d/sshd"), vec![])
    );
}

#[test]
fn a_missing_unit_is_told_and_the_script_taken() {
    let host = InventedHost::with_systemd(&[]).script_at("/opt/sshd");
    let (method, problems) = start_method(&offer("sshd", Some("sshd"), Some("/opt/sshd")), &host);
    assert_eq!(method, script("/opt/sshd"));
    assert_eq!(abouts(&problems), [About::Service]);
    assert_eq!(
        problems[0].message,
        "systemd unit `sshd.service` does not exist on this host"
    );
}

#[test]
fn a_masked_unit_is_told_with_its_fix() {
    let mut host = InventedHost::with_systemd(&[]).script_at("/etc/init.d/a");
    host.units.insert("a.service".into(), UnitState::Masked);
    let (method, problems) = start_method(&offer("a", Some("a"), None), &host);
    assert_eq!(method, script("/etc/init.d/a"));
    assert_eq!(
        problems[0].hint.as_deref(),
        Some("fix: systemctl unmask a.service")
    );
}

#[test]
fn with_only_a_script_the_process_unit_goes_first() {
    let host = InventedHost::with_systemd(&["bar.service", "foo.service"]);
    let bar = offer("bar", None, Some("/etc/init.d/foo"));
    assert_eq!(start_method(&bar, &host), (unit("bar.service"), vec![]));
    let host = InventedHost::with_systemd(&["foo.service"]);
    assert_eq!(start_method(&bar, &host), (unit("foo.service"), vec![]));
    let host = InventedHost::with_systemd(&[]).script_at("/etc/init.d/foo");
    assert_eq!(
        start_method(&bar, &host),
        (script("/etc/init.d/foo"), vec![])
    );
}

#[test]
fn nothing_usable_is_an_error_with_the_reason() {
    let host = InventedHost::default();
    let (method, problems) = start_method(&offer("a", Some("b"), Some("/opt/c")), &host);
    let reason = "neither service `b` nor script `/opt/c` is usable";
    assert_eq!(
        method,
        StartMethod::None {
            reason: reason.into()
        }
    );
    assert_eq!(abouts(&problems), [About::Script, About::Entity]);
    let (method, _) = start_method(&offer("a", None, None), &host);
    assert_eq!(
        method,
        StartMethod::None {
            reason: "no start method is configured".into()
        }
    );
}

#[test]
fn a_script_without_execute_bit_is_told_and_passed_over() {
    let mut host = InventedHost::default().script_at("/etc/init.d/b");
    host.scripts
        .insert("/opt/c".into(), ScriptState::NotExecutable);
    let (method, problems) = start_method(&offer("a", Some("b"), Some("/opt/c")), &host);
    assert_eq!(method, script("/etc/init.d/b"));
    assert_eq!(problems[0].hint.as_deref(), Some("fix: chmod +x /opt/c"));
}

#[test]
fn service_names_cannot_smuggle_options_or_paths() {
    for bad in ["-H evil", "../../tmp/x", "--no-block", "a b", ""] {
        let host = InventedHost::with_systemd(&[&format!("{bad}.service")]);
        let (method, problems) = start_method(&offer("a/b", Some(bad), None), &host);
        assert!(matches!(method, StartMethod::None { .. }), "{bad}");
        assert_eq!(problems[0].about, About::Service, "{bad}");
    }
}

#[test]
fn a_native_command_is_the_last_resort_and_no_name_is_guessed() {
    let command = CommandSpec {
        argv: vec!["/usr/bin/x".into()],
        environment: BTreeMap::new(),
        directory: "/".into(),
        user: None,
        group: None,
        daemonizes: false,
        log: None,
        early: false,
        sockets: Vec::new(),
    };
    let native = Offer {
        name: "x",
        command: Some(command.clone()),
        ..Offer::default()
    };
    let host = InventedHost::with_systemd(&["x.service"]).script_at("/usr/bin/x");
    assert_eq!(
        start_method(&native, &host),
        (StartMethod::Command(command.clone()), vec![])
    );
    let host = InventedHost::default();
    let (method, problems) = start_method(&native, &host);
    assert_eq!(method, StartMethod::Command(command));
    assert_eq!(abouts(&problems), [About::Command]);
}
