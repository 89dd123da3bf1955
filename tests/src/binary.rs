//! Where the programs are: pmon itself, built once if need be, and the little
//! programs of this package.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The binary under test: `PMON_BIN`, or what cargo builds in this workspace
/// (with the profile of the tests).
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
pub fn pmon() -> &'static Path {
    static PMON: OnceLock<PathBuf> = OnceLock::new();
    PMON.get_or_init(|| {
        if let Some(given) = std::env::var_os("PMON_BIN") {
            return given.into();
        }
        let directory = directory();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "--locked"])
            .args(["--package", "pmon-user", "--bin", "pmon"])
            .arg("--target-dir")
            .arg(directory.parent().expect("a target directory"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo runs");
        assert!(status.success(), "pmon cannot be built: {status}");
        directory.join("pmon")
    })
}

/// A well-behaved or misbehaving service, see its `--help`.
#[must_use]
pub fn service() -> PathBuf {
    directory().join("pmon-test-service")
}

/// A service that answers the requests of active monitoring.
#[must_use]
pub fn answering() -> PathBuf {
    directory().join("pmon-test-answering")
}

/// A process that counts the signals it gets.
#[must_use]
pub fn bystander() -> PathBuf {
    directory().join("pmon-test-bystander")
}

/// A process that makes many others.
#[must_use]
pub fn nursery() -> PathBuf {
    directory().join("pmon-test-nursery")
}

/// A program that goes into the background, see its `--help`.
#[must_use]
pub fn background() -> PathBuf {
    directory().join("pmon-test-background")
}

/// `target/PROFILE`: tests run from `target/PROFILE/deps`, measurements from there.
fn directory() -> PathBuf {
    let own = std::env::current_exe().expect("/proc is mounted");
    let directory = own.parent().expect("an absolute path");
    if directory.ends_with("deps") {
        directory
            .parent()
            .expect("`target/PROFILE/deps`")
            .to_path_buf()
    } else {
        directory.to_path_buf()
    }
}
