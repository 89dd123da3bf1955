//! `recover`: from SIGKILL until the first statement of the successor's `main()`,
//! by pmon, by others, and by the least that can be done.
//!
//! Must stay true: everybody is measured in one run, by the same victim, that
//! told itself when it was born; nobody is killed who has just been started,
//! because several pause then; small victims are killed in turn, so that
//! what else the machine does falls on all.

mod births;
pub(crate) mod floor;
mod report;
mod supervisors;
pub(crate) mod victim;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use pmon_user::sys::clock;

use self::{
    births::Births,
    report::{Report, Size},
    supervisors::{Running, Supervisor},
};
use crate::{
    aim::write_json,
    machine::{self, Machine},
};

const MIB: usize = 1 << 20;
const SMALL: usize = MIB;
const LARGE: usize = 2 << 30;
/// Kills of each small and each large victim.
const USUAL: [u32; 2] = [60, 12];
const QUICK: [u32; 2] = [3, 2];
/// `runsv`, `s6-supervise` and `supervise` start a service at most once a second.
const LIFE: Duration = Duration::from_millis(2500);
/// Until a successor is ready; monit and supervisord need seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory that is left to everything else.
const RESERVE: u64 = 1 << 30;

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A few kills only, to see that it works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Without the process of 2 GiB.
    #[arg(long)]
    small: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/recover.json")]
    output: PathBuf,
}

/// Measures, prints a table, writes JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::detect()?;
    let [small, large] = if options.quick { QUICK } else { USUAL };
    let mut report = Report::new(machine, options.quick);
    for supervisor in Supervisor::ALL {
        if let Some(why) = supervisor.missing() {
            report.skip(supervisor, why);
        }
    }
    let who: Vec<Supervisor> = Supervisor::ALL
        .into_iter()
        .filter(|it| it.missing().is_none())
        .collect();
    report.add(measure(SMALL, &[&who], small)?);
    if !options.small {
        // The old one and its successor.
        let needed = u64::try_from(LARGE)? * 2 + RESERVE;
        let available = machine::available_memory().context("no `/proc/meminfo`")?;
        ensure!(
            available >= needed,
            "{} MiB of memory are needed, {} MiB are available; use `--small`",
            needed >> 20,
            available >> 20
        );
        let apart: Vec<&[Supervisor]> = who.chunks(1).collect();
        report.add(measure(LARGE, &apart, large)?);
    }
    report.judge();
    print!("{report}");
    write_json(&report, &options.output)
}

/// Measures one group after the other; within a group in turn.
fn measure(bytes: usize, groups: &[&[Supervisor]], kills: u32) -> Result<Size> {
    let directory = tempfile::Builder::new()
        .prefix(&format!("pmon-bench-{}-", std::process::id()))
        .tempdir()?;
    let mut size = Size {
        bytes,
        load_average: [machine::load(), None],
        samples: BTreeMap::new(),
    };
    for group in groups {
        let mut scene = Scene::of(bytes, directory.path(), group)?;
        for kill in 0..kills {
            eprintln!(
                "{} MiB: kill {} of {kills}, {group:?}",
                bytes / MIB,
                kill + 1
            );
            for &supervisor in *group {
                let ns = scene.kill(supervisor)?;
                size.samples.entry(supervisor).or_default().push(ns);
            }
        }
    }
    size.load_average[1] = machine::load();
    Ok(size)
}

/// Some supervisors with their victims.
struct Scene {
    births: Births,
    // Dropped first, in this order: nobody brings a victim back then.
    running: Vec<(Supervisor, Running)>,
}

impl Scene {
    fn of(bytes: usize, directory: &Path, group: &[Supervisor]) -> Result<Self> {
        let name = group.first().context("nobody")?.name();
        let mut scene = Self {
            births: Births::at(directory.join(format!("{name}.births")))?,
            running: Vec::new(),
        };
        for &supervisor in group {
            let victim = [
                &*std::env::current_exe()?.to_string_lossy(),
                "victim",
                "--of",
                supervisor.name(),
                "--births",
                &scene.births.path().to_string_lossy(),
                "--bench",
                &supervisor.ends_with().to_string(),
                "--bytes",
                &bytes.to_string(),
            ]
            .map(str::to_owned);
            let running = supervisor.start(directory, &victim)?;
            scene.running.push((supervisor, running));
            scene
                .births
                .next(supervisor.name(), None, PATIENCE)
                .with_context(|| format!("{supervisor:?}"))?;
        }
        Ok(scene)
    }

    /// Nanoseconds from the signal until the successor is born.
    fn kill(&mut self, supervisor: Supervisor) -> Result<u64> {
        let name = supervisor.name();
        let victim = self.births.next(name, None, PATIENCE)?;
        thread::sleep(LIFE.saturating_sub(clock::now().since(victim.born)));
        let old = victim.pid();
        let began = clock::now();
        victim.kill();
        let successor = self.births.next(name, Some(old), PATIENCE);
        let successor = successor.with_context(|| format!("{supervisor:?}"))?;
        Ok(u64::try_from(successor.born.since(began).as_nanos())?)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for (supervisor, running) in self.running.drain(..) {
            drop(running);
            self.births.end(supervisor.name());
        }
    }
}
