//! Crashes by itself now and then: after a random time it exits with a code,
//! aborts, or dies of SIGSEGV. The times are exponentially distributed, as
//! those of independent faults are.

use std::{
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rustix::{
    process::{Signal, getpid, kill_process},
    rand::{GetRandomFlags, getrandom},
};

/// Crashes by itself now and then.
#[derive(Parser)]
struct Arguments {
    /// Mean time to the crash, in seconds.
    #[arg(long, default_value_t = 20.0)]
    mean: f64,
    /// How to end; random without it.
    #[arg(long)]
    crash: Option<Crash>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Crash {
    /// Exit code 3.
    Exit,
    /// SIGABRT, as a failed assertion does.
    Abort,
    /// SIGSEGV, as a wild pointer does.
    Segv,
}

fn main() -> Result<ExitCode> {
    let Arguments { mean, crash } = Arguments::parse();
    let life = time_to_fault(mean)?;
    let crash = match crash {
        Some(crash) => crash,
        None => match random()? % 3 {
            0 => Crash::Exit,
            1 => Crash::Abort,
            _ => Crash::Segv,
        },
    };
    eprintln!("flaky: {crash:?} in {:.1} s", life.as_secs_f64());
    thread::sleep(life);
    match crash {
        Crash::Exit => Ok(ExitCode::from(3)),
        Crash::Abort => process::abort(),
        // The first one ends in std's handler for stack overflows, which
        // restores the default action and expects the fault to repeat.
        Crash::Segv => loop {
            kill_process(getpid(), Signal::SEGV)?;
        },
    }
}

/// An exponentially distributed time of that mean, in seconds.
fn time_to_fault(mean: f64) -> Result<Duration> {
    // 53 random bits are a float's precision; one more than the draw keeps the
    // logarithm's argument above zero.
    let unit = ((random()? >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    Ok(Duration::try_from_secs_f64(-unit.ln() * mean)?)
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    // Up to 256 bytes come whole once the pool is initialised (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
