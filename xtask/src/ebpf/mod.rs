//! `cargo xtask ebpf`: the BPF object from its Rust sources, and the proof that
//! the checked-in object comes from them.
//!
//! Must stay true: the same sources and tools give the same bytes in any
//! directory, and the object names no directory of the machine it was built on.

mod record;
mod strip;
mod text;
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use record::Record;
use toolchain::Toolchain;

use crate::command::{cargo, output, run, workspace};

/// The target whose objects every little-endian host runs.
const TARGET: &str = "bpfel-unknown-none";
/// The checked-in object, relative to the workspace.
const OBJECT: &str = "pmon-user/bpf/pmon.bpf.o";

/// Builds the object and writes it with its record.
///
/// # Errors
///
/// When a tool is missing and can't be installed, or the build fails.
pub(crate) fn build() -> Result<()> {
    let root = workspace()?;
    let toolchain = Toolchain::find(&root, |_| true)?;
    let object = compile(&root, &toolchain)?;
    let record = Record::of(&root, &object, toolchain.versions().clone())?;
    let path = root.join(OBJECT);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&path, &object).with_context(|| format!("can't write `{}`", path.display()))?;
    record.write(&root)?;
    eprintln!("wrote {OBJECT}: {} bytes, {}", object.len(), record.tools);
    Ok(())
}

/// Proves that the checked-in object comes from the sources: by the recorded
/// hashes always, by a rebuild where the recorded tools are at hand. Returns
/// what it proved, in a few words.
///
/// # Errors
///
/// When one of the proofs fails.
pub(crate) fn check() -> Result<String> {
    let root = workspace()?;
    let record = Record::read(&root)?;
    ensure!(
        record.sources_sha256 == record::hash_sources(&root)?,
        "the sources of the BPF object changed since it was built; run `cargo xtask ebpf`"
    );
    eprintln!("ebpf check 1/3: the sources are those recorded");
    let object = fs::read(root.join(OBJECT)).with_context(|| format!("can't read `{OBJECT}`"))?;
    ensure!(
        record.sha256 == record::hash(&object),
        "`{OBJECT}` isn't the object recorded beside it; run `cargo xtask ebpf`"
    );
    eprintln!("ebpf check 2/3: the object is the one recorded");
    let toolchain = Toolchain::find(&root, |found| *found == record.tools);
    let not_rebuilt = match toolchain {
        Ok(toolchain) if *toolchain.versions() == record.tools => {
            let rebuilt = compile(&root, &toolchain)?;
            ensure!(
                rebuilt == object,
                "a rebuild with the recorded tools gives other bytes ({} instead of {}); \
                 run `cargo xtask ebpf`",
                record::hash(&rebuilt),
                record.sha256
            );
            eprintln!("ebpf check 3/3: a rebuild gives the same bytes");
            return Ok("sources, object and a rebuild agree".to_owned());
        }
        Ok(toolchain) => format!(
            "recorded with {}; here is {}",
            record.tools,
            toolchain.versions()
        ),
        Err(error) => format!("no BPF toolchain here: {error:#}"),
    };
    eprintln!("ebpf check 3/3 not done: {not_rebuilt}");
    Ok(format!(
        "sources and object agree with the record; not rebuilt: {not_rebuilt}"
    ))
}

/// Builds the object, without DWARF, below `target/bpf`.
fn compile(root: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    // The registry's directories must exist before they can be remapped.
    run(cargo()
        .args(["fetch", "--quiet", "--locked"])
        .current_dir(root))?;
    let cargo_home = cargo_home()?;
    // Cargo doesn't see a change of the linker or its LLVM, so every set of
    // tools has a directory of its own.
    let tools = record::hash(toolchain.versions().to_string().as_bytes());
    let target_dir = root
        .join("target/bpf")
        .join(tools.get(..12).unwrap_or(&tools));
    let mut flags: Vec<String> = ["-Clinker=bpf-linker", "-Clink-arg=--btf", "-Cdebuginfo=2"]
        .map(str::to_owned)
        .into();
    for (from, to) in remapped(root, &cargo_home, toolchain)? {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    let mut command = toolchain.cargo()?;
    command
        .args(["build", "--quiet", "--locked", "--package", "pmon-ebpf"])
        .args(["--target", TARGET, "--profile", "bpf"])
        .arg("--target-dir")
        .arg(&target_dir)
        .args(toolchain.arguments())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .current_dir(root);
    run(&mut command)?;
    let built = target_dir.join(TARGET).join("bpf/pmon-bpf");
    let object = fs::read(&built).with_context(|| format!("can't read `{}`", built.display()))?;
    let object = text::readable(&strip::without_dwarf(&object)?)?;
    names_no_machine(&object, root, &cargo_home)?;
    Ok(object)
}

/// Directories of this machine, with the names they get in the object. Of
/// several matching prefixes rustc takes the last.
fn remapped(
    root: &Path,
    cargo_home: &Path,
    toolchain: &Toolchain,
) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut prefixes = vec![(cargo_home.to_owned(), "/cargo")];
    for registry in registries(cargo_home)? {
        prefixes.push((registry, "/cargo"));
    }
    prefixes.push((toolchain.library_sources()?, "/rust"));
    prefixes.push((root.to_owned(), "/pmon"));
    Ok(prefixes)
}

/// The source directories of the registries; their names contain host names.
fn registries(cargo_home: &Path) -> Result<Vec<PathBuf>> {
    let sources = cargo_home.join("registry/src");
    let entries = match fs::read_dir(&sources) {
        Ok(entries) => entries,
        // Vendored sources: nothing was unpacked.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("can't read `{}`", sources.display()));
        }
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn cargo_home() -> Result<PathBuf> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
            .join(".cargo"),
    };
    home.canonicalize()
        .with_context(|| format!("can't find cargo's home `{}`", home.display()))
}

/// Fails when a directory of this machine is named in the object.
fn names_no_machine(object: &[u8], root: &Path, cargo_home: &Path) -> Result<()> {
    let mut forbidden = vec![
        root.to_string_lossy().into_owned(),
        cargo_home.to_string_lossy().into_owned(),
    ];
    for registry in registries(cargo_home)? {
        if let Some(name) = registry.file_name() {
            forbidden.push(name.to_string_lossy().into_owned());
        }
    }
    if let Some(home) = env::var_os("HOME").filter(|home| home.len() > 1) {
        forbidden.push(format!("{}/", home.to_string_lossy()));
    }
    for text in forbidden {
        if object
            .windows(text.len())
            .any(|window| window == text.as_bytes())
        {
            bail!("the built object names `{text}` of this machine");
        }
    }
    Ok(())
}

/// The first line of a program's `--version`.
fn version(command: &mut Command) -> Result<String> {
    let text = output(command.arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
