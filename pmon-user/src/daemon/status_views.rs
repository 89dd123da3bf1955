//! The daemon as a whole as users see it.

use pmon_common::EVENTS_MAP;

use super::{engine::Engine, views::entity_view};
use crate::{
    core::{death::SourceName, time::Time},
    source::{
        canary::Verdict,
        connector::Connector,
        ebpf::{Ebpf, ForeignRecords},
        programs::MissingProgram,
        selection::{Off, Source, State},
    },
    sys::clock,
    view::{
        entity::EntityView,
        status::{AuditView, CanaryWord, DaemonView, SourceState, SourceView, StatusView},
    },
};

/// Names told at most; the rest is counted.
const NAMES: usize = 10;

/// `what`, and the names it is true of, if any.
fn some_of<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names: Vec<&str> = names.collect();
    if names.is_empty() {
        return None;
    }
    let more = names.len().saturating_sub(NAMES);
    if more > 0 {
        names.select_nth_unstable(NAMES);
        names.truncate(NAMES);
    }
    names.sort_unstable();
    let others = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Some(format!("{what}: {}{others}", names.join(", ")))
}

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
                starlingx: self.facts.starlingx,
            },
            sources: self.sources(),
            audit: AuditView {
                last_sweep: self.last_sweep.map(clock::wall),
                sweeps: self.sweeps,
                one_instance: self.counting.verified,
                discrepancies: self.discrepancies.by_kind(),
            },
            degraded: self.degraded(),
            // Known to whoever holds the host's health.
            host_degraded: None,
            unrecoverable: None,
            config_findings: findings,
            entities,
        }
    }

    fn sources(&self) -> Vec<SourceView> {
        let now = clock::now();
        self.selection
            .sources()
            .iter()
            .map(|source| self.source(source, now))
            .collect()
    }

    fn source(&self, source: &Source, now: Time) -> SourceView {
        let connector = self.table.connector().map(Connector::stats);
        let (events, lost) = match source.name {
            SourceName::Ebpf => (self.ring_events, self.table.ring_drops()),
            SourceName::ProcConnector => (
                self.table.connector_events(),
                connector.map_or(0, |stats| stats.overruns),
            ),
            SourceName::Pidfd => (self.table.pidfd_events(), 0),
        };
        let imperfect = match source.name {
            SourceName::Ebpf => {
                let unpinned = self.table.kernel().and_then(Ebpf::unpinned);
                let unpinned = unpinned.map(|why| format!("not pinned: {why}"));
                self.foreign_records().or(unpinned)
            }
            SourceName::ProcConnector => connector.and_then(|stats| stats.problem()),
            SourceName::Pidfd => self.table.obstacle(),
        };
        let (state, reason) = match &source.state {
            State::Off(Off::StandsBy) => (SourceState::Standby, None),
            State::Off(Off::Unwanted(why) | Off::Failed(why)) => {
                (SourceState::Off, Some(why.clone()))
            }
            State::Unproven => (SourceState::Unproven, None),
            State::Healthy => match imperfect {
                None => (SourceState::Healthy, None),
                why @ Some(_) => (SourceState::Degraded, why),
            },
            State::Silent(why) => (SourceState::Degraded, Some(format!("silent: {why}"))),
            State::Lost(why) => (SourceState::Degraded, Some(format!("lost: {why}"))),
        };
        let (canary, unclear) = match &source.verdict {
            None => (None, None),
            Some(Verdict::Passed) => (Some(CanaryWord::Passed), None),
            Some(Verdict::Missed(_)) => (Some(CanaryWord::Missed), None),
            Some(Verdict::Unclear(why)) => (
                Some(CanaryWord::Unclear),
                Some(format!("its last canary showed nothing: {why}")),
            ),
        };
        SourceView {
            name: source.name.as_str().to_owned(),
            state,
            reason: reason.or(unclear).or_else(|| self.remark(source.name)),
            events,
            lost,
            last_canary_s: source.passed.map(|at| now.since(at).as_secs_f64()),
            canary,
        }
    }

    /// That somebody else writes into the ring, until a canary has come through
    /// since.
    fn foreign_records(&self) -> Option<String> {
        let ForeignRecords { count, latest } = self.table.kernel()?.foreign_records();
        let passed = self.selection.source(SourceName::Ebpf).passed;
        let since = passed.is_none_or(|passed| latest.is_some_and(|latest| passed <= latest));
        (latest.is_some() && since).then(|| {
            format!(
                "{count} ring records of another version were passed over, and the table read \
                 instead: find the program that writes into `{EVENTS_MAP}` with \
                 `bpftool prog show` and end whoever has it loaded"
            )
        })
    }

    /// What is to be said of a source that works.
    fn remark(&self, name: SourceName) -> Option<String> {
        if name == SourceName::Ebpf && self.table.kernel().is_some_and(Ebpf::logs) {
            return Some("its programs log what they do, until `pmon bpf log off`".to_owned());
        }
        let without = self.table.without_pidfd();
        (name == SourceName::Pidfd && without > 0).then(|| {
            format!(
                "{} are held; {without} registrations are beyond `pidfd_budget`, watched \
                 by the kernel's table, their deaths verified on demand",
                self.table.held()
            )
        })
    }

    fn degraded(&self) -> Vec<String> {
        let mut degraded = self.facts.degraded.clone();
        degraded.extend(self.facts.refused_configuration.as_ref().map(|why| {
            format!(
                "the configuration on disk is refused, and the one before stays in force: {why}"
            )
        }));
        degraded.extend(self.selection.degraded());
        degraded.extend(self.table.obstacle());
        if self.exhausted {
            degraded.push("no files can be opened: looks for processes wait until they can".into());
        }
        degraded.extend(self.active_suspended());
        for missing in self.table.kernel().map_or(&[][..], Ebpf::missing) {
            let MissingProgram { program, reason } = missing;
            degraded.push(format!(
                "the kernel program `{program}` is not in use: {reason}"
            ));
        }
        degraded.extend(self.foreign_records());
        if let Some(why) = self.table.kernel().and_then(Ebpf::unpinned) {
            degraded.push(format!("maps and links are not pinned: {why}"));
        }
        let unwatched = self
            .entities
            .values()
            .filter(|entity| self.table.kernel().is_some() && entity.pidfd_only.is_some())
            .map(|entity| entity.spec.name.as_str());
        degraded.extend(some_of("watched by their pidfds only", unwatched));
        if let Some((why, names)) = self.not_followed() {
            let what = format!("not followed into the background ({why})");
            degraded.extend(some_of(&what, names.into_iter()));
        }
        match self.table.unfollowed() {
            0 => {}
            count => degraded.push(format!(
                "{count} children were not followed: the kernel's table is full (`max_pids`)"
            )),
        }
        let refused = self
            .entities
            .values()
            .filter(|entity| entity.recovery.unwatched().is_some())
            .map(|entity| entity.spec.name.as_str());
        degraded.extend(some_of("alive, but not registered", refused));
        degraded
    }
}
