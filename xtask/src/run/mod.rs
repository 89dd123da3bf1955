//! `cargo xtask run`: the daemon on `examples/` in the foreground, with a live
//! table. In its states: clean up after runs that were killed, build, set up a
//! scratch directory, start the daemon, show until Ctrl-C, then stop the
//! services, end the daemon, remove the scratch directory.
//!
//! Must stay true: whatever happens after the scratch directory exists, it is
//! removed with every process, pin and socket of the run; a run that is killed
//! is cleaned up by the next.

mod daemon;
mod process;
mod scratch;
mod screen;

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use daemon::{Daemon, Entity, Status};
use rustix::mount::{MountFlags, mount};
use scratch::Scratch;
use screen::Screen;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::command::{cargo, run as run_to_end, workspace};

const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPFFS_MAGIC: u64 = 0xcafe_4a11;
/// How often the table is renewed without an event.
const REFRESH: Duration = Duration::from_secs(1);

/// What ends a wait.
pub(super) enum Happening {
    /// A line of the event stream.
    Event(String),
    /// Ctrl-C or SIGTERM.
    End,
}

/// Runs until Ctrl-C.
///
/// # Errors
///
/// When the daemon can't be started or ends by itself, or something of the run
/// can't be removed.
pub(crate) fn run() -> Result<()> {
    let root = workspace()?;
    Scratch::remove_leftovers(&root)?;
    run_to_end(
        cargo()
            .args(["build", "--release", "--locked"])
            .args(["--package", "pmon-user", "--package", "pmon-examples"])
            .current_dir(&root),
    )?;
    // From here on a signal must not end us before we have cleaned up.
    let (to, happenings) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let signal_sender = to.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            if signal_sender.send(Happening::End).is_err() {
                return;
            }
        }
    });
    let scratch = Scratch::create(&root, pin_directory());
    let scratch = match scratch {
        Ok(scratch) => scratch,
        Err(error) => {
            // Half of it may exist, and its owner is alive: us.
            let half = root.join("target/run").join(std::process::id().to_string());
            let _ = std::fs::remove_dir_all(half);
            return Err(error);
        }
    };
    let mut screen = Screen::new();
    let shown = show(&scratch, &mut screen, to, &happenings);
    let ended = scratch.remove()?;
    let report = if ended.is_empty() {
        "nothing is left: no process, no pin, no socket".to_owned()
    } else {
        format!(
            "had to end {}; nothing is left: no process, no pin, no socket",
            ended.join(", ")
        )
    };
    // When nobody reads stdout any more, that is no reason to fail.
    let _ = screen.line(&report);
    shown
}

/// From the daemon's start to its end.
fn show(
    scratch: &Scratch,
    screen: &mut Screen,
    to: std::sync::mpsc::Sender<Happening>,
    happenings: &Receiver<Happening>,
) -> Result<()> {
    let mut daemon = Daemon::start(scratch)?;
    let mut events = daemon.follow_events(to)?;
    let outcome = follow(scratch, screen, &mut daemon, happenings);
    let _ = screen.line("stopping the services and the daemon");
    // Scratch::remove ends what doesn't stop this way.
    if let Err(error) = daemon.stop_entities() {
        eprintln!("warning: {error:#}");
    }
    let ended = daemon.end();
    events.kill()?;
    events.wait()?;
    outcome.and(ended)
}

fn follow(
    scratch: &Scratch,
    screen: &mut Screen,
    daemon: &mut Daemon,
    happenings: &Receiver<Happening>,
) -> Result<()> {
    screen.line(&introduction(scratch, daemon))?;
    loop {
        daemon.check_alive()?;
        let status = daemon.status()?;
        screen.show(&hint(&status), &daemon.table()?)?;
        let mut next = happenings.recv_timeout(REFRESH);
        // One refresh for a burst of events.
        loop {
            match next {
                Ok(Happening::Event(line)) => screen.event(&line)?,
                Ok(Happening::End) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            next = happenings.recv_timeout(Duration::ZERO);
        }
    }
}

/// What stays true for the whole run.
fn introduction(scratch: &Scratch, daemon: &Daemon) -> String {
    format!(
        "pmon daemon {} watches the examples; Ctrl-C ends everything\n\
         to ask it yourself:\n  export PMON_SOCKET={}\n  {}/bin/pmon explain greeter\n",
        daemon.pid(),
        scratch.socket().display(),
        scratch.directory.display()
    )
}

/// What to try in a second terminal, and what the daemon misses.
fn hint(status: &Status) -> String {
    let mut lines: Vec<_> = status
        .entities
        .iter()
        .map(|Entity { name, pid, state }| match pid {
            Some(pid) => format!("in a second terminal: kill -9 {pid:<7}  # {name}"),
            None => format!("no process now: {name}, {state}"),
        })
        .collect();
    lines.extend(
        status
            .degraded
            .iter()
            .map(|what| format!("degraded: {what}")),
    );
    lines.join("\n")
}

/// Where the daemon may pin, with bpffs mounted if it wasn't; `None` where it
/// can't.
fn pin_directory() -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: no BPF program and no pins, the daemon runs degraded");
        return None;
    }
    if let Err(error) = mount_bpffs() {
        eprintln!("no pins: {error:#}");
        return None;
    }
    Some(Path::new(BPFFS).join(format!("pmon-run-{}", std::process::id())))
}

fn mount_bpffs() -> Result<()> {
    let mounted = rustix::fs::statfs(BPFFS).with_context(|| format!("can't look at `{BPFFS}`"))?;
    if u64::try_from(mounted.f_type).is_ok_and(|magic| magic == BPFFS_MAGIC) {
        return Ok(());
    }
    mount("bpf", BPFFS, "bpf", MountFlags::empty(), None)
        .with_context(|| format!("can't mount bpffs on `{BPFFS}`"))?;
    eprintln!("mounted bpffs on {BPFFS}; it stays mounted");
    Ok(())
}
