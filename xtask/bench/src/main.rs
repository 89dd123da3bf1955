//! `pmon-bench`: how soon pmon and others learn of a death, and what that costs.
//! `cargo xtask bench` builds it optimised and runs it.
//!
//! `detect` and `overhead` are measurements. `observer` are the ways to learn of
//! a death, `nursery` is the process that makes and ends the victims, `strangers`
//! the one that makes and ends everybody else; `keeper` puts this machine right
//! again. `latency` and `report` are what becomes of `detect`'s figures, `aim` is
//! what was hoped for. Unsafe code is in `sys` alone.

mod aim;
mod detect;
mod keeper;
mod latency;
mod machine;
mod nursery;
mod observer;
mod overhead;
mod report;
mod strangers;
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
    /// What processes that nobody registered pay for pmon being there.
    ///
    /// Needs root (or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN).
    Overhead(overhead::Options),
    /// The parent of the victims; started by `detect` itself.
    #[command(hide = true)]
    Nursery(nursery::server::Options),
    /// Forks what nobody registered; started by the measurements themselves.
    #[command(hide = true)]
    Strangers(strangers::Options),
    /// Puts the machine right at the end; started by the measurements themselves.
    #[command(hide = true)]
    Keep(keeper::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Detect(options) => detect::run(&options),
        Verb::Overhead(options) => overhead::run(&options),
        Verb::Strangers(options) => strangers::run(&options),
        Verb::Keep(options) => keeper::run(&options),
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
