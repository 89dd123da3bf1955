//! `detect`: the measurement. Time zero is the victim's last instruction before
//! exit_group(2), which it notes itself; the end is the moment at which an
//! observer knows.
//!
//! Must stay true: while a death is measured nothing of ours runs but the victim
//! and those that watch it; an observer is registered and asleep before its
//! victim is released; every observer sees as many deaths on each CPU.

mod death;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use pmon_common::{DEFAULT_MAX_PIDS, DEFAULT_RING_BYTES};
use pmon_user::source::ebpf::{Ebpf, MapSizes};

pub(crate) use self::death::Measurement;
use self::death::Watcher;
use crate::{
    aim::write_json,
    machine::{self, Machine},
    nursery::{Breed, Nursery},
    observer::{connector::Connector, floor::Floor, pidfd::Pidfd, pmon::Pmon, post::Post},
    report::{Conditions, Report, Size, Watching},
    strangers::Strangers,
};

const MIB: usize = 1 << 20;
/// What a modest service has resident, under load.
const SERVICE: usize = 16 * MIB;
const GIB: usize = 1 << 30;
/// Deaths per observer and size with `--quick`: shows that it works, no more.
const QUICK: usize = 20;
/// Deaths per observer and size, and how many under load, where each takes longer.
const USUAL: u32 = 3000;
const LOADED: u32 = 1000;
/// Memory that is left to everything else.
const RESERVE: u64 = 512 << 20;
/// How often the progress is told.
const PROGRESS: Duration = Duration::from_secs(20);

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Deaths per observer and process size [default: 3000, under load 1000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    deaths: Option<u32>,
    /// A few deaths only, to see that it works; the figures mean nothing.
    #[arg(long, conflicts_with = "deaths")]
    quick: bool,
    /// Processes of 1 and 16 MiB, while strangers are forked on every CPU as fast as
    /// one process each can.
    #[arg(long, conflicts_with = "only")]
    load: bool,
    /// All observers under the normal scheduling policy instead of SCHED_FIFO.
    #[arg(long)]
    normal: bool,
    /// SCHED_FIFO priority of all observers; the default is pmon's own.
    #[arg(long, default_value_t = default_priority())]
    priority: u8,
    /// Measure processes of one size only.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Each death of the 1 GiB process for one observer alone, as with the
    /// small process. Takes five times as long.
    #[arg(long)]
    apart: bool,
    /// Huge pages for the 1 GiB process: filled sooner, but also released sooner.
    #[arg(long)]
    huge_pages: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/detect.json")]
    output: PathBuf,
}

/// A process size.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// 1 MiB.
    Small,
    /// 1 GiB.
    Large,
}

fn default_priority() -> u8 {
    pmon_user::config::settings::DaemonSettings::default().receiver_priority
}

/// Measures, prints a table, writes JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::detect()?;
    let deaths = if options.quick {
        QUICK
    } else {
        let usual = if options.load { LOADED } else { USUAL };
        usize::try_from(options.deaths.unwrap_or(usual))?
    };
    let mut plans = Vec::new();
    if options.only != Some(Only::Large) {
        plans.push(Size {
            bytes: MIB,
            huge_pages: false,
            watching: Watching::Apart,
            loaded: options.load,
        });
    }
    if options.load {
        plans.push(Size {
            bytes: SERVICE,
            huge_pages: false,
            watching: Watching::Apart,
            loaded: true,
        });
    } else if options.only != Some(Only::Small) {
        plans.push(Size {
            bytes: GIB,
            huge_pages: options.huge_pages,
            watching: if options.apart {
                Watching::Apart
            } else {
                Watching::Shared
            },
            loaded: false,
        });
        require_memory(GIB, machine.cpus.len())?;
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let priority = (!options.normal).then_some(options.priority);
    let mut bench = Bench {
        cpus: machine.cpus.clone(),
        interrupted,
        nursery: Nursery::start(priority)?,
        watchers: watchers(priority, options.load)?,
    };
    let mut strangers = Vec::new();
    if options.load {
        for &cpu in &machine.cpus {
            strangers.push(Strangers::endless_on(cpu)?);
        }
    }
    let mut report = Report::new(Conditions {
        machine,
        priority,
        deaths,
        quick: options.quick,
    });
    for plan in plans {
        let measured = bench.measure(plan, deaths)?;
        report.add(plan, &measured);
    }
    drop(strangers);
    print!("{report}");
    write_json(&report, &options.output)
}

/// A victim on each CPU is filled at the same time.
fn require_memory(bytes: usize, victims: usize) -> Result<()> {
    let needed = u64::try_from(bytes * victims)? + RESERVE;
    let available = machine::available_memory().context("no `/proc/meminfo`")?;
    ensure!(
        available >= needed,
        "{} MiB of memory are needed, {} MiB are available; use `--only small`",
        needed >> 20,
        available >> 20
    );
    Ok(())
}

fn watchers(priority: Option<u8>, load: bool) -> Result<Vec<Watcher>> {
    let ebpf = || {
        let sizes = MapSizes {
            max_pids: DEFAULT_MAX_PIDS,
            ring_bytes: DEFAULT_RING_BYTES,
        };
        Ebpf::start(sizes, None).context("the kernel program cannot be used")
    };
    let mut watchers = vec![
        Watcher::Own(Box::new(Post::start(Floor::new(ebpf()?), priority)?)),
        Watcher::Own(Box::new(Pmon::start(ebpf()?, priority)?)),
        Watcher::Own(Box::new(Post::start(Pidfd::<false>::default(), priority)?)),
        Watcher::Nursery,
        Watcher::Own(Box::new(Post::start(Connector::new()?, priority)?)),
    ];
    if load && priority.is_some() {
        let normal = Post::start(Pidfd::<true>::default(), None)?;
        watchers.push(Watcher::Own(Box::new(normal)));
    }
    Ok(watchers)
}

struct Bench {
    cpus: Vec<usize>,
    interrupted: Arc<AtomicBool>,
    nursery: Nursery,
    watchers: Vec<Watcher>,
}

impl Bench {
    /// Round robin: in every round each group of watchers gets one victim on
    /// each CPU. Apart, a group is one watcher; shared, there is one group.
    fn measure(&mut self, size: Size, deaths: usize) -> Result<Measurement> {
        let Size {
            bytes,
            huge_pages,
            watching,
            loaded: _,
        } = size;
        let group_size = match watching {
            Watching::Apart => 1,
            Watching::Shared => self.watchers.len(),
        };
        let rounds = deaths.div_ceil(self.cpus.len());
        let mut measurement = Measurement::begin();
        let began = Instant::now();
        let mut told = began;
        for round in 0..rounds {
            for group in self.watchers.chunks_mut(group_size) {
                let breed = Breed { bytes, huge_pages };
                let pids = self.nursery.breed(breed, &self.cpus)?;
                for (&pid, &cpu) in pids.iter().zip(&self.cpus) {
                    if self.interrupted.load(Ordering::Relaxed) {
                        bail!("interrupted");
                    }
                    let resident = machine::resident(pid).context("no victim")?;
                    ensure!(
                        resident >= u64::try_from(bytes)?,
                        "the victim has {resident} resident bytes instead of {bytes}"
                    );
                    measurement.death(&mut self.nursery, group, pid, cpu)?;
                }
            }
            if round == 2 || told.elapsed() > PROGRESS {
                told = Instant::now();
                let done = u32::try_from(round + 1)?;
                let left = began.elapsed() / done * u32::try_from(rounds - round - 1)?;
                eprintln!(
                    "{} MiB: {} of {} deaths per observer, about {} s left",
                    bytes / MIB,
                    (round + 1) * self.cpus.len(),
                    rounds * self.cpus.len(),
                    left.as_secs()
                );
            }
        }
        measurement.end();
        Ok(measurement)
    }
}
