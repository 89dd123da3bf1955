//! The figures of `overhead`: ratios of pairs, nanoseconds per run.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::setting::Setting;
use crate::{
    aim::Aim,
    machine::{self, Machine},
};

/// What strangers may pay in wall time, in percent.
const AIM_PERCENT: f64 = 1.0;
/// What an exit may cost, in nanoseconds by the kernel's statistics.
const AIM_NS: f64 = 150.0;

/// Everything there is to tell.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    quick: bool,
    strangers_per_storm: u32,
    load_average: [Option<f32>; 2],
    wall_time: Vec<Line>,
    statistics: Vec<Statistics>,
    /// What could not be measured here, and why.
    absent: Vec<Absent>,
    aims: Vec<Aim>,
}

/// A setting that could not be measured.
#[derive(Debug, Serialize)]
struct Absent {
    setting: String,
    why: String,
}

/// One setting against nothing.
#[derive(Debug)]
pub(super) struct Compared {
    setting: Setting,
    pairs: Vec<[Duration; 2]>,
}

impl Compared {
    pub(super) const fn new(setting: Setting) -> Self {
        Self {
            setting,
            pairs: Vec::new(),
        }
    }

    /// What a storm took with the setting, and what its twin took with nothing.
    pub(super) fn add(&mut self, with: Duration, without: Duration) {
        self.pairs.push([with, without]);
    }
}

/// A row of the first table.
#[derive(Debug, Serialize)]
struct Line {
    setting: Setting,
    pairs: usize,
    /// Median nanoseconds per stranger with nothing attached.
    without_ns: f64,
    /// Median of the pairs' ratios less one, in percent.
    overhead_percent: f64,
    /// Standard error of that median.
    error_percent: f64,
}

/// Runs of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramRuns {
    pub(super) name: &'static str,
    pub(super) count: u64,
    pub(super) ns: u64,
}

/// Runs of all programs in one storm.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) registrations: u32,
    pub(super) strangers: u32,
    pub(super) empty: ProgramRuns,
    pub(super) programs: Vec<ProgramRuns>,
}

#[derive(Debug, Serialize)]
struct Statistics {
    registrations: u32,
    strangers: u32,
    empty_ns: f64,
    programs: Vec<Program>,
    /// All programs together per stranger, less an empty program's time for each run.
    net_ns_per_stranger: f64,
}

/// A row of the second table.
#[derive(Debug, Serialize)]
struct Program {
    name: &'static str,
    runs: u64,
    ns: f64,
    /// Less what an empty program takes.
    net_ns: f64,
}

impl Report {
    pub(super) fn new(machine: Machine, quick: bool, strangers_per_storm: u32) -> Self {
        Self {
            machine,
            quick,
            strangers_per_storm,
            load_average: [machine::load(), None],
            wall_time: Vec::new(),
            statistics: Vec::new(),
            absent: Vec::new(),
            aims: Vec::new(),
        }
    }

    pub(super) fn absent(&mut self, setting: Setting, why: String) {
        self.absent.push(Absent {
            setting: setting.title(),
            why,
        });
    }

    pub(super) const fn load(&mut self, after: Option<f32>) {
        self.load_average[1] = after;
    }

    pub(super) fn compared(&mut self, compared: Compared) {
        let Compared { setting, pairs } = compared;
        let mut ratios: Vec<f64> = (pairs.iter())
            .map(|[with, without]| with.as_secs_f64() / without.as_secs_f64())
            .collect();
        let mut without: Vec<f64> = (pairs.iter())
            .map(|[_, without]| without.as_secs_f64() * 1e9 / f64::from(self.strangers_per_storm))
            .collect();
        let (ratio, error) = median(&mut ratios);
        let line = Line {
            setting,
            pairs: pairs.len(),
            without_ns: median(&mut without).0,
            overhead_percent: (ratio - 1.0) * 100.0,
            error_percent: error * 100.0,
        };
        if let Setting::Pmon { .. } = setting {
            self.aims.push(Aim::at_most(
                format!("wall time with {} in %", setting.title()),
                AIM_PERCENT,
                line.overhead_percent,
            ));
        }
        self.wall_time.push(line);
    }

    pub(super) fn runs(&mut self, runs: Runs) {
        let Runs {
            registrations,
            strangers,
            empty,
            programs,
        } = runs;
        let empty_ns = mean(&empty);
        let programs: Vec<Program> = programs
            .iter()
            .filter(|program| program.count > 0)
            .map(|program| Program {
                name: program.name,
                runs: program.count,
                ns: mean(program),
                net_ns: mean(program) - empty_ns,
            })
            .collect();
        if let Some(exit) = (programs.iter()).find(|it| it.name == pmon_common::EXIT_PROGRAM) {
            self.aims.push(Aim::at_most(
                format!("ns per exit with {registrations} registrations"),
                AIM_NS,
                exit.ns,
            ));
        }
        let net: f64 = (programs.iter())
            .map(|program| program.net_ns * float(program.runs))
            .sum();
        self.statistics.push(Statistics {
            registrations,
            strangers,
            empty_ns,
            programs,
            net_ns_per_stranger: net / f64::from(strangers),
        });
    }
}

fn mean(runs: &ProgramRuns) -> f64 {
    float(runs.ns) / float(runs.count)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and nanoseconds are far below 2^53"
)]
const fn float(number: u64) -> f64 {
    number as f64
}

/// The median and its standard error, estimated from the quartiles as for a
/// normal distribution (1.349 is its interquartile range, 1.2533 the ratio of
/// the median's error to the mean's).
fn median(values: &mut [f64]) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |numerator: usize| {
        let index = (values.len().saturating_sub(1)) * numerator / 4;
        values.get(index).copied().unwrap_or(f64::NAN)
    };
    let middle = values.len() / 2;
    let median = match values.get(middle) {
        Some(upper) if values.len().is_multiple_of(2) => f64::midpoint(values[middle - 1], *upper),
        Some(value) => *value,
        None => f64::NAN,
    };
    let spread = (at(3) - at(1)) / 1.349;
    let error = 1.2533 * spread / float(values.len() as u64).sqrt();
    (median, error)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quick {
            writeln!(
                f,
                "QUICK: too few strangers for these figures to mean anything."
            )?;
        }
        writeln!(
            f,
            "{} Processes that nobody registered, forked one after the other on one CPU, {} per \
             storm.\n",
            self.machine.headline(self.load_average),
            self.strangers_per_storm,
        )?;
        writeln!(
            f,
            "{:<32}{:>7}{:>16}{:>22}",
            "wall time", "pairs", "without, µs", "more with it, %"
        )?;
        for line in &self.wall_time {
            let Line {
                setting,
                pairs,
                without_ns,
                overhead_percent,
                error_percent,
            } = line;
            writeln!(
                f,
                "{:<32}{pairs:>7}{:>16.1}{:>22}",
                setting.title(),
                without_ns / 1000.0,
                format!("{overhead_percent:+.2} ± {error_percent:.2}")
            )?;
        }
        for Absent { setting, why } in &self.absent {
            writeln!(f, "{setting:<32}not measured: {why}")?;
        }
        for statistics in &self.statistics {
            let Statistics {
                registrations,
                strangers,
                empty_ns,
                programs,
                net_ns_per_stranger,
            } = statistics;
            writeln!(
                f,
                "\n{:<32}{:>9}{:>12}{:>10}",
                format!("{registrations} registrations"),
                "runs",
                "ns per run",
                "net"
            )?;
            writeln!(
                f,
                "{:<32}{:>9}{empty_ns:>12.0}{:>10}",
                "an empty program", "", 0
            )?;
            for Program {
                name,
                runs,
                ns,
                net_ns,
            } in programs
            {
                writeln!(f, "{name:<32}{runs:>9}{ns:>12.0}{net_ns:>10.0}")?;
            }
            writeln!(
                f,
                "all programs, per life of one of {strangers} strangers: {net_ns_per_stranger:.0} ns net"
            )?;
        }
        writeln!(f)?;
        self.aims.iter().try_for_each(|aim| writeln!(f, "{aim}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_and_its_error() {
        let mut values: Vec<f64> = (1..=9).map(f64::from).collect();
        let (middle, error) = median(&mut values);
        assert!((middle - 5.0).abs() < 1e-9);
        // Quartiles 3 and 7.
        assert!((error - 1.2533 * 4.0 / 1.349 / 3.0).abs() < 1e-9);
        let (even, _) = median(&mut [4.0, 1.0]);
        assert!((even - 2.5).abs() < 1e-9);
        assert!(median(&mut []).0.is_nan());
    }

    #[test]
    fn the_empty_programs_time_is_taken_off() {
        let mut report = Report {
            machine: Machine {
                kernel: String::new(),
                cpus: Vec::new(),
                transparent_huge_pages: String::new(),
                clocksource: String::new(),
            },
            quick: true,
            strangers_per_storm: 10,
            load_average: [None; 2],
            wall_time: Vec::new(),
            statistics: Vec::new(),
            absent: Vec::new(),
            aims: Vec::new(),
        };
        let runs = |name, count, ns| ProgramRuns { name, count, ns };
        report.runs(Runs {
            registrations: 10,
            strangers: 10,
            empty: runs("empty", 10, 400),
            programs: vec![
                runs(pmon_common::EXIT_PROGRAM, 10, 1000),
                runs(pmon_common::SIGNAL_PROGRAM, 20, 1000),
                runs(pmon_common::OOM_PROGRAM, 0, 0),
            ],
        });
        let statistics = &report.statistics[0];
        assert_eq!(statistics.programs.len(), 2);
        assert!((statistics.programs[0].net_ns - 60.0).abs() < 1e-9);
        assert!((statistics.net_ns_per_stranger - 80.0).abs() < 1e-9);
        assert_eq!(
            report.aims[0],
            Aim::at_most("ns per exit with 10 registrations", 150.0, 100.0)
        );
        let pair = [Duration::from_micros(101), Duration::from_micros(100)];
        report.compared(Compared {
            setting: Setting::Pmon { registrations: 10 },
            pairs: vec![pair; 3],
        });
        let line = &report.wall_time[0];
        assert!((line.overhead_percent - 1.0).abs() < 1e-6);
        assert!((line.without_ns - 10_000.0).abs() < 1e-6);
    }
}
