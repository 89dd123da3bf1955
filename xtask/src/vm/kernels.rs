//! The kernels: Debian's stock cloud images, fetched once with apt from the
//! mirror that this machine is configured for.
//!
//! apt checks signatures as always; its lists and caches are our own, so the
//! machine's aren't touched.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::selection::Scope;
use crate::command::{output, run};

/// The suites that carry the kernels: 5.10, 6.1, 6.12 and the newest there is.
/// 5.10 is the oldest that Debian still serves, and pmon needs 5.8.
pub(super) const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "trixie-backports"];
/// The kernel that is booted under [`Scope::LockedDown`] as well: a stable one, as
/// hosts with Secure Boot and a strict policy have (`kernel_lockdown(7)`).
const LOCKED_DOWN: &str = "trixie";
/// Names the newest image. The `cloud` flavour has what pmon uses built in and
/// no drivers for hardware.
const METAPACKAGE: &str = "linux-image-cloud-amd64";
/// Package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Overrides the machine's own mirror, for one that isn't Debian.
const MIRROR: &str = "PMON_DEBIAN_MIRROR";

/// A kernel to boot.
pub(super) struct Kernel {
    /// Where it is from, one of [`SUITES`].
    pub(super) suite: &'static str,
    /// The bootable file.
    pub(super) image: PathBuf,
    /// How much it lets pmon do.
    pub(super) scope: Scope,
}

impl Kernel {
    /// The suite and the kernel's parameter.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.suite, self.scope.parameter())
            .trim()
            .to_owned()
    }
}

/// Those of [`SUITES`], and one of them once more, [`LOCKED_DOWN`]; what was
/// fetched before stays as it is.
///
/// # Errors
///
/// When one can't be fetched.
pub(super) fn fetch(directory: &Path) -> Result<Vec<Kernel>> {
    let kernel = |suite: &'static str| {
        let image = directory.join(format!("vmlinuz-{suite}"));
        if !image.exists() {
            download(directory, suite, &image)
                .with_context(|| format!("can't fetch the kernel of `{suite}`"))?;
        }
        Ok(Kernel {
            suite,
            image,
            scope: Scope::All,
        })
    };
    let mut kernels: Vec<_> = SUITES.into_iter().map(kernel).collect::<Result<_>>()?;
    kernels.push(Kernel {
        scope: Scope::LockedDown,
        ..kernel(LOCKED_DOWN)?
    });
    Ok(kernels)
}

fn download(directory: &Path, suite: &str, image: &Path) -> Result<()> {
    let apt = Apt::new(directory, suite)?;
    apt.update()?;
    let depends = output(apt.command("apt-cache").args(["depends", METAPACKAGE]))?;
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("`{METAPACKAGE}` names no image"))?;
    // Since 7.x the image itself is in a package of its own, and not in `/boot`.
    let binary = package.replacen("linux-image-", "linux-binary-", 1);
    let unpacked = apt.home.join("unpacked");
    for package in [package, &*binary] {
        if let Some(file) = apt.download(package)? {
            run(Command::new("dpkg-deb").arg("-x").args([&file, &unpacked]))?;
            fs::remove_file(file)?;
        }
    }
    let found = image_in(&unpacked)?.with_context(|| format!("no image in `{package}`"))?;
    // At once, so that an interrupted run leaves none or all of it.
    fs::rename(found, image)?;
    fs::remove_dir_all(&apt.home)?;
    Ok(())
}

/// The file `vmlinuz` or `vmlinuz-RELEASE` somewhere below.
fn image_in(directory: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(image) = image_in(&entry.path())? {
                return Ok(Some(image));
            }
        } else if entry.file_name().to_string_lossy().starts_with("vmlinuz") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// apt with one source and directories of its own.
struct Apt {
    home: PathBuf,
}

impl Apt {
    fn new(directory: &Path, suite: &str) -> Result<Self> {
        let home = directory.join(format!("apt-{suite}"));
        fs::create_dir_all(home.join("lists/partial"))?;
        fs::create_dir_all(home.join("archives/partial"))?;
        fs::write(home.join("status"), "")?;
        let mirror = mirror()?;
        fs::write(
            home.join("sources.list"),
            format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n"),
        )?;
        Ok(Self { home })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, value) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache::archives", "archives"),
            ("Dir::Cache", ""),
        ] {
            let value = self.home.join(value);
            command
                .arg("-o")
                .arg(format!("{option}={}", value.display()));
        }
        command
            .args(["-o", "Dir::Etc::sourceparts=/dev/null"])
            .args(["-o", "Debug::NoLocking=1"])
            .args(["-o", "APT::Sandbox::User="])
            .current_dir(&self.home)
            .env("LC_ALL", "C");
        command
    }

    fn update(&self) -> Result<()> {
        run(self
            .command("apt-get")
            .args(["update", "-qq"])
            .stdin(Stdio::null())
            .stdout(Stdio::null()))
    }

    /// The package's file, if there is such a package.
    fn download(&self, package: &str) -> Result<Option<PathBuf>> {
        let known = output(self.command("apt-cache").args(["show", package]));
        if known.is_err() {
            return Ok(None);
        }
        run(self
            .command("apt-get")
            .args(["download", "-qq", package])
            .stdin(Stdio::null())
            .stdout(Stdio::null()))?;
        let prefix = format!("{package}_");
        let file = fs::read_dir(&self.home)?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .with_context(|| format!("apt-get downloaded no `{package}`"))?;
        Ok(Some(file.path()))
    }
}

/// The archive that this machine installs Debian from.
fn mirror() -> Result<String> {
    if let Some(given) = env::var_os(MIRROR) {
        return Ok(given.to_string_lossy().into_owned());
    }
    let configured = || {
        output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(ORIGIN)/$(LABEL) $(REPO_URI)",
            "Created-By: Packages",
        ]))
    };
    // Origin and label are in the indexes.
    let found = main_archive(&configured()?).map(Ok).unwrap_or_else(|| {
        run(Command::new("apt-get")
            .args(["update", "-qq"])
            .stdout(Stdio::null()))?;
        main_archive(&configured()?).with_context(|| {
            format!("apt is configured for no Debian archive; name one in `{MIRROR}`")
        })
    })?;
    ensure!(
        Path::new(KEYRING).exists(),
        "no `{KEYRING}`; please install as root: apt-get install debian-archive-keyring"
    );
    Ok(found)
}

fn main_archive(targets: &str) -> Option<String> {
    targets
        .lines()
        .filter_map(|line| line.strip_prefix("Debian/Debian "))
        .map(str::trim)
        // `Debian Backports` is a label, too.
        .find(|uri| !uri.contains(' '))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::main_archive;

    #[test]
    fn security_updates_and_others_are_not_the_main_archive() {
        let targets = "Other/Thing http://a.invalid/x/\nDebian/Debian-Security http://b.invalid/s/\n\
                       Debian/Debian Backports http://c.invalid/b/\nDebian/Debian http://d.invalid/debian/\n";
        assert_eq!(
            main_archive(targets).as_deref(),
            Some("http://d.invalid/debian/")
        );
        assert_eq!(main_archive("$(ORIGIN)/$(LABEL) http://e.invalid/\n"), None);
    }
}
