//! The daemon's log: stderr, where journald or an operator reads it, through a
//! thread of its own, so that a full pipe loses lines instead of holding up pmon;
//! in pmond's place syslog as well, or instead where stderr is the journal's, which
//! would have every line twice.

use std::{
    io::{self, Write, stderr},
    os::fd::AsFd as _,
    sync::{Arc, OnceLock},
};

use aya_log::EbpfLogger;
use tokio::sync::oneshot;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::{compat::starlingx::syslog::Syslog, sys::readable::Readable};

/// Target of the lines that are the kernel side's.
const KERNEL_LINES: &str = "pmon_kernel";
/// Lines that may wait for a slow reader.
const BACKLOG: usize = 8192;

/// The log; lines are flushed when it is dropped.
pub(super) struct Log {
    _guard: WorkerGuard,
    syslog: Arc<OnceLock<Syslog>>,
}

impl Log {
    /// From now on lines go to syslog, too.
    pub(super) fn also_to(&self, syslog: Syslog) {
        // The first one stays.
        let _already: Result<(), _> = self.syslog.set(syslog);
    }
}

/// What the log's thread writes to; a line, or what was written as one, at a time.
struct Destinations<W> {
    stderr: W,
    syslog: Arc<OnceLock<Syslog>>,
    /// stderr is journald's, which stamps lines itself; otherwise we do.
    in_journal: bool,
}

impl<W: Write> Write for Destinations<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(syslog) = self.syslog.get() {
            let text = String::from_utf8_lossy(line);
            let text = match text.split_once(' ') {
                Some((_time, text)) if !self.in_journal => text,
                Some(_) | None => &text,
            };
            if syslog.write(text).is_ok() && self.in_journal {
                return Ok(line.len());
            }
        }
        self.stderr.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

/// Starts logging.
pub(super) fn start() -> Log {
    let in_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let syslog = Arc::default();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(BACKLOG)
        .thread_name("pmon-log")
        .finish(Destinations {
            stderr: stderr(),
            syslog: Arc::clone(&syslog),
            in_journal,
        });
    let filter = filter(std::env::var("PMON_LOG").ok().as_deref());
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
    Log {
        _guard: guard,
        syslog,
    }
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
        Err::<(), _>(io::ErrorKind::WouldBlock.into())
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::compat::starlingx::root::Root;

    /// What was written to stderr, and to syslog.
    fn written(in_journal: bool, syslogd: bool, line: &str) -> (String, Option<String>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("dev")).unwrap();
        let syslogd = syslogd.then(|| {
            let socket = UnixDatagram::bind(directory.path().join("dev/log")).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let syslog = Arc::new(OnceLock::new());
        let root = Root::new(directory.path().to_path_buf());
        syslog.set(Syslog::of(&root).unwrap()).unwrap();
        let mut destinations = Destinations {
            stderr: Vec::new(),
            syslog,
            in_journal,
        };
        destinations.write_all(line.as_bytes()).unwrap();
        let told = syslogd.map(|syslogd| {
            let mut buffer = [0; 256];
            let length = syslogd.recv(&mut buffer).unwrap();
            let text = str::from_utf8(&buffer[..length]).unwrap();
            text.split_once("]: ").unwrap().1.to_owned()
        });
        (String::from_utf8(destinations.stderr).unwrap(), told)
    }

    #[test]
    fn syslog_has_each_line_and_the_journal_has_none_twice() {
        let timed = "2026-01-01T00:00:00Z  INFO web: Died\n";
        let told = Some("INFO web: Died".to_owned());
        assert_eq!(
            written(false, true, timed),
            (timed.to_owned(), told.clone())
        );
        assert_eq!(written(false, false, timed), (timed.to_owned(), None));
        let untimed = " INFO web: Died\n";
        assert_eq!(written(true, true, untimed), (String::new(), told));
        assert_eq!(written(true, false, untimed), (untimed.to_owned(), None));
    }
}
