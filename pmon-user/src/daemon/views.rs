//! From the engine's state to the typed views that users see.

use std::time::Duration;

use super::{
    engine::Engine,
    entity::Entity,
    incident_views::{container_of, incident_view, last_death},
    pulses::{active_view, correspondence, heartbeat_view, misses},
    scripts,
};
use crate::{
    core::{
        death::WaitStatus,
        entity::{EntitySpec, StartMethod, StopPolicy},
        forecast::{Forecast, if_it_died_now, if_its_status_were_bad},
        gate::Condition,
        recovery::{AfterStop, Phase, Recovery, Stage},
        time::Time,
    },
    sys::clock,
    table::Table,
    view::{
        entity::{
            EntityView, ExplainView, ForecastStep, ProcessView, RestartsView, ShowView, SpecView,
            StateWord,
        },
        incident::IncidentView,
    },
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    pub(super) fn show_view(&self, entity: &Entity) -> ShowView {
        let now = clock::now();
        let last_seen = entity
            .recovery
            .current()
            .and_then(|current| self.table.last_seen(current.generation?));
        ShowView {
            entity: entity_view(entity, now),
            spec: spec_view(&entity.spec),
            process: last_seen.map(|seen| ProcessView {
                comm: seen.comm.clone(),
                cgroup: seen.cgroup.clone(),
                container: container_of(seen.cgroup.as_deref()),
            }),
            incidents: entity
                .incidents
                .newest()
                .map(|incident| incident_view(entity, incident))
                .into_iter()
                .collect(),
        }
    }

    pub(super) fn explain_view(&self, entity: &Entity) -> ExplainView {
        let now = clock::now();
        let steps = |forecast: Vec<Forecast>| {
            let step = |line: Forecast| ForecastStep {
                after_ms: milliseconds(line.after),
                what: line.what,
            };
            forecast.into_iter().map(step).collect()
        };
        let (spec, recovery) = (&entity.spec, &entity.recovery);
        ExplainView {
            entity: entity_view(entity, now),
            because: because(entity, &self.table),
            if_it_died_now: steps(if_it_died_now(spec, recovery, now)),
            if_its_status_were_bad: steps(if_its_status_were_bad(spec, recovery, now)),
            last_incident: entity
                .incidents
                .newest()
                .map(|incident| incident_view(entity, incident)),
        }
    }

    pub(super) fn incident_view_of(&self, name: &str, number: u64) -> Option<IncidentView> {
        let entity = self.entities.get(name)?;
        Some(incident_view(entity, entity.incidents.numbered(number)?))
    }

    pub(super) fn newest_incident_view(&self, name: &str) -> Option<IncidentView> {
        let entity = self.entities.get(name)?;
        Some(incident_view(entity, entity.incidents.newest()?))
    }
}

/// The entity as users see it.
pub(super) fn entity_view(entity: &Entity, now: Time) -> EntityView {
    let Entity { spec, recovery, .. } = entity;
    let current = recovery.current();
    let starts = recovery.starts();
    EntityView {
        name: spec.name.clone(),
        mode: spec.mode,
        state: state_word(spec, recovery),
        since: Some(clock::wall(recovery.since())),
        stage: match &spec.status {
            Some(_) => scripts::stage(recovery),
            None => recovery.stage().as_str(),
        }
        .to_owned(),
        pid: current.map(|current| current.identity.pid),
        start_time: current.map(|c| clock::wall(Time::from_start_ticks(c.identity.start_time))),
        identity: current.map(|current| current.identity.to_string()),
        registered: current.is_some_and(|current| current.generation.is_some()),
        generation: current.and_then(|current| current.generation),
        severity: spec.severity,
        alarm: recovery.alarm(),
        duplicates: duplicates(entity),
        alarm_since: (recovery.alarm()).and(entity.alarm.as_ref().map(|alarm| alarm.since)),
        restarts: RestartsView {
            auto: starts.auto,
            operator: starts.operator,
            external: starts.external,
            dependency: starts.dependency,
        },
        deaths_1h: recovery.deaths_within(HOUR, now),
        deaths_24h: recovery.deaths_within(DAY, now),
        flapping_since: recovery.flapping_since().map(clock::wall),
        problem: problem(entity),
        next_action: next_action(spec, recovery),
        next_action_at: match &spec.status {
            Some(_) => scripts::next_action_at(spec, recovery),
            None => (recovery.stage().deadline())
                .or_else(|| recovery.returns_at())
                .map(clock::wall),
        },
        last_death: last_death(entity),
        heartbeat: heartbeat_view(entity),
        script: scripts::script_view(entity),
        held: entity.hold_view(),
        quorum: spec.quorum,
        quorum_state: spec.quorum.then(|| recovery.quorum()),
        source_file: spec.origin.to_string(),
    }
}

fn problem(entity: &Entity) -> Option<String> {
    if entity
        .recovery
        .current()
        .is_some_and(|current| current.hinted)
    {
        return Some(
            "the kernel reports its death; its memory and files are being released".into(),
        );
    }
    if let Some(delay) = entity.recovery.delay() {
        return Some(format!("its recovery waits {delay}"));
    }
    if let Some(problem) = entity.recovery.problem() {
        return Some(problem.to_owned());
    }
    if entity.recovery.flapping_since().is_some() {
        return Some("it is flapping: it fails again and again".to_owned());
    }
    misses(entity).or_else(|| beside(entity))
}

/// Who runs beside the registered process.
fn duplicates(entity: &Entity) -> Vec<String> {
    let duplicates = entity.instances.duplicates.iter();
    duplicates.map(|one| one.identity.to_string()).collect()
}

fn beside(entity: &Entity) -> Option<String> {
    let duplicates = &entity.instances.duplicates;
    let named: Vec<_> = duplicates
        .iter()
        .map(|one| format!("{} ({})", one.identity.pid, one.tie))
        .collect();
    let pids: Vec<_> = duplicates
        .iter()
        .map(|one| one.identity.pid.to_string())
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "minor alarm: duplicate instance beside it: {}; end what is too much: `kill {}`",
            named.join(", "),
            pids.join(" ")
        )
    })
}

fn state_word(spec: &EntitySpec, recovery: &Recovery) -> StateWord {
    if spec.status.is_some() {
        return scripts::state_word(recovery);
    }
    // It exists, and has to answer.
    let unproven = recovery.pulse().wanted().is_some();
    let has_failed = recovery.last_death().is_some() || recovery.pulse().counts().failures > 0;
    let under_way = if recovery.is_manual() || !has_failed {
        StateWord::Starting
    } else {
        StateWord::Recovering
    };
    match recovery.stage() {
        Stage::Manage if unproven && spec.recovers() => under_way,
        Stage::Manage if unproven => StateWord::Failed,
        Stage::Manage => StateWord::Up,
        Stage::Looking
        | Stage::Waiting { .. }
        | Stage::Yielding { .. }
        | Stage::MonitorWait { .. }
        | Stage::Monitor { .. }
        | Stage::RestartWait { .. }
        | Stage::Queued
        | Stage::Stopping {
            then: AfterStop::Respawn,
            ..
        } => under_way,
        Stage::Stopping {
            then: AfterStop::StayDown,
            ..
        } => StateWord::Stopping,
        Stage::Stopped => StateWord::Down,
        Stage::Held { .. } => StateWord::Held,
        Stage::Ignore => StateWord::Failed,
        Stage::Unverifiable => StateWord::Unverifiable,
        Stage::Unknown
        | Stage::Polling { .. }
        | Stage::StartWait { .. }
        | Stage::Gated
        | Stage::Unmonitored => StateWord::Unknown,
    }
}

fn next_action(spec: &EntitySpec, recovery: &Recovery) -> Option<String> {
    if spec.status.is_some() {
        return scripts::next_action(spec, recovery);
    }
    let text = match recovery.stage() {
        Stage::Manage => {
            let wanted = recovery.pulse().wanted()?;
            format!("call it recovered after {wanted} more answers")
        }
        Stage::Unmonitored
        | Stage::Polling {
            condition: Condition::Never,
        } => return None,
        Stage::Unknown | Stage::Looking => "look for the process".to_owned(),
        Stage::Waiting {
            script: Some(script),
            ..
        } => format!("wait for init script ({script})"),
        Stage::Waiting { script: None, .. } => {
            "start it, unless somebody else does before".to_owned()
        }
        Stage::Yielding { .. } => "look for the process when systemd is done".to_owned(),
        Stage::Stopping { killed: false, .. } => "SIGKILL if it does not end by itself".to_owned(),
        Stage::Stopping { killed: true, .. } => "wait until it is gone".to_owned(),
        Stage::MonitorWait { phase, .. } => match phase {
            Phase::Window { .. } => "verdict on this attempt".to_owned(),
            Phase::Overtime => match spec.start {
                StartMethod::Unit { .. } => "wait for systemd's job".to_owned(),
                StartMethod::Script { .. } | StartMethod::Command(_) | StartMethod::None { .. } => {
                    "end the start command".to_owned()
                }
            },
            Phase::Verdict => "look for the process".to_owned(),
        },
        Stage::Monitor { .. } => "call it recovered if it stays alive".to_owned(),
        Stage::Queued => match recovery.delay() {
            Some(delay) => format!("waits {delay}; then starts"),
            None => "start".to_owned(),
        },
        Stage::RestartWait { .. } if recovery.backs_off() => {
            "backs off, then starts again".to_owned()
        }
        Stage::RestartWait { .. } => {
            if recovery.attempts() >= spec.restarts {
                format!("{} alarm, then start again", spec.severity)
            } else {
                format!("attempt {} of {}", recovery.attempts() + 1, spec.restarts)
            }
        }
        Stage::Polling { .. } => "monitor it when its part of the host is configured".to_owned(),
        Stage::StartWait { .. } => "begin to monitor it".to_owned(),
        Stage::Gated => "recover it when the host is in a state for that".to_owned(),
        Stage::Ignore => format!("nothing; `pmon start {}`", spec.name),
        Stage::Stopped if recovery.returns_at().is_some() => {
            "monitor it again: the stop is over".to_owned()
        }
        Stage::Stopped => format!("nothing until `pmon start {}`", spec.name),
        Stage::Held { until: None, .. } => {
            format!("nothing until `pmon resume {}`", spec.name)
        }
        Stage::Held { until: Some(_), .. } => "take it back into recovery".to_owned(),
        Stage::Unverifiable => "look again when the pidfile changes".to_owned(),
    };
    Some(text)
}

fn because(entity: &Entity, table: &Table) -> Vec<String> {
    let recovery = &entity.recovery;
    let mut lines = Vec::new();
    match recovery.current() {
        Some(current) => {
            let watched = match (&entity.pidfd_only, table.kernel()) {
                (None, Some(_)) => "the kernel program and its pidfd".to_owned(),
                (Some(_), None) if table.connector().is_some() => {
                    "the proc connector and its pidfd".to_owned()
                }
                (Some(reason), _) => format!("its pidfd only: {reason}"),
                (None, None) => "its pidfd".to_owned(),
            };
            lines.push(format!(
                "process {} is alive and watched by {watched}",
                current.identity
            ));
        }
        None if entity.spec.status.is_some() => lines.extend(scripts::questioning(entity)),
        None => lines.push("no process is registered".to_owned()),
    }
    if let Some(problem) = problem(entity) {
        lines.push(problem);
    }
    if let Some(held) = entity.held() {
        let reason = held
            .reason
            .as_ref()
            .map_or_else(String::new, |it| format!(": {it}"));
        lines.push(format!("it is held by {}{reason}", held.by));
    }
    if let Some(death) = recovery.last_death() {
        lines.push(format!(
            "the last death was of ({}), {}",
            death.identity.pid,
            cause_text(death.status)
        ));
    }
    lines.extend(correspondence(entity));
    if recovery.attempts() > 0 {
        lines.push(format!(
            "{} of {} attempts of this cycle are used",
            recovery.attempts(),
            entity.spec.restarts
        ));
    }
    if let Some(since) = recovery.flapping_since() {
        lines.push(format!("it has been flapping since {}", clock::wall(since)));
    }
    if let Some(trouble) = &entity.last_trouble {
        lines.push(format!("last trouble: {trouble}"));
    }
    lines.push(format!("configured in {}", entity.spec.origin));
    lines
}

fn cause_text(status: Option<WaitStatus>) -> String {
    match status.map(|status| (status.exit_code(), status.signal())) {
        Some((Some(code), _)) => format!("exit code {code}"),
        Some((None, Some(signal))) => format!("signal {signal}"),
        Some((None, None)) | None => "cause unknown".to_owned(),
    }
}

/// The configuration as understood.
fn spec_view(spec: &EntitySpec) -> SpecView {
    let command = match &spec.start {
        StartMethod::Command(command) => Some(command),
        StartMethod::Unit { .. } | StartMethod::Script { .. } | StartMethod::None { .. } => None,
    };
    SpecView {
        restarts: spec.restarts,
        interval_ms: milliseconds(spec.interval),
        debounce_ms: milliseconds(spec.debounce),
        startuptime_ms: milliseconds(spec.startuptime),
        start_timeout_ms: milliseconds(spec.start_timeout),
        adoption_window_ms: milliseconds(spec.adoption_window),
        pidfile: spec.pidfile.as_ref().map(|path| path.display().to_string()),
        follow: spec.follow,
        start: spec.describe_start(),
        early: command.is_some_and(|command| command.early),
        sockets: spec
            .sockets()
            .iter()
            .map(|one| one.listen.to_string())
            .collect(),
        stop: match spec.stop {
            StopPolicy::Graceful { signal, timeout } => {
                format!("signal {signal}, then SIGKILL after {timeout:?}")
            }
            StopPolicy::KillFirst => "SIGKILL at once".to_owned(),
        },
        subfunction: spec.subfunction.clone(),
        active: spec.active.as_ref().map(active_view),
        status: spec.status.as_ref().map(scripts::settings_view),
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
