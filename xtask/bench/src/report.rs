//! The table and the JSON: the same figures, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::{
    aim::Aim,
    detect::Measurement,
    latency::{Figures, Sample},
    machine::Machine,
    observer::Row,
};

/// pmon's median may be this much above the floor's.
const AIM_P50: f64 = 1.3;
/// Likewise the 99th percentile.
const AIM_P99: f64 = 2.0;
/// Under load, the part of a pidfd's 99th percentile that pmon's may be.
const AIM_LOADED_P99: f64 = 1.0 / 3.0;
/// How much earlier the hint of a 1 GiB process's death is than its pidfd.
const AIM_EARLIER: f64 = 100.0;

/// Under which everything was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    pub(crate) machine: Machine,
    /// SCHED_FIFO priority of all observers; `None` is the normal policy.
    pub(crate) priority: Option<u8>,
    /// Deaths per observer and size.
    pub(crate) deaths: usize,
    /// Too few deaths for the figures to mean anything.
    pub(crate) quick: bool,
}

/// A kind of victim, and how its deaths are watched.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    /// Resident memory, beside a forked program's own.
    pub(crate) bytes: usize,
    pub(crate) huge_pages: bool,
    pub(crate) watching: Watching,
    /// Strangers are forked on every CPU meanwhile.
    pub(crate) loaded: bool,
}

/// How many watch one death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Watching {
    /// One observer per death, in turn.
    Apart,
    /// All observers at once.
    Shared,
}

/// Everything there is to tell.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    conditions: Conditions,
    sizes: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Measured {
    size: Size,
    took_s: f64,
    load_average: [Option<f32>; 2],
    rows: Vec<Line>,
}

/// One row; times in microseconds.
#[derive(Debug, Serialize)]
struct Line {
    observer: Row,
    missed: usize,
    all: Figures,
    /// Victim and observer on one CPU.
    same_cpu: Option<Figures>,
    /// On different ones.
    other_cpu: Option<Figures>,
    p50_to_floor: Option<f64>,
    p99_to_floor: Option<f64>,
    same_cpu_p50_to_floor: Option<f64>,
    other_cpu_p50_to_floor: Option<f64>,
}

impl Report {
    pub(crate) const fn new(conditions: Conditions) -> Self {
        Self {
            conditions,
            sizes: Vec::new(),
        }
    }

    /// Adds what was measured of one size.
    pub(crate) fn add(&mut self, size: Size, measurement: &Measurement) {
        let figures = |row: Row, wanted: &dyn Fn(&Sample) -> bool| {
            let samples = measurement.samples.get(&row)?;
            Figures::of(samples.iter().filter(|s| wanted(s)).map(|s| s.ns))
        };
        let same = |sample: &Sample| sample.same_cpu;
        let other = |sample: &Sample| !sample.same_cpu;
        let floor = figures(Row::Floor, &|_| true);
        let floor_same = figures(Row::Floor, &same);
        let floor_other = figures(Row::Floor, &other);
        let rows = Row::ALL
            .into_iter()
            .filter_map(|row| {
                let all = figures(row, &|_| true)?;
                let same_cpu = figures(row, &same);
                let other_cpu = figures(row, &other);
                Some(Line {
                    observer: row,
                    missed: measurement.missed.get(&row).copied().unwrap_or(0),
                    all,
                    same_cpu,
                    other_cpu,
                    p50_to_floor: floor.map(|floor| all.p50 / floor.p50),
                    p99_to_floor: floor.map(|floor| all.p99 / floor.p99),
                    same_cpu_p50_to_floor: median_ratio(same_cpu, floor_same),
                    other_cpu_p50_to_floor: median_ratio(other_cpu, floor_other),
                })
            })
            .collect();
        self.sizes.push(Measured {
            size,
            took_s: measurement.took.as_secs_f64(),
            load_average: measurement.load,
            rows,
        });
    }
}

fn median_ratio(row: Option<Figures>, floor: Option<Figures>) -> Option<f64> {
    Some(row?.p50 / floor?.p50)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions {
            machine,
            priority,
            deaths: _,
            quick,
        } = &self.conditions;
        if *quick {
            writeln!(
                f,
                "QUICK: too few deaths for these figures to mean anything."
            )?;
        }
        let scheduling = match priority {
            Some(priority) => format!("SCHED_FIFO {priority}"),
            None => "SCHED_OTHER".to_owned(),
        };
        writeln!(
            f,
            "Linux {}, {} CPUs, all observers {scheduling}. From the last instruction until the \
             observer knows, in µs.",
            machine.kernel,
            machine.cpus.len()
        )?;
        self.sizes.iter().try_for_each(|size| write!(f, "\n{size}"))
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size {
            bytes,
            huge_pages,
            watching,
            loaded,
        } = self.size;
        let loaded = if loaded {
            "; a storm of strangers on every CPU"
        } else {
            ""
        };
        let pages = if huge_pages { " (huge pages)" } else { "" };
        let how = match watching {
            Watching::Apart => "one observer per death, in turn",
            Watching::Shared => "all observers at every death",
        };
        let load = self.load_average.map(|load| match load {
            Some(load) => format!("{load:.2}"),
            None => "unknown".to_owned(),
        });
        writeln!(
            f,
            "{} MiB process{pages}: {how}{loaded}; {:.0} s; load average {} to {}",
            bytes >> 20,
            self.took_s,
            load[0],
            load[1]
        )?;
        writeln!(
            f,
            "{:<24}{:>6}{:>7}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>20}{:>20}",
            "",
            "n",
            "missed",
            "min",
            "p50",
            "p90",
            "p99",
            "max",
            "p50/floor",
            "p99/floor",
            "same CPU p50",
            "other CPU p50"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        self.aims().iter().try_for_each(|aim| writeln!(f, "{aim}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            n,
            min,
            p50,
            p90,
            p99,
            max,
        } = self.all;
        write!(
            f,
            "{:<24}{n:>6}{:>7}{min:>10.1}{p50:>10.1}{p90:>10.1}{p99:>10.1}{max:>10.1}",
            self.observer.title(),
            self.missed
        )?;
        for ratio in [self.p50_to_floor, self.p99_to_floor] {
            match ratio {
                Some(ratio) => write!(f, "{ratio:>10.2}")?,
                None => write!(f, "{:>10}", "-")?,
            }
        }
        for (part, ratio) in [
            (self.same_cpu, self.same_cpu_p50_to_floor),
            (self.other_cpu, self.other_cpu_p50_to_floor),
        ] {
            match (part, ratio) {
                (Some(part), Some(ratio)) => {
                    write!(f, "{:>20}", format!("{:.1} ({ratio:.2})", part.p50))?;
                }
                (Some(part), None) => write!(f, "{:>20.1}", part.p50)?,
                (None, _) => write!(f, "{:>20}", "-")?,
            }
        }
        Ok(())
    }
}

impl Measured {
    /// What was aimed at, and whether it was reached.
    fn aims(&self) -> Vec<Aim> {
        let mut aims = Vec::new();
        let line = |row| self.rows.iter().find(|line| line.observer == row);
        let hint = line(Row::PmonHint);
        match self.size.watching {
            Watching::Apart => {
                let p50 = hint.and_then(|hint| hint.p50_to_floor);
                let p99 = hint.and_then(|hint| hint.p99_to_floor);
                aims.extend(p50.map(|p50| Aim::at_most("pmon p50 / floor", AIM_P50, p50)));
                aims.extend(p99.map(|p99| Aim::at_most("pmon p99 / floor", AIM_P99, p99)));
            }
            // The two would be measuring each other.
            Watching::Shared => {}
        }
        if self.size.loaded
            && let Some(hint) = hint
        {
            for row in [Row::Pidfd, Row::PidfdNormal] {
                let Some(pidfd) = line(row) else { continue };
                aims.push(Aim::at_most(
                    format!("under load, pmon p99 / {} p99", row.title()),
                    AIM_LOADED_P99,
                    hint.all.p99 / pidfd.all.p99,
                ));
            }
        }
        if self.size.bytes >= 1 << 30
            && let (Some(hint), Some(pidfd)) = (hint, line(Row::Pidfd))
        {
            let earlier = pidfd.all.p50 / hint.all.p50;
            aims.push(Aim::at_least("pidfd p50 / pmon p50", AIM_EARLIER, earlier));
        }
        aims
    }
}
