//! `pmon doctor` and `pmon reload`.

use std::fmt::Write;

use super::{
    Look, Tone,
    text::{counted, printable},
};
use crate::view::diagnosis::{CheckResult, CheckView, DoctorView, ReloadView};

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
        config_generation,
        added,
        changed,
        removed,
        findings,
    } = view;
    let mut text = String::new();
    for finding in findings {
        writeln!(text, "{}", look.paint(Tone::Uneasy, &printable(finding))).ok();
    }
    for (sign, names) in [("+", added), ("~", changed), ("-", removed)] {
        for name in names {
            writeln!(text, "{sign} {}", printable(name)).ok();
        }
    }
    if *applied {
        writeln!(text, "configuration {config_generation} is in force").ok();
    } else {
        let line = format!("NOT applied; configuration {config_generation} stays in force");
        writeln!(text, "{}", look.paint(Tone::Bad, &line)).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{self, noon};

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
        view.applied = false;
        view.added.clear();
        view.changed.clear();
        view.removed.clear();
        view.findings = vec!["/etc/pmon.d/x.conf:3:1: error: unknown mode".to_owned()];
        assert_eq!(
            reload(&view, &LOOK()),
            "/etc/pmon.d/x.conf:3:1: error: unknown mode\nNOT applied; configuration 5 stays in force\n"
        );
    }
}
