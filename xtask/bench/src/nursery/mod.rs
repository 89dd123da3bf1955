//! The nursery: a process of its own that makes victims, ends them one by one
//! and reaps them. This is the side of the measurement; `server` is the process.
//!
//! The nursery is single-threaded, so that it may fork without exec, and is the
//! victims' parent, so that it can be the waitpid observer. Commands and replies
//! are lines of JSON; none is under way while a death is measured.

pub(crate) mod server;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use pmon_user::core::time::Time;
use serde::{Deserialize, Serialize};

/// To the nursery.
#[derive(Debug, Serialize, Deserialize)]
enum Command {
    /// Make one victim for each of these CPUs; answered when all are complete.
    Breed {
        bytes: usize,
        huge_pages: bool,
        cpus: Vec<usize>,
    },
    /// Let one die after a delay; with `wait` be the waitpid observer.
    Release { pid: u32, delay_ns: u64, wait: bool },
    /// Reap one and tell when it executed its last instruction.
    Reap { pid: u32 },
}

/// From the nursery; times are nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Bred { pids: Vec<u32> },
    Released { waited_at: Option<u64> },
    Reaped { last_instruction: u64 },
    Failed { reason: String },
}

/// How victims are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breed {
    /// Memory they touch, all of it resident.
    pub(crate) bytes: usize,
    /// In huge pages.
    pub(crate) huge_pages: bool,
}

/// The process, seen from outside. Dropping it ends it with all its victims.
pub(crate) struct Nursery {
    process: Child,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Nursery {
    /// Starts it; with a priority it waits under SCHED_FIFO.
    pub(crate) fn start(priority: Option<u8>) -> Result<Self> {
        let own = std::env::current_exe().context("can't find this program")?;
        let mut program = Program::new(own);
        program.arg("nursery");
        if let Some(priority) = priority {
            program.args(["--priority", &priority.to_string()]);
        }
        // Ctrl-C is for the measurement, which ends the nursery in order.
        program.process_group(0);
        let mut process = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start the nursery")?;
        let commands = process.stdin.take().context("the nursery has no stdin")?;
        let replies = process.stdout.take().context("the nursery has no stdout")?;
        Ok(Self {
            process,
            commands,
            replies: BufReader::new(replies),
        })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Victims, one pinned to each CPU, that have touched their memory and wait.
    pub(crate) fn breed(&mut self, breed: Breed, cpus: &[usize]) -> Result<Vec<u32>> {
        let Breed { bytes, huge_pages } = breed;
        self.send(&Command::Breed {
            bytes,
            huge_pages,
            cpus: cpus.to_vec(),
        })?;
        match self.receive()? {
            Reply::Bred { pids } => Ok(pids),
            other => unexpected(&other),
        }
    }

    /// Lets a victim die. With `wait` the nursery watches, and must be asked
    /// with [`Nursery::waited`]; otherwise the nursery sleeps meanwhile.
    pub(crate) fn release(&mut self, pid: u32, delay: Duration, wait: bool) -> Result<()> {
        let delay_ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.send(&Command::Release {
            pid,
            delay_ns,
            wait,
        })?;
        if !wait {
            match self.receive()? {
                Reply::Released { waited_at: None } => {}
                other => return unexpected(&other),
            }
        }
        Ok(())
    }

    /// When the waitpid observer knew.
    pub(crate) fn waited(&mut self) -> Result<Time> {
        match self.receive()? {
            Reply::Released {
                waited_at: Some(ns),
            } => Ok(Time::from_boot_ns(ns)),
            other => unexpected(&other),
        }
    }

    /// Reaps a victim; gives the time of its last instruction.
    pub(crate) fn reap(&mut self, pid: u32) -> Result<Time> {
        self.send(&Command::Reap { pid })?;
        match self.receive()? {
            Reply::Reaped { last_instruction } => Ok(Time::from_boot_ns(last_instruction)),
            other => unexpected(&other),
        }
    }

    fn send(&mut self, command: &Command) -> Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        self.commands
            .write_all(&line)
            .context("the nursery has ended")
    }

    fn receive(&mut self) -> Result<Reply> {
        let mut line = String::new();
        let length = self.replies.read_line(&mut line)?;
        if length == 0 {
            bail!("the nursery has ended");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

fn unexpected<T>(reply: &Reply) -> Result<T> {
    match reply {
        Reply::Failed { reason } => bail!("nursery: {reason}"),
        Reply::Bred { .. } | Reply::Released { .. } | Reply::Reaped { .. } => {
            bail!("unexpected reply of the nursery: {reply:?}")
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // The victims die with their parent (PR_SET_PDEATHSIG).
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the nursery could not be ended: {error}");
        }
    }
}
