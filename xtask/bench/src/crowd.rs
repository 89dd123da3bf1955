//! The crowd: a process with many children that cost the kernel as little as can
//! be and wait to be killed.
//!
//! Must stay true: they are dead before the first is reaped, so that no pid is
//! used twice; they die with the process that started the crowd.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use pmon_tests::kernel;
use pmon_user::sys::clock;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

/// The crowd's command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many.
    count: usize,
}

/// When they were killed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Killed {
    /// Before the first, in nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) began: u64,
    /// When all were reaped.
    pub(crate) took: Duration,
}

/// Tells the pids, and at a line on stdin kills and reaps all.
pub(crate) fn run(options: &Options) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut crowd = kernel::Crowd::new(options.count).context("not so many processes")?;
    let mut answers = std::io::stdout().lock();
    serde_json::to_writer(&mut answers, crowd.pids())?;
    writeln!(answers)?;
    answers.flush()?;
    if let Some(order) = std::io::stdin().lock().lines().next() {
        order?;
        let began = clock::now();
        crowd.kill();
        let killed = Killed {
            began: began.as_boot_ns(),
            took: clock::now().since(began),
        };
        serde_json::to_writer(&mut answers, &killed)?;
        writeln!(answers)?;
        answers.flush()?;
    }
    Ok(())
}

/// The process, seen from outside. Dropping it ends it with all its children.
pub(crate) struct Crowd {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pids: Vec<u32>,
}

impl Crowd {
    /// So many.
    pub(crate) fn of(count: usize) -> Result<Self> {
        let own = std::env::current_exe().context("can't find this program")?;
        let mut process = Command::new(own)
            .args(["crowd", &count.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start the crowd")?;
        let orders = process.stdin.take().context("no stdin")?;
        let answers = BufReader::new(process.stdout.take().context("no stdout")?);
        let mut crowd = Self {
            process,
            orders,
            answers,
            pids: Vec::new(),
        };
        crowd.pids = serde_json::from_str(&crowd.answer()?)?;
        Ok(crowd)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line)?;
        ensure!(length > 0, "the crowd has ended");
        Ok(line)
    }

    /// Their pids.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Kills and reaps all of them.
    pub(crate) fn kill(&mut self) -> Result<Killed> {
        self.orders
            .write_all(b"kill\n")
            .context("the crowd has ended")?;
        Ok(serde_json::from_str(&self.answer()?)?)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the crowd could not be ended: {error}");
        }
    }
}
