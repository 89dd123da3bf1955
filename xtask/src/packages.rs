//! Installing what a command needs on a fresh machine: Debian packages, cargo
//! tools, rustup components.
//!
//! Must stay true: nothing is installed that is already there; installing a
//! Debian package never starts a service; cargo tools go to `target/tools`, not
//! over the user's own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, find, output, run};

/// Whether dpkg knows the package as installed.
pub(crate) fn debian_installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Abbrev}", package]))
        .is_ok_and(|status| status.starts_with("ii"))
}

/// Installs those of the Debian packages that are missing.
///
/// # Errors
///
/// One line that says what to install by hand, when this isn't a Debian-like
/// machine or we aren't root.
pub(crate) fn debian(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|package| !debian_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() || !rustix::process::geteuid().is_root() {
        bail!(
            "please install as root: apt-get install {}",
            missing.join(" ")
        );
    }
    eprintln!("installing Debian packages: {}", missing.join(" "));
    let _no_services = NoServices::new()?;
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null()))
    };
    // The package index may be old or absent; refreshing it costs seconds, so
    // only when the first attempt fails.
    if install().is_err() {
        run(Command::new("apt-get")
            .args(["update", "-qq"])
            .stdout(Stdio::null()))?;
        install().with_context(|| format!("can't install {}", missing.join(" ")))?;
    }
    Ok(())
}

/// While it lives, `invoke-rc.d` refuses every service action (Debian policy
/// 9.3.3.2: `/usr/sbin/policy-rc.d` exiting with 101). An existing policy wins.
struct NoServices {
    written: Option<PathBuf>,
}

impl NoServices {
    fn new() -> Result<Self> {
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self { written: None });
        }
        fs::write(&policy, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(&policy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("can't write `{}`", policy.display()))?;
        Ok(Self {
            written: Some(policy),
        })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.written
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("warning: can't remove `{}`: {error}", policy.display());
        }
    }
}

/// A cargo tool of exactly this version: from `PATH` if it is there, otherwise
/// installed into `target/tools`. Returns the directory it is in.
///
/// # Errors
///
/// When it can't be built, with cargo's own messages on stderr.
pub(crate) fn cargo_tool(workspace: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let tools = workspace.join("target/tools");
    let own = tools.join("bin").join(name);
    for candidate in [find(name), Some(own)].into_iter().flatten() {
        if tool_version(&candidate).as_deref() == Some(version)
            && let Some(directory) = candidate.parent()
        {
            return Ok(directory.to_owned());
        }
    }
    eprintln!("installing {name} {version} into target/tools (once)");
    run(cargo()
        .args(["install", "--quiet", "--locked", name, "--version", version])
        // They work for seconds; optimising them takes minutes.
        .arg("--debug")
        .arg("--root")
        .arg(&tools)
        .arg("--target-dir")
        .arg(workspace.join("target/tools/build")))?;
    Ok(tools.join("bin"))
}

/// The last word of the first line of `--version`.
fn tool_version(program: &Path) -> Option<String> {
    let text = output(Command::new(program).arg("--version")).ok()?;
    Some(text.lines().next()?.split_whitespace().last()?.to_owned())
}
/// Adds components to the rustup toolchain in use, unless cargo already has them.
///
/// # Errors
///
/// When rustup is absent or can't install them.
pub(crate) fn rustup_component(component: &str, probe: &[&str]) -> Result<()> {
    if output(cargo().args(probe)).is_ok() {
        return Ok(());
    }
    run(Command::new("rustup").args(["component", "add", component]))
        .with_context(|| format!("please install rustup's component `{component}`"))
}
