//! Replacing a file as a whole: after a crash at any point there is the old
//! content or the new one under its name, never a part of either.
//!
//! [`Reach::Disk`] holds for crashes of the host, [`Reach::Cache`] for those of
//! the daemon alone and costs no wait for a disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

/// How far a file is written before [`replace`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the disk: it outlives the host's crash.
    Disk,
    /// To the kernel's page cache: it outlives the daemon.
    Cache,
}

/// Writes `content` to `directory/name`, readable for the owner alone.
///
/// The content goes to `name.new` and as far as `reach`, then takes the name
/// over; the directory follows as far as `reach` last.
///
/// # Errors
///
/// Whatever the file system says; the old file is untouched then, unless only
/// the last step failed.
pub fn replace(directory: &Path, name: &str, content: &[u8], reach: Reach) -> io::Result<()> {
    let staged = directory.join(format!("{name}.new"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags(OFlags::NOFOLLOW))
        .open(&staged)
        .and_then(|mut file| {
            file.write_all(content)?;
            match reach {
                Reach::Disk => file.sync_all(),
                Reach::Cache => Ok(()),
            }
        })
        .and_then(|()| fs::rename(&staged, directory.join(name)));
    if let Err(error) = written {
        // On a full disk the half file would only be in the way.
        let _best_effort: io::Result<()> = fs::remove_file(&staged);
        return Err(error);
    }
    match reach {
        Reach::Disk => File::open(directory)?.sync_all(),
        Reach::Cache => Ok(()),
    }
}

/// Open flags in the type that the standard library wants.
#[must_use]
pub const fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(
            directory.path().join("file.new"),
            "torn by a crash, and longer",
        )
        .unwrap();
        for (content, reach) in [("one", Reach::Disk), ("two", Reach::Cache)] {
            replace(directory.path(), "file", content.as_bytes(), reach).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        replace(directory.path(), "file", b"one", Reach::Disk).unwrap();
        fs::create_dir(directory.path().join("file.new")).unwrap();
        replace(directory.path(), "file", b"two", Reach::Disk).unwrap_err();
        let content = fs::read(directory.path().join("file")).unwrap();
        assert_eq!(content, b"one");
    }
}
