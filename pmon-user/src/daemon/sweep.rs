//! The sweep: every so often all entities are looked at, the kernel's table is
//! compared with ours, and what events should have told is counted.
//!
//! Must stay true: it goes in slices, so that a death in between has not to wait
//! for the whole of it.

use super::{
    engine::Engine,
    message::{Tale, Told, Work},
};
use crate::{
    audit::discrepancy::Discrepancy,
    core::{event::Occasion, notice::Notice},
    look::Look,
    sys::clock,
    table::{EntityName, Orphan, Reconciled},
    view::incident::{IncidentResult, IncidentView, TimelineEntry},
};

/// In whose name `history` tells of entries that belong to no entity.
const NOBODY: &str = "(pid table)";
/// Looks of a sweep that are asked for in one go.
const SLICE: usize = 1024;

/// A sweep under way.
#[derive(Default)]
pub(super) struct Sweeping {
    left: Vec<EntityName>,
    /// Looks that were asked for and have not been told.
    under_way: usize,
}

impl Engine {
    /// Begins a sweep, unless one is under way: that takes longer than the
    /// audit's interval only where something hangs.
    pub(super) fn sweep(&mut self) {
        if self.sweeping.is_some() {
            return;
        }
        self.sweeps += 1;
        self.last_sweep = Some(clock::now());
        self.check_pins();
        self.table.begin_comparison();
        self.sweeping = Some(Sweeping {
            left: (self.entities.iter())
                // There a script is asked.
                .filter(|(_, entity)| entity.spec.status.is_none())
                .map(|(name, _)| EntityName::clone(name))
                .collect(),
            under_way: 0,
        });
        self.sweep_on();
    }

    /// The next slice of a sweep: some entries of the kernel's table, some looks.
    fn sweep_on(&mut self) {
        let compared = self.table.compare_some(&self.epoll);
        let compared = compared.map(|reconciled| self.reconciled(&reconciled));
        let Some(sweeping) = &mut self.sweeping else {
            return;
        };
        let mut slice = Vec::new();
        while slice.len() < SLICE
            && let Some(name) = sweeping.left.pop()
        {
            if let Some(entity) = self.entities.get(&name) {
                slice.push((name, entity.look_request(Occasion::Sweep, false)));
            }
        }
        sweeping.under_way = slice.len();
        match (slice.is_empty(), compared) {
            (false, _) => self.hand_out(Work::Sweep(slice)),
            (true, Some(())) => self.sweep_on(),
            (true, None) => {
                self.sweeping = None;
                self.count_all();
            }
        }
    }

    pub(super) fn swept(&mut self, looks: Vec<(EntityName, Look)>) {
        let count = looks.len();
        for (entity, look) in looks {
            self.looked(&entity, look);
        }
        if let Some(sweeping) = &mut self.sweeping {
            sweeping.under_way = sweeping.under_way.saturating_sub(count);
            if sweeping.under_way == 0 {
                self.sweep_on();
            }
        }
    }

    /// What was wrong with the kernel's table.
    fn reconciled(&mut self, reconciled: &Reconciled) {
        let Reconciled { orphans, altered } = reconciled;
        for orphan in orphans {
            self.discrepancies.count(Discrepancy::OrphanRegistration);
            self.tell_of_orphan(orphan);
        }
        for name in altered {
            self.discrepancies.count(Discrepancy::AlteredRegistration);
            let notice = Notice::Audited {
                discrepancy: Discrepancy::AlteredRegistration,
                seen: "its entry in the kernel's table was changed or missing".to_owned(),
                done: vec!["the entry written anew".to_owned()],
            };
            self.tell(name, notice, clock::now());
        }
    }

    /// An entry of nobody has no entity in whose story it could be told.
    fn tell_of_orphan(&mut self, orphan: &Orphan) {
        let Orphan { pid, generation } = orphan;
        let now = clock::now();
        let notice = Notice::Audited {
            discrepancy: Discrepancy::OrphanRegistration,
            seen: format!(
                "the kernel's table had an entry for pid {pid}, generation {generation}, of nobody"
            ),
            done: vec!["the entry removed".to_owned()],
        };
        let incident = IncidentView {
            incident: self.next_incident,
            entity: NOBODY.to_owned(),
            opened_at: clock::wall(now),
            closed_at: Some(clock::wall(now)),
            result: IncidentResult::PutRight,
            attempts: 0,
            death: None,
            deaths: Vec::new(),
            timeline: vec![TimelineEntry {
                at: clock::wall(now),
                after_us: 0,
                kind: notice.kind().to_owned(),
                text: notice.to_string(),
            }],
        };
        self.next_incident += 1;
        self.hand_out(Work::Tell(Told {
            at: now,
            entity: None,
            incident: Some(incident.incident),
            what: Tale::Notice(notice),
        }));
        self.hand_out(Work::Closed(Box::new(incident)));
    }
}
