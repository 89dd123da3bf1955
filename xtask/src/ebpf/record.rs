//! The record beside the checked-in object: its hash, the hash of what it was
//! built from, and the tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::toolchain::Versions;

/// The record, relative to the workspace.
const RECORD: &str = "pmon-user/bpf/pmon.bpf.toml";
/// Files and directories that the object is built from, beside the lock file.
const SOURCES: [&str; 3] = ["pmon-ebpf", "pmon-common/Cargo.toml", "pmon-common/src"];
const HEADER: &str = "\
# Written by `cargo xtask ebpf`; `cargo xtask ebpf --check` compares it with
# pmon.bpf.o and with the sources. Hashes are SHA-256.
";

/// What is known about the checked-in object.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Of the object.
    pub(super) sha256: String,
    /// Of the sources; see [`hash_sources`].
    pub(super) sources_sha256: String,
    /// The tools it was built with.
    pub(super) tools: Versions,
    /// aya's crates in the object, for the reader; the lock file decides.
    crates: BTreeMap<String, String>,
}

impl Record {
    pub(super) fn of(root: &Path, object: &[u8], tools: Versions) -> Result<Self> {
        let crates = dependencies(root)?
            .into_iter()
            .filter(|package| package.name.starts_with("aya-"))
            .map(|package| (package.name, package.version))
            .collect();
        Ok(Self {
            sha256: hash(object),
            sources_sha256: hash_sources(root)?,
            tools,
            crates,
        })
    }

    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(RECORD))
            .with_context(|| format!("can't read `{RECORD}`; run `cargo xtask ebpf`"))?;
        toml::from_str(&text).with_context(|| format!("`{RECORD}` isn't a record"))
    }

    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let text = format!("{HEADER}\n{}", toml::to_string(self)?);
        fs::write(root.join(RECORD), text).with_context(|| format!("can't write `{RECORD}`"))
    }
}

/// Lower-case hexadecimal SHA-256.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One hash over everything in the repository that can change the object: the
/// sources, the build's settings, and the lock entries of all dependencies.
///
/// # Errors
///
/// When a file can't be read.
pub(super) fn hash_sources(root: &Path) -> Result<String> {
    let mut files = BTreeSet::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    let mut hasher = Sha256::new();
    // Lengths before contents: no two sets of files feed the same bytes.
    let mut feed = |name: &str, content: &[u8]| {
        for part in [name.as_bytes(), content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    };
    for path in files {
        let content =
            fs::read(&path).with_context(|| format!("can't read `{}`", path.display()))?;
        let name = path.strip_prefix(root)?;
        feed(&name.to_string_lossy(), &content);
    }
    feed("Cargo.toml", settings(root)?.as_bytes());
    for package in dependencies(root)? {
        feed("Cargo.lock", toml::to_string(&package)?.as_bytes());
    }
    Ok(hex(hasher.finalize().as_slice()))
}

/// Adds a file, or all files below a directory.
fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.insert(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("can't read `{}`", path.display()))?;
    for entry in entries {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

/// What the root manifest says of the object's build, in canonical form: the
/// profile and the one it inherits from, and the features of aya's crates.
fn settings(root: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Manifest {
        profile: BTreeMap<String, toml::Value>,
        workspace: Workspace,
    }
    #[derive(Deserialize)]
    struct Workspace {
        dependencies: BTreeMap<String, toml::Value>,
    }
    let mut manifest: Manifest = read_toml(&root.join("Cargo.toml"))?;
    manifest
        .profile
        .retain(|name, _| matches!(name.as_str(), "release" | "bpf"));
    let mut dependencies = manifest.workspace.dependencies;
    dependencies.retain(|name, _| matches!(name.as_str(), "aya-ebpf" | "aya-log-ebpf"));
    let relevant = BTreeMap::from([
        ("profile", manifest.profile),
        ("dependencies", dependencies),
    ]);
    Ok(toml::to_string(&relevant)?)
}

/// A package of the lock file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default, skip_serializing)]
    dependencies: Vec<String>,
}

/// What the lock file says of the object's package and all that it needs, by
/// name. Features are the manifests' business, which are hashed as sources.
fn dependencies(root: &Path) -> Result<BTreeSet<Locked>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    let lock: Lock = read_toml(&root.join("Cargo.lock"))?;
    let mut found = BTreeSet::new();
    let mut wanted = vec!["pmon-ebpf".to_owned()];
    while let Some(reference) = wanted.pop() {
        // "name", or "name version" where the lock file has several versions.
        let (name, version) = match reference.split_once(' ') {
            Some((name, version)) => (name, Some(version)),
            None => (reference.as_str(), None),
        };
        let package = lock.package.iter().find(|package| {
            package.name == name && version.is_none_or(|version| package.version == version)
        });
        let Some(package) = package else {
            bail!("`Cargo.lock` has no package `{reference}`");
        };
        // pmon-common's optional aya is for the user side only.
        if found.insert(package.clone()) && package.name != "pmon-common" {
            wanted.extend(package.dependencies.iter().cloned());
        }
    }
    Ok(found)
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("can't read `{}`", path.display()))?;
    toml::from_str(&text).with_context(|| format!("can't understand `{}`", path.display()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{fs, path::Path};

    use super::hash_sources;

    const MANIFEST: &str = "[profile.bpf]\nopt-level = 3\n[profile.dev]\ndebug = 1\n\
        [workspace.dependencies]\naya-ebpf = \"1\"\nserde = \"1\"\n";
    const LOCK: &str = "[[package]]\nname = \"pmon-ebpf\"\nversion = \"0.1.0\"\n\
        dependencies = [\"aya-ebpf\"]\n\
        [[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\nchecksum = \"aa\"\n\
        [[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nchecksum = \"bb\"\n";

    /// The hash of a small workspace after one text in one file was replaced.
    fn hash_with(file: &str, from: &str, to: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("Cargo.toml", MANIFEST),
            ("Cargo.lock", LOCK),
            ("pmon-ebpf/Cargo.toml", "[package]"),
            ("pmon-ebpf/src/deep/main.rs", "fn main() {}"),
            ("pmon-common/Cargo.toml", "[package]"),
            ("pmon-common/src/lib.rs", "// abi"),
        ] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let content = if name == file {
                assert!(content.contains(from), "{file} has no {from}");
                content.replace(from, to)
            } else {
                content.to_owned()
            };
            fs::write(path, content).unwrap();
        }
        hash_sources(Path::new(directory.path())).unwrap()
    }

    #[test]
    fn changes_with_what_the_object_is_made_of() {
        let original = hash_with("", "", "");
        for (file, from, to) in [
            ("pmon-ebpf/src/deep/main.rs", "main", "niam"),
            ("pmon-ebpf/Cargo.toml", "package", "p"),
            ("pmon-common/src/lib.rs", "abi", "ABI"),
            ("Cargo.toml", "opt-level = 3", "opt-level = 2"),
            ("Cargo.toml", "aya-ebpf = \"1\"", "aya-ebpf = \"2\""),
            ("Cargo.lock", "0.2.1", "0.2.2"),
            ("Cargo.lock", "\"aa\"", "\"ab\""),
        ] {
            assert_ne!(hash_with(file, from, to), original, "{file}: {from}");
        }
    }

    #[test]
    fn stays_with_what_it_is_not_made_of() {
        let original = hash_with("", "", "");
        for (file, from, to) in [
            ("Cargo.toml", "debug = 1", "debug = 2"),
            ("Cargo.toml", "serde = \"1\"", "serde = \"2\""),
            ("Cargo.lock", "1.0.0", "1.0.1"),
        ] {
            assert_eq!(hash_with(file, from, to), original, "{file}: {from}");
        }
    }
}
