//! `pmon-bench`: how soon pmon and others learn of a death. `cargo xtask bench`
//! builds it optimised and runs it.
//!
//! `detect` is the measurement, `observer` the ways to learn of a death,
//! `nursery` the process that makes and ends the victims, `latency` and
//! `report` what becomes of the figures. Unsafe code is in `sys` alone.

mod detect;
mod latency;
mod machine;
mod nursery;
mod observer;
mod report;
mod sys;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measurements of pmon.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Time from a process's last instruction until an observer knows.
    ///
    /// Needs root (or CAP_BPF, CAP_PERFMON, CAP_SYS_NICE and CAP_NET_ADMIN).
    Detect(detect::Options),
    /// The parent of the victims; started by `detect` itself.
    #[command(hide = true)]
    Nursery(nursery::server::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Detect(options) => detect::run(&options),
        Verb::Nursery(options) => nursery::server::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
