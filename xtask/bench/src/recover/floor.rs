//! The least that a supervisor can do: wait for its child, and start it again.

use std::process::{Command, Stdio};

use anyhow::Result;

/// The command to keep alive.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Until it is killed. std starts programs with posix_spawn(3) where nothing
/// else is asked for, and waits with wait4(2).
pub(crate) fn run(options: &Options) -> Result<()> {
    let Some((program, arguments)) = options.command.split_first() else {
        return Ok(());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    loop {
        command.spawn()?.wait()?;
    }
}
