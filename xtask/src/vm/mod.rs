//! `cargo xtask test --vm`: the kernel-facing tests on other kernels, each booted
//! in QEMU with software emulation.
//!
//! Must stay true: the tests and the binary are those of the host, unchanged;
//! nothing runs in a machine that isn't in its initramfs; what a kernel can't do
//! is asserted by a test and told as a fact, never skipped. Everything is kept
//! below `target/vm`.
//!
//! `kernels` fetches, `initramfs` packs, `machine` boots, `outcome` reads what a
//! machine said, `document` keeps `docs/kernel-support.md`.

mod document;
mod initramfs;
mod kernels;
mod machine;
mod outcome;
mod selection;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use self::{document::Column, outcome::Outcome};
use crate::packages;

/// The emulator, the shell and tools of the machines, and the packer of their
/// file system.
const PACKAGES: [&str; 3] = ["qemu-system-x86", "busybox-static", "cpio"];

/// What to do with `docs/kernel-support.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// It must say what was seen.
    Check,
    /// Write what was seen.
    Write,
}

/// Boots every kernel and runs the tests; a note for the summary.
///
/// # Errors
///
/// When a machine can't be had, a test failed, or the document is out of date.
pub(crate) fn run(root: &Path, document: Document) -> Result<String> {
    packages::debian(&PACKAGES)?;
    let directory = root.join("target/vm");
    fs::create_dir_all(&directory)
        .with_context(|| format!("can't create `{}`", directory.display()))?;
    let kernels = kernels::fetch(&directory)?;
    let initramfs = initramfs::build(root, &directory)?;

    let mut columns = Vec::new();
    let mut troubles = Vec::new();
    for kernel in &kernels {
        let log = directory.join(format!("{}.log", kernel.suite));
        let run = machine::boot(&kernel.image, &initramfs, &log)?;
        let outcome = Outcome::read(&run.lines);
        let took = run.took.as_secs_f64();
        let trouble = outcome.trouble(&run.end);
        let word = if trouble.is_none() { "ok" } else { "FAILED" };
        println!(
            "{word:<7} {:<18} {:>6.1} s  {}: {} passed, {} failed",
            kernel.suite,
            took,
            outcome.release(),
            outcome.passed(),
            outcome.failed(),
        );
        if let Some(trouble) = trouble {
            println!("{trouble}\nall of it: `{}`\n", log.display());
            troubles.push(kernel.suite);
        }
        columns.push(Column {
            suite: kernel.suite,
            outcome,
        });
    }
    println!("\n{}", document::table(&columns));
    ensure!(troubles.is_empty(), "failed on {}", troubles.join(", "));
    document::keep(root, document, &columns)?;
    let tests = columns.iter().map(|column| column.outcome.passed());
    Ok(format!(
        "{} passed on {} kernels",
        tests.sum::<usize>(),
        columns.len()
    ))
}
