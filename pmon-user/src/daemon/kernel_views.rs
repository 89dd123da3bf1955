//! The kernel side as users see it.
//!
//! The engine tells what it knows at once, in a [`Snapshot`]; what takes time is
//! added elsewhere: counting the table's entries, and counting runs, which is
//! the difference of two snapshots while the kernel keeps statistics.

use std::{os::fd::OwnedFd, time::Duration};

use pmon_common::{PIDS_MAP, Stats};

use super::engine::Engine;
use crate::{
    core::death::SourceName,
    source::{
        ebpf::{Ebpf, count},
        facts::{LinkFacts, MapFacts, ProgramFacts},
        selection::{Off, State},
    },
    view::diagnosis::{BpfLinkView, BpfMapView, BpfProgramView, BpfStatsView, BpfView},
};

/// The kernel side at one moment.
#[derive(Debug)]
pub struct Snapshot {
    view: BpfView,
    programs: Vec<ProgramFacts>,
    /// The table of pids.
    table: Option<OwnedFd>,
}

impl Snapshot {
    /// Whether there is no kernel side.
    pub(super) const fn is_off(&self) -> bool {
        self.table.is_none()
    }

    /// As users see it, with runs counted since an earlier snapshot during so
    /// much time, or why they were not. Reads the whole table, so not for the
    /// engine's thread.
    pub(super) fn into_view(self, counted: Result<(&Self, Duration), String>) -> BpfView {
        let Self {
            mut view,
            programs,
            table,
        } = self;
        let entries = table.and_then(|table| count(table).ok());
        for map in &mut view.maps {
            if map.name == PIDS_MAP {
                map.entries = entries;
            }
        }
        match counted {
            Err(why) => view.uncounted = Some(why),
            Ok((earlier, time)) => {
                view.counted_s = Some(time.as_secs_f64());
                for (program, now) in view.programs.iter_mut().zip(&programs) {
                    // A program of another id has replaced one, and begins anew.
                    let before = earlier.programs.iter().find(|it| it.id == now.id);
                    let (runs, time) = before.map_or((0, Duration::ZERO), |before| {
                        (before.run_count, before.run_time)
                    });
                    let runs = now.run_count.saturating_sub(runs);
                    let time = now.run_time.saturating_sub(time);
                    program.run_count = Some(runs);
                    #[expect(clippy::cast_precision_loss, reason = "a mean, for people")]
                    let mean = (runs > 0).then(|| time.as_nanos() as f64 / runs as f64);
                    program.ns_per_run = mean;
                }
            }
        }
        view
    }
}

impl Engine {
    /// The kernel side now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let Some(kernel) = self.table.kernel() else {
            return Snapshot {
                view: BpfView {
                    off: self.ebpf_off(),
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
                },
                programs: Vec::new(),
                table: None,
            };
        };
        let programs = kernel.programs();
        let pins = kernel.pins().map_or_else(Vec::new, |pins| {
            let paths = pins.list().into_iter();
            paths.map(|path| path.display().to_string()).collect()
        });
        let view = BpfView {
            off: None,
            log: Some(kernel.logs()),
            counted_s: None,
            uncounted: None,
            programs: programs.iter().map(program_view).collect(),
            links: kernel
                .links()
                .iter()
                .map(|link| link_view(link, kernel, &pins))
                .collect(),
            maps: kernel.maps().iter().map(map_view).collect(),
            pins,
            group_dead: Some(kernel.layout().group_dead_method().to_owned()),
            offsets: kernel
                .layout()
                .globals()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            stats: Some(stats_view(kernel.stats())),
        };
        Snapshot {
            view,
            programs,
            table: kernel.table_descriptor().ok(),
        }
    }

    /// Why there are no programs and maps.
    fn ebpf_off(&self) -> Option<String> {
        let source = self.selection.source(SourceName::Ebpf);
        match &source.state {
            State::Off(Off::Unwanted(why) | Off::Failed(why)) => Some(why.clone()),
            State::Off(Off::StandsBy) => Some("is being started".to_owned()),
            State::Silent(why) | State::Lost(why) => Some(why.clone()),
            State::Unproven | State::Healthy => None,
        }
    }
}

const fn stats_view(stats: Stats) -> BpfStatsView {
    let Stats {
        deaths,
        drops,
        strangers,
        repeats,
        followed,
        unfollowed,
    } = stats;
    BpfStatsView {
        deaths,
        drops,
        strangers,
        repeats,
        followed,
        unfollowed,
    }
}

fn program_view(program: &ProgramFacts) -> BpfProgramView {
    let ProgramFacts {
        name,
        tracepoint,
        id,
        tag,
        instructions,
        // Of a time that nobody knows.
        run_count: _,
        run_time: _,
    } = program;
    BpfProgramView {
        id: *id,
        name: (*name).to_owned(),
        attached_to: (*tracepoint).to_owned(),
        tag: format!("{tag:016x}"),
        instructions: (*instructions > 0).then_some(*instructions),
        run_count: None,
        ns_per_run: None,
    }
}

fn link_view(link: &LinkFacts, kernel: &Ebpf, pins: &[String]) -> BpfLinkView {
    let LinkFacts {
        program,
        tracepoint,
        ids,
    } = link;
    let pin = kernel
        .pins()
        .map(|directory| directory.pin(program).display().to_string());
    BpfLinkView {
        id: ids.map(|(id, _)| id),
        program: (*program).to_owned(),
        program_id: ids.map(|(_, program)| program),
        attached_to: (*tracepoint).to_owned(),
        pin: pin.filter(|pin| pins.contains(pin)),
    }
}

fn map_view(map: &MapFacts) -> BpfMapView {
    let MapFacts {
        id,
        name,
        kind,
        max_entries,
    } = map;
    BpfMapView {
        id: *id,
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        entries: None,
        max_entries: *max_entries,
    }
}
