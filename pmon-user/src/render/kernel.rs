//! The kernel side: `pmon bpf show` and `pmon bpf log`.

use std::fmt::Write;

use super::{
    Look, Tone,
    table::{Cell, Column, table},
    text::printable,
};
use crate::view::diagnosis::{
    BpfLinkView, BpfLogView, BpfMapView, BpfProgramView, BpfStatsView, BpfView,
};

/// `pmon bpf show`.
#[must_use]
pub fn bpf(view: &BpfView, look: &Look) -> String {
    let BpfView {
        off,
        log,
        counted_s,
        uncounted,
        programs,
        links,
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
    if !programs.is_empty() {
        text.push_str(&program_table(programs, look));
        match (counted_s, uncounted) {
            (Some(seconds), _) => writeln!(text, "runs counted for {seconds:.1} s").ok(),
            (None, Some(why)) => writeln!(text, "runs unknown: {}", printable(why)).ok(),
            (None, None) => None,
        };
        text.push('\n');
    }
    if !links.is_empty() {
        text.push_str(&link_table(links, look));
        text.push('\n');
    }
    if !maps.is_empty() {
        text.push_str(&map_table(maps, look));
        text.push('\n');
    }
    if let Some(stats) = stats {
        let BpfStatsView {
            deaths,
            drops,
            strangers,
            repeats,
            followed,
            unfollowed,
        } = stats;
        writeln!(
            text,
            "deaths {deaths} · ring drops {drops} · strangers {strangers} · repeats {repeats} · \
             followed {followed} · unfollowed {unfollowed}"
        )
        .ok();
    }
    if let Some(on) = log {
        writeln!(text, "log of the programs: {}", word(*on)).ok();
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

/// `pmon bpf log on|off`.
#[must_use]
pub fn bpf_log(view: BpfLogView) -> String {
    let BpfLogView { on, was_on } = view;
    let already = if on == was_on { " already" } else { "" };
    let whither = match on {
        true => "; its lines are in the daemon's log, beginning with `kernel: `",
        false => "",
    };
    format!(
        "the log of the programs is {}{already}{whither}\n",
        word(on)
    )
}

const fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

const fn column(title: &'static str) -> Column {
    Column {
        title,
        gives_way: false,
    }
}

/// A column that is cut first.
const fn attach_point() -> Column {
    Column {
        title: "ATTACHED TO",
        gives_way: true,
    }
}

fn plain(text: &impl ToString) -> Cell {
    Cell::new(&text.to_string(), Tone::Plain)
}

fn maybe(text: Option<impl ToString>) -> Cell {
    Cell::maybe(text.map(|text| text.to_string()).as_deref(), Tone::Plain)
}

fn program_table(programs: &[BpfProgramView], look: &Look) -> String {
    let rows: Vec<_> = programs
        .iter()
        .map(|program| {
            let BpfProgramView {
                id,
                name,
                attached_to,
                tag,
                instructions,
                run_count,
                ns_per_run,
            } = program;
            vec![
                plain(id),
                plain(name),
                plain(attached_to),
                plain(tag),
                maybe(*instructions),
                maybe(*run_count),
                maybe(ns_per_run.map(|ns| format!("{ns:.0} ns"))),
            ]
        })
        .collect();
    let head = [
        column("ID"),
        column("PROGRAM"),
        attach_point(),
        column("TAG"),
        column("INSNS"),
        column("RUNS"),
        column("PER RUN"),
    ];
    table(&head, &rows, look)
}

fn link_table(links: &[BpfLinkView], look: &Look) -> String {
    let rows: Vec<_> = links
        .iter()
        .map(|link| {
            let BpfLinkView {
                id,
                program,
                program_id,
                attached_to,
                pin,
            } = link;
            let pinned = if pin.is_some() { "yes" } else { "no" };
            vec![
                maybe(*id),
                plain(program),
                maybe(*program_id),
                plain(attached_to),
                plain(&pinned),
            ]
        })
        .collect();
    let head = [
        column("ID"),
        column("LINK OF"),
        column("PROGRAM ID"),
        attach_point(),
        column("PINNED"),
    ];
    table(&head, &rows, look)
}

fn map_table(maps: &[BpfMapView], look: &Look) -> String {
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
            vec![
                plain(id),
                plain(name),
                plain(kind),
                maybe(*entries),
                plain(max_entries),
            ]
        })
        .collect();
    let head = ["ID", "MAP", "KIND", "USED", "CAPACITY"].map(column);
    table(&head, &rows, look)
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
    fn in_tables() {
        assert_eq!(
            bpf(&samples::bpf(), &LOOK()),
            "\
ID  PROGRAM    ATTACHED TO                TAG               INSNS  RUNS  PER RUN
31  pmon_exit  tp_btf/sched_process_exit  a04f5eef06a7f555  310    1000  212 ns
runs counted for 1.0 s

ID  LINK OF    PROGRAM ID  ATTACHED TO                PINNED
5   pmon_exit  31          tp_btf/sched_process_exit  yes

ID  MAP        KIND  USED  CAPACITY
11  pmon_pids  hash  3     4096

deaths 42 · ring drops 0 · strangers 1 · repeats 0 · followed 2 · unfollowed 0
log of the programs: off
group death: argument of the tracepoint
offset signal.live: 4
pin /sys/fs/bpf/pmon/v2/pmon_pids
"
        );
    }

    #[test]
    fn what_is_unknown_is_no_zero() {
        let mut view = samples::bpf();
        view.counted_s = None;
        view.uncounted = Some("not permitted".to_owned());
        for program in &mut view.programs {
            program.run_count = None;
            program.ns_per_run = None;
        }
        let text = bpf(&view, &LOOK());
        assert!(text.contains("310    -     -\n"), "{text}");
        assert!(text.contains("runs unknown: not permitted\n"), "{text}");
    }

    #[test]
    fn why_there_is_nothing() {
        let off = BpfView {
            off: Some("no CAP_BPF".to_owned()),
            log: None,
            counted_s: None,
            uncounted: None,
            programs: Vec::new(),
            links: Vec::new(),
            maps: Vec::new(),
            pins: Vec::new(),
            group_dead: None,
            offsets: std::collections::BTreeMap::new(),
            stats: None,
        };
        assert_eq!(bpf(&off, &LOOK()), "BPF is off: no CAP_BPF\n");
    }

    #[test]
    fn whether_the_log_is_on() {
        let switched = |was_on, on| bpf_log(BpfLogView { on, was_on });
        assert_eq!(
            switched(false, true),
            "the log of the programs is on; its lines are in the daemon's log, beginning with \
             `kernel: `\n"
        );
        assert_eq!(switched(true, false), "the log of the programs is off\n");
        assert_eq!(
            switched(false, false),
            "the log of the programs is off already\n"
        );
    }
}
