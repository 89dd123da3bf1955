use std::{io, time::Duration};

use super::*;
use crate::{
    control::{client::ClientError, error::ControlError},
    doctor::{
        daemon::{
            check_audit, check_conditions, check_configuration, check_entities, check_running,
            check_unreachable,
        },
        outcome::expect::{is_degraded, is_failed, is_ok},
    },
    view::{entity::StateWord, samples, status::AuditView},
};

#[test]
fn running() {
    is_ok(
        &check_running(&samples::status(Vec::new())),
        "runs as pid 812 for 3 h, version 0.1.0, at `/run/pmon/pmon.sock`",
    );
}

#[test]
fn unreachable() {
    let path = std::path::PathBuf::from("/run/pmon/pmon.sock");
    let unit = Surroundings {
        systemd: true,
        unit: true,
        ..plain_host()
    };
    let with = |kind: io::ErrorKind| ClientError::Unreachable {
        path: path.clone(),
        source: kind.into(),
    };
    is_failed(
        &check_unreachable(&with(io::ErrorKind::NotFound), &plain_host()),
        "not running: there is no socket `/run/pmon/pmon.sock`",
        "start it: `pmon daemon` as root",
    );
    is_failed(
        &check_unreachable(&with(io::ErrorKind::ConnectionRefused), &unit),
        "not running: nobody listens at `/run/pmon/pmon.sock`",
        "start it: `systemctl start pmon`",
    );
    is_failed(
        &check_unreachable(&with(io::ErrorKind::NotADirectory), &unit),
        "cannot be reached at `/run/pmon/pmon.sock`: not a directory",
        "start it: `systemctl start pmon`",
    );
    is_failed(
        &check_unreachable(&ClientError::Forbidden { path: path.clone() }, &unit),
        "permission denied on `/run/pmon/pmon.sock`: this needs root or membership in the socket's group",
        "ask as root: `sudo pmon doctor`; or join the group: `sudo usermod -aG pmon $USER`, then log in again",
    );
    const AGAIN: &str =
        "read its log (`journalctl -u pmon`), then start it again: `systemctl restart pmon`";
    is_failed(
        &check_unreachable(&ClientError::Lost { path: path.clone() }, &unit),
        "it does not answer properly: the daemon at `/run/pmon/pmon.sock` ended the connection",
        AGAIN,
    );
    let late = ClientError::TimedOut {
        path: path.clone(),
        what: "answer",
        after: Duration::from_secs(5),
    };
    is_failed(
        &check_unreachable(&late, &unit),
        "it does not answer properly: timed out: no answer from `/run/pmon/pmon.sock` within 5 s",
        AGAIN,
    );
    let foreign = ClientError::Protocol {
        path: path.clone(),
        reason: "no JSON".to_owned(),
    };
    is_failed(
        &check_unreachable(&foreign, &unit),
        "it does not answer properly: the daemon at `/run/pmon/pmon.sock` is not understood: no JSON; \
         is it another version?",
        AGAIN,
    );
}

#[test]
fn a_daemon_that_refuses() {
    let refused = ClientError::Control(ControlError::Refused {
        reason: "not now".to_owned(),
    });
    let text = refused.to_string();
    is_failed(
        &check_unreachable(&refused, &plain_host()),
        &format!("it does not say: {text}"),
        "ask as root: `sudo pmon doctor`",
    );
}

#[test]
fn audit() {
    const FIX: &str = "see why: `journalctl -u pmon`; then `systemctl restart pmon`, \
         or end `pmon daemon` and start it again";
    let (now, uptime) = (samples::noon(), Duration::from_secs(11_520));
    let period = Duration::from_secs(30);
    let swept = |ago, sweeps| AuditView {
        last_sweep: Some(samples::before(ago)),
        sweeps,
        one_instance: 0,
        discrepancies: [("a".to_owned(), 1), ("b".to_owned(), 2)].into(),
    };
    is_ok(
        &check_audit(&swept(12, 384), uptime, period, now),
        "last sweep 12 s ago, 384 sweeps, 3 discrepancies (a 1, b 2)",
    );
    is_ok(
        &check_audit(&swept(70, 384), uptime, period, now),
        "last sweep 70 s ago, 384 sweeps, 3 discrepancies (a 1, b 2)",
    );
    is_degraded(
        &check_audit(&swept(71, 384), uptime, period, now),
        "overdue: last sweep 71 s ago, 384 sweeps, 3 discrepancies (a 1, b 2)",
        FIX,
    );
    let never = AuditView::default();
    is_ok(
        &check_audit(&never, Duration::from_secs(70), period, now),
        "no sweep was due yet",
    );
    is_degraded(
        &check_audit(&never, Duration::from_secs(71), period, now),
        "no sweep in 71 s",
        FIX,
    );
}

#[test]
fn configuration() {
    let findings = [
        "/etc/pmon.d/a.conf:3:1: error: no such mode".to_owned(),
        "x".to_owned(),
    ];
    is_ok(
        &check_configuration(1, &[], false, true),
        "1 entity, nothing to remark",
    );
    let notes = [
        "/etc/pmon.d: note: directory cannot be read".to_owned(),
        "/etc/x: note: y: error: z".to_owned(),
    ];
    is_ok(
        &check_configuration(0, &notes, false, true),
        "0 entities, 2 notes, the first: /etc/pmon.d: note: directory cannot be read",
    );
    let mixed = [notes[0].clone(), findings[0].clone()];
    is_degraded(
        &check_configuration(0, &mixed, false, false),
        "1 finding, the first: /etc/pmon.d/a.conf:3:1: error: no such mode",
        "`pmon config check` shows all; correct the file",
    );
    is_degraded(
        &check_configuration(2, &findings, false, true),
        "2 findings, the first: /etc/pmon.d/a.conf:3:1: error: no such mode",
        "`pmon config check` shows all; correct the file, then `pmon reload`",
    );
    is_degraded(
        &check_configuration(2, &findings[..1], false, false),
        "1 finding, the first: /etc/pmon.d/a.conf:3:1: error: no such mode",
        "`pmon config check` shows all; correct the file",
    );
    is_failed(
        &check_configuration(0, &findings, true, false),
        "refused: 2 findings, the first: /etc/pmon.d/a.conf:3:1: error: no such mode",
        "`pmon config check` shows all; correct the file",
    );
}

#[test]
fn conditions() {
    is_ok(&check_conditions(&[]), "the daemon does without nothing");
    is_degraded(
        &check_conditions(&["a is missing".to_owned(), "b".to_owned()]),
        "a is missing; b",
        "each names its remedy, or one of the checks here does; then restart the daemon: `systemctl restart pmon`",
    );
}

#[test]
fn entities() {
    let status = |states: &[StateWord]| {
        let named = states
            .iter()
            .enumerate()
            .map(|(n, state)| samples::entity(&format!("e{n}"), *state));
        samples::status(named.collect())
    };
    is_ok(&check_entities(&status(&[])), "0 up");
    is_ok(
        &check_entities(&status(&[
            StateWord::Up,
            StateWord::Down,
            StateWord::Held,
            StateWord::Starting,
            StateWord::Recovering,
            StateWord::Stopping,
        ])),
        "1 up, 2 down on purpose, 3 in transition",
    );
    is_degraded(
        &check_entities(&status(&[
            StateWord::Up,
            StateWord::Failed,
            StateWord::Unverifiable,
            StateWord::Unknown,
        ])),
        "1 up; `e1` failed, `e2` unverifiable, `e3` unknown",
        "`pmon explain e1`",
    );
    is_degraded(
        &check_entities(&status(&[StateWord::Failed; 7])),
        "0 up; `e0` failed, `e1` failed, `e2` failed, `e3` failed, `e4` failed, 2 more",
        "`pmon explain e0`",
    );
}
