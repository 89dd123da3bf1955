//! The daemon's log: stderr, where journald or an operator reads it, through a
//! thread of its own, so that a full pipe loses lines instead of holding up pmon.

use std::{io::stderr, os::fd::AsFd as _, sync::Arc};

use aya_log::EbpfLogger;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::sys::readable::Readable;

/// Lines that may wait for a slow reader.
const BACKLOG: usize = 8192;

/// Starts logging; lines are flushed when the guard is dropped.
pub(super) fn start() -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BACKLOG)
        .thread_name("pmon-log")
        .finish(stderr());
    let filter = EnvFilter::try_from_env("PMON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
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

/// Passes on what the kernel program logs (at debug level: exits of strangers).
pub(super) async fn kernel_log(mut log: EbpfLogger<&'static dyn log::Log>) {
    let readable = log
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| Readable::new(Arc::new(fd)));
    let readable = match readable {
        Ok(readable) => readable,
        Err(error) => {
            tracing::debug!(%error, "no log of the kernel program");
            return;
        }
    };
    loop {
        let flushed = readable
            .read(|_| {
                log.flush();
                // Read to its end: wait for more.
                Err::<(), _>(std::io::ErrorKind::WouldBlock.into())
            })
            .await;
        if let Err(error) = flushed {
            tracing::debug!(%error, "the log of the kernel program ends");
            return;
        }
    }
}
