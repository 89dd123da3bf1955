//! Makes many processes that wait, prints their pids and `ready`, and for every
//! line on its stdin kills and reaps all of them and prints `dead`. They die
//! with it.

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
use pmon_tests::kernel::Crowd;

fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).context("how many?")?.parse()?;
    let mut crowd = Crowd::new(count)?;
    let mut stdout = std::io::stdout().lock();
    for pid in crowd.pids() {
        writeln!(stdout, "{pid}")?;
    }
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    for line in std::io::stdin().lock().lines() {
        let _any = line?;
        crowd.kill();
        writeln!(stdout, "dead")?;
        stdout.flush()?;
    }
    Ok(())
}
