//! `overhead`: what others pay for pmon being there. Processes that nobody has
//! registered are forked and end, with and without pmon's programs attached.
//!
//! Two measurements, because the kernel's own statistics cost more than what
//! they measure: wall time without them, in pairs of storms one after the other
//! with the order changing, so that drift falls on both sides; then nanoseconds
//! per run with them, beside an empty program, which shows what they cost
//! themselves.

mod report;
mod setting;

use std::path::PathBuf;

use anyhow::Result;
use pmon_user::source::programs::Selection;

pub(crate) use self::setting::PID_LIMIT;
use self::{
    report::{Compared, ProgramRuns, Report, Runs},
    setting::{Attached, Setting, pmon},
};
use crate::{
    aim::write_json,
    keeper::Keeper,
    machine::{self, Machine},
    strangers::Strangers,
    sys::bpf::{EmptyProgram, RunStatistics},
};

/// How many registrations pmon's programs are measured with.
const REGISTRATIONS: [u32; 2] = [10, 100_000];
/// Storms of each kind with `--quick`.
const QUICK_PAIRS: u32 = 2;
/// Starting it takes seconds, so there is time for a few pairs only.
const PAIRS_OF_OTHERS: u32 = 10;

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Strangers that live and die in each setting.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    strangers: u32,
    /// In so many storms, each paired with one of as many where nothing is attached.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// A few strangers only, to see that it works; the figures mean nothing.
    #[arg(long, conflicts_with_all = ["strangers", "pairs"])]
    quick: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/overhead.json")]
    output: PathBuf,
}

/// Measures, prints a table, writes JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options {
        strangers,
        pairs,
        quick,
        output,
    } = options;
    let machine = Machine::detect()?;
    let (pairs, strangers) = if *quick {
        (QUICK_PAIRS, 400)
    } else {
        (*pairs, *strangers)
    };
    let each = strangers.div_ceil(pairs);
    // So that 100,000 processes could be there.
    let _keeper = Keeper::of_pids(PID_LIMIT)?;
    let selection = Selection::of_this_host();
    // The other CPU is the listeners'.
    let cpu = machine.cpus.last().copied().unwrap_or(0);
    let mut storms = Strangers::on(cpu)?;
    let mut report = Report::new(machine, *quick, each);
    storms.storm(each)?;

    let settings = REGISTRATIONS
        .map(|registrations| Setting::Pmon { registrations })
        .into_iter()
        .chain([Setting::ProcConnector, Setting::Forkstat, Setting::Bpftrace]);
    for setting in settings {
        if let Some(why) = setting.impossible(&selection) {
            report.absent(setting, why);
            continue;
        }
        let pairs = match setting {
            Setting::Pmon { .. } | Setting::ProcConnector => pairs,
            Setting::Forkstat | Setting::Bpftrace => pairs.min(PAIRS_OF_OTHERS),
        };
        eprintln!("{}: {pairs} pairs of storms", setting.title());
        report.compared(compare(setting, pairs, each, &selection, &mut storms)?);
    }
    for registrations in REGISTRATIONS {
        eprintln!("statistics with {registrations} registrations");
        report.runs(count_runs(
            registrations,
            strangers,
            &selection,
            &mut storms,
        )?);
    }
    report.load(machine::load());
    print!("{report}");
    write_json(&report, output)
}

/// Pairs of storms, with the setting and with nothing, in changing order.
fn compare(
    setting: Setting,
    pairs: u32,
    each: u32,
    selection: &Selection,
    storms: &mut Strangers,
) -> Result<Compared> {
    let mut compared = Compared::new(setting);
    for pair in 0..pairs {
        let with = |storms: &mut Strangers| -> Result<_> {
            let attached = Attached::new(setting, selection)?;
            // The first few pay for what attaching has thrown out of the caches.
            storms.storm(each.div_ceil(10))?;
            let took = storms.storm(each)?;
            attached.detach()?;
            Ok(took)
        };
        let without = |storms: &mut Strangers| -> Result<_> {
            storms.storm(each.div_ceil(10))?;
            storms.storm(each)
        };
        let (with, without) = if pair % 2 == 0 {
            let with = with(storms)?;
            (with, without(storms)?)
        } else {
            let without = without(storms)?;
            (with(storms)?, without)
        };
        compared.add(with, without);
    }
    Ok(compared)
}

/// The kernel's statistics of pmon's programs and of an empty one.
fn count_runs(
    registrations: u32,
    strangers: u32,
    selection: &Selection,
    storms: &mut Strangers,
) -> Result<Runs> {
    let ebpf = pmon(registrations, selection)?;
    let empty = EmptyProgram::attach()?;
    storms.storm(strangers.div_ceil(10))?;
    let statistics = RunStatistics::enable()?;
    let runs = |program: &pmon_user::source::facts::ProgramFacts| ProgramRuns {
        name: program.name,
        count: program.run_count,
        ns: u64::try_from(program.run_time.as_nanos()).unwrap_or(u64::MAX),
    };
    storms.storm(strangers)?;
    drop(statistics);
    let empty = empty.runs()?;
    Ok(Runs {
        registrations,
        strangers,
        empty: ProgramRuns {
            name: "an empty program",
            count: empty.count,
            ns: empty.ns,
        },
        programs: ebpf.programs().iter().map(runs).collect(),
    })
}
