//! pmond's place in the host's log (spec/pmond.md §9): facility local5, ident
//! `pmond`, always priority info, by which syslog-ng files the lines as
//! `/var/log/pmond.log`, where people and test tools look for them.
//!
//! Must stay true: a syslog that hangs holds the log's thread up for a moment once,
//! and then not at all until it reads again; whoever writes is told that a line was
//! not taken. When a line was written is syslogd's to say: there is no time in it,
//! which RFC 3164 (4.3.2) has the receiver add.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::root::Root;

/// The socket of syslog(3).
const SOCKET: &str = "/dev/log";
/// `LOG_LOCAL5 | LOG_INFO` of syslog(3): 21 * 8 + 6.
const PRIORITY: u8 = 174;
const IDENT: &str = "pmond";
/// For a syslogd with its hands full: the kernel queues ten messages where nobody
/// has asked for more (`net.unix.max_dgram_qlen`), and we tell more than that of a
/// few deaths at once.
const PATIENCE: Duration = Duration::from_millis(500);

/// The way to syslogd.
#[derive(Debug)]
pub struct Syslog {
    /// Waits, for [`PATIENCE`] at most.
    patient: UnixDatagram,
    /// Does not wait.
    hasty: UnixDatagram,
    /// It was waited for in vain.
    hangs: AtomicBool,
    path: PathBuf,
}

impl Syslog {
    /// The host's; it need not be there yet.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn of(root: &Root) -> io::Result<Self> {
        let (patient, hasty) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
        patient.set_write_timeout(Some(PATIENCE))?;
        hasty.set_nonblocking(true)?;
        Ok(Self {
            patient,
            hasty,
            hangs: AtomicBool::new(false),
            path: root.path(SOCKET),
        })
    }

    /// Writes this text, a message for each line of it, soon or not at all. For one
    /// thread that may block.
    ///
    /// # Errors
    ///
    /// Those of sendto(2): nobody is there, or does not read.
    pub fn write(&self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            self.send(message(line).as_bytes())?;
        }
        Ok(())
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        let socket = match self.hangs.load(Ordering::Relaxed) {
            true => &self.hasty,
            false => &self.patient,
        };
        let sent = socket.send_to(message, &self.path).map(drop);
        let full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.hangs
            .store(sent.as_ref().is_err_and(full), Ordering::Relaxed);
        sent
    }
}

fn message(line: &str) -> String {
    format!(
        "<{PRIORITY}>{IDENT}[{}]: {}",
        std::process::id(),
        line.trim()
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_and_nobody_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let syslog = Syslog::of(&Root::new(directory.path().to_path_buf())).unwrap();
        let missing = syslog.write("to nobody").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);

        std::fs::create_dir(directory.path().join("dev")).unwrap();
        let syslogd = UnixDatagram::bind(directory.path().join("dev/log")).unwrap();
        syslog.write(" INFO web: Registered (7)\nmore\n").unwrap();
        let pid = std::process::id();
        for line in ["INFO web: Registered (7)", "more"] {
            let mut buffer = [0; 256];
            let length = syslogd.recv(&mut buffer).unwrap();
            let expected = format!("<174>pmond[{pid}]: {line}");
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        // More than `net.unix.max_dgram_qlen` ever is by default.
        let full = (0..100_000).find_map(|_| syslog.write("full").err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
        assert!(syslog.hangs.load(Ordering::Relaxed));
        let next = syslog.write("not waited for").unwrap_err();
        assert_eq!(next.kind(), io::ErrorKind::WouldBlock);
        // It reads again, and so slowly that it has to be waited for.
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            loop {
                let length = syslogd.recv(&mut buffer).unwrap();
                if buffer[..length].ends_with(b"last") {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        while syslog.write("again").is_err() {}
        for _ in 0..100 {
            syslog.write("more than are queued").unwrap();
        }
        syslog.write("last").unwrap();
        reader.join().unwrap();
    }
}
