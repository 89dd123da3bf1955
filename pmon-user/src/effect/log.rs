//! Where a started program's stdout and stderr go, and what its last line was.
//!
//! Must stay true: the program never writes into a pipe of ours, so that its
//! output works as well after pmon has died; a log that cannot be opened costs
//! the output, never the start. No file is read that may block.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt as _, FileExt as _},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, ftruncate, memfd_create,
};

/// A log larger than this is renamed to `….1` before the next start, in bytes.
const ROTATE_ABOVE: u64 = 1 << 20;

/// So much of the output of a question for the status is taken, in bytes; the
/// script gets EPERM for more.
const CAPTURED: u64 = 1 << 20;

/// How much of a log's end is searched for the last line, in bytes.
const TAIL: u64 = 4096;

/// Longest line that is passed on, in characters.
const LINE_LIMIT: usize = 400;

/// How to reach the journal.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The native stream socket, `/run/systemd/journal/stdout`.
    pub stream: PathBuf,
    /// The program that reads the journal back, `/usr/bin/journalctl`.
    pub reader: PathBuf,
}

/// A place for a program's output, open.
#[derive(Debug)]
pub(super) struct Output {
    /// For stdout and stderr.
    pub(super) writer: OwnedFd,
    /// How to learn the last line.
    pub(super) tail: Tail,
}

/// How to learn the last line a program printed.
#[derive(Debug)]
pub(super) enum Tail {
    /// From a file, beyond what was in it before the start.
    File {
        /// Open for reading.
        file: File,
        /// Its length before the start, in bytes.
        from: u64,
    },
    /// From the journal.
    Journal {
        /// `SYSLOG_IDENTIFIER` of the lines.
        identifier: String,
        /// Program to ask.
        reader: PathBuf,
        /// Start, seconds of the epoch.
        since: u64,
    },
    /// From memory that the program shares, and its place in it.
    Captured(File),
    /// Nobody keeps it.
    Nowhere,
}

/// Opens a log file for appending, rotating it before if it has grown large.
pub(super) fn open_file(path: &Path) -> io::Result<Output> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|old| old.is_file() && old.len() > ROTATE_ABOVE) {
        let mut rotated = path.as_os_str().to_owned();
        rotated.push(".1");
        fs::rename(path, rotated)?;
    }
    // Not through a link: the directory may be the service user's, and pmon is
    // root. Non-blocking only for the opening, as it may be a FIFO.
    let writer = rustix::fs::open(
        path,
        OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o640),
    )?;
    fcntl_setfl(&writer, OFlags::APPEND)?;
    let writer = File::from(writer);
    let metadata = writer.metadata()?;
    let tail = if metadata.is_file() {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => Tail::File {
                file: file.into(),
                from: metadata.len(),
            },
            Err(_) => Tail::Nowhere,
        }
    } else {
        Tail::Nowhere
    };
    Ok(Output {
        writer: writer.into(),
        tail,
    })
}

/// Connects to the journal as systemd does for a service (sd_journal_stream_fd(3)):
/// what is written becomes entries of priority "info" under this identifier,
/// unless a line begins with its own `<N>`.
pub(super) fn open_journal(journal: &Journal, identifier: &str) -> io::Result<Output> {
    let identifier: String = identifier
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    let mut stream = UnixStream::connect(&journal.stream)?;
    stream.shutdown(Shutdown::Read)?;
    // Identifier, unit (only systemd may name one), priority, "lines may have a
    // priority prefix", forward to syslog, to kmsg, to the console.
    stream.write_all(format!("{identifier}\n\n6\n1\n0\n0\n0\n").as_bytes())?;
    Ok(Output {
        writer: stream.into(),
        tail: Tail::Journal {
            identifier,
            reader: journal.reader.clone(),
            since: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        },
    })
}

/// Output into memory of a limited size, which lasts as long as somebody has it
/// open: neither a disk nor a pipe of ours has a part in it.
pub(super) fn captured() -> io::Result<Output> {
    let memory = memfd_create(
        "pmon-status",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    ftruncate(&memory, CAPTURED)?;
    fcntl_add_seals(
        &memory,
        SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    // Shares the place with the program: that is where it has written to.
    let reader = memory.try_clone()?;
    Ok(Output {
        writer: memory,
        tail: Tail::Captured(reader.into()),
    })
}

/// Output that nobody keeps.
pub(super) fn discard() -> io::Result<Output> {
    Ok(Output {
        writer: File::options().write(true).open("/dev/null")?.into(),
        tail: Tail::Nowhere,
    })
}

impl Tail {
    /// The last non-empty line, if it can be had within `within`.
    pub(super) async fn last_line(self, within: Duration) -> Option<String> {
        let line = async {
            match self {
                Self::File { file, from } => {
                    tokio::task::spawn_blocking(move || last_line_of(file, from).ok().flatten())
                        .await
                        .ok()
                        .flatten()
                }
                Self::Journal {
                    identifier,
                    reader,
                    since,
                } => ask_journal(&identifier, &reader, since).await,
                Self::Captured(file) => last_line_captured(file).ok().flatten(),
                Self::Nowhere => None,
            }
        };
        tokio::time::timeout(within, line).await.ok().flatten()
    }
}

fn last_line_of(mut file: File, from: u64) -> io::Result<Option<String>> {
    let length = file.metadata()?.len();
    // A file that became shorter was truncated: all of it is new.
    let from = if length < from { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    Ok(last_line_in(&text))
}

fn last_line_captured(mut file: File) -> io::Result<Option<String>> {
    let written = file.stream_position()?;
    let from = written.saturating_sub(TAIL);
    let mut text = vec![0; usize::try_from(written - from).unwrap_or(0)];
    file.read_exact_at(&mut text, from)?;
    Ok(last_line_in(&text))
}

fn last_line_in(text: &[u8]) -> Option<String> {
    String::from_utf8_lossy(text)
        .split(['\n', '\r'])
        .rev()
        .map(|line| {
            line.trim()
                .chars()
                .filter(|character| !character.is_control())
                .take(LINE_LIMIT)
                .collect::<String>()
        })
        .find(|line| !line.is_empty())
}

/// journald takes its time to store a line, so an empty answer is asked again.
async fn ask_journal(identifier: &str, reader: &Path, since: u64) -> Option<String> {
    loop {
        let answer = tokio::process::Command::new(reader)
            .args(["--quiet", "--no-pager", "--output=cat", "--lines=1"])
            .arg(format!("--identifier={identifier}"))
            .arg(format!("--since=@{since}"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .ok()?;
        if !answer.status.success() {
            return None;
        }
        if let Some(line) = last_line_in(&answer.stdout) {
            return Some(line);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{
        os::unix::{
            fs::{PermissionsExt as _, symlink},
            net::UnixListener,
        },
        thread,
    };

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;
    use crate::specimen::executable;

    const SOON: Duration = Duration::from_secs(60);

    fn write(output: &Output, text: &str) {
        File::from(output.writer.try_clone().unwrap())
            .write_all(text.as_bytes())
            .unwrap();
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        for (text, line) in [
            ("", None),
            ("\n \n", None),
            ("one\ntwo\n\n", Some("two")),
            ("no newline", Some("no newline")),
            ("50%\r100%\r\n", Some("100%")),
            ("\x1b[31mred\x1b[0m\n", Some("[31mred[0m")),
        ] {
            assert_eq!(last_line_in(text.as_bytes()).as_deref(), line, "{text:?}");
        }
        let long = "x".repeat(5000);
        assert_eq!(last_line_in(long.as_bytes()).unwrap().len(), LINE_LIMIT);
        assert!(last_line_in(b"bad \xff bytes").is_some());
    }

    #[tokio::test]
    async fn what_is_captured_has_a_last_line_and_an_end() {
        let output = captured().unwrap();
        write(&output, "one\ntwo\n");
        assert_eq!(output.tail.last_line(SOON).await.as_deref(), Some("two"));
        let output = captured().unwrap();
        let Output { writer, tail } = output;
        let mut writer = File::from(writer);
        let block = "x\n".repeat(1 << 12);
        let mut written = 0_u64;
        let error = loop {
            match writer.write(block.as_bytes()) {
                Ok(count) => written += u64::try_from(count).unwrap(),
                Err(error) => break error,
            }
            assert!(written <= CAPTURED);
        };
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(tail.last_line(SOON).await.as_deref(), Some("x"));
        assert_eq!(captured().unwrap().tail.last_line(SOON).await, None);
    }

    #[tokio::test]
    async fn only_lines_since_the_start_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/x.log");
        let first = open_file(&path).unwrap();
        write(&first, "from before\n");
        assert_eq!(
            first.tail.last_line(SOON).await.as_deref(),
            Some("from before")
        );
        let second = open_file(&path).unwrap();
        assert_eq!(second.tail.last_line(SOON).await, None);
        let third = open_file(&path).unwrap();
        write(&third, "new\n");
        assert_eq!(third.tail.last_line(SOON).await.as_deref(), Some("new"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "from before\nnew\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o027, 0, "{mode:o}");
    }

    #[test]
    fn a_large_log_is_rotated_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let large = usize::try_from(ROTATE_ABOVE + 1).unwrap();
        fs::write(&path, vec![b'x'; large - 1]).unwrap();
        open_file(&path).unwrap();
        assert!(!directory.path().join("x.log.1").exists());
        fs::write(&path, vec![b'x'; large]).unwrap();
        open_file(&path).unwrap();
        let rotated = fs::metadata(directory.path().join("x.log.1")).unwrap();
        assert_eq!(rotated.len(), ROTATE_ABOVE + 1);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn links_and_unread_fifos_are_refused_without_hanging() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        fs::write(&target, "").unwrap();
        let link = directory.path().join("link");
        symlink(&target, &link).unwrap();
        assert!(open_file(&link).is_err());
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(open_file(&fifo).is_err());
        assert!(matches!(
            open_file(Path::new("/dev/null")).unwrap().tail,
            Tail::Nowhere
        ));
    }

    #[tokio::test]
    async fn the_journal_gets_its_header_and_is_asked_for_the_last_line() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal {
            stream: directory.path().join("stdout"),
            reader: directory.path().join("journalctl"),
        };
        let listener = UnixListener::bind(&journal.stream).unwrap();
        let asked = directory.path().join("asked");
        executable(
            &journal.reader,
            &format!(
                "#!/bin/sh\necho \"$@\" >>{0}\n[ $(wc -l <{0}) -gt 1 ] && echo 'it broke'\nexit 0\n",
                asked.display()
            ),
        );
        let server = thread::spawn(move || {
            let mut text = String::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_string(&mut text)
                .unwrap();
            text
        });
        let output = open_journal(&journal, "my\nentity").unwrap();
        write(&output, "hello\n");
        let Output { writer, tail } = output;
        drop(writer);
        assert_eq!(server.join().unwrap(), "myentity\n\n6\n1\n0\n0\n0\nhello\n");
        assert_eq!(tail.last_line(SOON).await.as_deref(), Some("it broke"));
        let asked = fs::read_to_string(&asked).unwrap();
        assert_eq!(asked.lines().count(), 2);
        assert!(asked.contains("--identifier=myentity --since=@"));
    }
}
