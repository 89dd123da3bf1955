//! From the engine's state to the typed views that users see.

use std::time::Duration;

use jiff::Timestamp;

use super::{engine::Engine, entity::Entity};
use crate::{
    core::{
        death::{Death, WaitStatus},
        entity::{EntitySpec, Mode, StopPolicy},
        forecast::if_it_died_now,
        incident::{End, Incident},
        recovery::{AfterStop, Phase, Recovery, Stage},
        time::Time,
    },
    source::ebpf::Ebpf,
    sys::clock,
    table::Table,
    view::{
        diagnosis::{BpfMapView, BpfProgramView, BpfStatsView, BpfView},
        entity::{
            EntityView, ExplainView, ForecastStep, ProcessView, RestartsView, ShowView, SpecView,
            StateWord,
        },
        incident::{Cause, DeathCertificate, IncidentResult, IncidentView, TimelineEntry},
        status::{AuditView, DaemonView, SourceState, SourceView, StatusView},
    },
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    pub(super) fn status_view(&self, names: &[String]) -> StatusView {
        let now = clock::now();
        let mut entities: Vec<EntityView> = self
            .entities
            .values()
            .filter(|entity| names.is_empty() || names.contains(&entity.spec.name))
            .map(|entity| entity_view(entity, now))
            .collect();
        entities.sort_by(|a, b| a.name.cmp(&b.name));
        let mut findings = self.facts.findings.clone();
        findings.extend(self.facts.unmonitored.iter().map(|unmonitored| {
            format!(
                "{}: error: `{}` is not monitored: {}",
                unmonitored.origin, unmonitored.name, unmonitored.reason
            )
        }));
        findings.dedup();
        StatusView {
            version: 1,
            host: self.facts.host.clone(),
            boot_id: self.facts.boot_id.clone(),
            uptime_s: now.since(self.facts.started).as_secs(),
            daemon: DaemonView {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                config_generation: self.facts.config_generation,
                receiver_scheduling: self.facts.scheduling.clone(),
                socket: self.facts.socket.clone(),
                pin_dir: self
                    .table
                    .kernel()
                    .and_then(Ebpf::pins)
                    .map(|pins| pins.path().display().to_string()),
            },
            sources: self.sources(),
            audit: AuditView {
                last_sweep: self.last_sweep.map(clock::wall),
                sweeps: self.sweeps,
                discrepancies: self.discrepancies.by_kind(),
            },
            degraded: self.degraded(),
            config_findings: findings,
            entities,
        }
    }

    fn sources(&self) -> Vec<SourceView> {
        let ebpf = match (self.table.kernel(), &self.facts.ebpf_off) {
            (Some(kernel), _) => SourceView {
                name: "ebpf".to_owned(),
                state: match kernel.unpinned() {
                    None => SourceState::Healthy,
                    Some(_) => SourceState::Degraded,
                },
                reason: kernel.unpinned().map(|why| format!("not pinned: {why}")),
                events: self.ring_events,
                lost: kernel.stats().drops,
                last_canary_s: None,
            },
            (None, reason) => SourceView {
                name: "ebpf".to_owned(),
                state: SourceState::Off,
                reason: reason.clone(),
                events: 0,
                lost: 0,
                last_canary_s: None,
            },
        };
        let pidfd = SourceView {
            name: "pidfd".to_owned(),
            state: SourceState::Healthy,
            reason: None,
            events: self.table.pidfd_events(),
            lost: 0,
            last_canary_s: None,
        };
        vec![ebpf, pidfd]
    }

    fn degraded(&self) -> Vec<String> {
        let mut degraded = self.facts.degraded.clone();
        if let Some(reason) = &self.facts.ebpf_off {
            degraded.push(format!("deaths are reported by pidfds only: {reason}"));
        }
        if let Some(why) = self.table.kernel().and_then(Ebpf::unpinned) {
            degraded.push(format!("maps and links are not pinned: {why}"));
        }
        let unwatched: Vec<&str> = self
            .entities
            .values()
            .filter(|entity| self.facts.ebpf_off.is_none() && entity.pidfd_only.is_some())
            .map(|entity| entity.spec.name.as_str())
            .collect();
        if !unwatched.is_empty() {
            degraded.push(format!(
                "watched by their pidfds only: {}",
                unwatched.join(", ")
            ));
        }
        degraded
    }

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
            }),
            incidents: entity
                .incidents
                .newest()
                .map(|incident| incident_view(&entity.spec.name, incident))
                .into_iter()
                .collect(),
        }
    }

    pub(super) fn explain_view(&self, entity: &Entity) -> ExplainView {
        let now = clock::now();
        let forecast = if_it_died_now(&entity.spec, &entity.recovery, now);
        ExplainView {
            entity: entity_view(entity, now),
            because: because(entity, &self.table),
            if_it_died_now: forecast
                .into_iter()
                .map(|line| ForecastStep {
                    after_ms: milliseconds(line.after),
                    what: line.what,
                })
                .collect(),
            last_incident: entity
                .incidents
                .newest()
                .map(|incident| incident_view(&entity.spec.name, incident)),
        }
    }

    pub(super) fn newest_incident_view(&self, name: &str) -> Option<IncidentView> {
        let incident = self.entities.get(name)?.incidents.newest()?;
        Some(incident_view(name, incident))
    }

    pub(super) fn bpf_view(&self) -> BpfView {
        let Some(kernel) = self.table.kernel() else {
            return BpfView {
                off: self.facts.ebpf_off.clone(),
                programs: Vec::new(),
                maps: Vec::new(),
                pins: Vec::new(),
                group_dead: None,
                offsets: std::collections::BTreeMap::new(),
                stats: None,
            };
        };
        let runs = kernel.run_statistics().filter(|(count, _)| *count > 0);
        let stats = kernel.stats();
        BpfView {
            off: None,
            programs: vec![BpfProgramView {
                id: kernel.program().id,
                name: pmon_common::EXIT_PROGRAM.to_owned(),
                attached_to: "tp_btf/sched_process_exit".to_owned(),
                tag: format!("{:016x}", kernel.program().tag),
                run_count: runs.map(|(count, _)| count),
                #[expect(clippy::cast_precision_loss, reason = "a mean, for people")]
                ns_per_run: runs.map(|(count, time)| time.as_nanos() as f64 / count as f64),
            }],
            maps: kernel
                .maps()
                .iter()
                .map(|map| BpfMapView {
                    id: map.id,
                    name: map.name.to_owned(),
                    kind: map.kind.to_owned(),
                    entries: (map.name == pmon_common::PIDS_MAP).then(|| kernel.entries()),
                    max_entries: map.max_entries,
                })
                .collect(),
            pins: kernel.pins().map_or_else(Vec::new, |pins| {
                pins.list()
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect()
            }),
            group_dead: Some(kernel.layout().group_dead_method().to_owned()),
            offsets: kernel
                .layout()
                .globals()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            stats: Some(BpfStatsView {
                deaths: stats.deaths,
                drops: stats.drops,
                strangers: stats.strangers,
                repeats: stats.repeats,
            }),
        }
    }
}

/// The entity as users see it.
pub(super) fn entity_view(entity: &Entity, now: Time) -> EntityView {
    let Entity {
        spec,
        recovery,
        incidents,
        ..
    } = entity;
    let current = recovery.current();
    let starts = recovery.starts();
    let last_death = incidents
        .newest()
        .filter(|incident| incident.death.as_ref() == recovery.last_death())
        .map(|incident| (incident.number, incident.recovered_at));
    EntityView {
        name: spec.name.clone(),
        mode: spec.mode,
        state: state_word(recovery),
        since: Some(clock::wall(recovery.since())),
        stage: recovery.stage().as_str().to_owned(),
        pid: current.map(|current| current.identity.pid),
        start_time: current.map(|c| clock::wall(clock::start(c.identity.start_time))),
        identity: current.map(|current| current.identity.to_string()),
        registered: current.is_some_and(|current| current.generation.is_some()),
        generation: current.and_then(|current| current.generation),
        severity: spec.severity,
        alarm: recovery.alarm(),
        restarts: RestartsView {
            auto: starts.auto,
            operator: starts.operator,
            external: starts.external,
        },
        deaths_1h: recovery.deaths_within(HOUR, now),
        deaths_24h: recovery.deaths_within(DAY, now),
        problem: problem(entity),
        next_action: next_action(spec, recovery),
        next_action_at: recovery.stage().deadline().map(clock::wall),
        last_death: recovery.last_death().map(|death| {
            let (number, recovered_at) = last_death.unwrap_or((0, None));
            certificate(death, number, recovered_at)
        }),
        heartbeat: None,
        quorum: spec.quorum,
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
    if let Some(problem) = entity.recovery.problem() {
        return Some(problem.to_owned());
    }
    match entity.spec.mode {
        Mode::Active => Some("heartbeats are not monitored in this version, deaths are".into()),
        Mode::Passive | Mode::Status | Mode::Ignore => None,
    }
}

const fn state_word(recovery: &Recovery) -> StateWord {
    let under_way = if recovery.is_manual() || recovery.last_death().is_none() {
        StateWord::Starting
    } else {
        StateWord::Recovering
    };
    match recovery.stage() {
        Stage::Manage => StateWord::Up,
        Stage::Looking
        | Stage::Waiting { .. }
        | Stage::MonitorWait { .. }
        | Stage::Monitor { .. }
        | Stage::RestartWait { .. }
        | Stage::Stopping {
            then: AfterStop::Respawn,
            ..
        } => under_way,
        Stage::Stopping {
            then: AfterStop::StayDown,
            ..
        } => StateWord::Stopping,
        Stage::Stopped => StateWord::Down,
        Stage::Ignore => StateWord::Failed,
        Stage::Unverifiable => StateWord::Unverifiable,
        Stage::Unknown | Stage::Unmonitored => StateWord::Unknown,
    }
}

fn next_action(spec: &EntitySpec, recovery: &Recovery) -> Option<String> {
    let text = match recovery.stage() {
        Stage::Manage | Stage::Unmonitored => return None,
        Stage::Unknown | Stage::Looking => "look for the process".to_owned(),
        Stage::Waiting { script, .. } => format!("wait for init script ({script})"),
        Stage::Stopping { killed: false, .. } => "SIGKILL if it does not end by itself".to_owned(),
        Stage::Stopping { killed: true, .. } => "wait until it is gone".to_owned(),
        Stage::MonitorWait { phase, .. } => match phase {
            Phase::Window { .. } => "verdict on this attempt".to_owned(),
            Phase::Overtime => "end the start command".to_owned(),
            Phase::Verdict => "look for the process".to_owned(),
        },
        Stage::Monitor { .. } => "call it recovered if it stays alive".to_owned(),
        Stage::RestartWait { .. } => {
            if recovery.attempts() >= spec.restarts {
                format!("{} alarm, then start again", spec.severity)
            } else {
                format!("attempt {} of {}", recovery.attempts() + 1, spec.restarts)
            }
        }
        Stage::Ignore => format!("nothing; `pmon start {}`", spec.name),
        Stage::Stopped => format!("nothing until `pmon start {}`", spec.name),
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
                (Some(reason), _) => format!("its pidfd only: {reason}"),
                (None, None) => "its pidfd".to_owned(),
            };
            lines.push(format!(
                "process {} is alive and watched by {watched}",
                current.identity
            ));
        }
        None => lines.push("no process is registered".to_owned()),
    }
    if let Some(problem) = problem(entity) {
        lines.push(problem);
    }
    if let Some(death) = recovery.last_death() {
        lines.push(format!(
            "the last death was of ({}), {}",
            death.identity.pid,
            cause_text(death.status)
        ));
    }
    if recovery.attempts() > 0 {
        lines.push(format!(
            "{} of {} attempts of this cycle are used",
            recovery.attempts(),
            entity.spec.restarts
        ));
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
    SpecView {
        restarts: spec.restarts,
        interval_ms: milliseconds(spec.interval),
        debounce_ms: milliseconds(spec.debounce),
        startuptime_ms: milliseconds(spec.startuptime),
        start_timeout_ms: milliseconds(spec.start_timeout),
        pidfile: spec.pidfile.as_ref().map(|path| path.display().to_string()),
        start: spec.start.describe(),
        stop: match spec.stop {
            StopPolicy::Graceful { signal, timeout } => {
                format!("signal {signal}, then SIGKILL after {timeout:?}")
            }
            StopPolicy::KillFirst => "SIGKILL at once".to_owned(),
        },
        subfunction: spec.subfunction.clone(),
    }
}

/// An incident as users see it.
pub(super) fn incident_view(entity: &str, incident: &Incident) -> IncidentView {
    IncidentView {
        incident: incident.number,
        entity: entity.to_owned(),
        opened_at: clock::wall(incident.opened_at),
        closed_at: incident.closed.map(|(at, _)| clock::wall(at)),
        result: match incident.closed.map(|(_, end)| end) {
            None => IncidentResult::Open,
            Some(End::Recovered) => IncidentResult::Recovered,
            Some(End::RecoveredExternally) => IncidentResult::RecoveredExternally,
            Some(End::Stopped) => IncidentResult::Stopped,
            Some(End::GaveUp) => IncidentResult::GaveUp,
        },
        attempts: incident.attempts,
        death: incident
            .death
            .as_ref()
            .map(|death| certificate(death, incident.number, incident.recovered_at)),
        timeline: incident
            .timeline
            .iter()
            .map(|(at, notice)| TimelineEntry {
                at: clock::wall(*at),
                after_us: microseconds(at.since(incident.opened_at)),
                kind: notice.kind().to_owned(),
                text: notice.to_string(),
            })
            .collect(),
    }
}

/// Everything known about a death.
fn certificate(death: &Death, incident: u64, recovered_at: Option<Time>) -> DeathCertificate {
    let Death {
        identity,
        generation: _,
        died_at,
        detected_at,
        detected_by,
        confirmed_at,
        status,
        last_seen,
    } = death;
    let exit_code = status.and_then(WaitStatus::exit_code);
    let signal = status.and_then(WaitStatus::signal);
    let core_dumped = status.map(WaitStatus::core_dumped);
    let began = died_at.unwrap_or(*detected_at);
    DeathCertificate {
        incident,
        pid: identity.pid,
        start_time: Some(wall_start(identity.start_time)),
        died_at: Some(clock::wall(began)),
        uptime_s: Some(death.uptime().as_secs_f64()),
        cause: match (exit_code, signal, core_dumped) {
            (Some(_), _, _) => Cause::Exit,
            (None, Some(_), Some(true)) => Cause::Core,
            (None, Some(_), _) => Cause::Signal,
            (None, None, _) => Cause::Unknown,
        },
        exit_code: exit_code.map(i32::from),
        signal: signal.map(i32::from),
        core_dumped,
        killer: None,
        oom_victim: None,
        comm: last_seen.comm.clone(),
        cgroup: last_seen.cgroup.clone(),
        rss_bytes: last_seen.rss_bytes,
        cpu_s: last_seen.cpu.map(|cpu| cpu.as_secs_f64()),
        detected_by: detected_by.as_str().to_owned(),
        detect_latency_us: died_at.map(|died_at| microseconds(detected_at.since(died_at))),
        resources_released_us: died_at.map(|died_at| microseconds(confirmed_at.since(died_at))),
        recovered_at: recovered_at.map(clock::wall),
        recovery_latency_us: recovered_at.map(|at| microseconds(at.since(began))),
    }
}

fn wall_start(start_time: u64) -> Timestamp {
    clock::wall(clock::start(start_time))
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
