//! What a running daemon says of itself: audit, configuration, entities; its
//! sources are next door.

use std::{io, time::Duration};

use jiff::Timestamp;

use super::{
    outcome::{count, degraded, failed, ok},
    surroundings::Surroundings,
};
use crate::{
    control::client::ClientError,
    view::{
        diagnosis::CheckView,
        entity::StateWord,
        status::{AuditView, StatusView},
    },
};

/// A sweep may be late by this much, whatever its period: hosts are busy at times.
const SWEEP_SLACK: Duration = Duration::from_secs(10);
/// What is said about lists at most.
const SHOWN: usize = 5;

/// `daemon`, from inside of it.
pub(super) fn check_running(status: &StatusView) -> CheckView {
    let daemon = &status.daemon;
    ok(
        "daemon",
        format!(
            "runs as pid {} for {}, version {}, at `{}`",
            daemon.pid,
            age(status.uptime_s),
            daemon.version,
            daemon.socket
        ),
    )
}

/// `daemon`, from outside, where it could not be asked.
pub(super) fn check_unreachable(error: &ClientError, surroundings: &Surroundings) -> CheckView {
    const NAME: &str = "daemon";
    let default = std::path::Path::new("/run/pmon");
    match error {
        ClientError::Unreachable { path, source } => {
            let start = surroundings.start_command("start", path.parent().unwrap_or(default));
            let shown = path.display();
            let found = match source.kind() {
                io::ErrorKind::NotFound => format!("not running: there is no socket `{shown}`"),
                io::ErrorKind::ConnectionRefused => {
                    format!("not running: nobody listens at `{shown}`")
                }
                _ => format!("cannot be reached at `{shown}`: {source}"),
            };
            failed(NAME, found, format!("start it: {start}"))
        }
        ClientError::Forbidden { path: _ } => failed(
            NAME,
            error.to_string(),
            "ask as root: `sudo pmon doctor`; or join the group: `sudo usermod -aG pmon $USER`, then log in again",
        ),
        ClientError::Control(_) => failed(
            NAME,
            format!("it does not say: {error}"),
            "ask as root: `sudo pmon doctor`",
        ),
        ClientError::Lost { path }
        | ClientError::TimedOut { path, .. }
        | ClientError::Protocol { path, .. } => {
            let start = surroundings.start_command("restart", path.parent().unwrap_or(default));
            failed(
                NAME,
                format!("it does not answer properly: {error}"),
                format!("read its log (`journalctl -u pmon`), then start it again: {start}"),
            )
        }
    }
}

/// `audit`, which should sweep once in `period`.
pub(super) fn check_audit(
    audit: &AuditView,
    uptime: Duration,
    period: Duration,
    now: Timestamp,
) -> CheckView {
    const NAME: &str = "audit";
    const FIX: &str = "see why: `journalctl -u pmon`; then `systemctl restart pmon`, \
                       or end `pmon daemon` and start it again";
    let patience = period * 2 + SWEEP_SLACK;
    let discrepancies: u64 = audit.discrepancies.values().sum();
    let Some(last) = audit.last_sweep else {
        return if uptime <= patience {
            ok(NAME, "no sweep was due yet")
        } else {
            degraded(NAME, format!("no sweep in {}", age(uptime.as_secs())), FIX)
        };
    };
    let since = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    let kinds: Vec<String> = audit
        .discrepancies
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let kinds = if kinds.is_empty() {
        String::new()
    } else {
        format!(" ({})", kinds.join(", "))
    };
    let said = format!(
        "last sweep {} ago, {}, {}{kinds}",
        age(since.as_secs()),
        count(audit.sweeps as usize, "sweep", "sweeps"),
        count(discrepancies as usize, "discrepancy", "discrepancies")
    );
    if since <= patience {
        ok(NAME, said)
    } else {
        degraded(NAME, format!("overdue: {said}"), FIX)
    }
}

/// `configuration`: what the daemon, or `pmon config check`, complains about.
pub(super) fn check_configuration(
    entities: usize,
    findings: &[String],
    refused: bool,
    running: bool,
) -> CheckView {
    const NAME: &str = "configuration";
    let (notes, findings): (Vec<&String>, Vec<&String>) =
        findings.iter().partition(|finding| is_note(finding));
    let Some(first) = findings.first() else {
        let remarks = match notes.first() {
            None => "nothing to remark".to_owned(),
            Some(first) => format!(
                "{}, the first: {first}",
                count(notes.len(), "note", "notes")
            ),
        };
        return ok(
            NAME,
            format!("{}, {remarks}", count(entities, "entity", "entities")),
        );
    };
    let found = format!(
        "{}, the first: {first}",
        count(findings.len(), "finding", "findings")
    );
    let fix = if running {
        "`pmon config check` shows all; correct the file, then `pmon reload`"
    } else {
        "`pmon config check` shows all; correct the file"
    };
    if refused {
        failed(NAME, format!("refused: {found}"), fix)
    } else {
        degraded(NAME, found, fix)
    }
}

/// Whether a finding, `FILE[:LINE:COLUMN]: LEVEL: TEXT`, calls for nothing. A file
/// may have a colon and a space in its name, but its level is what comes first.
fn is_note(finding: &str) -> bool {
    finding
        .split(": ")
        .find(|part| matches!(*part, "error" | "warning" | "note"))
        == Some("note")
}

/// `conditions`: the daemon's own list of what it does without.
pub(super) fn check_conditions(conditions: &[String]) -> CheckView {
    const NAME: &str = "conditions";
    if conditions.is_empty() {
        return ok(NAME, "the daemon does without nothing");
    }
    degraded(
        NAME,
        conditions.join("; "),
        "each names its remedy, or one of the checks here does; then restart the daemon: `systemctl restart pmon`",
    )
}

/// `entities`: those that are not as they should be.
pub(super) fn check_entities(status: &StatusView) -> CheckView {
    const NAME: &str = "entities";
    let mut bad = Vec::new();
    let (mut up, mut down, mut moving) = (0, 0, 0);
    for entity in &status.entities {
        match entity.state {
            StateWord::Up => up += 1,
            StateWord::Down | StateWord::Held => down += 1,
            StateWord::Starting | StateWord::Recovering | StateWord::Stopping => moving += 1,
            StateWord::Failed => bad.push((entity.name.as_str(), "failed")),
            StateWord::Unverifiable => bad.push((entity.name.as_str(), "unverifiable")),
            StateWord::Unknown => bad.push((entity.name.as_str(), "unknown")),
        }
    }
    let mut parts = vec![format!("{up} up")];
    if down > 0 {
        parts.push(format!("{down} down on purpose"));
    }
    if moving > 0 {
        parts.push(format!("{moving} in transition"));
    }
    let Some((first, _)) = bad.first() else {
        return ok(NAME, parts.join(", "));
    };
    let fix = format!("`pmon explain {first}`");
    let mut named: Vec<String> = bad
        .iter()
        .take(SHOWN)
        .map(|(name, state)| format!("`{name}` {state}"))
        .collect();
    if bad.len() > SHOWN {
        named.push(format!("{} more", bad.len() - SHOWN));
    }
    degraded(
        NAME,
        format!("{}; {}", parts.join(", "), named.join(", ")),
        fix,
    )
}

/// `12 s`, `3 min`, `5 h`, `2 d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
