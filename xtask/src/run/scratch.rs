//! The scratch directory of a run: binaries, the examples with their paths
//! filled in, the daemon's run and state directories, and a note of who owns
//! it. Removing it removes everything the run left: processes, pins, sockets.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::process as processes;

/// Programs that a run needs, from the release build.
const PROGRAMS: [&str; 4] = ["pmon", "tick-daemon", "greeter", "flaky"];
/// Time that a process gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Longest path of a Unix socket, `sizeof(sun_path)` less the final NUL (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// A run's directory `target/run/PID`.
pub(super) struct Scratch {
    pub(super) directory: PathBuf,
    /// bpffs directory of the daemon's pins, unless nothing is pinned.
    pub(super) pins: Option<PathBuf>,
}

/// Who owns a scratch directory, in `owner.json`.
#[derive(Serialize, Deserialize)]
struct Owner {
    pid: u32,
    start_time: u64,
    pins: Option<PathBuf>,
}

impl Scratch {
    /// Sets up the directory of this process's run.
    ///
    /// # Errors
    ///
    /// When a file can't be written, or socket paths would be too long.
    pub(super) fn create(root: &Path, pins: Option<PathBuf>) -> Result<Self> {
        let directory = root.join("target/run").join(process::id().to_string());
        let scratch = Self { directory, pins };
        let longest = scratch.socket();
        ensure!(
            longest.as_os_str().len() <= LONGEST_SOCKET,
            "`{}` is too long for a Unix socket; move the repository up",
            longest.display()
        );
        // `run` is traversable by clients, nothing is writable by others:
        // these files name commands that the daemon runs.
        for name in ["", "bin", "init.d", "pmon.d", "run", "state", "var"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(scratch.directory.join(name))?;
        }
        scratch.note_owner()?;
        for program in PROGRAMS {
            let from = root.join("target/release").join(program);
            let to = scratch.directory.join("bin").join(program);
            fs::copy(&from, &to).with_context(|| format!("can't copy `{}`", from.display()))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        }
        for (file, mode) in [
            ("pmon.toml", 0o644),
            ("pmon.d/tick-daemon.conf", 0o644),
            ("init.d/tick-daemon", 0o755),
        ] {
            scratch.instantiate(&root.join("examples"), file, mode)?;
        }
        Ok(scratch)
    }

    /// The control socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("run/pmon.sock")
    }

    /// What the daemon wrote to stderr.
    pub(super) fn daemon_log(&self) -> PathBuf {
        self.directory.join("daemon.log")
    }

    fn note_owner(&self) -> Result<()> {
        let pid = process::id();
        let owner = Owner {
            pid,
            start_time: processes::start_time(pid).context("can't read `/proc/self/stat`")?,
            pins: self.pins.clone(),
        };
        fs::write(
            self.directory.join("owner.json"),
            serde_json::to_string(&owner)?,
        )?;
        Ok(())
    }

    /// Copies an example, with the scratch directory for every `@DIR@`.
    fn instantiate(&self, examples: &Path, file: &str, mode: u32) -> Result<()> {
        let from = examples.join(file);
        let text = fs::read_to_string(&from)
            .with_context(|| format!("can't read `{}`", from.display()))?
            .replace("@DIR@", &self.directory.to_string_lossy());
        let to = self.directory.join(file);
        fs::write(&to, text).with_context(|| format!("can't write `{}`", to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Ends every process of the run, then removes its pins and files, and
    /// looks whether all are gone. Returns the processes that had to be ended.
    ///
    /// # Errors
    ///
    /// When something stays.
    pub(super) fn remove(&self) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        // The daemon first: it would recover the others.
        let (daemons, services): (Vec<_>, Vec<_>) = processes::below(&self.directory)?
            .into_iter()
            .partition(|process| process.program == "pmon");
        for process in daemons {
            process.end(GRACE)?;
            ended.push(format!("{} {}", process.program, process.pid));
        }
        for process in services {
            process.end(GRACE)?;
            ended.push(format!("{} {}", process.program, process.pid));
        }
        // A start that was under way may have brought up one more.
        for process in processes::below(&self.directory)? {
            if !process.end(GRACE)? {
                bail!("{} {} can't be ended", process.program, process.pid);
            }
            ended.push(format!("{} {}", process.program, process.pid));
        }
        if let Some(pins) = &self.pins {
            remove_all(pins)?;
        }
        remove_all(&self.directory)?;
        if let Some(parent) = self.directory.parent() {
            // Fails when another run is there, as it should.
            let _ = fs::remove_dir(parent);
        }
        Ok(ended)
    }

    /// Removes what runs that were killed left behind; a run whose owner lives
    /// is left alone.
    ///
    /// # Errors
    ///
    /// When something can't be removed.
    pub(super) fn remove_leftovers(root: &Path) -> Result<()> {
        let entries = match fs::read_dir(root.join("target/run")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context("can't read `target/run`"),
        };
        for entry in entries {
            let directory = entry?.path();
            let owner = fs::read_to_string(directory.join("owner.json"))
                .ok()
                .and_then(|text| serde_json::from_str::<Owner>(&text).ok());
            let pins = match owner {
                Some(owner) if processes::start_time(owner.pid) == Some(owner.start_time) => {
                    eprintln!("another run is active as {}", owner.pid);
                    continue;
                }
                Some(owner) => owner.pins,
                // Being set up: the directory is named after its owner.
                None if owner_alive(&directory) => continue,
                // Killed before it noted its owner: nothing was pinned yet.
                None => None,
            };
            let scratch = Self { directory, pins };
            let ended = scratch.remove()?;
            eprintln!(
                "removed what an earlier run left in {}{}{}",
                scratch.directory.display(),
                if ended.is_empty() { "" } else { ": " },
                ended.join(", ")
            );
        }
        Ok(())
    }
}

fn owner_alive(directory: &Path) -> bool {
    directory
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok())
        .is_some_and(|pid| processes::start_time(pid).is_some())
}

fn remove_all(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("can't remove `{}`", directory.display())),
    }
}
