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

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result, bail, ensure};

use self::{document::Column, kernels::Kernel, outcome::Outcome};
use crate::packages;

/// The emulator, the shell and tools of the machines, and the packer of their
/// file system.
const PACKAGES: [&str; 3] = ["qemu-system-x86", "busybox-static", "cpio"];

/// Machines at a time. Tests wait a good deal, so one machine leaves CPUs idle;
/// each has two.
const AT_ONCE: usize = 2;

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

    let columns = kernels
        .chunks(AT_ONCE)
        .map(|some| boot_all(some, &initramfs, &directory))
        .collect::<Result<Vec<_>>>()?
        .concat();
    let troubles: Vec<_> = columns
        .iter()
        .filter(|column| column.trouble.is_some())
        .map(|column| column.name.as_str())
        .collect();
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

/// Runs the tests on these kernels at the same time.
fn boot_all(kernels: &[Kernel], initramfs: &Path, directory: &Path) -> Result<Vec<Column>> {
    thread::scope(|scope| {
        let machines: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(|| boot(kernel, initramfs, directory)))
            .collect();
        let columns = machines.into_iter().map(|machine| match machine.join() {
            Ok(column) => column,
            Err(_) => bail!("the thread of a machine failed"),
        });
        columns.collect()
    })
}

/// Runs the tests on this kernel and prints how it went.
fn boot(kernel: &Kernel, initramfs: &Path, directory: &Path) -> Result<Column> {
    let name = kernel.name();
    let log = directory.join(format!("{name}.log"));
    let mut run = machine::boot(kernel, initramfs, &log)?;
    let mut outcome = Outcome::read(kernel.scope, &run.lines);
    if outcome.broke_down() {
        let first = directory.join(format!("{name}.broken.log"));
        fs::rename(&log, &first).with_context(|| format!("can't keep `{}`", log.display()))?;
        println!(
            "{name}: the machine itself broke down after {:.1} s ({:?}); it is booted once more, \
             see `{}`",
            run.took.as_secs_f64(),
            run.end,
            first.display()
        );
        run = machine::boot(kernel, initramfs, &log)?;
        outcome = Outcome::read(kernel.scope, &run.lines);
    }
    let trouble = outcome.trouble(run.end);
    let word = if trouble.is_none() { "ok" } else { "FAILED" };
    let mut report = format!(
        "{word:<7} {name:<32} {:>6.1} s  {}: {} passed, {} failed",
        run.took.as_secs_f64(),
        outcome.release(),
        outcome.passed(),
        outcome.failed(),
    );
    if let Some(trouble) = &trouble {
        report += &format!("\n{trouble}\nall of it: `{}`\n", log.display());
    }
    // In one piece: another machine may be reporting, too.
    println!("{report}");
    Ok(Column {
        name,
        outcome,
        trouble,
    })
}
