//! `pmon status`: the daemon in a few lines, then one line per entity, the ones
//! in trouble first.

use std::{fmt::Write, time::Duration};

use super::{
    Look, Tone, death, span,
    table::{Cell, Column, table},
    text::{counted, printable},
};
use crate::view::{
    entity::{EntityView, StateWord},
    status::{AuditView, SourceState, SourceView, StatusView},
};

const HEAD: [Column; 7] = [
    fixed("NAME"),
    fixed("STATE"),
    fixed("SINCE"),
    fixed("PID"),
    fixed("DEATHS 1h/24h"),
    gives_way("LAST CAUSE"),
    gives_way("NEXT"),
];

const fn fixed(title: &'static str) -> Column {
    Column {
        title,
        gives_way: false,
    }
}

const fn gives_way(title: &'static str) -> Column {
    Column {
        title,
        gives_way: true,
    }
}

/// The whole of `pmon status`.
#[must_use]
pub fn status(view: &StatusView, look: &Look) -> String {
    let mut text = header(view, look);
    text.push('\n');
    if view.entities.is_empty() {
        text.push_str("no entities are monitored\n");
    } else {
        text.push_str(&entities(&view.entities, look));
        text.push('\n');
        text.push_str(&summary(&view.entities));
    }
    text
}

/// The lines about the daemon.
fn header(view: &StatusView, look: &Look) -> String {
    let mut text = String::new();
    let daemon = &view.daemon;
    // Writing to a String cannot fail, here and below.
    writeln!(
        text,
        "{} on {} · up {} · pid {} · configuration {} · receiver {}",
        look.paint(
            Tone::Strong,
            &format!("pmon {}", printable(&daemon.version))
        ),
        look.paint(Tone::Strong, &printable(&view.host)),
        span::seconds(view.uptime_s),
        daemon.pid,
        daemon.config_generation,
        printable(&daemon.receiver_scheduling),
    )
    .ok();
    let sources: Vec<_> = view
        .sources
        .iter()
        .map(|source| self::source(source, look))
        .collect();
    writeln!(text, "sources: {}", sources.join(" · ")).ok();
    for source in &view.sources {
        if let Some(reason) = &source.reason {
            let line = format!("  {}: {}", printable(&source.name), printable(reason));
            writeln!(text, "{}", look.paint(Tone::Quiet, &line)).ok();
        }
    }
    writeln!(text, "audit: {}", audit(&view.audit, look)).ok();
    if let Some(severity) = view.host_degraded {
        let line = format!("host: degraded, {severity}");
        writeln!(text, "{}", look.paint(Tone::Bad, &line)).ok();
    }
    if let Some(name) = &view.unrecoverable {
        let name = printable(name);
        let line = format!("host: should not go on without `{name}`, which cannot be recovered");
        writeln!(text, "{}", look.paint(Tone::Bad, &line)).ok();
    }
    for condition in &view.degraded {
        let line = format!("DEGRADED: {}", printable(condition));
        writeln!(text, "{}", look.paint(Tone::Uneasy, &line)).ok();
    }
    for finding in &view.config_findings {
        let line = format!("CONFIG: {}", printable(finding));
        writeln!(text, "{}", look.paint(Tone::Uneasy, &line)).ok();
    }
    text
}

fn source(source: &SourceView, look: &Look) -> String {
    let (word, tone) = match source.state {
        SourceState::Healthy => ("healthy", Tone::Good),
        SourceState::Unproven => ("unproven", Tone::Uneasy),
        SourceState::Standby => ("stands by", Tone::Quiet),
        SourceState::Degraded => ("DEGRADED", Tone::Uneasy),
        SourceState::Off => ("off", Tone::Quiet),
    };
    let mut text = format!("{} {}", printable(&source.name), look.paint(tone, word));
    let runs = !matches!(source.state, SourceState::Off | SourceState::Standby);
    let age = source.last_canary_s.filter(|_| runs);
    if let Some(age) = age.and_then(|age| Duration::try_from_secs_f64(age).ok()) {
        text.push_str(&format!(" (canary {} ago)", span::seconds(age.as_secs())));
    }
    if source.lost > 0 {
        let what = match source.name.as_str() {
            "proc-connector" => counted(
                usize::try_from(source.lost).unwrap_or(usize::MAX),
                "overrun",
            ),
            _ => format!("{} dropped", source.lost),
        };
        let lost = format!(" ({what})");
        text.push_str(&look.paint(Tone::Uneasy, &lost));
    }
    text
}

fn audit(audit: &AuditView, look: &Look) -> String {
    let Some(last) = audit.last_sweep else {
        return "no sweep yet".to_owned();
    };
    let sweeps = counted(usize::try_from(audit.sweeps).unwrap_or(usize::MAX), "sweep");
    let found = if audit.discrepancies.values().all(|count| *count == 0) {
        "nothing out of step".to_owned()
    } else {
        let kinds: Vec<_> = audit
            .discrepancies
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(kind, count)| format!("{} × {}", count, printable(kind)))
            .collect();
        look.paint(Tone::Uneasy, &kinds.join(", "))
    };
    format!("{sweeps}, last {} ago, {found}", span::age(last, look.now))
}

/// One line per entity, the ones in trouble first.
#[must_use]
pub fn entities(entities: &[EntityView], look: &Look) -> String {
    let mut sorted: Vec<_> = entities.iter().collect();
    sorted.sort_by_key(|entity| {
        (
            std::cmp::Reverse(entity.alarm),
            urgency(entity.state),
            &entity.name,
        )
    });
    let rows: Vec<_> = sorted.into_iter().map(|entity| row(entity, look)).collect();
    table(&HEAD, &rows, look)
}

fn row(entity: &EntityView, look: &Look) -> Vec<Cell> {
    let tone = tone(entity.state);
    let state = match entity.alarm {
        Some(severity) => format!("{} ({severity})", word(entity.state)),
        None => word(entity.state).to_owned(),
    };
    let state_tone = if entity.alarm.is_some() {
        Tone::Bad
    } else {
        tone
    };
    let since = entity.since.map(|since| span::age(since, look.now));
    let pid = entity.pid.map(|pid| pid.to_string());
    let deaths = format!("{}/{}", entity.deaths_1h, entity.deaths_24h);
    let deaths_tone = if entity.deaths_1h > 0 {
        Tone::Uneasy
    } else {
        Tone::Plain
    };
    vec![
        Cell::new(&entity.name, Tone::Plain),
        Cell::new(&state, state_tone),
        Cell::maybe(since.as_deref(), Tone::Plain),
        Cell::maybe(pid.as_deref(), Tone::Plain),
        Cell::new(&deaths, deaths_tone),
        Cell::maybe(last_cause(entity, look).as_deref(), Tone::Plain),
        Cell::maybe(next(entity, look).as_deref(), Tone::Plain),
    ]
}

/// What is wrong now, or else what went wrong last.
fn last_cause(entity: &EntityView, look: &Look) -> Option<String> {
    if let Some(problem) = &entity.problem {
        return Some(problem.clone());
    }
    let certificate = entity.last_death.as_ref()?;
    let cause = death::cause(certificate);
    Some(match certificate.died_at {
        Some(at) => format!("{cause}, {} ago", span::age(at, look.now)),
        None => cause,
    })
}

/// What pmon will do next, and when.
#[must_use]
pub(super) fn next(entity: &EntityView, look: &Look) -> Option<String> {
    let action = entity.next_action.as_ref()?;
    let wait = entity
        .next_action_at
        .and_then(|at| span::until(at, look.now));
    Some(match wait {
        Some(wait) => format!("{action} in {wait}"),
        None => action.clone(),
    })
}

/// The state as a word.
#[must_use]
pub const fn word(state: StateWord) -> &'static str {
    match state {
        StateWord::Up => "up",
        StateWord::Stopping => "stopping",
        StateWord::Down => "down",
        StateWord::Starting => "starting",
        StateWord::Recovering => "recovering",
        StateWord::Held => "held",
        StateWord::Failed => "FAILED",
        StateWord::Unverifiable => "UNVERIFIABLE",
        StateWord::Unknown => "unknown",
    }
}

/// The tone of a state.
#[must_use]
pub(super) const fn tone(state: StateWord) -> Tone {
    match state {
        StateWord::Up => Tone::Good,
        StateWord::Down | StateWord::Unknown => Tone::Quiet,
        StateWord::Starting | StateWord::Stopping | StateWord::Recovering | StateWord::Held => {
            Tone::Uneasy
        }
        StateWord::Failed | StateWord::Unverifiable => Tone::Bad,
    }
}

/// Most urgent first.
const fn urgency(state: StateWord) -> u8 {
    match state {
        StateWord::Failed => 0,
        StateWord::Unverifiable => 1,
        StateWord::Recovering => 2,
        StateWord::Starting | StateWord::Stopping => 3,
        StateWord::Held => 4,
        StateWord::Unknown => 5,
        StateWord::Down => 6,
        StateWord::Up => 7,
    }
}

fn summary(entities: &[EntityView]) -> String {
    let mut counts: Vec<(u8, &str, usize)> = Vec::new();
    for entity in entities {
        let key = urgency(entity.state);
        match counts.iter_mut().find(|(other, ..)| *other == key) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((key, word(entity.state), 1)),
        }
    }
    counts.sort_unstable();
    let states: Vec<_> = counts
        .iter()
        .map(|(_, word, count)| format!("{count} {word}"))
        .collect();
    let entities = match entities.len() {
        1 => "1 entity".to_owned(),
        count => format!("{count} entities"),
    };
    format!("{entities}: {}\n", states.join(", "))
}

#[cfg(test)]
mod tests;
