//! The daemon as a whole, and its kernel side, as users see them.

use super::{engine::Engine, views::entity_view};
use crate::{
    source::{connector::Connector, ebpf::Ebpf},
    sys::clock,
    view::{
        diagnosis::{BpfMapView, BpfProgramView, BpfStatsView, BpfView},
        entity::EntityView,
        status::{AuditView, DaemonView, SourceState, SourceView, StatusView},
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
            state: match self.table.obstacle() {
                None => SourceState::Healthy,
                Some(_) => SourceState::Degraded,
            },
            reason: self.pidfds(),
            events: self.table.pidfd_events(),
            lost: 0,
            last_canary_s: None,
        };
        vec![ebpf, self.connector(), pidfd]
    }

    fn connector(&self) -> SourceView {
        let stats = self.table.connector().map(Connector::stats);
        let misunderstood = stats.and_then(|stats| {
            let error = stats.misunderstood?;
            Some(format!(
                "{} messages of the kernel were not understood, the last one was {error}",
                stats.malformed
            ))
        });
        SourceView {
            name: "proc-connector".to_owned(),
            state: match (&stats, &misunderstood) {
                (None, _) => SourceState::Off,
                (Some(_), None) => SourceState::Healthy,
                (Some(_), Some(_)) => SourceState::Degraded,
            },
            reason: misunderstood.or_else(|| self.facts.connector_off.clone()),
            events: self.table.connector_events(),
            lost: stats.map_or(0, |stats| stats.overruns),
            last_canary_s: None,
        }
    }

    /// What is to be said of the pidfds, where there are not enough for all.
    fn pidfds(&self) -> Option<String> {
        let without = self.table.without_pidfd();
        self.table.obstacle().or_else(|| {
            (without > 0).then(|| {
                format!(
                    "{} are held; {without} registrations are beyond `pidfd_budget`, watched \
                     by the kernel's table, their deaths verified on demand",
                    self.table.held()
                )
            })
        })
    }

    fn degraded(&self) -> Vec<String> {
        let mut degraded = self.facts.degraded.clone();
        degraded.extend(self.deaths_are_reported_by());
        degraded.extend(self.table.obstacle());
        if self.exhausted {
            degraded.push("no files can be opened: looks for processes wait until they can".into());
        }
        if let Some(why) = self.table.kernel().and_then(Ebpf::unpinned) {
            degraded.push(format!("maps and links are not pinned: {why}"));
        }
        let unwatched = self
            .entities
            .values()
            .filter(|entity| self.facts.ebpf_off.is_none() && entity.pidfd_only.is_some())
            .map(|entity| entity.spec.name.as_str());
        degraded.extend(some_of("watched by their pidfds only", unwatched));
        let refused = self
            .entities
            .values()
            .filter(|entity| entity.recovery.unwatched().is_some())
            .map(|entity| entity.spec.name.as_str());
        degraded.extend(some_of("alive, but not registered", refused));
        degraded
    }

    /// When it is not by the BPF program, although it should be.
    fn deaths_are_reported_by(&self) -> Option<String> {
        let ebpf = self.facts.ebpf_off.as_deref()?;
        let is_chosen = ebpf == "`source = proc-connector`";
        if self.table.connector().is_some() {
            return (!is_chosen)
                .then(|| format!("deaths are reported by the proc connector: {ebpf}"));
        }
        let mut reasons: Vec<&str> = Vec::new();
        if !is_chosen {
            reasons.push(ebpf);
        }
        let connector = self.facts.connector_off.as_deref();
        reasons.extend(connector.filter(|reason| !reasons.contains(reason)));
        Some(format!(
            "deaths are reported by pidfds only: {}",
            reasons.join("; and the proc connector: ")
        ))
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
        let stats = kernel.stats();
        BpfView {
            off: None,
            programs: kernel
                .programs()
                .into_iter()
                .map(|program| {
                    let counted = program.run_count > 0;
                    BpfProgramView {
                        id: program.id,
                        name: program.name.to_owned(),
                        attached_to: program.tracepoint.to_owned(),
                        tag: format!("{:016x}", program.tag),
                        run_count: counted.then_some(program.run_count),
                        #[expect(clippy::cast_precision_loss, reason = "a mean, for people")]
                        ns_per_run: counted
                            .then(|| program.run_time.as_nanos() as f64 / program.run_count as f64),
                    }
                })
                .collect(),
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
