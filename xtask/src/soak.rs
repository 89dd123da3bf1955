//! `cargo xtask soak`: the whole of what `cargo xtask test` runs in a shortened
//! form. 15,000 restarts by command and 5,000 kills over 25 real processes, with
//! people, daemon deaths, reloads and source failures in between
//! (`tests/tests/soak`); and a million recoveries of the core under random faults
//! in simulated time (`pmon-user/src/core/chaos`).
//!
//! Must stay true: what is counted and what fails is decided by those tests;
//! here is only how much of it, and with which seed.

use anyhow::Result;

use crate::command::{cargo, run, workspace};

/// How much.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Restarts by command.
    #[arg(long, default_value_t = 15_000)]
    restarts: u32,
    /// Kills.
    #[arg(long, default_value_t = 5_000)]
    kills: u32,
    /// Recoveries in simulated time; 0 for none.
    #[arg(long, default_value_t = 1_000_000)]
    simulated: u64,
    /// Where all chance comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the simulation, then the soak.
///
/// # Errors
///
/// When something was stuck, lost, doubled or told twice.
pub(crate) fn soak(options: &Options) -> Result<()> {
    let Options {
        restarts,
        kills,
        simulated,
        seed,
    } = options;
    let root = workspace()?;
    if *simulated > 0 {
        run(cargo()
            .args(["test", "--release", "--locked", "--package", "pmon-user"])
            .args(["--lib", "core::chaos", "--", "--nocapture"])
            .env("PMON_CHAOS_RECOVERIES", simulated.to_string())
            .env("PMON_CHAOS_SEED", seed.to_string())
            .current_dir(&root))?;
    }
    if *restarts + *kills == 0 {
        return Ok(());
    }
    run(cargo()
        .args(["build", "--locked", "--package", "pmon-user"])
        .current_dir(&root))?;
    run(cargo()
        .args(["test", "--locked", "--package", "pmon-tests"])
        .args(["--test", "soak", "--", "--nocapture"])
        .env("PMON_SOAK_RESTARTS", restarts.to_string())
        .env("PMON_SOAK_KILLS", kills.to_string())
        .env("PMON_SOAK_SEED", seed.to_string())
        .current_dir(&root))
}
