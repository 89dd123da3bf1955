//! `scale`: many registrations at once. How soon they are there, what each
//! costs, and what a daemon with many healthy entities does when nothing
//! happens.

use std::{
    fmt,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    aim::{Aim, write_json},
    crowd::Crowd,
    daemon::Daemon,
    machine::{self, Machine},
    overhead::PID_LIMIT,
    storm::entities,
};

/// Registrations, and healthy entities of which the sleep is watched.
const SIZES: [usize; 2] = [100_000, 10_000];
const QUICK: [usize; 2] = [200, 50];
/// How long the sleep is watched, and how long with `--quick`.
const WATCHED: Duration = Duration::from_secs(30);
const WATCHED_QUICK: Duration = Duration::from_secs(2);
/// Until nothing wakes up any more after the registrations.
const PATIENCE: Duration = Duration::from_secs(60);
/// Wake-ups per minute: the audit's only, and its interval is an hour here.
const AIM_WAKEUPS: f64 = 0.0;

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A few registrations only, to see that it works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/scale.json")]
    output: PathBuf,
}

/// Everything there is to tell.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    load_average: [Option<f32>; 2],
    registrations: usize,
    /// Until every request was answered.
    answered_s: f64,
    /// Until every process was watched.
    registered_s: f64,
    /// CPU time of the daemon meanwhile.
    cpu_s: f64,
    /// Resident memory of the daemon per entity.
    user_bytes_each: u64,
    /// Memory of the kernel's table per place in it.
    kernel_bytes_each: u64,
    /// `pmon status`.
    status_s: f64,
    /// Healthy entities while nothing happens.
    idle_entities: usize,
    wakeups_per_minute: f64,
    aims: Vec<Aim>,
}

/// Measures, prints the figures, writes JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::detect()?;
    let before = machine::load();
    let ([many, healthy], watched) = if options.quick {
        (QUICK, WATCHED_QUICK)
    } else {
        (SIZES, WATCHED)
    };
    eprintln!("{healthy} healthy entities");
    let wakeups_per_minute = idle(healthy, watched)?;

    eprintln!("{many} registrations");
    let daemon = Daemon::start(many.next_power_of_two(), PID_LIMIT)?;
    let crowd = Crowd::of(many)?;
    let empty = daemon.memory("VmRSS:")?;
    let cpu = daemon.cpu()?;
    let began = Instant::now();
    let answered = daemon.register(crowd.pids());
    daemon.wait_until_registered(crowd.pids())?;
    let registered = began.elapsed();
    let cpu = daemon.cpu()?.saturating_sub(cpu);
    let full = daemon.memory("VmRSS:")?;
    let status = daemon.time_status()?;
    let report = Report {
        machine,
        quick: options.quick,
        registrations: many,
        answered_s: answered.as_secs_f64(),
        registered_s: registered.as_secs_f64(),
        cpu_s: cpu.as_secs_f64(),
        user_bytes_each: full.saturating_sub(empty) / u64::try_from(many)?,
        kernel_bytes_each: daemon.table_bytes_each()?,
        status_s: status.as_secs_f64(),
        idle_entities: healthy,
        wakeups_per_minute,
        aims: vec![Aim::at_most(
            format!("wake-ups per minute with {healthy} healthy entities"),
            AIM_WAKEUPS,
            wakeups_per_minute,
        )],
        load_average: [before, machine::load()],
    };
    print!("{report}");
    write_json(&report, &options.output)
}

/// Wake-ups per minute of all threads of a daemon while nothing happens.
fn idle(healthy: usize, watched: Duration) -> Result<f64> {
    let daemon = Daemon::start(healthy.next_power_of_two(), PID_LIMIT)?;
    let crowd = Crowd::of(healthy)?;
    daemon.register(crowd.pids());
    daemon.wait_until_registered(crowd.pids())?;
    let began = Instant::now();
    loop {
        let before = daemon.sleeps();
        // Longer than a thread of the pool waits for work before it ends (10 s).
        thread::sleep(Duration::from_secs(if watched == WATCHED { 12 } else { 1 }));
        if wakeups(&before, &daemon.sleeps()) == 0 || began.elapsed() > PATIENCE {
            break;
        }
    }
    let before = daemon.sleeps();
    thread::sleep(watched);
    let count = wakeups(&before, &daemon.sleeps());
    let status = daemon.status();
    let up = entities(&status)
        .filter(|it| it["registered"] == true)
        .count();
    ensure!(up == healthy, "{up} of {healthy} are registered");
    Ok(f64::from(u32::try_from(count)?) * 60.0 / watched.as_secs_f64())
}

/// Of threads that were there before and still are, and a first one of each new.
fn wakeups(
    before: &std::collections::BTreeMap<u32, u64>,
    after: &std::collections::BTreeMap<u32, u64>,
) -> u64 {
    let each = after
        .iter()
        .map(|(thread, sleeps)| match before.get(thread) {
            Some(slept) => sleeps - slept,
            None => sleeps + 1,
        });
    each.sum()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine,
            quick,
            load_average,
            registrations,
            answered_s,
            registered_s,
            cpu_s,
            user_bytes_each,
            kernel_bytes_each,
            status_s,
            idle_entities,
            wakeups_per_minute,
            aims,
        } = self;
        if *quick {
            writeln!(
                f,
                "QUICK: too few registrations for these figures to mean anything."
            )?;
        }
        writeln!(f, "{}\n", machine.headline(*load_average))?;
        let number = f64::from(u32::try_from(*registrations).unwrap_or(u32::MAX));
        for (what, figure) in [
            ("registrations", format!("{registrations}")),
            ("all requests answered, s", format!("{answered_s:.2}")),
            ("all processes watched, s", format!("{registered_s:.2}")),
            (
                "registrations per second",
                format!("{:.0}", number / registered_s),
            ),
            ("CPU time each, µs", format!("{:.1}", cpu_s * 1e6 / number)),
            ("daemon's memory each, bytes", format!("{user_bytes_each}")),
            (
                "kernel's memory each, bytes",
                format!("{kernel_bytes_each}"),
            ),
            ("`pmon status`, s", format!("{status_s:.2}")),
            (
                "wake-ups per minute",
                format!("{wakeups_per_minute:.1} with {idle_entities} healthy entities"),
            ),
        ] {
            writeln!(f, "{what:<32}{figure}")?;
        }
        writeln!(f)?;
        aims.iter().try_for_each(|aim| writeln!(f, "{aim}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_new_thread_has_woken_up() {
        let before = BTreeMap::from([(1, 10), (2, 5)]);
        let after = BTreeMap::from([(1, 13), (3, 0)]);
        assert_eq!(wakeups(&before, &after), 4);
        assert_eq!(wakeups(&before, &before), 0);
    }
}
