//! One daemon per directory: an `flock(2)` on `pmon.lock`.
//!
//! The kernel releases the lock with its holder, however that ends; the pid in
//! the file is only for the message. The file goes with the lock, so whoever
//! takes the lock makes sure that it is still the file of that name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};
use thiserror::Error;

use super::atomic;
use crate::sys::pidfd::{VerifyError, verify};

/// Name in the directory.
pub const FILE: &str = "pmon.lock";
/// A daemon that was killed may leave a child between fork and execve, which
/// still holds its descriptors: for as long as that takes, and a margin.
const DYING: Duration = Duration::from_secs(2);
/// How often is looked meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The file may be replaced while we wait for our turn; more often than this
/// somebody is playing with us.
const ROUNDS: u32 = 16;

/// The directory is ours until this is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

/// Why the directory is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error("`{}` is in use by {}", directory.display(), holder(*pid))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The other daemon, as far as it has told.
        pid: Option<u32>,
    },
    /// The lock file cannot be created, opened or locked.
    #[error("cannot lock `{}`", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("another daemon (pid {pid})"),
        None => "another daemon".to_owned(),
    }
}

impl Lock {
    /// Takes an existing directory for this process.
    ///
    /// # Errors
    ///
    /// See [`LockError`].
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(FILE);
        let failed = |source| LockError::File {
            path: path.clone(),
            source,
        };
        let patience = Instant::now() + DYING;
        let mut round = 0;
        while round < ROUNDS {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(atomic::flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
                .open(&path)
                .map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let pid = written_pid(&mut file);
                    if pid.is_some_and(is_gone) && Instant::now() < patience {
                        thread::sleep(LOOK_AGAIN);
                        continue;
                    }
                    return Err(LockError::InUse {
                        directory: directory.to_owned(),
                        pid,
                    });
                }
                Err(errno) => return Err(failed(errno.into())),
            }
            // Its last holder may have removed it between our open and our lock.
            if !is_at(&file, &path).map_err(failed)? {
                round += 1;
                continue;
            }
            file.set_len(0).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            return Ok(Self { path, _file: file });
        }
        Err(failed(io::Error::other(
            "the file is replaced all the time",
        )))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked still, so that it is nobody else's. A file that
        // stays behind does no harm.
        let _best_effort: io::Result<()> = fs::remove_file(&self.path);
    }
}

/// Whether no process has this pid, or only its status is left of it.
fn is_gone(pid: u32) -> bool {
    match verify(pid) {
        Ok(process) => process.is_dead(),
        Err(VerifyError::NoProcess { .. } | VerifyError::NotALeader { .. }) => true,
        Err(VerifyError::Open { .. } | VerifyError::StartTime { .. }) => false,
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn written_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{
        process::{Command, Stdio},
        sync::atomic::{AtomicU32, Ordering},
    };

    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn a_second_daemon_is_told_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(directory.path()).unwrap();
        let error = Lock::acquire(directory.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` is in use by another daemon (pid {})",
                directory.path().display(),
                std::process::id()
            )
        );
        drop(lock);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        Lock::acquire(directory.path()).unwrap();
    }

    /// As a child of a killed daemon does between fork and execve.
    #[test]
    fn a_dead_daemons_child_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        // Dead and not reaped, so that nobody else gets its pid.
        let mut dead = Command::new("true").spawn().unwrap();
        let status = WaitId::Pid(Pid::from_child(&dead));
        waitid(status, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, dead.id().to_string()).unwrap();
        let held = File::open(&path).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let child = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(held);
        });
        Lock::acquire(directory.path()).unwrap();
        child.join().unwrap();
        dead.wait().unwrap();
    }

    #[test]
    fn a_crash_releases_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, "").unwrap();
        let mut holder = Command::new("flock")
            .arg("--no-fork")
            .arg(&path)
            .args(["sh", "-c", "echo $$ > \"$0\"; echo; read line"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        holder
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut byte)
            .unwrap();
        let error = Lock::acquire(directory.path()).unwrap_err();
        assert!(
            matches!(error, LockError::InUse { pid, .. } if pid == Some(holder.id())),
            "{error}"
        );
        holder.kill().unwrap();
        holder.wait().unwrap();
        let lock = Lock::acquire(directory.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
        drop(lock);
    }

    #[test]
    fn never_two_holders_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let marker = directory.path().join("held");
        let begun = Instant::now();
        let taken = AtomicU32::new(0);
        let enough = || {
            let taken = taken.load(Ordering::Relaxed);
            taken > 10 && begun.elapsed() > Duration::from_millis(300)
        };
        thread::scope(|scope| {
            let contender = || {
                while !enough() && begun.elapsed() < Duration::from_secs(60) {
                    if let Ok(_lock) = Lock::acquire(directory.path()) {
                        File::create_new(&marker).unwrap();
                        thread::yield_now();
                        fs::remove_file(&marker).unwrap();
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            for _ in 0..4 {
                scope.spawn(contender);
            }
        });
        assert!(enough(), "{taken:?}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = Lock::acquire(&directory.path().join("missing")).unwrap_err();
        assert!(matches!(error, LockError::File { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot lock `"));
    }
}
