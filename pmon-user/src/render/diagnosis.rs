//! `pmon doctor`, `pmon bpf show` and `pmon reload`.

use std::fmt::Write;

use super::{
    Look, Tone,
    table::{Cell, Column, table},
    text::{counted, printable},
};
use crate::view::diagnosis::{
    BpfMapView, BpfProgramView, BpfStatsView, BpfView, CheckResult, CheckView, DoctorView,
    ReloadView,
};

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

/// `pmon bpf show`.
#[must_use]
pub fn bpf(view: &BpfView, look: &Look) -> String {
    let BpfView {
        off,
        programs,
        maps,
        pins,
        group_dead,
        offsets,
        stats,
    } = view;
    let mut text = String::new();
    if let Some(reason) = off {
        let line = format!("BPF is off: {}", printable(reason));
        writeln!(text, "{}", look.paint(Tone::Uneasy, &line)).ok();
    }
    let column = |title| Column {
        title,
        gives_way: title == "ATTACHED TO",
    };
    let plain = |text: String| Cell::new(&text, Tone::Plain);
    if !programs.is_empty() {
        let rows: Vec<_> = programs
            .iter()
            .map(|program| {
                let BpfProgramView {
                    id,
                    name,
                    attached_to,
                    tag,
                    run_count,
                    ns_per_run,
                } = program;
                let runs = run_count.map(|count| count.to_string());
                let ns = ns_per_run.map(|ns| format!("{ns:.0} ns"));
                vec![
                    plain(id.to_string()),
                    plain(name.clone()),
                    plain(attached_to.clone()),
                    plain(tag.clone()),
                    Cell::maybe(runs.as_deref(), Tone::Plain),
                    Cell::maybe(ns.as_deref(), Tone::Plain),
                ]
            })
            .collect();
        let head = ["ID", "PROGRAM", "ATTACHED TO", "TAG", "RUNS", "PER RUN"].map(column);
        text.push_str(&table(&head, &rows, look));
        if programs.iter().all(|program| program.run_count.is_none()) {
            text.push_str("runs are counted while `sysctl kernel.bpf_stats_enabled=1`\n");
        }
        text.push('\n');
    }
    if !maps.is_empty() {
        let rows: Vec<_> = maps
            .iter()
            .map(|map| {
                let BpfMapView {
                    id,
                    name,
                    kind,
                    entries,
                    max_entries,
                } = map;
                let entries = entries.map(|entries| entries.to_string());
                vec![
                    plain(id.to_string()),
                    plain(name.clone()),
                    plain(kind.clone()),
                    Cell::maybe(entries.as_deref(), Tone::Plain),
                    plain(max_entries.to_string()),
                ]
            })
            .collect();
        let head = ["ID", "MAP", "KIND", "USED", "CAPACITY"].map(column);
        text.push_str(&table(&head, &rows, look));
        text.push('\n');
    }
    if let Some(stats) = stats {
        let BpfStatsView {
            deaths,
            drops,
            strangers,
            repeats,
        } = stats;
        writeln!(
            text,
            "deaths {deaths} · ring drops {drops} · strangers {strangers} · repeats {repeats}"
        )
        .ok();
    }
    if let Some(group_dead) = group_dead {
        writeln!(text, "group death: {}", printable(group_dead)).ok();
    }
    for (field, offset) in offsets {
        let value = match offset {
            0 => "off".to_owned(),
            offset => offset.to_string(),
        };
        writeln!(text, "offset {}: {value}", printable(field)).ok();
    }
    for pin in pins {
        writeln!(text, "pin {}", printable(pin)).ok();
    }
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
    fn the_kernel_side_in_tables() {
        assert_eq!(
            bpf(&samples::bpf(), &LOOK()),
            "\
ID  PROGRAM    ATTACHED TO                TAG               RUNS  PER RUN
31  pmon_exit  tp_btf/sched_process_exit  a04f5eef06a7f555  1000  212 ns

ID  MAP        KIND  USED  CAPACITY
11  pmon_pids  hash  3     4096

deaths 42 · ring drops 0 · strangers 1 · repeats 0
group death: argument of the tracepoint
offset signal.live: 4
pin /sys/fs/bpf/pmon/v2/pmon_pids
"
        );
        let off = BpfView {
            off: Some("no CAP_BPF".to_owned()),
            programs: Vec::new(),
            maps: Vec::new(),
            pins: Vec::new(),
            group_dead: None,
            offsets: std::collections::BTreeMap::new(),
            stats: None,
        };
        assert_eq!(bpf(&off, &LOOK()), "BPF is off: no CAP_BPF\n");
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
