//! What may be attached to the kernel while strangers live and die.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use pmon_common::{DEFAULT_MAX_PIDS, DEFAULT_RING_BYTES, Registration};
use pmon_user::source::{
    connector::{Connector, Heard},
    ebpf::{Ebpf, Inserted, MapSizes},
    programs::Selection,
};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

/// One way to burden the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Setting {
    /// pmon's programs, with so many registered processes.
    Pmon {
        /// None of them a stranger.
        registrations: u32,
    },
    /// A listener of the proc connector that hears everything.
    ProcConnector,
    /// forkstat(8), of exits.
    Forkstat,
    /// bpftrace(8), counting exits.
    Bpftrace,
}

impl Setting {
    /// For people.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Pmon { registrations } => format!("pmon, {registrations} registrations"),
            Self::ProcConnector => "proc connector, one listener".to_owned(),
            Self::Forkstat => "forkstat -e exit".to_owned(),
            Self::Bpftrace => "bpftrace, counting exits".to_owned(),
        }
    }

    /// The program it needs, if that is not ours.
    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Pmon { .. } | Self::ProcConnector => None,
            Self::Forkstat => Some("forkstat"),
            Self::Bpftrace => Some("bpftrace"),
        }
    }

    /// Why somebody else's program cannot be measured on this machine.
    pub(crate) fn impossible(self, selection: &Selection) -> Option<String> {
        let program = self.program()?;
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path);
        if !places.any(|place| place.join(program).is_file()) {
            return Some(format!("`{program}` is not installed"));
        }
        // bpftrace needs a tracefs, for example, and says so itself.
        let tried = Attached::new(self, selection).and_then(Attached::detach);
        tried.err().map(|error| format!("{error:#}"))
    }
}

/// Of pmon's kernel side, without its daemon: nothing that is registered dies,
/// so there is nothing for that to do.
pub(crate) fn pmon(registrations: u32, selection: &Selection) -> Result<Ebpf> {
    let sizes = MapSizes {
        max_pids: DEFAULT_MAX_PIDS.max(registrations.next_power_of_two()),
        ring_bytes: DEFAULT_RING_BYTES,
    };
    let mut ebpf =
        Ebpf::start_with(sizes, None, selection).context("the kernel program cannot be used")?;
    for tgid in keys(registrations) {
        let entry = Registration {
            start_time: 1,
            generation: u64::from(tgid),
            ..Registration::default()
        };
        let inserted = ebpf.insert(tgid, entry)?;
        ensure!(inserted == Inserted::Yes, "not inserted: {inserted:?}");
    }
    Ok(ebpf)
}

/// Pids are 22 bits (`PID_MAX_LIMIT` of `include/linux/threads.h`).
pub(crate) const PID_LIMIT: u32 = 1 << 22;

/// Keys of processes that there are not, all over the range of pids as after a
/// long time of running: an odd factor permutes the 22 bits.
fn keys(count: u32) -> impl Iterator<Item = u32> {
    const FACTOR: u32 = 2_654_435_769;
    (1..=count).map(|number| number.wrapping_mul(FACTOR) % PID_LIMIT)
}

/// Something attached; dropping it detaches it.
pub(crate) enum Attached {
    Pmon { _ebpf: Box<Ebpf> },
    Listener(Listener),
    Program(Program),
}

impl Attached {
    /// Attaches it; returns when it is at work.
    pub(crate) fn new(setting: Setting, selection: &Selection) -> Result<Self> {
        Ok(match setting {
            Setting::Pmon { registrations } => Self::Pmon {
                _ebpf: Box::new(pmon(registrations, selection)?),
            },
            Setting::ProcConnector => Self::Listener(Listener::start()?),
            Setting::Forkstat => Self::Program(Program::start("forkstat", &["-e", "exit", "-l"])?),
            Setting::Bpftrace => Self::Program(Program::start(
                "bpftrace",
                &[
                    "-e",
                    "tracepoint:sched:sched_process_exit { @exits = count(); }",
                ],
            )?),
        })
    }

    /// Detaches it, and says what it missed.
    pub(crate) fn detach(self) -> Result<()> {
        match self {
            Self::Pmon { .. } => Ok(()),
            Self::Listener(listener) => listener.stop(),
            Self::Program(program) => program.stop(),
        }
    }
}

/// A thread that reads the proc connector as it comes.
pub(crate) struct Listener {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Listener {
    /// How often it looks whether it should end.
    const LOOK: Duration = Duration::from_millis(50);

    fn start() -> Result<Self> {
        let mut connector = Connector::start()?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let timeout = rustix::event::Timespec::try_from(Self::LOOK)?;
        let thread = std::thread::Builder::new().spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let mut fds = [PollFd::from_borrowed_fd(connector.fd(), PollFlags::IN)];
                poll(&mut fds, Some(&timeout))?;
                while let Some(heard) = connector.next() {
                    match heard {
                        Heard::Exit(_) => {}
                        Heard::Overrun => {}
                        Heard::Broken(errno) => return Err(errno.into()),
                    }
                }
            }
            let overruns = connector.stats().overruns;
            connector.stop()?;
            ensure!(overruns == 0, "the listener lost exits {overruns} times");
            Ok(())
        })?;
        Ok(Self { ended, thread })
    }

    fn stop(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(outcome) => outcome,
            Err(_panic) => Ok(()),
        }
    }
}

/// Somebody else's program.
pub(crate) struct Program {
    process: Child,
}

impl Program {
    fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("can't start `{name}`"))?;
        let mut lines = BufReader::new(process.stdout.take().context("no stdout")?);
        // Both say something when they have begun.
        let mut first = String::new();
        let length = lines.read_line(&mut first)?;
        // What it says of each exit has to go somewhere.
        std::thread::Builder::new()
            .spawn(move || std::io::copy(&mut lines, &mut std::io::sink()))?;
        let program = Self { process };
        ensure!(length > 0, "`{name}` has ended");
        // bpftrace says so a moment before it has.
        std::thread::sleep(Duration::from_millis(500));
        Ok(program)
    }

    fn stop(mut self) -> Result<()> {
        ensure!(self.process.try_wait()?.is_none(), "it has ended by itself");
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("a program could not be ended: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_everywhere() {
        let keys: BTreeSet<u32> = keys(100_000).collect();
        assert_eq!(keys.len(), 100_000);
        let in_first_half = keys.range(..PID_LIMIT / 2).count();
        assert!((45_000..55_000).contains(&in_first_half), "{in_first_half}");
        assert!(keys.range(PID_LIMIT..).next().is_none());
    }
}
