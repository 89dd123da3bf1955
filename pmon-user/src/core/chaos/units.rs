//! The simulated service manager: stops, starts and restarts of the entity's unit by
//! others, its own restarts, and the host going down.

use std::time::Duration;

use super::{happening::Happening, world::World};
use crate::core::{death::WaitStatus, identity::Identity, time::Time, unit::UnitReport};

/// The manager, where the entity is a unit.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) unit: Unit,
    pub(super) going_down: bool,
}

/// What the manager knows of the unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unit {
    /// Nobody has asked for that.
    #[default]
    Down,
    Up(Time),
    /// A job is under way.
    AtWork,
    /// Somebody has stopped it.
    Stopped,
}

/// A job that is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum UnitWork {
    Stopped,
    Started,
    /// The host does not go down after all.
    ShutdownCancelled,
}

impl World {
    /// What the manager says; not much if it is not asked or does not answer.
    pub(super) fn unit_report(&mut self) -> Option<UnitReport> {
        let silent = !self.calm && self.random.percent(3);
        let units = self.units.as_ref().filter(|_| !silent)?;
        if units.going_down {
            return Some(UnitReport::GoingDown);
        }
        Some(match units.unit {
            Unit::Down => UnitReport::Down {
                result: "signal".to_owned(),
            },
            Unit::Up(since) => UnitReport::Active {
                up_for: self.now.since(since),
            },
            Unit::AtWork => UnitReport::AtWork {
                what: "somebody's job".to_owned(),
            },
            Unit::Stopped => UnitReport::Stopped {
                by: "somebody's stop job".to_owned(),
            },
        })
    }

    fn set_unit(&mut self, unit: Unit) {
        if let Some(units) = &mut self.units {
            units.unit = unit;
        }
        self.note(|_| format!("the unit is {unit:?}"));
    }

    /// Whether a start of ours has to give way.
    pub(super) fn unit_is_taken(&self) -> bool {
        let units = self.units.as_ref();
        units.is_some_and(|units| units.going_down || units.unit == Unit::AtWork)
    }

    /// Its process has died: the manager may restart it.
    pub(super) fn unit_has_lost(&mut self) {
        let Some(units) = &self.units else {
            return;
        };
        if !matches!(units.unit, Unit::Up(_)) {
            return;
        }
        if units.going_down || self.calm || self.random.percent(70) {
            return self.set_unit(Unit::Down);
        }
        self.saw("restarted by the manager");
        self.begin_unit_work(UnitWork::Started, Duration::from_secs(20));
    }

    fn begin_unit_work(&mut self, work: UnitWork, longest: Duration) {
        self.set_unit(Unit::AtWork);
        let takes = self.random.up_to(longest);
        self.later(takes, Happening::UnitWork(work));
    }

    /// pmon's own stop of the unit.
    pub(super) fn unit_is_ended(&mut self) {
        if self.units.is_some() && !self.unit_is_taken() {
            self.set_unit(Unit::Down);
        }
    }

    /// Its process is there.
    pub(super) fn unit_is_up(&mut self) {
        if self.units.is_some() {
            let now = self.now;
            self.set_unit(Unit::Up(now));
        }
    }

    /// Somebody wants something of the unit, or of the host.
    pub(super) fn use_manager(&mut self) {
        if self.units.is_none() || self.unit_is_taken() {
            return;
        }
        // A job of pmon's own is under way: the manager would have somebody wait.
        if self.start_at_work().is_some() || self.is_on_its_way() {
            return;
        }
        match self.random.below(4) {
            0 => {
                self.saw("stopped through the manager");
                self.end_unit();
                self.begin_unit_work(UnitWork::Stopped, Duration::from_secs(5));
            }
            1 => {
                self.end_unit();
                self.begin_unit_work(UnitWork::Started, Duration::from_secs(20));
            }
            2 => self.begin_unit_work(UnitWork::Started, Duration::from_secs(5)),
            _ => {
                self.saw("host going down");
                if let Some(units) = &mut self.units {
                    units.going_down = true;
                }
                self.end_unit();
                let lasts = self.random.up_to(Duration::from_secs(60));
                let work = Happening::UnitWork(UnitWork::ShutdownCancelled);
                self.later(lasts, work);
            }
        }
    }

    fn end_unit(&mut self) {
        let living: Vec<Identity> = self.processes.iter().copied().collect();
        for identity in living {
            self.end_process(identity, WaitStatus(15));
        }
    }

    pub(super) fn unit_work_is_done(&mut self, work: UnitWork) {
        match work {
            UnitWork::Stopped => {
                // Its deaths come first.
                if self.processes.is_empty() {
                    self.set_unit(Unit::Stopped);
                } else {
                    self.later(Duration::from_secs(1), Happening::UnitWork(work));
                }
            }
            UnitWork::Started => {
                if self.processes.is_empty() {
                    let identity = self.new_identity();
                    self.appear(identity);
                }
                self.unit_is_up();
            }
            UnitWork::ShutdownCancelled => {
                if let Some(units) = &mut self.units {
                    units.going_down = false;
                }
            }
        }
    }
}
