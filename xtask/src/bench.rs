//! `cargo xtask bench`: builds the package `pmon-bench` optimised and becomes
//! it. The measurements themselves are in `xtask/bench/`, so that the other
//! commands need not link pmon.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result, ensure};

use crate::command::{cargo, workspace};

/// Runs a measurement, for instance `detect`, with its arguments.
///
/// # Errors
///
/// When Cargo can't be started or pmon can't be built; otherwise this doesn't return.
pub(crate) fn bench(arguments: &[OsString]) -> Result<()> {
    // Some measurements run the daemon itself.
    let built = cargo()
        .args(["build", "--quiet", "--release", "--locked"])
        .args(["--package", "pmon-user", "--bin", "pmon"])
        .current_dir(workspace()?)
        .status()
        .context("can't start cargo")?;
    ensure!(built.success(), "pmon cannot be built: {built}");
    let error = cargo()
        .args(["run", "--quiet", "--release", "--locked"])
        .args(["--package", "pmon-bench", "--"])
        .args(arguments)
        // Where results go by default is relative.
        .current_dir(workspace()?)
        .exec();
    Err(error).context("can't start cargo")
}
