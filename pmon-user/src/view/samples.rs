//! One filled-in example of every view, for tests.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    diagnosis::{
        BpfLinkView, BpfMapView, BpfProgramView, BpfStatsView, BpfView, CheckResult, CheckView,
        DoctorView,
    },
    entity::{
        EntityView, ExplainView, ForecastStep, ProcessView, RestartsView, ShowView, SpecView,
        StateWord,
    },
    event::{EventView, Level},
    incident::{
        Cause, DeathCertificate, DeathMark, IncidentResult, IncidentView, Killer, LastSignal,
        SignalFrom, TimelineEntry,
    },
    status::{AuditView, CanaryWord, DaemonView, SourceState, SourceView, StatusView},
};
use crate::core::entity::{Mode, Severity};

/// 2026-08-01T12:00:00Z, the present in all samples.
pub(crate) fn noon() -> Timestamp {
    "2026-08-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn before(seconds: i64) -> Timestamp {
    noon() - jiff::SignedDuration::from_secs(seconds)
}

pub(crate) fn entity(name: &str, state: StateWord) -> EntityView {
    EntityView {
        name: name.to_owned(),
        mode: Mode::Passive,
        state,
        since: Some(before(3600)),
        stage: "Monitor".to_owned(),
        pid: (state == StateWord::Up).then_some(4711),
        start_time: (state == StateWord::Up).then(|| before(3601)),
        identity: (state == StateWord::Up).then(|| "4711@1000".to_owned()),
        registered: state == StateWord::Up,
        generation: Some(7),
        severity: Severity::Major,
        alarm: None,
        duplicates: Vec::new(),
        alarm_since: None,
        restarts: RestartsView::default(),
        deaths_1h: 0,
        deaths_24h: 0,
        flapping_since: None,
        problem: None,
        next_action: None,
        next_action_at: None,
        last_death: None,
        heartbeat: None,
        script: None,
        held: None,
        quorum: false,
        quorum_state: None,
        source_file: format!("/etc/pmon.d/{name}.conf:2"),
    }
}

pub(crate) fn death() -> DeathCertificate {
    DeathCertificate {
        incident: 12,
        pid: 4700,
        start_time: Some(before(7200)),
        died_at: Some(before(180)),
        uptime_s: Some(7020.0),
        cause: Cause::Signal,
        exit_code: None,
        signal: Some(9),
        core_dumped: Some(false),
        killer: Some(bash()),
        last_signal: Some(LastSignal {
            signal: 9,
            from: SignalFrom::Process,
            sender: Some(bash()),
            why: None,
            fault: false,
            before_death_us: Some(30),
        }),
        oom_victim: Some(false),
        comm: Some("web".to_owned()),
        cgroup: Some("/system.slice/web.service".to_owned()),
        container: None,
        rss_bytes: Some(12 << 20),
        cpu_s: Some(1.25),
        detected_by: "ebpf".to_owned(),
        detect_latency_us: Some(87),
        resources_released_us: Some(1_200),
        recovered_at: Some(before(179)),
        recovery_latency_us: Some(41_000),
    }
}

pub(crate) fn bash() -> Killer {
    Killer {
        pid: Some(812),
        uid: 0,
        comm: Some("bash".to_owned()),
    }
}

pub(crate) fn incident() -> IncidentView {
    let entry = |after_us, kind: &str, text: &str| TimelineEntry {
        at: before(180),
        after_us,
        kind: kind.to_owned(),
        text: text.to_owned(),
    };
    IncidentView {
        incident: 12,
        entity: "web".to_owned(),
        opened_at: before(180),
        closed_at: Some(before(170)),
        result: IncidentResult::Recovered,
        attempts: 1,
        death: Some(death()),
        deaths: vec![DeathMark {
            identity: "4700@1893000".to_owned(),
            died_at_boot_ns: Some(18_931_000_000_000),
        }],
        timeline: vec![
            entry(0, "hint", "ebpf: (4700) died"),
            entry(1_200, "died", "Killed (4700)"),
            entry(41_000, "successor", "successor (4711) is running"),
            entry(10_041_000, "recovered", "Recovered (4711)"),
        ],
    }
}

pub(crate) fn status(entities: Vec<EntityView>) -> StatusView {
    StatusView {
        version: 1,
        host: "host-1".to_owned(),
        boot_id: "5a3e9c1e-0f3d-4c44-9d0e-9f6a4a4a4a4a".to_owned(),
        uptime_s: 11_520,
        daemon: DaemonView {
            pid: 812,
            version: "0.1.0".to_owned(),
            config_generation: 4,
            receiver_scheduling: "fifo:50".to_owned(),
            socket: "/run/pmon/pmon.sock".to_owned(),
            pin_dir: Some("/sys/fs/bpf/pmon/v2".to_owned()),
            starlingx: false,
        },
        sources: vec![
            SourceView {
                name: "ebpf".to_owned(),
                state: SourceState::Healthy,
                reason: None,
                events: 42,
                lost: 0,
                last_canary_s: Some(12.5),
                canary: Some(CanaryWord::Passed),
            },
            SourceView {
                name: "proc-connector".to_owned(),
                state: SourceState::Standby,
                reason: None,
                events: 0,
                lost: 0,
                last_canary_s: None,
                canary: None,
            },
            SourceView {
                name: "pidfd".to_owned(),
                state: SourceState::Healthy,
                reason: None,
                events: 42,
                lost: 0,
                last_canary_s: Some(12.5),
                canary: Some(CanaryWord::Passed),
            },
        ],
        audit: AuditView {
            last_sweep: Some(before(12)),
            sweeps: 384,
            one_instance: 0,
            discrepancies: BTreeMap::new(),
        },
        degraded: Vec::new(),
        host_degraded: None,
        unrecoverable: None,
        config_findings: Vec::new(),
        entities,
    }
}

pub(crate) fn spec() -> SpecView {
    SpecView {
        restarts: 3,
        interval_ms: 5_000,
        debounce_ms: 10_000,
        startuptime_ms: 5_000,
        start_timeout_ms: 30_000,
        adoption_window_ms: 0,
        pidfile: Some("/run/web.pid".to_owned()),
        follow: false,
        start: "/etc/init.d/web restart".to_owned(),
        early: false,
        sockets: Vec::new(),
        stop: "SIGTERM, after 10 s SIGKILL".to_owned(),
        subfunction: None,
        active: None,
        status: None,
    }
}

pub(crate) fn show(entity: EntityView) -> ShowView {
    ShowView {
        entity,
        spec: spec(),
        process: Some(ProcessView {
            comm: Some("web".to_owned()),
            cgroup: Some("/system.slice/web.service".to_owned()),
            container: None,
        }),
        incidents: vec![incident()],
    }
}

pub(crate) fn explain(entity: EntityView) -> ExplainView {
    ExplainView {
        entity,
        because: vec!["pid 4711 is registered with the kernel".to_owned()],
        if_its_status_were_bad: Vec::new(),
        if_it_died_now: vec![
            ForecastStep {
                after_ms: 0,
                what: "run /etc/init.d/web restart".to_owned(),
            },
            ForecastStep {
                after_ms: 15_000,
                what: "call it recovered".to_owned(),
            },
        ],
        last_incident: Some(incident()),
    }
}

pub(crate) fn doctor() -> DoctorView {
    DoctorView {
        checks: vec![
            CheckView {
                name: "btf".to_owned(),
                result: CheckResult::Ok,
                found: "/sys/kernel/btf/vmlinux".to_owned(),
                fix: None,
            },
            CheckView {
                name: "receiver-scheduling".to_owned(),
                result: CheckResult::Degraded,
                found: "other: EPERM".to_owned(),
                fix: Some("setcap cap_sys_nice+ep /usr/bin/pmon".to_owned()),
            },
        ],
    }
}

pub(crate) fn bpf() -> BpfView {
    BpfView {
        off: None,
        log: Some(false),
        counted_s: Some(1.0),
        uncounted: None,
        programs: vec![BpfProgramView {
            id: 31,
            name: "pmon_exit".to_owned(),
            attached_to: "tp_btf/sched_process_exit".to_owned(),
            tag: "a04f5eef06a7f555".to_owned(),
            instructions: Some(310),
            run_count: Some(1000),
            ns_per_run: Some(212.5),
        }],
        links: vec![BpfLinkView {
            id: Some(5),
            program: "pmon_exit".to_owned(),
            program_id: Some(31),
            attached_to: "tp_btf/sched_process_exit".to_owned(),
            pin: Some("/sys/fs/bpf/pmon/v2/pmon_exit".to_owned()),
        }],
        maps: vec![BpfMapView {
            id: 11,
            name: "pmon_pids".to_owned(),
            kind: "hash".to_owned(),
            entries: Some(3),
            max_entries: 4096,
        }],
        pins: vec!["/sys/fs/bpf/pmon/v2/pmon_pids".to_owned()],
        group_dead: Some("argument of the tracepoint".to_owned()),
        offsets: BTreeMap::from([("signal.live".to_owned(), 4)]),
        stats: Some(BpfStatsView {
            deaths: 42,
            drops: 0,
            strangers: 1,
            repeats: 0,
            followed: 2,
            unfollowed: 0,
        }),
    }
}

pub(crate) fn event(seq: u64, entity: &str, text: &str) -> EventView {
    EventView {
        seq,
        at: noon(),
        kind: "died".to_owned(),
        level: Level::Warning,
        entity: Some(entity.to_owned()),
        pid: Some(4700),
        incident: Some(12),
        early: false,
        died_at: None,
        detect_latency_us: None,
        text: text.to_owned(),
    }
}

/// What is told of a death before it is verified.
pub(crate) fn early_event(seq: u64, entity: &str, text: &str) -> EventView {
    EventView {
        kind: "hint".to_owned(),
        level: Level::Debug,
        early: true,
        died_at: Some(noon()),
        detect_latency_us: Some(14),
        ..event(seq, entity, text)
    }
}
