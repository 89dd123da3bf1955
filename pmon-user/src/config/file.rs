//! Reads one configuration file without being fooled or held up by it.
//!
//! A configuration names commands that run as root, so a file that someone
//! else may change is refused when pmon is root. Nothing here can block or have
//! a side effect on a device: whatever is not a regular file is never read.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use rustix::fs::OFlags;

use super::finding::{Finding, Level};

/// Largest configuration file that is read, in bytes. The largest real pmon.d
/// file known has 1.6 KiB; a native file with a thousand entities about 300 KiB.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Mode bits that let somebody other than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such file (any more).
    #[error("file is gone")]
    Vanished,
    /// A symbolic link whose target does not exist.
    #[error("symbolic link to `{}`, which does not exist", .0.display())]
    Dangling(OsString),
    /// A directory.
    #[error("is a directory, not a configuration file")]
    Directory,
    /// A FIFO, socket or device.
    #[error("is a {0}, not a regular file")]
    NotRegular(&'static str),
    /// Root would obey what `uid` writes.
    #[error("belongs to uid {0}, not to root: refused, because it names commands that run as root")]
    Owner(u32),
    /// Root would obey what others write.
    #[error(
        "may be written by others (mode {0:04o}): refused, because it names commands that run as root"
    )]
    Writable(u32),
    /// Over [`MAX_FILE_BYTES`].
    #[error("is larger than {MAX_FILE_BYTES} bytes: refused")]
    TooLarge,
    /// Contains a NUL byte.
    #[error("is binary (NUL byte at offset {0}): refused")]
    Binary(usize),
    /// The system says no.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
}

impl ReadError {
    /// As a finding about `path`, with the command that puts it right.
    pub fn finding(&self, level: Level, path: &Path) -> Finding {
        let quoted = shell_quoted(path.as_os_str());
        let hint = match self {
            Self::Owner(_) => Some(format!("fix: chown root {quoted}")),
            Self::Writable(_) => Some(format!("fix: chmod go-w {quoted}")),
            Self::Dangling(_) => Some("restore the target or remove the link".to_owned()),
            Self::Directory => {
                Some("subdirectories are not searched; move its files up".to_owned())
            }
            Self::Vanished
            | Self::NotRegular(_)
            | Self::TooLarge
            | Self::Binary(_)
            | Self::Io(_) => None,
        };
        Finding::new(level, path, self.to_string()).maybe_hint(hint)
    }
}

/// `text` as one word of a shell command.
fn shell_quoted(text: &OsStr) -> String {
    let text = String::from_utf8_lossy(text.as_bytes());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The whole of `path`, links followed. With `privileged` it must be safe to
/// obey as root.
pub fn read(path: &Path, privileged: bool) -> Result<Vec<u8>, ReadError> {
    // Looked at before it is opened: opening a watchdog device would arm it.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Err(explain(path, error)),
    };
    check_kind(&metadata)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
        .map_err(|error| explain(path, error))?;
    // Looked at again: it may have been exchanged since.
    let metadata = file.metadata().map_err(ReadError::Io)?;
    check_kind(&metadata)?;
    if privileged {
        check_owner(&metadata)?;
    }
    read_all(&file, &metadata)
}

/// "Not found", told apart for links.
fn explain(path: &Path, error: io::Error) -> ReadError {
    if error.kind() != io::ErrorKind::NotFound {
        return ReadError::Io(error);
    }
    match std::fs::read_link(path) {
        Ok(target) => ReadError::Dangling(target.into_os_string()),
        Err(_) => ReadError::Vanished,
    }
}

fn check_kind(metadata: &Metadata) -> Result<(), ReadError> {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(())
    } else if kind.is_dir() {
        Err(ReadError::Directory)
    } else if kind.is_fifo() {
        Err(ReadError::NotRegular("FIFO"))
    } else if kind.is_socket() {
        Err(ReadError::NotRegular("socket"))
    } else {
        Err(ReadError::NotRegular("device"))
    }
}

/// Whether root may obey this file or search this directory.
pub fn check_owner(metadata: &Metadata) -> Result<(), ReadError> {
    if metadata.uid() != 0 {
        return Err(ReadError::Owner(metadata.uid()));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(ReadError::Writable(metadata.mode() & 0o7777));
    }
    Ok(())
}

fn read_all(file: &File, metadata: &Metadata) -> Result<Vec<u8>, ReadError> {
    if metadata.len() > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge);
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge);
    }
    match bytes.iter().position(|byte| *byte == 0) {
        Some(offset) => Err(ReadError::Binary(offset)),
        None => Ok(bytes),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
        path::PathBuf,
        sync::mpsc,
        time::Duration,
    };

    use super::*;

    fn written(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn failure(path: &Path) -> String {
        read(path, false).unwrap_err().to_string()
    }

    #[test]
    fn a_regular_file_and_a_link_to_it_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path(), "a", b"hello\n");
        symlink(&path, directory.path().join("link")).unwrap();
        assert_eq!(read(&path, false).unwrap(), b"hello\n");
        assert_eq!(
            read(&directory.path().join("link"), false).unwrap(),
            b"hello\n"
        );
    }

    #[test]
    fn a_fifo_neither_blocks_nor_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o644.into()).unwrap();
        // A read that blocks, blocks for good.
        let (told, said) = mpsc::channel();
        std::thread::spawn(move || told.send(failure(&path)));
        assert_eq!(
            said.recv_timeout(Duration::from_secs(60)).as_deref(),
            Ok("is a FIFO, not a regular file")
        );
    }

    #[test]
    fn sockets_devices_and_directories_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(failure(&socket), "is a socket, not a regular file");
        assert_eq!(
            failure(Path::new("/dev/null")),
            "is a device, not a regular file"
        );
        assert_eq!(
            failure(directory.path()),
            "is a directory, not a configuration file"
        );
    }

    #[test]
    fn gone_and_dangling_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        assert!(matches!(read(&path, false), Err(ReadError::Vanished)));
        symlink("/nonexistent/target", &path).unwrap();
        assert_eq!(
            failure(&path),
            "symbolic link to `/nonexistent/target`, which does not exist"
        );
        let round = directory.path().join("round");
        symlink(&round, &round).unwrap();
        assert!(failure(&round).starts_with("cannot be read: "));
    }

    #[test]
    fn ten_megabytes_are_refused_and_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path(), "big", &vec![b'\n'; 10 * 1024 * 1024]);
        assert_eq!(failure(&path), "is larger than 1048576 bytes: refused");
        let path = written(directory.path(), "fits", &vec![b'\n'; 1024 * 1024]);
        assert_eq!(read(&path, false).unwrap().len(), 1024 * 1024);
    }

    #[test]
    fn binary_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path(), "b", b"ab\0c");
        assert_eq!(failure(&path), "is binary (NUL byte at offset 2): refused");
    }

    #[test]
    fn root_refuses_what_others_may_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path(), "with blank", b"x\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(&path, false).is_ok());
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root to own a file as root");
            return;
        }
        let error = read(&path, true).unwrap_err();
        assert!(matches!(error, ReadError::Writable(0o666)));
        let finding = error.finding(Level::Error, &path).to_string();
        assert!(
            finding.contains(&format!("(fix: chmod go-w '{}')", path.display())),
            "{finding}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path, true).is_ok());
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let error = read(&path, true).unwrap_err();
        assert!(matches!(error, ReadError::Owner(12345)));
        let finding = error.finding(Level::Error, &path).to_string();
        assert!(finding.contains("(fix: chown root '"), "{finding}");
    }

    #[test]
    fn shell_words_are_quoted_only_when_needed() {
        assert_eq!(shell_quoted(OsStr::new("/etc/a.b")), "/etc/a.b");
        assert_eq!(shell_quoted(OsStr::new("/e/it's")), r"'/e/it'\''s'");
    }
}
