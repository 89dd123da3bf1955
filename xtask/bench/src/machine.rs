//! What the figures depend on, for the report: facts of the machine, without
//! its name.

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::Serialize;

/// The machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// `uname -r`.
    pub(crate) kernel: String,
    /// The CPUs this program may use.
    pub(crate) cpus: Vec<usize>,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`.
    pub(crate) transparent_huge_pages: String,
    /// Where the time comes from.
    pub(crate) clocksource: String,
}

impl Machine {
    /// This one.
    pub(crate) fn detect() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("no CPU affinity")?;
        let cpus = (0..CpuSet::MAX_CPU)
            .filter(|cpu| allowed.is_set(*cpu))
            .collect();
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        Ok(Self {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cpus,
            transparent_huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled"),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        })
    }
}

impl Machine {
    /// A line for people, with the load average before and after.
    pub(crate) fn headline(&self, load: [Option<f32>; 2]) -> String {
        let [before, after] = load.map(|load| match load {
            Some(load) => format!("{load:.2}"),
            None => "unknown".to_owned(),
        });
        format!(
            "Linux {}, {} CPUs; load average {before} to {after}.",
            self.kernel,
            self.cpus.len()
        )
    }
}

/// The load average of the last minute; others' work disturbs the figures.
pub(crate) fn load() -> Option<f32> {
    use procfs::Current as _;
    procfs::LoadAverage::current().ok().map(|load| load.one)
}

/// Bytes that can be had without swapping.
pub(crate) fn available_memory() -> Option<u64> {
    use procfs::Current as _;
    procfs::Meminfo::current().ok()?.mem_available
}

/// The CPU on which a thread last ran.
pub(crate) fn cpu_of(process: i32, thread: i32) -> Option<usize> {
    let stat = procfs::process::Process::new(process)
        .ok()?
        .task_from_tid(thread)
        .ok()?
        .stat()
        .ok()?;
    usize::try_from(stat.processor?).ok()
}

/// Resident bytes of a process.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    Some(process.statm().ok()?.resident * procfs::page_size())
}
