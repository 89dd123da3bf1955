//! The daemon's log: stderr, where journald or an operator reads it, through a
//! thread of its own, so that a full pipe loses lines instead of holding up pmon.

use std::{io::stderr, os::fd::AsFd as _, sync::Arc};

use aya_log::EbpfLogger;
use tokio::sync::oneshot;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::sys::readable::Readable;

/// Target of the lines that are the kernel side's.
const KERNEL_LINES: &str = "pmon_kernel";
/// Lines that may wait for a slow reader.
const BACKLOG: usize = 8192;

/// Starts logging; lines are flushed when the guard is dropped.
pub(super) fn start() -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BACKLOG)
        .thread_name("pmon-log")
        .finish(stderr());
    let filter = filter(std::env::var("PMON_LOG").ok().as_deref());
    let in_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false);
    // journald stamps its lines itself.
    let lines = if in_journal {
        lines.without_time().boxed()
    } else {
        lines.boxed()
    };
    // Only a second start would fail, and then there is a log already.
    let _already: Result<(), _> = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    guard
}

/// What is written: `info` and worse unless somebody wants something else.
fn filter(wanted: Option<&str>) -> EnvFilter {
    let usual = || EnvFilter::new("info");
    let filter = wanted.map_or_else(usual, |wanted| {
        EnvFilter::try_new(wanted).unwrap_or_else(|_| usual())
    });
    if wanted.is_some_and(|wanted| wanted.contains(KERNEL_LINES)) {
        return filter;
    }
    match format!("{KERNEL_LINES}=info").parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// What the kernel side logs, as lines of ours. They are there because somebody
/// asked for them, so they are written whatever `PMON_LOG` says of other lines.
pub struct KernelLines;

impl log::Log for KernelLines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!(target: KERNEL_LINES, "kernel: {}", record.args());
    }

    fn flush(&self) {}
}

/// Passes on what the kernel side logs, until `stop` is sent or dropped.
pub(super) async fn kernel_log(mut log: EbpfLogger<KernelLines>, stop: oneshot::Receiver<()>) {
    let readable = log
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| Readable::new(Arc::new(fd)));
    let readable = match readable {
        Ok(readable) => readable,
        Err(error) => {
            tracing::warn!(%error, "no log of the kernel side");
            return;
        }
    };
    let read = readable.read(|_| {
        log.flush();
        // Read to its end: wait for more.
        Err::<(), _>(std::io::ErrorKind::WouldBlock.into())
    });
    tokio::select! {
        _ = stop => {}
        Err(error) = read => {
            tracing::warn!(%error, "the log of the kernel side ends");
            return;
        }
    }
    // What the programs wrote before they were detached.
    log.flush();
}
