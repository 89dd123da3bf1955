//! Reading a pidfile, whatever is in its place.
//!
//! Must stay true: reading never blocks, never follows a link in the last path
//! component, and never opens anything but a regular file (opening
//! `/dev/watchdog` would arm it). What stands in the file is a number that
//! somebody wrote; whether it names a process is not decided here.

use std::{
    fmt, io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

/// Bytes of a pidfile that count (pmond reads its first line, at most 64 bytes).
pub const MAX_BYTES: usize = 64;

/// Largest pid any 64-bit kernel hands out (`PID_MAX_LIMIT`, proc_sys_kernel(5)).
const PID_MAX_LIMIT: u32 = 4_194_304;

/// What stands at a pidfile's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A positive number that can be a pid.
    Pid {
        /// The number.
        pid: u32,
        /// Which state of which file it was read from.
        stamp: Stamp,
        /// Who could have written it.
        writer: Writer,
    },
    /// Nothing.
    Absent,
    /// A regular file that holds no pid.
    Junk {
        /// Which state of which file.
        stamp: Stamp,
        /// What was found and what was expected.
        reason: String,
    },
    /// Something that is not read: not a regular file, or not readable.
    Refused {
        /// What was found and what was expected.
        reason: String,
    },
}

/// One state of one file: as long as it is the same, nobody has written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last change of content, owner, mode or link count.
    pub ctime: FileTime,
}

/// A file's time stamp, on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: i32,
}

impl FileTime {
    /// As a time stamp; the ends of time where the file system holds nonsense.
    #[must_use]
    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::new(self.seconds, self.nanoseconds).unwrap_or(if self.seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

/// Who could have written a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its owner.
    pub uid: u32,
    /// Everybody may write to it (mode `o+w`).
    pub everybody: bool,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: FileTime {
                seconds: stat.st_mtime,
                nanoseconds: i32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            ctime: FileTime {
                seconds: stat.st_ctime,
                nanoseconds: i32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            },
        }
    }
}

/// Reads the file at `path`.
#[must_use]
pub fn read(path: &Path) -> Reading {
    match read_first_bytes(path) {
        Ok((bytes, stat)) => {
            let stamp = Stamp::of(&stat);
            match parse(&bytes, PID_MAX_LIMIT) {
                Ok(pid) => Reading::Pid {
                    pid,
                    stamp,
                    writer: Writer {
                        uid: stat.st_uid,
                        everybody: stat.st_mode & Mode::WOTH.bits() != 0,
                    },
                },
                Err(reason) => Reading::Junk {
                    stamp,
                    reason: format!("pidfile `{}`: {reason}", path.display()),
                },
            }
        }
        Err(NotRead::Absent) => Reading::Absent,
        Err(NotRead::NotRegular(what)) => Reading::Refused {
            reason: format!(
                "pidfile `{}` is a {what}, expected a regular file",
                path.display()
            ),
        },
        Err(NotRead::Errno(errno)) => Reading::Refused {
            reason: format!(
                "pidfile `{}` cannot be read: {}",
                path.display(),
                io::Error::from(errno)
            ),
        },
    }
}

enum NotRead {
    Absent,
    NotRegular(&'static str),
    Errno(Errno),
}

impl From<Errno> for NotRead {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Absent,
            errno => Self::Errno(errno),
        }
    }
}

/// Looks at what is there without opening it (`O_PATH`), then opens that very
/// inode through procfs.
fn read_first_bytes(path: &Path) -> Result<(Vec<u8>, Stat), NotRead> {
    let place = openat(
        CWD,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let what = match FileType::from_raw_mode(fstat(&place)?.st_mode) {
        FileType::RegularFile => None,
        FileType::Symlink => Some("symbolic link"),
        FileType::Directory => Some("directory"),
        FileType::Fifo => Some("FIFO"),
        FileType::Socket => Some("socket"),
        FileType::CharacterDevice => Some("character device"),
        FileType::BlockDevice => Some("block device"),
        FileType::Unknown => Some("file of unknown type"),
    };
    if let Some(what) = what {
        return Err(NotRead::NotRegular(what));
    }
    let file = openat(
        CWD,
        format!("/proc/self/fd/{}", place.as_raw_fd()),
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(NotRead::Errno)?;
    // The stamp is taken first: a write after it makes the stamp stale, never
    // the other way round.
    let stat = fstat(&file)?;
    Ok((read_up_to_max(&file)?, stat))
}

fn read_up_to_max(file: &OwnedFd) -> Result<Vec<u8>, NotRead> {
    let mut bytes = [0; MAX_BYTES];
    let mut length = 0;
    while length < MAX_BYTES {
        match rustix::io::read(file, &mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(NotRead::Errno(errno)),
        }
    }
    Ok(bytes[..length].to_vec())
}

/// Finds the pid in a pidfile's first bytes: optional blanks, decimal digits,
/// anything after.
///
/// # Errors
///
/// What was found instead, for people.
pub fn parse(bytes: &[u8], pid_max: u32) -> Result<u32, String> {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let text = line.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Err(if bytes.is_empty() {
            "is empty, expected a pid".to_owned()
        } else {
            format!("expected a pid, found {}", Found(line))
        });
    }
    let number = text[..digits].iter().fold(0_u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    match u32::try_from(number) {
        Ok(0) => Err("expected a pid, found `0`".to_owned()),
        Ok(pid) if pid <= pid_max => Ok(pid),
        Ok(_) | Err(_) => Err(format!(
            "expected a pid of at most {pid_max}, found {}",
            Found(line)
        )),
    }
}

/// Bytes of unknown content, short and printable.
struct Found<'a>(&'a [u8]);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 24;
        let text = String::from_utf8_lossy(self.0);
        let mut characters = text.chars();
        write!(f, "`")?;
        for character in characters.by_ref().take(SHOWN) {
            write!(f, "{}", character.escape_debug())?;
        }
        f.write_str(if characters.next().is_some() {
            "…`"
        } else {
            "`"
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::print_stdout,
        clippy::wildcard_enum_match_arm,
        reason = "tests"
    )]

    use std::{
        fs, os::unix::fs::PermissionsExt, os::unix::net::UnixListener, sync::mpsc, time::Duration,
    };

    use rustix::fs::mknodat;

    use super::*;

    /// Longer than a read that does not block takes, on a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    fn refusal(path: &Path) -> String {
        let (told, reading) = mpsc::channel();
        let reader = path.to_owned();
        std::thread::spawn(move || told.send(read(&reader)));
        let reading = reading.recv_timeout(LONG);
        match reading.map_err(|_| "read blocked").unwrap() {
            Reading::Refused { reason } => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn numbers_are_found_as_pmond_finds_them() {
        for (text, pid) in [
            ("1234", 1234),
            ("1234\n", 1234),
            ("  \t1234\n", 1234),
            ("1234 nginx: master\n", 1234),
            ("1234abc", 1234),
            ("1234\n5678\n", 1234),
            ("0000000000000000000000000000000000000000001234\n", 1234),
            ("1234\r\n", 1234),
            ("32768", 32768),
        ] {
            assert_eq!(parse(text.as_bytes(), 32768), Ok(pid), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_pid_is_named() {
        for (text, expected) in [
            ("", "is empty, expected a pid"),
            ("\n1234\n", "expected a pid, found ``"),
            ("   ", "expected a pid, found `   `"),
            ("-1\n", "expected a pid, found `-1`"),
            ("+7\n", "expected a pid, found `+7`"),
            ("0", "expected a pid, found `0`"),
            ("0x10", "expected a pid, found `0`"),
            ("pid 12", "expected a pid, found `pid 12`"),
            (
                "99999999999\n",
                "expected a pid of at most 32768, found `99999999999`",
            ),
            ("32769", "expected a pid of at most 32768, found `32769`"),
            ("\u{0}\u{1}", "expected a pid, found `\\0\\u{1}`"),
        ] {
            assert_eq!(
                parse(text.as_bytes(), 32768),
                Err(expected.to_owned()),
                "{text:?}"
            );
        }
        let long = "x".repeat(64);
        assert!(parse(long.as_bytes(), 32768).unwrap_err().ends_with("x…`"));
    }

    #[test]
    fn only_the_first_64_bytes_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big.pid");
        fs::write(&path, format!("77\n{}", "x".repeat(10 << 20))).unwrap();
        assert!(matches!(read(&path), Reading::Pid { pid: 77, .. }));
        fs::write(&path, format!("{}77", " ".repeat(64))).unwrap();
        assert!(matches!(read(&path), Reading::Junk { .. }));
    }

    #[test]
    fn a_write_or_a_rename_changes_the_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pid");
        let stamp = || match read(&path) {
            Reading::Pid { stamp, .. } => stamp,
            other => panic!("{other:?}"),
        };
        assert_eq!(read(&path), Reading::Absent);
        fs::write(&path, "77").unwrap();
        let first = stamp();
        assert_eq!(first, stamp());
        std::thread::sleep(Duration::from_millis(15));
        fs::write(&path, "77").unwrap();
        let second = stamp();
        assert_ne!(first, second);
        let other = directory.path().join("b");
        fs::write(&other, "77").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(second, stamp());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_opening_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        fs::write(place("target"), "77").unwrap();
        std::os::unix::fs::symlink(place("target"), place("link")).unwrap();
        assert!(refusal(&place("link")).contains("is a symbolic link, expected a regular file"));
        std::os::unix::fs::symlink(place("nowhere"), place("dangling")).unwrap();
        assert!(refusal(&place("dangling")).contains("is a symbolic link"));
        mknodat(CWD, place("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(refusal(&place("fifo")).contains("is a FIFO"));
        assert!(refusal(directory.path()).contains("is a directory"));
        assert!(refusal(Path::new("/dev/null")).contains("is a character device"));
        let _listener = UnixListener::bind(place("socket")).unwrap();
        assert!(refusal(&place("socket")).contains("is a socket"));
        assert_eq!(read(&place("target").join("x")), Reading::Absent);
    }

    #[test]
    fn an_unreadable_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.pid");
        fs::write(&path, "77").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::File::open(&path).is_ok() {
            println!("skipped: this user may read every file (CAP_DAC_OVERRIDE)");
            return;
        }
        assert!(refusal(&path).contains("cannot be read: Permission denied"));
    }

    #[test]
    fn everybodys_files_are_marked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pid");
        fs::write(&path, "77").unwrap();
        for (mode, everybody) in [(0o644, false), (0o664, false), (0o666, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match read(&path) {
                Reading::Pid { writer, .. } => assert_eq!(writer.everybody, everybody),
                other => panic!("{other:?}"),
            }
        }
    }
}
