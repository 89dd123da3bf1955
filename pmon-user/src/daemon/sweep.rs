//! The sweep: every so often all entities are looked at, the kernel's table is
//! compared with ours, and what events should have told is counted.
//!
//! Must stay true: it goes in slices, so that a death in between has not to wait
//! for the whole of it.

use super::{engine::Engine, message::Work};
use crate::{
    audit::discrepancy::{Discrepancy, Registered as Compared, compare},
    core::{
        event::{Occasion, Outcome, Sighting},
        identity::Identity,
    },
    look::Look,
    sys::clock,
    table::{EntityName, Reconciled},
};

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
            left: self.entities.keys().cloned().collect(),
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
            (true, None) => self.sweeping = None,
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
        for _ in 0..*orphans {
            self.discrepancies.count(Discrepancy::OrphanRegistration);
        }
        for name in altered {
            self.discrepancies.count(Discrepancy::AlteredRegistration);
            self.trouble(name, format!("audit: {}", Discrepancy::AlteredRegistration));
        }
    }

    /// Counts what events should have told and did not.
    pub(super) fn audit(&mut self, name: &EntityName, sighting: &Sighting, knew: Option<Identity>) {
        let Some(entity) = self.entities.get(name) else {
            return;
        };
        let current = entity.recovery.current().and_then(|it| it.generation);
        let hands_over = current.is_some_and(|generation| self.table.hands_over(generation));
        let acted_upon = entity.recovery.is_failed() || entity.recovery.is_held();
        if acted_upon || entity.recovery.deadline().is_some() || hands_over {
            return;
        }
        let known = entity.recovery.current().and_then(|current| {
            let generation = current.generation?;
            let seen = sighting.outcome == Outcome::Process(current.identity);
            Some(Compared {
                identity: current.identity,
                alive: seen || self.table.is_alive(generation),
            })
        });
        if let Some(discrepancy) = compare(known, knew, sighting) {
            self.discrepancies.count(discrepancy);
            self.trouble(name, format!("audit: {discrepancy}"));
        }
    }
}
