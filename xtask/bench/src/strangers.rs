//! Strangers: a process that forks children which end at once, one after the
//! other, on one CPU. Nobody has registered them.
//!
//! Must stay true: it has one child at most, and dies with the process that
//! started it. The parent is on the child's CPU, so that neither waits for a
//! CPU to wake up.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid},
    thread::{CpuSet, sched_setaffinity},
};

use crate::sys::{SingleThreaded, exit_at_once};

/// The strangers' command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The CPU to run on.
    #[arg(long)]
    cpu: usize,
    /// Fork without being asked, until killed.
    #[arg(long)]
    endless: bool,
}

/// Serves: for each number on stdin so many children, answered with the
/// nanoseconds that took.
pub(crate) fn run(options: &Options) -> Result<()> {
    let single_threaded = SingleThreaded::prove().context("there are several threads")?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut only = CpuSet::new();
    only.set(options.cpu);
    sched_setaffinity(None, &only)?;
    if options.endless {
        loop {
            fork_some(&single_threaded, 1000)?;
        }
    }
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let took = fork_some(&single_threaded, line?.trim().parse()?)?;
        writeln!(answers, "{}", took.as_nanos())?;
        answers.flush()?;
    }
    Ok(())
}

fn fork_some(single_threaded: &SingleThreaded, count: u32) -> Result<Duration> {
    let began = Instant::now();
    for _ in 0..count {
        let child = single_threaded.fork(|| exit_at_once(0))?;
        waitid(WaitId::Pid(child), WaitIdOptions::EXITED)?;
    }
    Ok(began.elapsed())
}

/// The process, seen from outside. Dropping it ends it.
pub(crate) struct Strangers {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Strangers {
    /// Waits for orders on this CPU.
    pub(crate) fn on(cpu: usize) -> Result<Self> {
        Self::start(cpu, false)
    }

    /// Forks on this CPU as fast as it can, until dropped.
    pub(crate) fn endless_on(cpu: usize) -> Result<Self> {
        Self::start(cpu, true)
    }

    fn start(cpu: usize, endless: bool) -> Result<Self> {
        let own = std::env::current_exe().context("can't find this program")?;
        let mut program = Command::new(own);
        program.args(["strangers", "--cpu", &cpu.to_string()]);
        if endless {
            program.arg("--endless");
        }
        // Ctrl-C is for the measurement.
        program.process_group(0);
        let mut process = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start the strangers")?;
        let orders = process.stdin.take().context("no stdin")?;
        let answers = BufReader::new(process.stdout.take().context("no stdout")?);
        Ok(Self {
            process,
            orders,
            answers,
        })
    }

    /// Has so many live and die; how long that took.
    pub(crate) fn storm(&mut self, count: u32) -> Result<Duration> {
        writeln!(self.orders, "{count}").context("the strangers have ended")?;
        let mut line = String::new();
        let length = self.answers.read_line(&mut line)?;
        ensure!(length > 0, "the strangers have ended");
        Ok(Duration::from_nanos(line.trim().parse()?))
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the strangers could not be ended: {error}");
        }
    }
}
