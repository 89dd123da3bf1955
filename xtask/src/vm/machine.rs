//! One run of one machine: QEMU with a kernel and an initramfs, what it writes
//! to its serial console, and how it ended.
//!
//! The machine has nothing else: no disk, no network, no host directory. Its
//! verdict is on the console, because it has no exit status. Must stay true: it
//! ends by itself or at the deadline.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::kernels::Kernel;

const PROGRAM: &str = "qemu-system-x86_64";
/// `tcg` is software emulation, which needs no privilege and works in any
/// container. Two CPUs, because one hides races. Without `cx16`: QEMU 7.2 now and
/// then leaves garbage in the flags after a `cmpxchg16b`, which kernels since 6.x
/// allocate memory with where there is one, and die of (a double fault in
/// `kmalloc`, EFLAGS being the low half of RAX).
const ARGUMENTS: [&str; 15] = [
    "-accel",
    "tcg",
    "-machine",
    "q35",
    "-cpu",
    "max,cx16=off",
    "-m",
    "1024",
    "-smp",
    "2",
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
];
/// Only messages that end a machine are shown among the tests' output;
/// `panic=-1` reboots at once, which `-no-reboot` makes the end. Mitigations
/// cost time and protect nobody here.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 loglevel=1 panic=-1 mitigations=off";
/// Far longer than the tests take on a busy machine, and than a test that waits in
/// vain does (`PMON_TEST_PATIENCE` in `init.sh`), which is to tell so.
const LIMIT: Duration = Duration::from_secs(600);

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It switched itself off, or panicked.
    Itself,
    /// It was ended at the deadline.
    Deadline,
}

/// What a machine said.
pub(super) struct Run {
    /// Lines of the console, without their ends.
    pub(super) lines: Vec<String>,
    /// How it ended.
    pub(super) end: End,
    /// From power on to off.
    pub(super) took: Duration,
}

/// Boots and waits for the end; the console also goes to `log`, with seconds
/// since power on.
///
/// # Errors
///
/// When QEMU can't be run.
pub(super) fn boot(kernel: &Kernel, initramfs: &Path, log: &Path) -> Result<Run> {
    let began = Instant::now();
    let mut file = File::create(log).with_context(|| format!("can't write `{}`", log.display()))?;
    let mut child = Command::new(PROGRAM)
        .args(ARGUMENTS)
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!(
            "{KERNEL_COMMAND_LINE} {}",
            kernel.scope.parameter()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start `{PROGRAM}`"))?;
    let stdout = child.stdout.take().context("no pipe to QEMU")?;
    let mut stderr = child.stderr.take().context("no pipe to QEMU")?;
    let console = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            // A test may print anything.
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r').to_owned();
            // The lines are what counts; the file is for people.
            writeln!(file, "{:>6.1} {line}", began.elapsed().as_secs_f64()).ok();
            lines.push(line);
        }
        lines
    });
    let end = wait(&mut child, began + LIMIT)?;
    let mut complaint = String::new();
    stderr.read_to_string(&mut complaint)?;
    if !complaint.is_empty() {
        eprintln!("{PROGRAM}: {}", complaint.trim());
    }
    let Ok(lines) = console.join() else {
        anyhow::bail!("the console's reader failed");
    };
    Ok(Run {
        lines,
        end,
        took: began.elapsed(),
    })
}

fn wait(child: &mut Child, deadline: Instant) -> Result<End> {
    const EVERY: Duration = Duration::from_millis(50);
    loop {
        if child.try_wait()?.is_some() {
            return Ok(End::Itself);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(End::Deadline);
        }
        thread::sleep(EVERY);
    }
}
