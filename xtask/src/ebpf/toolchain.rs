//! The tools that build the BPF object: a rustc with `core` for the BPF target,
//! and bpf-linker.
//!
//! There are two ways to such a rustc. Debian's `rustc-web` comes with a
//! prebuilt `core` for it; rustup's nightly builds `core` from the `rust-src`
//! component, where the installation's server has that. What is installed
//! already wins.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{TARGET, version};
use crate::{
    command::{cargo, find, output, path_with},
    packages,
};

/// The last release that brings no LLVM of its own: it loads that of the
/// rustup toolchain in use.
const BPF_LINKER: &str = "0.10.3";
/// A rustc and a `core` for it.
const DEBIAN: [&str; 3] = [
    "rustc-web",
    "libstd-rust-web-dev",
    "libstd-rust-web-dev-bpf",
];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Everything that decides the object's bytes besides its sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Versions {
    rustc: String,
    /// Where `core` comes from.
    core: CoreOrigin,
    cargo: String,
    bpf_linker: String,
    /// The LLVM that bpf-linker loads.
    llvm: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CoreOrigin {
    /// Comes with rustc, as Debian packages it.
    Prebuilt,
    /// Built from rustup's `rust-src`.
    BuildStd,
}

/// The chosen tools.
pub(super) struct Toolchain {
    compiler: Compiler,
    linker_directory: PathBuf,
    /// Directory of the LLVM that bpf-linker loads.
    llvm_directory: PathBuf,
    versions: Versions,
}

#[derive(Clone, Copy)]
enum Compiler {
    Debian,
    Nightly,
}

impl Toolchain {
    /// The first usable toolchain whose versions are `preferred`, else the first
    /// usable one. Installs what is missing.
    ///
    /// # Errors
    ///
    /// When neither way leads to a toolchain.
    pub(super) fn find(root: &Path, preferred: impl Fn(&Versions) -> bool) -> Result<Self> {
        let compilers = match Compiler::installed() {
            found if found.is_empty() => vec![Compiler::install()?],
            found => found,
        };
        let linker_directory = packages::cargo_tool(root, "bpf-linker", BPF_LINKER)?;
        let mut usable = compilers
            .into_iter()
            .map(|compiler| Self::with(compiler, &linker_directory))
            .collect::<Result<Vec<_>>>()?;
        let index = usable
            .iter()
            .position(|toolchain| preferred(&toolchain.versions))
            .unwrap_or(0);
        Ok(usable.swap_remove(index))
    }

    fn with(compiler: Compiler, linker_directory: &Path) -> Result<Self> {
        let llvm_directory = compiler.rustup_sysroot()?.join("lib");
        let llvm = llvm_name(&llvm_directory)?;
        let versions = Versions {
            rustc: version(&mut compiler.rustc())?,
            core: compiler.core(),
            cargo: version(&mut compiler.cargo())?,
            bpf_linker: version(&mut Command::new(linker_directory.join("bpf-linker")))?,
            llvm,
        };
        Ok(Self {
            compiler,
            linker_directory: linker_directory.to_owned(),
            llvm_directory,
            versions,
        })
    }

    pub(super) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Cargo, with an environment in which only these tools are found.
    ///
    /// # Errors
    ///
    /// When the linker's directory can't stand in `PATH`.
    pub(super) fn cargo(&self) -> Result<Command> {
        let mut command = self.compiler.cargo();
        command
            .env("PATH", path_with(&self.linker_directory)?)
            .env("LD_LIBRARY_PATH", &self.llvm_directory)
            .env("CARGO_INCREMENTAL", "0")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env_remove("RUSTFLAGS");
        match self.compiler {
            // Debian's rustc is a stable release; `no_std` for a tier-3 target
            // with aya-ebpf's features needs the nightly ones.
            Compiler::Debian => command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1"),
            Compiler::Nightly => command.env_remove("RUSTC"),
        };
        Ok(command)
    }

    /// Further arguments for `cargo build`.
    pub(super) fn arguments(&self) -> &'static [&'static str] {
        match self.compiler {
            Compiler::Debian => &[],
            Compiler::Nightly => &["-Zbuild-std=core"],
        }
    }

    /// Where this rustc looks for the sources of `core`.
    pub(super) fn library_sources(&self) -> Result<PathBuf> {
        Ok(self.compiler.sysroot()?.join("lib/rustlib/src/rust"))
    }
}

impl Compiler {
    fn installed() -> Vec<Self> {
        [Self::Debian, Self::Nightly]
            .into_iter()
            .filter(|compiler| compiler.is_usable())
            .collect()
    }

    fn is_usable(self) -> bool {
        match self {
            Self::Debian => output(Command::new(DEBIAN_RUSTC).args([
                "--print",
                "target-libdir",
                "--target",
                TARGET,
            ]))
            .is_ok_and(|directory| has_core(Path::new(&directory))),
            Self::Nightly => self.sysroot().is_ok_and(|sysroot| {
                sysroot
                    .join("lib/rustlib/src/rust/library/core/src/lib.rs")
                    .exists()
            }),
        }
    }

    /// Debian's way where there is apt and we are root, rustup's otherwise.
    fn install() -> Result<Self> {
        let debian = packages::debian(&DEBIAN);
        if debian.is_ok() && Self::Debian.is_usable() {
            return Ok(Self::Debian);
        }
        if find("rustup").is_some() {
            eprintln!("installing rustup's nightly with rust-src");
            let nightly = output(Command::new("rustup").args([
                "toolchain",
                "install",
                "nightly",
                "--profile",
                "minimal",
                "--component",
                "rust-src",
            ]));
            if nightly.is_ok() && Self::Nightly.is_usable() {
                return Ok(Self::Nightly);
            }
        }
        debian
            .context("no rustc for the BPF target, and rustup's nightly has no `rust-src` here")?;
        anyhow::bail!("Debian's `{}` brings no `core` for {TARGET}", DEBIAN[2])
    }

    fn core(self) -> CoreOrigin {
        match self {
            Self::Debian => CoreOrigin::Prebuilt,
            Self::Nightly => CoreOrigin::BuildStd,
        }
    }

    fn rustc(self) -> Command {
        match self {
            Self::Debian => Command::new(DEBIAN_RUSTC),
            Self::Nightly => rustup_run("nightly", "rustc"),
        }
    }

    fn cargo(self) -> Command {
        match self {
            Self::Debian => cargo(),
            Self::Nightly => rustup_run("nightly", "cargo"),
        }
    }

    fn sysroot(self) -> Result<PathBuf> {
        Ok(output(self.rustc().args(["--print", "sysroot"]))?.into())
    }

    /// The rustup toolchain whose LLVM bpf-linker loads; Debian's own LLVM
    /// lacks the name it looks for.
    fn rustup_sysroot(self) -> Result<PathBuf> {
        match self {
            Self::Debian => Ok(output(Command::new("rustc").args(["--print", "sysroot"]))?.into()),
            Self::Nightly => self.sysroot(),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rustc,
            core,
            cargo,
            bpf_linker,
            llvm,
        } = self;
        let core = match core {
            CoreOrigin::Prebuilt => "prebuilt core",
            CoreOrigin::BuildStd => "core built from source",
        };
        write!(out, "{rustc}, {core}, {cargo}, {bpf_linker}, {llvm}")
    }
}

/// A program of a rustup toolchain, free of the one this process runs under.
fn rustup_run(toolchain: &str, program: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", toolchain, program])
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("LD_LIBRARY_PATH");
    command
}

fn has_core(directory: &Path) -> bool {
    file_names(directory).is_some_and(|names| {
        names
            .iter()
            .any(|name| name.starts_with("libcore-") && name.ends_with(".rlib"))
    })
}

/// The library that bpf-linker takes: the first whose name starts with
/// `libLLVM`. Rust's own builds put version and channel in the name.
fn llvm_name(directory: &Path) -> Result<String> {
    let mut names =
        file_names(directory).with_context(|| format!("can't read `{}`", directory.display()))?;
    names.retain(|name| name.starts_with("libLLVM"));
    names.sort();
    names
        .into_iter()
        // A mere linker script or alias has no channel in its name.
        .find(|name| name.contains("-rust-"))
        .with_context(|| {
            format!(
                "`{}` has no libLLVM for bpf-linker; it needs a rustup toolchain",
                directory.display()
            )
        })
}

fn file_names(directory: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(directory).ok()?;
    Some(
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect(),
    )
}
