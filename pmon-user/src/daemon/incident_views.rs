//! Incidents and death certificates as users see them.

use std::time::Duration;

use jiff::Timestamp;

use super::entity::Entity;
use crate::{
    core::{
        death::{Death, LastSeen, WaitStatus},
        evidence::{Evidence, Sender, SentSignal, SignalOrigin},
        identity::Identity,
        incident::{End, Incident},
        notice::Notice,
        time::Time,
    },
    look::container,
    sys::clock,
    view::incident::{
        Cause, DeathCertificate, DeathMark, IncidentResult, IncidentView, Killer, LastSignal,
        SignalFrom, TimelineEntry,
    },
};

/// An incident as users see it, with what it was before the daemon restarted.
pub(super) fn incident_view(entity: &Entity, incident: &Incident) -> IncidentView {
    let view = since_the_start(&entity.spec.name, incident);
    match &entity.continued {
        Some(before) if before.incident == view.incident => continued(before.clone(), view),
        Some(_) | None => view,
    }
}

/// The first part of an incident and the rest of it.
fn continued(before: IncidentView, since: IncidentView) -> IncidentView {
    let recovered_at = since
        .timeline
        .iter()
        .rfind(|entry| entry.kind == "successor")
        .map(|entry| entry.at);
    let death = before.death.map(|death| DeathCertificate {
        recovery_latency_us: recovered_at
            .zip(death.died_at)
            .map(|(at, died_at)| microseconds(at.duration_since(died_at).unsigned_abs()))
            .or(death.recovery_latency_us),
        recovered_at: recovered_at.or(death.recovered_at),
        ..death
    });
    IncidentView {
        opened_at: before.opened_at,
        death: death.or(since.death),
        deaths: before.deaths.into_iter().chain(since.deaths).collect(),
        timeline: before.timeline.into_iter().chain(since.timeline).collect(),
        ..since
    }
}

fn since_the_start(entity: &str, incident: &Incident) -> IncidentView {
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
            Some(End::PutRight) => IncidentResult::PutRight,
        },
        attempts: incident.attempts,
        death: incident
            .death
            .as_ref()
            .map(|death| certificate(death, incident.number, incident.recovered_at))
            .or_else(|| ended_in_silence(incident)),
        deaths: incident
            .deaths
            .iter()
            .map(|(identity, died_at)| DeathMark {
                identity: identity.to_string(),
                died_at_boot_ns: died_at.map(Time::as_boot_ns),
            })
            .collect(),
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

/// The end of a process that pmon ended because it did not answer, if the incident
/// began with that. No source reports a death that pmon itself has brought about,
/// so little is known of it.
fn ended_in_silence(incident: &Incident) -> Option<DeathCertificate> {
    let (unanswered_at, identity) = incident.timeline.iter().find_map(|(at, notice)| {
        let Notice::Unanswered { identity, .. } = notice else {
            return None;
        };
        Some((*at, *identity))
    })?;
    // Left alone where nobody would start another one.
    let ended = |(_, notice): &(Time, Notice)| *notice == Notice::Unregistered(identity);
    let (began, _) = incident.timeline.iter().find(|entry| ended(entry))?;
    let recovery = (incident.recovered_at).map(|at| (at, at.since(unanswered_at)));
    Some(silenced(identity, *began, incident.number, recovery))
}

/// The last death of an entity, also one that pmon brought about because there
/// were no answers.
pub(super) fn last_death(entity: &Entity) -> Option<DeathCertificate> {
    let newest = entity.incidents.newest();
    let died = entity.recovery.last_death();
    let silent = entity.recovery.silenced();
    match (died, silent) {
        (Some(death), silent) if silent.is_none_or(|(_, at)| at <= death.detected_at) => {
            let of_it = newest.filter(|incident| incident.death.as_ref() == Some(death));
            let of_it = of_it.map(|incident| (incident.number, incident.recovered_at));
            let (number, recovered_at) = of_it.unwrap_or((0, None));
            Some(certificate(death, number, recovered_at))
        }
        (_, Some((identity, at))) => {
            let told = |(_, notice): &(Time, Notice)| matches!(notice, Notice::Unanswered { identity: who, .. } if *who == identity);
            let of_it = newest.filter(|incident| incident.timeline.iter().any(told));
            let recovered_at = of_it.and_then(|incident| incident.recovered_at);
            let recovered_at = recovered_at.filter(|recovered| *recovered >= at);
            let recovery = recovered_at.map(|recovered| (recovered, recovered.since(at)));
            let number = of_it.map_or(0, |incident| incident.number);
            Some(silenced(identity, at, number, recovery))
        }
        (_, None) => None,
    }
}

/// What is known of a process that pmon ended at that time because it did not
/// answer; when its successor was verified, and how long that took.
fn silenced(
    identity: Identity,
    ended_at: Time,
    incident: u64,
    recovery: Option<(Time, Duration)>,
) -> DeathCertificate {
    let uptime = ended_at.since(Time::from_start_ticks(identity.start_time));
    DeathCertificate {
        incident,
        pid: identity.pid,
        start_time: Some(wall_start(identity.start_time)),
        died_at: None,
        uptime_s: Some(uptime.as_secs_f64()),
        cause: Cause::Heartbeat,
        exit_code: None,
        signal: None,
        core_dumped: None,
        killer: None,
        last_signal: None,
        oom_victim: None,
        comm: None,
        cgroup: None,
        container: None,
        rss_bytes: None,
        cpu_s: None,
        detected_by: "heartbeat".to_owned(),
        detect_latency_us: None,
        resources_released_us: None,
        recovered_at: recovery.map(|(at, _)| clock::wall(at)),
        recovery_latency_us: recovery.map(|(_, latency)| microseconds(latency)),
    }
}

/// Everything known about a death.
pub(super) fn certificate(
    death: &Death,
    incident: u64,
    recovered_at: Option<Time>,
) -> DeathCertificate {
    let Death {
        identity,
        generation: _,
        died_at,
        detected_at,
        detected_by,
        confirmed_at,
        status,
        evidence,
        last_seen,
    } = death;
    let Evidence {
        peak_rss_bytes,
        cpu,
        oom_victim,
        last_signal,
    } = evidence;
    let LastSeen {
        comm,
        cgroup,
        // Of some time before the death.
        rss_bytes: _,
        cpu: _,
    } = last_seen;
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
            _ if death.is_oom_kill() => Cause::Oom,
            (Some(_), _, _) => Cause::Exit,
            (None, Some(_), Some(true)) => Cause::Core,
            (None, Some(_), _) => Cause::Signal,
            (None, None, _) => Cause::Unknown,
        },
        exit_code: exit_code.map(i32::from),
        signal: signal.map(i32::from),
        core_dumped,
        killer: death.killer().map(killer),
        last_signal: last_signal.as_ref().map(|sent| signal_view(sent, *died_at)),
        oom_victim: *oom_victim,
        comm: comm.clone(),
        cgroup: cgroup.clone(),
        container: container_of(cgroup.as_deref()),
        rss_bytes: *peak_rss_bytes,
        cpu_s: cpu.map(|cpu| cpu.as_secs_f64()),
        detected_by: detected_by.as_str().to_owned(),
        detect_latency_us: died_at.map(|died_at| microseconds(detected_at.since(died_at))),
        resources_released_us: died_at.map(|died_at| microseconds(confirmed_at.since(died_at))),
        recovered_at: recovered_at.map(clock::wall),
        recovery_latency_us: recovered_at.map(|at| microseconds(at.since(began))),
    }
}

pub(super) fn container_of(cgroup: Option<&str>) -> Option<String> {
    cgroup.and_then(container::id_of).map(str::to_owned)
}

fn killer(sender: &Sender) -> Killer {
    let Sender { pid, uid, comm } = sender;
    Killer {
        pid: *pid,
        uid: *uid,
        comm: comm.clone(),
    }
}

fn signal_view(sent: &SentSignal, died_at: Option<Time>) -> LastSignal {
    let SentSignal {
        signal,
        code: _,
        origin,
        at,
    } = sent;
    let (from, sender, why) = match origin {
        SignalOrigin::Process(sender) => (SignalFrom::Process, Some(sender), None),
        SignalOrigin::Pmon { sender, why } => (SignalFrom::Pmon, Some(sender), why.clone()),
        SignalOrigin::Kernel => (SignalFrom::Kernel, None, None),
        SignalOrigin::Unknown => (SignalFrom::Unknown, None, None),
    };
    LastSignal {
        signal: i32::try_from(*signal).unwrap_or(i32::MAX),
        from,
        sender: sender.map(killer),
        why,
        fault: sent.is_fault(),
        before_death_us: died_at.map(|died_at| microseconds(died_at.since(*at))),
    }
}

fn wall_start(start_time: u64) -> Timestamp {
    clock::wall(Time::from_start_ticks(start_time))
}

/// Whole microseconds.
pub(super) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
