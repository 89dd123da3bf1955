//! `cargo xtask image`: pmon as an OCI image, built offline from this workspace.
//!
//! Must stay true: everything in the image comes from the workspace or from
//! installed Debian packages; the machine's own container storage is not touched.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{cargo, output, run, workspace},
    packages,
};

/// Name of the image, without its tag.
const NAME: &str = "localhost/pmon";
/// What builds it, and what it has for start commands.
const PACKAGES: [&str; 2] = ["podman", "busybox-static"];

/// Builds the image and writes it as an OCI archive, which `podman load` and
/// `skopeo copy` read. Without a `binary`, the release build is used.
///
/// # Errors
///
/// When a tool is missing or a step fails.
pub(crate) fn image(binary: Option<&Path>, archive: Option<&Path>) -> Result<()> {
    packages::debian(&PACKAGES)?;
    let root = workspace()?;
    let binary = match binary {
        Some(binary) => binary.to_owned(),
        None => release_build(&root)?,
    };
    let archive = match archive {
        Some(archive) => archive.to_owned(),
        None => root.join("target/image/pmon.tar"),
    };
    let context = tempfile::tempdir().context("can't make a directory for the image")?;
    fill(&context.path().join("root"), &binary)?;
    build(&root, context.path(), &archive)?;
    println!("{}", archive.display());
    Ok(())
}

fn release_build(root: &Path) -> Result<PathBuf> {
    run(cargo()
        .args(["build", "--release", "--locked"])
        .args(["--package", "pmon-user", "--bin", "pmon"])
        .current_dir(root))?;
    Ok(root.join("target/release/pmon"))
}

/// The file tree of the image.
fn fill(root: &Path, binary: &Path) -> Result<()> {
    let bin = root.join("bin");
    for directory in [
        "bin",
        "usr/bin",
        "etc/pmon",
        "etc/pmon.d",
        "run",
        "tmp",
        "var/lib/pmon",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    let pmon = root.join("usr/bin/pmon");
    copy(binary, &pmon)?;
    // Line numbers are for the build host's files.
    run(Command::new("strip").arg("--strip-debug").arg(&pmon))?;
    for library in libraries(binary)? {
        let place = root.join(library.strip_prefix("/").context("an absolute path")?);
        copy(&library, &place)?;
    }
    copy(Path::new("/bin/busybox"), &bin.join("busybox"))?;
    for applet in output(Command::new("/bin/busybox").arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", bin.join(applet))
                .with_context(|| format!("can't link `{applet}`"))?;
        }
    }
    Ok(())
}

/// The shared libraries and the loader that a program needs, as ldd(1) finds them.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let listed = output(Command::new("ldd").arg(binary))?;
    let libraries: Vec<PathBuf> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect();
    ensure!(!libraries.is_empty(), "ldd names no library:\n{listed}");
    Ok(libraries)
}

/// Follows symbolic links and makes directories as needed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::copy(from, to)
        .with_context(|| format!("can't copy `{}` to `{}`", from.display(), to.display()))?;
    Ok(())
}

/// Builds in a container storage of its own, which is gone afterwards.
fn build(root: &Path, context: &Path, archive: &Path) -> Result<()> {
    let tag = format!("{NAME}:{}", env!("CARGO_PKG_VERSION"));
    let podman = || {
        let mut podman = Command::new("podman");
        podman
            .arg("--root")
            .arg(context.join("store"))
            .arg("--runroot")
            .arg(context.join("run"))
            .args(["--storage-driver", "vfs", "--events-backend", "file"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        podman
    };
    run(podman()
        .args([
            "build",
            "--quiet",
            "--network",
            "none",
            "--tag",
            &tag,
            "--file",
        ])
        .arg(root.join("deploy/Containerfile"))
        .arg(context))?;
    if let Some(directory) = archive.parent() {
        fs::create_dir_all(directory)?;
    }
    // podman refuses to write over an archive.
    fs::remove_file(archive).ok();
    run(podman()
        .args(["save", "--quiet", "--format", "oci-archive", "--output"])
        .arg(archive)
        .arg(&tag))
}
