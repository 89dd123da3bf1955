//! A plain foreground program: greets every client by the name it sends. No
//! pidfile, no background, no signal handling.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use pmon_examples::{listen, serve};

/// Longest name accepted, in bytes.
const LONGEST_NAME: u64 = 100;

/// Greets by name on a Unix socket.
#[derive(Parser)]
struct Arguments {
    /// Socket to answer on.
    #[arg(long)]
    socket: PathBuf,
    /// The word before the name.
    #[arg(long, env = "GREETING", default_value = "Hello")]
    greeting: String,
}

fn main() -> Result<()> {
    let Arguments { socket, greeting } = Arguments::parse();
    let listener =
        listen(&socket).with_context(|| format!("can't listen on `{}`", socket.display()))?;
    eprintln!("greeter: listening on {}", socket.display());
    serve(&listener, |client| {
        let mut name = String::new();
        BufReader::new(Read::by_ref(client).take(LONGEST_NAME)).read_line(&mut name)?;
        writeln!(client, "{greeting}, {}!", name.trim())
    });
    Ok(())
}
