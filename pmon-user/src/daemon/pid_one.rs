//! `pmon daemon` as process 1 of a pid namespace, which it is in a container.
//!
//! Process 1 inherits every orphan and must reap it, and signals it has no
//! handler for never reach it (pid_namespaces(7)). The daemon waits for its own
//! children only, so process 1 does nothing but that: it starts the daemon as
//! its child, reaps everybody, passes signals on, and ends as the daemon ends.

use std::process::{Command, ExitCode};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

/// Passed on to the daemon.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Whether this process is process 1 of its pid namespace.
#[must_use]
pub(super) fn is_it() -> bool {
    getpid() == Pid::from_raw(1)
}

/// Starts this very program again as a child, with the same arguments, and
/// does the work of process 1 until it ends. To be called before there is
/// any other thread.
///
/// # Errors
///
/// When the child cannot be started.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let mut signals: SigSet = PASSED_ON.into_iter().collect();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().context("cannot block signals")?;
    // It inherits the blocked signals and unblocks them first of all.
    let daemon = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .spawn()
        .context("cannot start the daemon below process 1")?;
    let daemon = Pid::from_raw(i32::try_from(daemon.id()).context("an impossible pid")?);
    loop {
        match signals.wait().context("cannot wait for signals")? {
            Signal::SIGCHLD => {
                if let Some(code) = reap(daemon) {
                    return Ok(code);
                }
            }
            // Its end is told by SIGCHLD.
            signal => kill(daemon, signal).unwrap_or_default(),
        }
    }
}

/// Reaps everybody who has ended; the daemon's exit code if it was among them.
fn reap(daemon: Pid) -> Option<ExitCode> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == daemon => {
                ended = Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == daemon => {
                // As a shell tells it.
                let code = u8::try_from(128 + signal as i32).unwrap_or(u8::MAX);
                ended = Some(ExitCode::from(code));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(_) | Err(_) => {}
        }
    }
}
