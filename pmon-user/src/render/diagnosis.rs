//! `pmon doctor` and `pmon reload`.

use std::fmt::Write;

use super::{
    Look, Tone,
    text::{counted, printable},
};
use crate::view::diagnosis::{CheckResult, CheckView, DoctorView, KeyChangeView, ReloadView};

/// `pmon doctor`: one line per check, each followed by its fix.
#[must_use]
pub fn doctor(view: &DoctorView, look: &Look) -> String {
    let mut text = String::new();
    let width = view.checks.iter().map(|check| check.name.len()).max();
    for check in &view.checks {
        let CheckView {
            name,
            result,
            found,
            fix,
        } = check;
        let (word, tone) = match result {
            CheckResult::Ok => ("ok      ", Tone::Good),
            CheckResult::Degraded => ("DEGRADED", Tone::Uneasy),
            CheckResult::Failed => ("FAILED  ", Tone::Bad),
        };
        let width = width.unwrap_or(0);
        writeln!(
            text,
            "{}  {:<width$}  {}",
            look.paint(tone, word),
            printable(name),
            printable(found)
        )
        .ok();
        if let Some(fix) = fix {
            writeln!(
                text,
                "          fix: {}",
                look.paint(Tone::Strong, &printable(fix))
            )
            .ok();
        }
    }
    let count = |wanted| {
        view.checks
            .iter()
            .filter(|check| check.result == wanted)
            .count()
    };
    writeln!(
        text,
        "{}: {} ok, {} degraded, {} failed",
        counted(view.checks.len(), "check"),
        count(CheckResult::Ok),
        count(CheckResult::Degraded),
        count(CheckResult::Failed)
    )
    .ok();
    text
}

/// `pmon reload`.
#[must_use]
pub fn reload(view: &ReloadView, look: &Look) -> String {
    let ReloadView {
        applied,
        plan,
        refused,
        config_generation,
        added,
        changed,
        removed,
        changes,
        daemon_restart,
        findings,
    } = view;
    let mut text = String::new();
    for finding in findings {
        writeln!(text, "{}", look.paint(Tone::Uneasy, &printable(finding))).ok();
    }
    for (sign, names) in [("+", added), ("~", changed), ("-", removed)] {
        for name in names {
            writeln!(text, "{sign} {}", printable(name)).ok();
            let change = changes.iter().find(|change| change.name == *name);
            for key in change.into_iter().flat_map(|change| &change.keys) {
                writeln!(text, "{}", printable(&self::change(key))).ok();
            }
        }
    }
    for setting in daemon_restart {
        let line = format!("`{setting}` waits until the daemon restarts");
        writeln!(text, "{}", look.paint(Tone::Uneasy, &printable(&line))).ok();
    }
    if let Some(why) = refused {
        let line = printable(&format!("refused: {why}"));
        writeln!(text, "{}", look.paint(Tone::Bad, &line)).ok();
    }
    if *plan && refused.is_none() {
        text.push_str("nothing was changed: `pmon reload` puts this into force\n");
        return text;
    }
    if *applied {
        writeln!(text, "configuration {config_generation} is in force").ok();
    } else {
        let line = format!("NOT applied; configuration {config_generation} stays in force");
        writeln!(text, "{}", look.paint(Tone::Bad, &line)).ok();
    }
    text
}

fn change(change: &KeyChangeView) -> String {
    let KeyChangeView {
        key,
        from,
        to,
        at_next_start,
    } = change;
    let when = if *at_next_start {
        " (from its next start on)"
    } else {
        ""
    };
    format!("    {key}: {from} -> {to}{when}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{
        diagnosis::EntityChangeView,
        samples::{self, noon},
    };

    const LOOK: fn() -> Look = || Look {
        colour: false,
        width: None,
        now: noon(),
    };

    #[test]
    fn the_doctor_gives_exact_fixes() {
        assert_eq!(
            doctor(&samples::doctor(), &LOOK()),
            "\
ok        btf                  /sys/kernel/btf/vmlinux
DEGRADED  receiver-scheduling  other: EPERM
          fix: setcap cap_sys_nice+ep /usr/bin/pmon
2 checks: 1 ok, 1 degraded, 0 failed
"
        );
    }

    #[test]
    fn a_reload_says_what_changed_or_that_nothing_did() {
        let mut view = ReloadView {
            applied: true,
            plan: false,
            refused: None,
            changes: Vec::new(),
            daemon_restart: Vec::new(),
            config_generation: 5,
            added: vec!["mail".to_owned()],
            changed: vec!["web".to_owned()],
            removed: vec!["db".to_owned()],
            findings: Vec::new(),
        };
        assert_eq!(
            reload(&view, &LOOK()),
            "+ mail\n~ web\n- db\nconfiguration 5 is in force\n"
        );
        view.plan = true;
        view.daemon_restart = vec!["daemon.run_dir".to_owned()];
        let key = |key: &str, at_next_start| KeyChangeView {
            key: key.to_owned(),
            from: "1".to_owned(),
            to: "2".to_owned(),
            at_next_start,
        };
        view.changes = vec![EntityChangeView {
            name: "web".to_owned(),
            keys: vec![key("restarts", false), key("command", true)],
        }];
        assert_eq!(
            reload(&view, &LOOK()),
            "\
+ mail
~ web
    restarts: 1 -> 2
    command: 1 -> 2 (from its next start on)
- db
`daemon.run_dir` waits until the daemon restarts
nothing was changed: `pmon reload` puts this into force
"
        );
        view.plan = false;
        view.daemon_restart.clear();
        view.refused = Some("it is empty".to_owned());
        view.applied = false;
        view.added.clear();
        view.changed.clear();
        view.removed.clear();
        view.findings = vec!["/etc/pmon.d/x.conf:3:1: error: unknown mode".to_owned()];
        assert_eq!(
            reload(&view, &LOOK()),
            "/etc/pmon.d/x.conf:3:1: error: unknown mode\nrefused: it is empty\nNOT applied; configuration 5 stays in force\n"
        );
    }
}
