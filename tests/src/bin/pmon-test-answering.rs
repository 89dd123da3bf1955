//! A service in active mode that answers by means of `pmon-client`, and does
//! nothing else. While a file exists, its first word says what is wrong with the
//! answers: `magic`, `sequence`, `process`, or `silent` for none at all.

use std::{fs, os::fd::AsFd as _, path::PathBuf};

use anyhow::{Result, bail};
use clap::Parser;
use pmon_client::{ActiveMonitor, Fault};
use rustix::event::{PollFd, PollFlags, poll};

/// A service that answers requests.
#[derive(Parser)]
struct Arguments {
    /// Its name, and a word to find this process by.
    #[arg(long)]
    tag: String,
    /// Where requests come in.
    #[arg(long)]
    port: u16,
    /// Where answers go.
    #[arg(long)]
    reply_port: u16,
    /// What is wrong with them.
    #[arg(long)]
    debug: PathBuf,
}

fn main() -> Result<()> {
    let Arguments {
        tag,
        port,
        reply_port,
        debug,
    } = Arguments::parse();
    let mut monitor = ActiveMonitor::with_reply_port(&tag, port, reply_port)?;
    loop {
        poll(&mut [PollFd::new(&monitor.as_fd(), PollFlags::IN)], None)?;
        let text = fs::read_to_string(&debug).unwrap_or_default();
        let fault = match text.split_whitespace().next() {
            None => None,
            Some("magic") => Some(Fault::Magic),
            Some("sequence") => Some(Fault::Sequence),
            Some("process") => Some(Fault::Process),
            Some("silent") => {
                rustix::net::recv(&monitor, &mut [0; 1], rustix::net::RecvFlags::DONTWAIT).ok();
                continue;
            }
            Some(other) => bail!("`{other}` is no fault"),
        };
        monitor.insert_fault(fault);
        monitor.dispatch()?;
    }
}
