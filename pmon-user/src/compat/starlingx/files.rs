//! pmond's own files (spec/pmond.md §9): `/var/run/pmond.pid`, by which scripts
//! find the monitor, and `/var/run/pmond.info`, in which people read how it is.

use std::{
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::root::Root;

const PIDFILE: &str = "/var/run/pmond.pid";
const INFO: &str = "/var/run/pmond.info";

/// `comm` of the original.
const PMOND: &str = "pmond";

/// pmond, if one runs beside us. Blocking, on file systems that no network can
/// hang.
#[must_use]
pub fn original(root: &Root) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(root.path(PIDFILE))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (comm.trim_end() == PMOND && pid != std::process::id()).then_some(pid)
}

/// The pidfile, removed with this value if it still names us.
#[derive(Debug)]
pub struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes it, as pmond does without a newline.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(root: &Root) -> io::Result<Self> {
        let path = root.path(PIDFILE);
        replace(&path, &std::process::id().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        if std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == own)
            && let Err(error) = std::fs::remove_file(&self.0)
        {
            tracing::warn!(%error, "the pidfile stays");
        }
    }
}

/// Writes how the monitor is.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_info(root: &Root, text: &str) -> io::Result<()> {
    replace(&root.path(INFO), text)
}

/// At once: nobody reads half of it, and nothing that lies there is written into.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&beside)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path().to_path_buf());
        std::fs::create_dir_all(root.path("/var/run")).unwrap();
        (directory, root)
    }

    #[test]
    fn the_pidfile_goes_with_us_unless_it_is_somebody_elses_by_then() {
        let (_directory, root) = root();
        let pidfile = Pidfile::write(&root).unwrap();
        let own = std::process::id().to_string();
        assert_eq!(std::fs::read_to_string(root.path(PIDFILE)).unwrap(), own);
        drop(pidfile);
        assert!(!root.path(PIDFILE).exists());

        let pidfile = Pidfile::write(&root).unwrap();
        std::fs::write(root.path(PIDFILE), "1").unwrap();
        drop(pidfile);
        assert!(root.path(PIDFILE).exists());
        assert_eq!(original(&root), None, "init is not pmond");
    }

    #[test]
    fn what_lies_in_the_way_is_replaced() {
        let (_directory, root) = root();
        std::os::unix::fs::symlink("/dev/null", root.path(INFO)).unwrap();
        write_info(&root, "well\n").unwrap();
        assert_eq!(std::fs::read_to_string(root.path(INFO)).unwrap(), "well\n");
    }
}
