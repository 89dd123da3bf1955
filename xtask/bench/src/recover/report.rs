//! The table and the JSON of `recover`.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::supervisors::Supervisor;
use crate::{aim::Aim, latency::Figures, machine::Machine};

/// pmon's median may be this much above the floor's.
const AIM_FLOOR: f64 = 1.5;
/// Of everybody else's medians, pmon's may be this part.
const AIM_OTHERS: f64 = 1.0;
/// With early start, of a process of 2 GiB, in milliseconds.
const AIM_EARLY: f64 = 5.0;

/// What was measured with victims of one size.
#[derive(Debug)]
pub(crate) struct Size {
    pub(crate) bytes: usize,
    pub(crate) load_average: [Option<f32>; 2],
    /// Nanoseconds.
    pub(crate) samples: BTreeMap<Supervisor, Vec<u64>>,
}

/// Everything there is to tell.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    quick: bool,
    skipped: BTreeMap<Supervisor, String>,
    sizes: Vec<Table>,
    aims: Vec<Aim>,
}

#[derive(Debug, Serialize)]
struct Table {
    bytes: usize,
    load_average: [Option<f32>; 2],
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    supervisor: Supervisor,
    /// In microseconds.
    figures: Figures,
    p50_to_floor: f64,
}

impl Report {
    pub(crate) const fn new(machine: Machine, quick: bool) -> Self {
        Self {
            machine,
            quick,
            skipped: BTreeMap::new(),
            sizes: Vec::new(),
            aims: Vec::new(),
        }
    }

    pub(crate) fn skip(&mut self, supervisor: Supervisor, why: String) {
        self.skipped.insert(supervisor, why);
    }

    pub(crate) fn add(&mut self, size: Size) {
        let Size {
            bytes,
            load_average,
            samples,
        } = size;
        let figures = |supervisor| Figures::of(samples.get(&supervisor)?.iter().copied());
        let floor = figures(Supervisor::Floor).map_or(f64::NAN, |floor| floor.p50);
        let row = |supervisor| {
            let figures = figures(supervisor)?;
            Some(Row {
                supervisor,
                figures,
                p50_to_floor: figures.p50 / floor,
            })
        };
        self.sizes.push(Table {
            bytes,
            load_average,
            rows: Supervisor::ALL.into_iter().filter_map(row).collect(),
        });
    }

    /// Compares with what was aimed at.
    pub(crate) fn judge(&mut self) {
        let mut aims = Vec::new();
        if let Some(small) = self.sizes.first()
            && let Some(pmon) = small.row(Supervisor::Pmon)
        {
            let what = "1 MiB: pmon p50 / floor p50";
            aims.push(Aim::at_most(what, AIM_FLOOR, pmon.p50_to_floor));
            for other in &small.rows {
                match other.supervisor {
                    Supervisor::Floor | Supervisor::Pmon | Supervisor::PmonEarly => {}
                    Supervisor::Daemontools
                    | Supervisor::Runit
                    | Supervisor::S6
                    | Supervisor::Systemd
                    | Supervisor::Monit
                    | Supervisor::Supervisord => aims.push(Aim::at_most(
                        format!("1 MiB: pmon p50 / {} p50", other.supervisor.name()),
                        AIM_OTHERS,
                        pmon.figures.p50 / other.figures.p50,
                    )),
                }
            }
        }
        if let Some(large) = self.sizes.get(1)
            && let Some(early) = large.row(Supervisor::PmonEarly)
        {
            let what = "2 GiB: pmon with early start, p50 in ms";
            aims.push(Aim::at_most(what, AIM_EARLY, early.figures.p50 / 1000.0));
        }
        self.aims = aims;
    }
}

impl Table {
    fn row(&self, supervisor: Supervisor) -> Option<&Row> {
        self.rows.iter().find(|row| row.supervisor == supervisor)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine,
            quick,
            skipped,
            sizes,
            aims,
        } = self;
        if *quick {
            writeln!(
                f,
                "QUICK: too few kills for these figures to mean anything."
            )?;
        }
        writeln!(
            f,
            "From SIGKILL until the first statement of the successor's main(), in ms."
        )?;
        for Table {
            bytes,
            load_average,
            rows,
        } in sizes
        {
            let mib = bytes >> 20;
            writeln!(f, "\n{mib} MiB. {}", machine.headline(*load_average))?;
            writeln!(
                f,
                "{:<14}{:>5}{:>10}{:>10}{:>10}{:>10}{:>12}",
                "", "n", "min", "p50", "p90", "max", "p50/floor"
            )?;
            for Row {
                supervisor,
                figures,
                p50_to_floor,
            } in rows
            {
                let Figures {
                    n,
                    min,
                    p50,
                    p90,
                    p99: _,
                    max,
                } = figures;
                let [min, p50, p90, max] = [min, p50, p90, max].map(|us| us / 1000.0);
                writeln!(
                    f,
                    "{:<14}{n:>5}{min:>10.2}{p50:>10.2}{p90:>10.2}{max:>10.2}{p50_to_floor:>12.2}",
                    supervisor.name()
                )?;
            }
        }
        writeln!(f)?;
        for (supervisor, why) in skipped {
            writeln!(f, "{}: not measured, {why}", supervisor.name())?;
        }
        aims.iter().try_for_each(|aim| writeln!(f, "{aim}"))
    }
}
