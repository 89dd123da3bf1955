//! A program that goes into the background in one of the ways that there are,
//! and writes no pidfile. For the tests, the process that stays writes its pid
//! into `--here`.
//!
//! Has one thread, as it forks.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{self, Command},
    thread,
    time::Duration,
};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use pmon_tests::kernel::{daemon, fork};

/// A program that goes into the background.
#[derive(Clone, Parser)]
struct Arguments {
    /// A word to find this process by.
    #[arg(long)]
    tag: String,
    /// How.
    #[arg(long)]
    how: How,
    /// How often, one after the other.
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Not before this file is there.
    #[arg(long)]
    when: Option<PathBuf>,
    /// Where the process that stays writes its pid.
    #[arg(long)]
    here: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// By daemon(3).
    Daemon,
    /// Forks, exits, leads a session, forks, exits.
    ForkTwice,
    /// Forks a process that executes this program again, and exits.
    Execute,
    /// Forks and stays, as a master process with a worker does.
    NotAtAll,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(when) = &arguments.when {
        while !when.exists() {
            thread::sleep(Duration::from_millis(2));
        }
    }
    for _ in 0..arguments.times {
        match arguments.how {
            How::Daemon => daemon()?,
            How::ForkTwice => {
                leave_to_a_child()?;
                rustix::process::setsid()?;
                leave_to_a_child()?;
            }
            How::Execute => {
                leave_to_a_child()?;
                let error = Command::new(env::current_exe()?)
                    .args(["--tag", &arguments.tag, "--times", "0"])
                    .args(["--how", "execute", "--here"])
                    .arg(&arguments.here)
                    .exec();
                return Err(error.into());
            }
            How::NotAtAll => {
                if fork()? == 0 {
                    stay();
                }
            }
        }
    }
    let beside = arguments.here.with_extension("new");
    fs::write(&beside, process::id().to_string())?;
    fs::rename(&beside, &arguments.here)?;
    stay()
}

/// Goes on in a child.
fn leave_to_a_child() -> Result<()> {
    if fork()? != 0 {
        process::exit(0);
    }
    Ok(())
}

fn stay() -> ! {
    loop {
        thread::park();
    }
}
