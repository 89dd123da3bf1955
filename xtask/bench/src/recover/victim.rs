//! The program that everybody keeps alive: it tells when its `main()` began, and
//! then waits to be killed.
//!
//! Must stay true: it ends when the measurement is gone, however that ended.

use std::{fs, os::unix::net::UnixDatagram, path::PathBuf};

use anyhow::{Context as _, Result};
use pmon_user::core::time::Time;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// The victim's command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Whose it is.
    #[arg(long)]
    of: String,
    /// Where to tell it.
    #[arg(long)]
    births: PathBuf,
    /// Pid of who it ends with: the measurement, or the first process of its container.
    #[arg(long)]
    bench: i32,
    /// Memory to have resident, in bytes.
    #[arg(long)]
    bytes: usize,
    /// A pidfile to write.
    #[arg(long)]
    pidfile: Option<PathBuf>,
}

/// Until it is killed. `born` is when `main()` began.
pub(crate) fn run(options: &Options, born: Time) -> Result<()> {
    let Options {
        of,
        births,
        bench,
        bytes,
        pidfile,
    } = options;
    let bench = Pid::from_raw(*bench).context("no pid")?;
    let bench = pidfd_open(bench, PidfdFlags::empty())?;
    if let Some(pidfile) = pidfile {
        fs::write(pidfile, format!("{}\n", std::process::id()))?;
    }
    let socket = UnixDatagram::unbound()?;
    let tell = |what: &str| {
        let word = format!("{of} {} {what}", born.as_boot_ns());
        socket.send_to(word.as_bytes(), births)
    };
    tell("born")?;
    // Written to, so that it is resident.
    let resident = vec![1_u8; *bytes];
    std::hint::black_box(&resident);
    tell("ready")?;
    poll(&mut [PollFd::new(&bench, PollFlags::IN)], None)?;
    Ok(())
}
