//! Questions of status mode that are at work, on record in the run directory: a file
//! each, named by the pid, with the start time in it.
//!
//! A question is of use only to who has asked it. A daemon that ends in order ends its
//! own; what a killed one has left behind, and would go on without any deadline, the
//! next one ends before it asks anybody. (Starts go on: somebody needs what they
//! bring up.) Must stay true: only verified processes are signalled; nothing of this is
//! needed for an answer, so that a run directory that cannot be written costs
//! nothing but the record.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::timeout};

use super::leftovers;
use crate::{
    core::{entity::StopPolicy, identity::Identity},
    sys::{
        clock,
        pidfd::{VerifiedPid, verify},
    },
};

/// Longest time that a question waits for its record.
const RECORD: Duration = Duration::from_secs(1);
/// Longest time that the end of one that is killed is waited for.
const KILLED: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);
const SIGKILL: i32 = 9;

/// Where they are on record; nowhere if it is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions(Option<PathBuf>);

/// One of them; dropped when it has ended.
#[derive(Debug)]
pub(super) struct Noted(Option<PathBuf>);

impl Questions {
    pub(super) const fn new(directory: Option<PathBuf>) -> Self {
        Self(directory)
    }

    /// This process is one, and the leader of its process group.
    pub(super) async fn note(&self, pid: u32) -> Noted {
        let Some(directory) = self.0.clone() else {
            return Noted(None);
        };
        let path = directory.join(pid.to_string());
        let writing = {
            let path = path.clone();
            spawn_blocking(move || {
                // Gone already: there is nothing to be ended.
                let identity = verify(pid).ok()?.identity();
                let noted = fs::create_dir_all(&directory)
                    .and_then(|()| fs::write(&path, identity.start_time.to_string()));
                noted.err()
            })
        };
        if let Ok(Ok(Some(error))) = timeout(RECORD, writing).await {
            tracing::debug!(%error, "a question goes unrecorded");
        }
        Noted(Some(path))
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let Some(path) = self.0.take() else {
            return;
        };
        // On no runtime's thread, a file may hang.
        let _detached = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => Some(runtime.spawn_blocking(move || fs::remove_file(path))),
            Err(_) => None,
        };
    }
}

/// Ends what an earlier daemon has asked, with all of its process group, and
/// says whom. Blocks while they end, for a second each at most.
#[must_use]
pub fn end_orphans(directory: &Path) -> Vec<Identity> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut ended = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if let Some(process) = recorded(&path).and_then(find) {
            end(&process);
            ended.push(process.identity());
        }
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, path = %path.display(), "a record stays");
        }
    }
    ended
}

fn recorded(path: &Path) -> Option<Identity> {
    Some(Identity {
        pid: path.file_name()?.to_str()?.parse().ok()?,
        start_time: fs::read_to_string(path).ok()?.trim().parse().ok()?,
    })
}

fn find(identity: Identity) -> Option<VerifiedPid> {
    let process = verify(identity.pid).ok()?;
    (process.identity() == identity && !process.is_dead()).then_some(process)
}

/// The leader first: then nobody is left who would go on with the script.
fn end(process: &VerifiedPid) {
    // Dead already is what a signal is for.
    let _gone = process.signal(SIGKILL);
    let patience = Instant::now() + KILLED;
    while !process.is_dead() && Instant::now() < patience {
        thread::sleep(POLL);
    }
    let _left = leftovers::end(process.identity(), clock::now(), StopPolicy::KillFirst);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{
        io::BufRead as _,
        os::unix::process::CommandExt as _,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A leader of a process group with a child, which is told of.
    fn asking() -> (Child, VerifiedPid) {
        let mut leader = Command::new("sh")
            .args(["-c", "sleep 1000 >/dev/null & echo $!; wait"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = leader.stdout.take().unwrap();
        io::BufReader::new(stdout).read_line(&mut line).unwrap();
        let child = verify(line.trim().parse().unwrap()).unwrap();
        (leader, child)
    }

    #[test]
    fn an_orphan_is_ended_with_its_group_and_whoever_has_its_number_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (mut orphan, child) = asking();
        let (mut other, stranger) = asking();
        let orphaned = verify(orphan.id()).unwrap().identity();
        let of = |pid: u32| directory.path().join(pid.to_string());
        fs::write(of(orphan.id()), orphaned.start_time.to_string()).unwrap();
        fs::write(of(other.id()), "1").unwrap();
        fs::write(directory.path().join("nonsense"), "").unwrap();
        assert_eq!(end_orphans(directory.path()), [orphaned]);
        let begun = Instant::now();
        while !child.is_dead() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(POLL);
        }
        assert!(!stranger.is_dead());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(end_orphans(directory.path()), []);
        orphan.wait().unwrap();
        stranger.signal(SIGKILL).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
