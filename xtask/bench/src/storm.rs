//! `storm`: many registered processes are killed at once; how long until the
//! daemon has told the last death.
//!
//! Must stay true: what a death costs is told beside what the same killing costs
//! without anybody registered, in the same run; a death that is not told is
//! lost, whatever the event stream says.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::{
    aim::{Aim, write_json},
    crowd::Crowd,
    daemon::Daemon,
    listener::Listener,
    machine::{self, Machine},
    overhead::PID_LIMIT,
};

/// How many die at once.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 50_000];
const QUICK: [usize; 3] = [10, 50, 200];
/// What a death may cost at the largest size, as a multiple of the second one's
/// (the first measures the beginning more than the deaths).
const AIM_GROWTH: f64 = 1.5;
/// Registrations of the daemon's default configuration.
const MAX_PIDS: usize = 65_536;
/// After so long without any event there is none to come.
const SILENCE: Duration = Duration::from_secs(10);

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Small storms only, to see that it works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/storm.json")]
    output: PathBuf,
}

/// Everything there is to tell.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    load_average: [Option<f32>; 2],
    storms: Vec<Storm>,
    aims: Vec<Aim>,
}

/// One storm.
#[derive(Clone, Debug, Serialize)]
struct Storm {
    processes: usize,
    /// From the first kill until all are reaped, nobody registered.
    unwatched_s: f64,
    /// The same, all registered.
    killed_s: f64,
    /// From the first kill until a listener has read the last death.
    told_s: f64,
    /// Deaths that the listener read; it may lag behind and lose some.
    heard: usize,
    /// Deaths of which the daemon does not know.
    lost: usize,
    /// CPU time of the daemon.
    cpu_s: f64,
    /// Its resident memory at most, in bytes.
    peak_rss: u64,
}

impl Storm {
    /// Microseconds until told.
    fn told_each(&self) -> f64 {
        self.told_s * 1e6 / count(self.processes)
    }

    /// Microseconds of the daemon's CPU time.
    fn cpu_each(&self) -> f64 {
        self.cpu_s * 1e6 / count(self.processes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 processes")]
const fn count(number: usize) -> f64 {
    number as f64
}

/// Measures, prints a table, writes JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::detect()?;
    let before = machine::load();
    let sizes: &[usize] = if options.quick { &QUICK } else { &SIZES };
    let mut storms = Vec::new();
    for &size in sizes {
        eprintln!("{size} processes");
        storms.push(storm(size)?);
    }
    let report = Report {
        machine,
        quick: options.quick,
        load_average: [before, machine::load()],
        aims: aims(&storms),
        storms,
    };
    print!("{report}");
    write_json(&report, &options.output)
}

fn storm(size: usize) -> Result<Storm> {
    let daemon = Daemon::start(MAX_PIDS, PID_LIMIT)?;
    let unwatched = Crowd::of(size)?.kill()?.took;
    let mut crowd = Crowd::of(size)?;
    daemon.register(crowd.pids());
    daemon.wait_until_registered(crowd.pids())?;
    let listener = Listener::to(&daemon.socket())?;
    let cpu = daemon.cpu()?;
    let killed = crowd.kill()?;
    let (last, heard) = listener.wait_for("died", size, SILENCE)?;
    let cpu_s = daemon.cpu()?.saturating_sub(cpu).as_secs_f64();
    let peak_rss = daemon.memory("VmHWM:")?;
    let status = daemon.status();
    let told = entities(&status).filter(|it| it["last_death"].is_object());
    let began = pmon_user::core::time::Time::from_boot_ns(killed.began);
    Ok(Storm {
        processes: size,
        unwatched_s: unwatched.as_secs_f64(),
        killed_s: killed.took.as_secs_f64(),
        told_s: last.since(began).as_secs_f64(),
        heard,
        lost: size - told.count(),
        cpu_s,
        peak_rss,
    })
}

pub(crate) fn entities(status: &Value) -> impl Iterator<Item = &Value> {
    status["entities"].as_array().into_iter().flatten()
}

fn aims(storms: &[Storm]) -> Vec<Aim> {
    let lost: usize = storms.iter().map(|storm| storm.lost).sum();
    let mut aims = vec![Aim::at_most("deaths lost", 0.0, count(lost))];
    if let (Some(small), Some(large)) = (storms.get(1), storms.last()) {
        let what = |what| {
            format!(
                "{what} per death, {} to {}",
                large.processes, small.processes
            )
        };
        aims.extend([
            Aim::at_most(
                what("time until told"),
                AIM_GROWTH,
                large.told_each() / small.told_each(),
            ),
            Aim::at_most(
                what("CPU time"),
                AIM_GROWTH,
                large.cpu_each() / small.cpu_each(),
            ),
        ]);
    }
    aims
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine,
            quick,
            load_average,
            storms,
            aims,
        } = self;
        if *quick {
            writeln!(
                f,
                "QUICK: too few processes for these figures to mean anything."
            )?;
        }
        writeln!(f, "{}", machine.headline(*load_average))?;
        writeln!(
            f,
            "Registered processes killed at once, told by a daemon to a listener.\n"
        )?;
        writeln!(
            f,
            "{:>9}{:>14}{:>12}{:>12}{:>10}{:>14}{:>14}{:>8}{:>8}{:>12}",
            "processes",
            "unwatched, s",
            "killed, s",
            "told, s",
            "ratio",
            "µs per death",
            "CPU µs each",
            "heard",
            "lost",
            "peak, MiB"
        )?;
        for storm in storms {
            let Storm {
                processes,
                unwatched_s,
                killed_s,
                told_s,
                heard,
                lost,
                cpu_s: _,
                peak_rss,
            } = storm;
            writeln!(
                f,
                "{processes:>9}{unwatched_s:>14.3}{killed_s:>12.3}{told_s:>12.3}{:>10.2}{:>14.1}\
                 {:>14.1}{heard:>8}{lost:>8}{:>12}",
                told_s / unwatched_s,
                storm.told_each(),
                storm.cpu_each(),
                peak_rss >> 20
            )?;
        }
        writeln!(f)?;
        aims.iter().try_for_each(|aim| writeln!(f, "{aim}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm(processes: usize, told_s: f64, lost: usize) -> Storm {
        Storm {
            processes,
            unwatched_s: 1.0,
            killed_s: 1.0,
            told_s,
            heard: processes,
            lost,
            cpu_s: told_s / 2.0,
            peak_rss: 0,
        }
    }

    #[test]
    fn growth_is_told_against_the_second_size() {
        let storms = [storm(1, 9.0, 0), storm(10, 1.0, 1), storm(100, 20.0, 0)];
        assert!((storms[1].told_each() - 100_000.0).abs() < 1e-6);
        let expected = [
            Aim::at_most("deaths lost", 0.0, 1.0),
            Aim::at_most("time until told per death, 100 to 10", 1.5, 2.0),
            Aim::at_most("CPU time per death, 100 to 10", 1.5, 2.0),
        ];
        assert_eq!(aims(&storms), expected);
    }
}
