//! `pmon list`, `pmon show` and `pmon explain`.

use std::fmt::Write;

use super::{
    Look, Tone, death, heartbeat, incident, script, span, status,
    table::{Cell, Column, table},
    text::printable,
};
use crate::{
    core::{entity::Mode, recovery::Quorum},
    view::entity::{EntityView, ExplainView, HoldView, ShowView, SpecView, StateWord},
};

/// `pmon list`: the entities by name, without the daemon.
#[must_use]
pub fn list(entities: &[EntityView], look: &Look) -> String {
    let column = |title, gives_way| Column { title, gives_way };
    let head = [
        column("NAME", false),
        column("STATE", false),
        column("MODE", false),
        column("PID", false),
        column("SEVERITY", false),
        column("FROM", true),
    ];
    let mut sorted: Vec<_> = entities.iter().collect();
    sorted.sort_by_key(|entity| &entity.name);
    let rows: Vec<_> = sorted
        .into_iter()
        .map(|entity| {
            let pid = entity.pid.map(|pid| pid.to_string());
            vec![
                Cell::new(&entity.name, Tone::Plain),
                Cell::new(status::word(entity.state), status::tone(entity.state)),
                Cell::new(&mode_and_misses(entity), Tone::Plain),
                Cell::maybe(pid.as_deref(), Tone::Plain),
                Cell::new(&entity.severity.to_string(), Tone::Plain),
                Cell::new(&entity.source_file, Tone::Quiet),
            ]
        })
        .collect();
    table(&head, &rows, look)
}

fn mode_and_misses(entity: &EntityView) -> String {
    let misses = entity.heartbeat.as_ref().map_or(0, |view| view.misses);
    match misses {
        0 => mode(entity).to_owned(),
        misses => format!("{}, {misses} missed", mode(entity)),
    }
}

const fn mode(entity: &EntityView) -> &'static str {
    match entity.mode {
        Mode::Passive => "passive",
        Mode::Active => "active",
        Mode::Status => "status",
        Mode::Ignore => "ignore",
    }
}

/// One line about an entity: what follows an operator's action.
#[must_use]
pub fn line(entity: &EntityView, look: &Look) -> String {
    let mut text = format!(
        "{}: {}",
        printable(&entity.name),
        look.paint(status::tone(entity.state), status::word(entity.state))
    );
    if let Some(pid) = entity.pid {
        write!(text, ", pid {pid}").ok();
    }
    if let Some(next) = status::next(entity, look) {
        write!(text, "; next: {}", printable(&next)).ok();
    }
    text.push('\n');
    text
}

/// `pmon show NAME`.
#[must_use]
pub fn show(view: &ShowView, look: &Look) -> String {
    let ShowView {
        entity,
        spec,
        process,
        incidents,
    } = view;
    let mut text = state(entity, look);
    if let Some(process) = process {
        field(&mut text, "comm", process.comm.as_deref());
        field(&mut text, "cgroup", process.cgroup.as_deref());
        field(&mut text, "container", process.container.as_deref());
    }
    text.push('\n');
    text.push_str(&heading("configuration", look));
    text.push_str(&settings(entity, spec));
    text.push('\n');
    text.push_str(&heading("last incidents", look));
    if incidents.is_empty() {
        text.push_str("  none\n");
    }
    for view in incidents {
        text.push_str(&incident::incident(view, look));
    }
    text
}

/// `pmon explain NAME`.
#[must_use]
pub fn explain(view: &ExplainView, look: &Look) -> String {
    let ExplainView {
        entity,
        because,
        if_it_died_now,
        if_its_status_were_bad,
        last_incident,
    } = view;
    let mut text = line(entity, look);
    for reason in because {
        writeln!(text, "  because {}", printable(reason)).ok();
    }
    text.push('\n');
    let (title, forecast) = match entity.mode {
        Mode::Status => ("if its status were bad from now on", if_its_status_were_bad),
        Mode::Passive | Mode::Active | Mode::Ignore => ("if it died now", if_it_died_now),
    };
    text.push_str(&heading(title, look));
    if forecast.is_empty() {
        text.push_str("  nothing would be done\n");
    }
    for step in forecast {
        let after = format!("+{}", span::millis(step.after_ms));
        writeln!(text, "  {after:>9}  {}", printable(&step.what)).ok();
    }
    text.push('\n');
    text.push_str(&heading("last incident", look));
    match last_incident {
        Some(last) => text.push_str(&incident::incident(last, look)),
        None => text.push_str("  none\n"),
    }
    text
}

fn heading(title: &str, look: &Look) -> String {
    format!("{}\n", look.paint(Tone::Strong, title))
}

pub(super) fn field(text: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        writeln!(text, "  {name:<14}{}", printable(value)).ok();
    }
}

fn state(entity: &EntityView, look: &Look) -> String {
    let mut text = line(entity, look);
    let since = entity.since.map(|since| {
        format!(
            "{} ({} ago)",
            span::stamp(since),
            span::age(since, look.now)
        )
    });
    field(&mut text, "since", since.as_deref());
    field(&mut text, "stage", Some(&entity.stage));
    field(&mut text, "identity", entity.identity.as_deref());
    let started = entity.start_time.map(span::stamp);
    field(&mut text, "started", started.as_deref());
    let registered = match (entity.registered, entity.generation, entity.state) {
        (true, Some(generation), _) => Some(format!("with the kernel, generation {generation}")),
        (true, None, _) => Some("with the kernel".to_owned()),
        (false, _, StateWord::Up) if entity.mode == Mode::Status => None,
        (false, _, StateWord::Up) => Some("NO: a death would not be seen at once".to_owned()),
        (false, ..) => None,
    };
    field(&mut text, "registered", registered.as_deref());
    let alarm = entity.alarm.map(|severity| match entity.alarm_since {
        Some(since) => format!("{severity}, since {}", span::stamp(since)),
        None => severity.to_string(),
    });
    field(&mut text, "alarm", alarm.as_deref());
    let strikes = match entity.quorum_state {
        None | Some(Quorum::Sound) => None,
        Some(Quorum::Failure) => Some("failure"),
        Some(Quorum::Unrecoverable) => Some("failure, unrecoverable: the host should not go on"),
    };
    field(&mut text, "quorum", strikes);
    field(&mut text, "held", entity.held.as_ref().map(hold).as_deref());
    field(&mut text, "problem", entity.problem.as_deref());
    let restarts = &entity.restarts;
    let starts = format!(
        "{} by pmon, {} by operators, {} by others",
        restarts.auto, restarts.operator, restarts.external
    );
    field(&mut text, "starts", Some(&starts));
    let deaths = format!(
        "{} in the last hour, {} in the last 24 hours",
        entity.deaths_1h, entity.deaths_24h
    );
    field(&mut text, "deaths", Some(&deaths));
    if let Some(certificate) = &entity.last_death {
        let mut last = death::cause(certificate);
        if let Some(at) = certificate.died_at {
            write!(last, ", {} ago", span::age(at, look.now)).ok();
        }
        field(&mut text, "last death", Some(&last));
    }
    if let Some(view) = &entity.heartbeat {
        text.push_str(&heartbeat::heartbeat(view, look));
    }
    if let Some(view) = &entity.script {
        text.push_str(&script::script(view, look));
    }
    text
}

fn hold(hold: &HoldView) -> String {
    let HoldView {
        by,
        reason,
        since,
        until,
    } = hold;
    let mut text = format!("by {by} since {}", span::stamp(*since));
    if let Some(until) = until {
        write!(text, " until {}", span::stamp(*until)).ok();
    }
    if let Some(reason) = reason {
        write!(text, ": {reason}").ok();
    }
    text
}

fn settings(entity: &EntityView, spec: &SpecView) -> String {
    let SpecView {
        restarts,
        interval_ms,
        debounce_ms,
        startuptime_ms,
        start_timeout_ms,
        adoption_window_ms,
        pidfile,
        follow,
        start,
        early,
        sockets,
        stop,
        subfunction,
        active,
        status,
    } = spec;
    let mut text = String::new();
    field(&mut text, "from", Some(&entity.source_file));
    field(&mut text, "mode", Some(mode(entity)));
    field(&mut text, "severity", Some(&entity.severity.to_string()));
    field(&mut text, "pidfile", pidfile.as_deref());
    field(&mut text, "follow", follow.then_some("into the background"));
    let adoption = (*adoption_window_ms > 0).then(|| {
        let window = span::millis(*adoption_window_ms);
        format!("for {window} after a death, of a successor that somebody else starts")
    });
    field(&mut text, "adoption", adoption.as_deref());
    field(&mut text, "start", Some(start));
    field(
        &mut text,
        "started",
        early.then_some("early: before the old process has released what it held"),
    );
    let sockets = (!sockets.is_empty()).then(|| sockets.join(", "));
    field(&mut text, "sockets", sockets.as_deref());
    if let Some(status) = status {
        field(&mut text, "status", Some(&script::settings(status)));
        let recovery = format!(
            "alarm after {restarts} failures; a failed start again after {}",
            span::millis(*interval_ms)
        );
        field(&mut text, "recovery", Some(&recovery));
        return text;
    }
    field(&mut text, "stop", Some(stop));
    let recovery = format!(
        "{restarts} attempts, {} apart; start window {}, command deadline {}; stable after {}",
        span::millis(*interval_ms),
        span::millis(*startuptime_ms),
        span::millis(*start_timeout_ms),
        span::millis(*debounce_ms),
    );
    field(&mut text, "recovery", Some(&recovery));
    if let Some(active) = active {
        field(&mut text, "requests", Some(&heartbeat::settings(active)));
    }
    field(&mut text, "subfunction", subfunction.as_deref());
    field(&mut text, "quorum", entity.quorum.then_some("member"));
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
    fn a_list_is_by_name() {
        let entities = [
            samples::entity("web", StateWord::Up),
            samples::entity("db", StateWord::Failed),
        ];
        assert_eq!(
            list(&entities, &LOOK()),
            "\
NAME  STATE   MODE     PID   SEVERITY  FROM
db    FAILED  passive  -     major     /etc/pmon.d/db.conf:2
web   up      passive  4711  major     /etc/pmon.d/web.conf:2
"
        );
    }

    #[test]
    fn show_tells_everything_known() {
        let mut entity = samples::entity("web", StateWord::Up);
        entity.last_death = Some(samples::death());
        entity.deaths_1h = 1;
        entity.deaths_24h = 1;
        entity.restarts.auto = 1;
        assert_eq!(
            show(&samples::show(entity), &LOOK()),
            "\
web: up, pid 4711
  since         2026-08-01T11:00:00.000Z (1h00m ago)
  stage         Monitor
  identity      4711@1000
  started       2026-08-01T10:59:59.000Z
  registered    with the kernel, generation 7
  starts        1 by pmon, 0 by operators, 0 by others
  deaths        1 in the last hour, 1 in the last 24 hours
  last death    SIGKILL by bash[812], 3m00s ago
  comm          web
  cgroup        /system.slice/web.service

configuration
  from          /etc/pmon.d/web.conf:2
  mode          passive
  severity      major
  pidfile       /run/web.pid
  start         /etc/init.d/web restart
  stop          SIGTERM, after 10 s SIGKILL
  recovery      3 attempts, 5 s apart; start window 5 s, command deadline 30 s; stable after 10 s

last incidents
#12 web: recovered, 1 attempt, 2026-08-01T11:57:00.000Z (3m00s ago)
  pid 4700: killed by SIGKILL from `bash` (pid 812, uid 0) after 1 h 57 min; seen by ebpf after \
87 µs; memory released 1.20 ms later; used 1.25 s of CPU time and 12 MiB of memory at its peak; \
successor up after 41 ms
         +0 µs  ebpf: (4700) died
      +1.20 ms  Killed (4700)
        +41 ms  successor (4711) is running
      +10.04 s  Recovered (4711)
"
        );
    }

    #[test]
    fn explain_gives_reasons_and_a_forecast() {
        let mut view = samples::explain(samples::entity("web", StateWord::Up));
        view.last_incident = None;
        assert_eq!(
            explain(&view, &LOOK()),
            "\
web: up, pid 4711
  because pid 4711 is registered with the kernel

if it died now
       +0 s  run /etc/init.d/web restart
      +15 s  call it recovered

last incident
  none
"
        );
    }
}
