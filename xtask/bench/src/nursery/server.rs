//! Inside the nursery process: fork, release, wait.
//!
//! A victim's states: filling (touches its memory), ready (one byte to the
//! nursery, then blocked in a read), released (sleeps until its hour), dead,
//! reaped. Must stay true: this process has one thread, and does nothing between
//! a release and the death but sleep, in a read or in waitid(2).

use std::{
    collections::HashMap,
    io::{BufRead as _, Write as _},
    os::fd::OwnedFd,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use pmon_user::sys::{clock, sched};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, set_parent_process_death_signal,
        waitid,
    },
    thread::{CpuSet, sched_setaffinity},
};

use super::{Command, Reply};
use crate::sys::{SharedPage, SingleThreaded, die, occupy};

/// The nursery's command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Wait under SCHED_FIFO with this priority.
    #[arg(long)]
    priority: Option<u8>,
}

struct Victim {
    pid: Pid,
    slot: usize,
    release: OwnedFd,
}

struct Server {
    single_threaded: SingleThreaded,
    page: SharedPage,
    victims: HashMap<u32, Victim>,
    /// Of victims that the waitpid observer has reaped already.
    reaped: HashMap<u32, usize>,
}

/// Serves until stdin ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    let single_threaded = SingleThreaded::prove().context("the nursery has several threads")?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if let Some(priority) = options.priority {
        sched::set_fifo(i32::from(priority)).context("SCHED_FIFO is refused")?;
    }
    let mut server = Server {
        single_threaded,
        page: SharedPage::new().context("no shared page")?,
        victims: HashMap::new(),
        reaped: HashMap::new(),
    };
    let mut replies = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let reply = match serde_json::from_str(&line?)
            .map_err(anyhow::Error::from)
            .and_then(|command| server.carry_out(command))
        {
            Ok(reply) => reply,
            Err(error) => Reply::Failed {
                reason: format!("{error:#}"),
            },
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        replies.write_all(&line)?;
        replies.flush()?;
    }
    Ok(())
}

impl Server {
    fn carry_out(&mut self, command: Command) -> Result<Reply> {
        match command {
            Command::Breed {
                bytes,
                huge_pages,
                cpus,
            } => self.breed(bytes, huge_pages, &cpus),
            Command::Release {
                pid,
                delay_ns,
                wait,
            } => self.release(pid, delay_ns, wait),
            Command::Reap { pid } => self.reap(pid),
        }
    }

    fn breed(&mut self, bytes: usize, huge_pages: bool, cpus: &[usize]) -> Result<Reply> {
        ensure!(self.victims.is_empty(), "there are victims left");
        let (ready, report) = pipe_with(PipeFlags::CLOEXEC)?;
        let parent = getpid();
        let mut pids = Vec::new();
        for (slot, &cpu) in cpus.iter().enumerate() {
            let (order, release) = pipe_with(PipeFlags::CLOEXEC)?;
            let last_instruction = self.page.slot(slot).context("too many victims")?;
            last_instruction.store(0, std::sync::atomic::Ordering::Release);
            let child = || -> Result<(), Errno> {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if getppid() != Some(parent) {
                    return Ok(());
                }
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only)?;
                occupy(bytes, huge_pages)?;
                rustix::io::write(&report, b"r")?;
                let mut delay = [0; 8];
                if rustix::io::read(&order, &mut delay)? == delay.len() {
                    std::thread::sleep(Duration::from_nanos(u64::from_ne_bytes(delay)));
                    die(last_instruction);
                }
                Ok(())
            };
            let pid = self.single_threaded.fork(|| {
                if let Err(errno) = child() {
                    eprintln!("victim: {errno}");
                    let _told_above = rustix::io::write(&report, b"!");
                }
            })?;
            let number = u32::try_from(pid.as_raw_nonzero().get())?;
            self.victims.insert(number, Victim { pid, slot, release });
            pids.push(number);
        }
        for _ in cpus {
            let mut word = [0];
            rustix::io::read(&ready, &mut word)?;
            ensure!(word == *b"r", "a victim could not be made");
        }
        Ok(Reply::Bred { pids })
    }

    fn release(&mut self, pid: u32, delay_ns: u64, wait: bool) -> Result<Reply> {
        let victim = self.victims.get(&pid).context("no such victim")?;
        rustix::io::write(&victim.release, &delay_ns.to_ne_bytes())?;
        if !wait {
            return Ok(Reply::Released { waited_at: None });
        }
        let status = waitid(WaitId::Pid(victim.pid), WaitIdOptions::EXITED);
        let now = clock::now();
        check(status)?;
        if let Some(victim) = self.victims.remove(&pid) {
            self.reaped.insert(pid, victim.slot);
        }
        Ok(Reply::Released {
            waited_at: Some(now.as_boot_ns()),
        })
    }

    fn reap(&mut self, pid: u32) -> Result<Reply> {
        let slot = match (self.reaped.remove(&pid), self.victims.remove(&pid)) {
            (Some(slot), _) => slot,
            (None, Some(victim)) => {
                check(waitid(WaitId::Pid(victim.pid), WaitIdOptions::EXITED))?;
                victim.slot
            }
            (None, None) => bail!("no such victim"),
        };
        let time = self.page.slot(slot).context("no such slot")?;
        match time.load(std::sync::atomic::Ordering::Acquire) {
            0 => bail!("the victim did not note its end"),
            last_instruction => Ok(Reply::Reaped { last_instruction }),
        }
    }
}

/// A victim must have ended by itself.
fn check(status: Result<Option<rustix::process::WaitIdStatus>, Errno>) -> Result<()> {
    match status?.and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        Some(_) | None => bail!("a victim ended in another way than told"),
    }
}
