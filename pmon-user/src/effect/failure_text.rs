//! `status_failure_text`: the first line of a file in which a status script says
//! what is wrong, safely read (spec/pmond.md §5.4).
//!
//! The files that are used in the field are in `/tmp`, where everybody can put
//! something in their place, and what they say goes into an alarm. Must stay true:
//!
//! * A symbolic link is followed only where nobody but root could have put it:
//!   in a directory that, with all above it, is root's and writable by nobody else.
//! * Nothing but a regular file is ever opened, so that no FIFO, device or
//!   socket can hang or do something.
//! * What root or pmon's own user has not written is not believed: not another
//!   owner's file, not one that others may write, not a second name of one that
//!   stands somewhere else.
//! * At most 127 bytes are read, and no control character is passed on.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat},
    io::Errno,
};
use thiserror::Error;

/// What `fgets` into the original's buffer of 128 bytes gives at most (spec/pmond.md §5.4).
const LONGEST: u64 = 127;

/// Symbolic links in a path before the kernel gives up (path_resolution(7)).
const LINKS: usize = 40;

/// Why there is no text.
#[derive(Debug, Error)]
pub(super) enum Unusable {
    /// It cannot be opened or read.
    #[error("`{}`: {error}", path.display())]
    Unreadable {
        /// How far we came.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// It is a link, in a directory where others could have put it.
    #[error("`{}` is a symbolic link in a directory that is not root's alone; not followed", .0.display())]
    Link(PathBuf),
    /// It is no regular file.
    #[error("it is a {0}, not a regular file")]
    Kind(&'static str),
    /// Somebody else could have written it.
    #[error("it is not trusted: {0}")]
    Untrusted(String),
    /// There is nothing in its first line.
    #[error("its first line is empty")]
    Empty,
}

/// Reads the first line. Blocks where the file system does.
///
/// # Errors
///
/// See [`Unusable`].
pub(super) fn read(path: &Path) -> Result<String, Unusable> {
    read_as(path, rustix::process::geteuid().as_raw())
}

fn read_as(path: &Path, own_uid: u32) -> Result<String, Unusable> {
    let Found {
        file,
        stat,
        guarded,
    } = find(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Unusable::Kind("directory")),
        FileType::Fifo => return Err(Unusable::Kind("FIFO")),
        FileType::Socket => return Err(Unusable::Kind("socket")),
        FileType::CharacterDevice | FileType::BlockDevice => return Err(Unusable::Kind("device")),
        FileType::Symlink | FileType::Unknown => return Err(Unusable::Kind("special file")),
    }
    if stat.st_uid != 0 && stat.st_uid != own_uid {
        let owner = stat.st_uid;
        return Err(Unusable::Untrusted(format!("it belongs to uid {owner}")));
    }
    if stat.st_mode & 0o002 != 0 {
        return Err(Unusable::Untrusted("everybody may write it".to_owned()));
    }
    if stat.st_nlink > 1 && !guarded {
        return Err(Unusable::Untrusted("it has other names".to_owned()));
    }
    let unreadable = |error: io::Error| Unusable::Unreadable {
        path: path.to_owned(),
        error,
    };
    // Opened by what was looked at, whatever has the name by now.
    let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(CWD, by_descriptor, flags, Mode::empty())
        .map_err(|errno| unreadable(errno.into()))?;
    let mut text = Vec::new();
    File::from(opened)
        .take(LONGEST)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    first_line(&text).ok_or(Unusable::Empty)
}

fn first_line(text: &[u8]) -> Option<String> {
    let line = text.split(|&byte| byte == b'\n').next()?;
    // What the limit has cut in the middle of a character.
    let whole = match std::str::from_utf8(line) {
        Err(error) if error.error_len().is_none() => line.get(..error.valid_up_to())?,
        Ok(_) | Err(_) => line,
    };
    let line: String = String::from_utf8_lossy(whole)
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A file that was found and not opened (`O_PATH`).
struct Found {
    file: OwnedFd,
    stat: Stat,
    /// Every directory on the way to it is root's alone.
    guarded: bool,
}

/// Walks the path, name by name.
fn find(path: &Path) -> Result<Found, Unusable> {
    let mut walked = PathBuf::from("/");
    let unreadable = |path: &Path, errno: Errno| Unusable::Unreadable {
        path: path.to_owned(),
        error: errno.into(),
    };
    let root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here =
        openat(CWD, "/", root, Mode::empty()).map_err(|errno| unreadable(&walked, errno))?;
    let mut stat = fstat(&here).map_err(|errno| unreadable(&walked, errno))?;
    let mut guarded = is_roots_alone(&stat);
    let mut names = names_of(path);
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        let at = walked.join(&name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(&here, name.as_os_str(), flags, Mode::empty())
            .map_err(|errno| unreadable(&at, errno))?;
        let found = fstat(&next).map_err(|errno| unreadable(&at, errno))?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            if !guarded {
                return Err(Unusable::Link(at));
            }
            links += 1;
            if links > LINKS {
                return Err(unreadable(&at, Errno::LOOP));
            }
            // The link that was looked at, not what has its name by now.
            let target =
                readlinkat(&next, "", Vec::new()).map_err(|errno| unreadable(&at, errno))?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            let mut rest = names_of(&target);
            rest.append(&mut names);
            names = rest;
            if target.is_absolute() {
                here = openat(CWD, "/", root, Mode::empty())
                    .map_err(|errno| unreadable(&at, errno))?;
                stat = fstat(&here).map_err(|errno| unreadable(&at, errno))?;
                walked = PathBuf::from("/");
            }
            continue;
        }
        if !names.is_empty() {
            // Of a file below which there is something the kernel says ENOTDIR.
            guarded &= is_roots_alone(&found);
        }
        here = next;
        stat = found;
        walked = at;
    }
    Ok(Found {
        file: here,
        stat,
        guarded,
    })
}

/// Nobody but root can put anything into this directory.
fn is_roots_alone(directory: &Stat) -> bool {
    directory.st_uid == 0 && directory.st_mode & 0o022 == 0
}

/// The names in a path, `..` among them.
fn names_of(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{
        fs,
        os::unix::{
            fs::{PermissionsExt as _, chown, symlink},
            net::UnixListener,
        },
    };

    use rustix::fs::mknodat;

    use super::*;

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn a_line_is_short_and_harmless() {
        for (text, line) in [
            (&b"mon.a is down\nmore\n"[..], Some("mon.a is down")),
            (b"no newline", Some("no newline")),
            (b"  blanks \r\n", Some("blanks")),
            (b"\x1b[31mred\x07\x00\n", Some("[31mred")),
            (b"bad \xff byte\n", Some("bad \u{fffd} byte")),
            (b"cut \xc3", Some("cut")),
            (b"\nsecond\n", None),
            (b"", None),
        ] {
            assert_eq!(first_line(text).as_deref(), line, "{text:?}");
        }
    }

    #[test]
    fn a_plain_file_is_read_up_to_127_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        fs::write(&path, "mds is down\nsecond line\n").unwrap();
        assert_eq!(read(&path).unwrap(), "mds is down");
        fs::write(&path, "x".repeat(1 << 20)).unwrap();
        assert_eq!(read(&path).unwrap().len(), 127);
        fs::write(&path, "").unwrap();
        assert!(matches!(read(&path), Err(Unusable::Empty)));
        fs::remove_file(&path).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, Unusable::Unreadable { .. }));
        assert!(error.to_string().contains("text`"), "{error}");
    }

    #[test]
    fn links_are_not_followed_where_others_can_put_them() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "secret\n").unwrap();
        // Below `/tmp`: the file itself, and a directory on the way to it.
        let link = directory.path().join("link");
        symlink(&secret, &link).unwrap();
        let way = directory.path().join("way");
        symlink(directory.path(), &way).unwrap();
        for path in [link, way.join("secret")] {
            let error = read(&path).unwrap_err();
            assert!(matches!(error, Unusable::Link(_)), "{error}");
        }
        // A second name of somebody's file.
        let other = directory.path().join("other");
        fs::hard_link(&secret, &other).unwrap();
        let error = read(&other).unwrap_err();
        assert!(matches!(error, Unusable::Untrusted(_)), "{error}");
    }

    #[test]
    fn links_are_followed_where_only_root_can_put_them() {
        // `/proc` is root's alone, and `self` a link in it.
        let text = read(Path::new("/proc/self/../version"));
        let own_uid_is_root = own() == 0;
        match text {
            Ok(text) => assert!(text.starts_with("Linux"), "{text}"),
            // In a user namespace `/proc` may be nobody's.
            Err(error) => assert!(!own_uid_is_root, "{error}"),
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [&fifo, &socket, Path::new("/dev/null"), directory.path()] {
            let error = read(path).unwrap_err();
            assert!(matches!(error, Unusable::Kind(_)), "{error}");
        }
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        fs::write(&path, "lies\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("everybody may write it"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path).unwrap(), "lies");
        // Somebody else's: the file of another user, or read by another.
        if own() == 0 {
            chown(&path, Some(65534), None).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("uid 65534"), "{error}");
            assert_eq!(read_as(&path, 65534).unwrap(), "lies");
        } else {
            let error = read_as(&path, own() + 1).unwrap_err();
            assert!(matches!(error, Unusable::Untrusted(_)), "{error}");
        }
    }
}
