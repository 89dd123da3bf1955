//! `pmon-bench`: how soon pmon and others learn of a death, and what that costs.
//! `cargo xtask bench` builds it optimised and runs it.
//!
//! `detect`, `overhead`, `storm`, `scale`, `reregister` and `recover` are measurements. `observer` are the ways to learn of
//! a death, `nursery` is the process that makes and ends the victims, `strangers`
//! the one that makes and ends everybody else, `crowd` one with many at once;
//! `daemon` is the real binary, run by `keeper`, which puts this machine right
//! again; `listener` hears its events. `latency` and `report` are what becomes of `detect`'s figures, `aim` is
//! what was hoped for. Unsafe code is in `sys` alone.

mod aim;
mod crowd;
mod daemon;
mod detect;
mod keeper;
mod latency;
mod listener;
mod machine;
mod nursery;
mod observer;
mod overhead;
mod recover;
mod report;
mod reregister;
mod scale;
mod storm;
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
    /// Many registered processes killed at once: how soon all deaths are told.
    ///
    /// Needs root.
    Storm(storm::Options),
    /// Time from a pidfile's appearance until its process is registered.
    ///
    /// Needs root.
    Reregister(reregister::Options),
    /// Many registrations: how fast, how large, how quiet.
    ///
    /// Needs root.
    Scale(scale::Options),
    /// Time from SIGKILL until the successor's `main()`, by pmon and by others.
    ///
    /// Needs root, and in PATH whoever is to be measured beside pmon.
    Recover(recover::Options),
    /// What is killed there; started by `recover` itself.
    #[command(hide = true)]
    Victim(recover::victim::Options),
    /// The least of all supervisors; started by `recover` itself.
    #[command(hide = true)]
    Respawn(recover::floor::Options),
    /// The parent of the victims; started by `detect` itself.
    #[command(hide = true)]
    Nursery(nursery::server::Options),
    /// Forks what nobody registered; started by the measurements themselves.
    #[command(hide = true)]
    Strangers(strangers::Options),
    /// Waits to be killed; started by the measurements themselves.
    #[command(hide = true)]
    Crowd(crowd::Options),
    /// Puts the machine right at the end; started by the measurements themselves.
    #[command(hide = true)]
    Keep(keeper::Options),
}

fn main() -> ExitCode {
    // First of all, because a victim tells when it began.
    let began = pmon_user::sys::clock::now();
    let outcome = match Arguments::parse().verb {
        Verb::Detect(options) => detect::run(&options),
        Verb::Overhead(options) => overhead::run(&options),
        Verb::Storm(options) => storm::run(&options),
        Verb::Reregister(options) => reregister::run(&options),
        Verb::Scale(options) => scale::run(&options),
        Verb::Recover(options) => recover::run(&options),
        Verb::Victim(options) => recover::victim::run(&options, began),
        Verb::Respawn(options) => recover::floor::run(&options),
        Verb::Crowd(options) => crowd::run(&options),
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
