//! The file system of the test machines: `pmon` and the tests, somewhat optimised
//! because an emulated CPU is slow, the host's libraries they are linked to, a
//! busybox, and the few tools that tests call.
//!
//! Not compressed: unpacking costs an emulated CPU more than loading costs QEMU.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::selection::{Program, Scope};
use crate::command::{cargo, find, output};

const INIT: &str = include_str!("init.sh");
/// Real ones, because busybox's have fewer options, and go by their own name
/// whatever they are called.
const TOOLS: [&str; 9] = [
    "bpftool", "setpriv", "unshare", "mount", "sh", "sleep", "dd", "tail", "grep",
];
/// The programs under test, and what they are tested with.
const BINARIES: [&str; 3] = ["pmon", "pmon-test-service", "pmon-test-bystander"];
/// Of the workspace's `Cargo.toml`: some optimisation, no debug information.
const PROFILE: &str = "emulated";
/// The tests find their programs in the parent of their own directory, as in
/// `target/debug/deps`.
const PROGRAMS: &str = "pmon";
const TESTS: &str = "pmon/deps";

/// Builds everything; the archive's path.
///
/// # Errors
///
/// When something can't be built or isn't there.
pub(super) fn build(root: &Path, directory: &Path) -> Result<PathBuf> {
    let tree = directory.join("initramfs");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for place in [
        "bin",
        "dev",
        "etc",
        "lib64",
        "proc",
        "root",
        "run",
        "selection",
        "sys",
        "tmp",
        TESTS,
    ] {
        fs::create_dir_all(tree.join(place))?;
    }
    let programs = programs(root)?;
    for (name, path) in &programs {
        let is_test = Program::ALL.iter().any(|program| program.name() == name);
        let place = if is_test { TESTS } else { PROGRAMS };
        let to = tree.join(place).join(name);
        copy(path, &to)?;
    }
    let mut linked: Vec<PathBuf> = programs.into_values().collect();
    for tool in TOOLS {
        let path = tool_path(tool)?;
        copy(&path, &tree.join("bin").join(tool))?;
        linked.push(path);
    }
    for library in libraries(&linked)? {
        let place = tree.join(library.strip_prefix("/")?);
        fs::create_dir_all(place.parent().context("a library has a directory")?)?;
        copy(&library, &place)?;
    }
    let busybox = find("busybox").context("no `busybox`")?;
    ensure!(
        libraries(std::slice::from_ref(&busybox))?.is_empty(),
        "`busybox` is not static; please install busybox-static"
    );
    copy(&busybox, &tree.join("bin/busybox"))?;
    // The libraries' directories may be called so by the loader.
    for name in ["usr/lib", "usr/lib64"] {
        let place = tree.join(name);
        if !place.exists() {
            fs::create_dir_all(place.parent().context("two words")?)?;
            symlink(format!("/{}", name.trim_start_matches("usr/")), place)?;
        }
    }
    fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    fs::write(tree.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    for program in Program::ALL {
        for scope in Scope::ALL {
            let selection = tree.join("selection").join(scope.directory());
            fs::create_dir_all(&selection)?;
            fs::write(
                selection.join(program.name()),
                scope.tests_of(program).join("\n"),
            )?;
        }
    }
    let init = tree.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    pack(&tree, &directory.join("initramfs.cpio"))
}

/// Our programs by name, built if need be: all at once, so that what they share
/// is built once.
fn programs(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--locked", "--profile", PROFILE])
        .args(["--package", "pmon-user", "--package", "pmon-tests"])
        .arg("--message-format=json")
        .current_dir(root);
    for name in BINARIES {
        build.args(["--bin", name]);
    }
    for program in Program::ALL {
        build.args(["--test", program.name()]);
    }
    let mut found = BTreeMap::new();
    for line in output(&mut build)?.lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages are JSON")?;
        if let Some(path) = message["executable"].as_str()
            && let Some(name) = message["target"]["name"].as_str()
        {
            found.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    for name in BINARIES.into_iter().chain(Program::ALL.map(Program::name)) {
        ensure!(found.contains_key(name), "cargo built no `{name}`");
    }
    Ok(found)
}

/// Looks beyond an ordinary user's `PATH`.
fn tool_path(name: &str) -> Result<PathBuf> {
    find(name)
        .or_else(|| {
            ["/usr/sbin", "/sbin"]
                .map(|directory| Path::new(directory).join(name))
                .into_iter()
                .find(|path| path.exists())
        })
        .with_context(|| format!("no `{name}` on this machine"))
}

/// All shared libraries, and the loader, of these programs.
fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        // Fails for a static one.
        let Ok(text) = output(Command::new("ldd").arg(program)) else {
            continue;
        };
        found.extend(text.lines().filter_map(library));
    }
    Ok(found)
}

/// From a line of ldd(1): `libc.so.6 => /lib/libc.so.6 (0x…)`, or
/// `/lib64/ld-linux-x86-64.so.2 (0x…)`. The vDSO has no path.
fn library(line: &str) -> Option<PathBuf> {
    line.split_whitespace()
        .find(|word| word.starts_with('/'))
        .map(PathBuf::from)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("can't copy `{}` to `{}`", from.display(), to.display()))?;
    Ok(())
}

/// As the kernel wants it (`Documentation/driver-api/early-userspace/buffer-format.rst`).
fn pack(tree: &Path, archive: &Path) -> Result<PathBuf> {
    let mut names = Vec::new();
    list(tree, Path::new("."), &mut names)?;
    let mut cpio = Command::new("cpio")
        .args(["--create", "--format=newc", "--owner=+0:+0", "--quiet"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(File::create(archive)?)
        .spawn()
        .context("can't start cpio")?;
    {
        use std::io::Write as _;
        let mut stdin = cpio.stdin.take().context("no pipe to cpio")?;
        stdin.write_all(names.join("\n").as_bytes())?;
    }
    let status = cpio.wait()?;
    ensure!(status.success(), "cpio failed: {status}");
    Ok(archive.to_owned())
}

/// Directories before what is in them.
fn list(tree: &Path, directory: &Path, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(tree.join(directory))? {
        let entry = entry?;
        let name = directory.join(entry.file_name());
        names.push(name.to_str().context("plain names")?.to_owned());
        if entry.file_type()?.is_dir() {
            list(tree, &name, names)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::library;

    #[test]
    fn ldd_is_understood() {
        let lines = [
            ("\tlinux-vdso.so.1 (0x00007ffc)", None),
            (
                "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
                Some("/lib/x86_64-linux-gnu/libc.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            ("\tstatically linked", None),
        ];
        for (line, expected) in lines {
            assert_eq!(library(line).as_deref(), expected.map(Path::new), "{line}");
        }
    }
}
