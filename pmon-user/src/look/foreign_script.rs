//! Is somebody else running the entity's init script right now?
//!
//! While an operator's `service NAME restart` is at work, starting a second
//! instance would be pmon's fault. A script counts as at work when a process
//! has the script's path followed by an LSB verb among its first words, in our
//! own root directory, is not one of pmon's own start commands, and is younger
//! than pmon would let its own start command get: an older one hangs, or is
//! the service itself running in a subshell of its script.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use procfs::process::Process;

use crate::{core::time::Time, sys::clock};

/// Verbs of an LSB init script that start or stop its service (LSB 5.0,
/// "Init Script Actions"), and common companions. `status` changes nothing.
const VERBS: [&str; 9] = [
    "start",
    "stop",
    "restart",
    "reload",
    "force-reload",
    "force-restart",
    "try-restart",
    "condrestart",
    "force-stop",
];

/// The path is looked for among this many first words: `sudo`, an interpreter
/// and an option may come before it.
const WORDS: usize = 4;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Search {
    /// The init script.
    pub script: PathBuf,
    /// Processes, process groups and sessions of pmon's own start commands.
    pub own: Arc<HashSet<u32>>,
    /// Processes that never count: the entity's own.
    pub except: Vec<u32>,
    /// Older processes do not count.
    pub max_age: Duration,
}

/// Finds a process that runs the script; the lowest pid where there are more.
///
/// Reads one `cmdline` per process, in about 10 µs each. It can block for as
/// long as some process holds its own memory map locked.
#[must_use]
pub fn find(search: &Search) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?;
    let mut found: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| runs_script(search, pid))
        .collect();
    found.sort_unstable();
    found.first().copied()
}

fn runs_script(search: &Search, pid: u32) -> bool {
    let directory = Path::new("/proc").join(pid.to_string());
    // Gone, a kernel thread's or a zombie's: nothing or empty.
    let Ok(cmdline) = fs::read(directory.join("cmdline")) else {
        return false;
    };
    script_words(&cmdline).any(|word| is_script(&directory, word, &search.script))
        && !search.except.contains(&pid)
        && !is_excused(search, pid)
}

/// The words that are followed by a verb.
fn script_words(cmdline: &[u8]) -> impl Iterator<Item = &OsStr> {
    let words = cmdline.split(|&byte| byte == 0).take(WORDS + 1);
    words
        .clone()
        .zip(words.skip(1))
        .filter(|(_, verb)| VERBS.iter().any(|known| known.as_bytes() == *verb))
        .map(|(word, _)| OsStr::from_bytes(word))
}

/// Whether `word`, as that process understands it, is the script.
fn is_script(directory: &Path, word: &OsStr, script: &Path) -> bool {
    if word.is_empty() {
        return false;
    }
    let identity = |path: &Path| {
        fs::metadata(path)
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .ok()
    };
    let root = identity(&directory.join("root"));
    // Not permitted to look: then the words alone decide.
    let elsewhere = root.is_some() && root != identity(Path::new("/"));
    if elsewhere {
        return false;
    }
    if Path::new(word) == script {
        return true;
    }
    let found = identity(&directory.join("cwd").join(word));
    found.is_some() && found == identity(script)
}

/// One of pmon's own, or too old.
fn is_excused(search: &Search, pid: u32) -> bool {
    let stat = i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok())
        .and_then(|process| process.stat().ok());
    let Some(stat) = stat else {
        // Gone meanwhile.
        return true;
    };
    let ours = |id: i32| u32::try_from(id).is_ok_and(|id| search.own.contains(&id));
    ours(stat.pid)
        || ours(stat.pgrp)
        || ours(stat.session)
        || clock::elapsed(Time::from_start_ticks(stat.starttime)) > search.max_age
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

    use std::{
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
        time::Instant,
    };

    use rustix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::specimen::executable;

    struct Script {
        directory: tempfile::TempDir,
        path: PathBuf,
    }

    /// An init script that runs until its input ends, whatever it is asked, and
    /// without a child: that would show the script's words until it executes.
    fn script() -> Script {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service");
        executable(&path, "#!/bin/sh\nread line\n");
        Script { directory, path }
    }

    fn search(script: &Script) -> Search {
        Search {
            script: script.path.clone(),
            own: Arc::default(),
            except: Vec::new(),
            max_age: Duration::from_secs(60),
        }
    }

    /// In a process group of its own, as pmon's own start commands are.
    struct Group(Child);

    impl Group {
        fn run(command: &mut Command) -> Self {
            let command = command.process_group(0).stdin(Stdio::piped());
            let child = command.spawn().unwrap();
            let cmdline = format!("/proc/{}/cmdline", child.id());
            // The kernel shows no words for a moment during exec.
            let deadline = Instant::now() + Duration::from_secs(60);
            while fs::read(&cmdline).unwrap().is_empty() {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
            Self(child)
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let group = rustix::process::Pid::from_child(&self.0);
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_script_is_found_by_any_of_its_names() {
        let script = script();
        let link = script.directory.path().join("S01service");
        std::os::unix::fs::symlink("service", &link).unwrap();
        assert_eq!(find(&search(&script)), None);
        for command in [
            Command::new(&script.path).arg("start"),
            Command::new(&link).arg("restart"),
            Command::new("sh").arg("-e").arg(&script.path).arg("stop"),
            Command::new("./service")
                .arg("force-reload")
                .current_dir(script.directory.path()),
        ] {
            let group = Group::run(command);
            assert_eq!(find(&search(&script)), Some(group.0.id()), "{command:?}");
        }
        assert_eq!(find(&search(&script)), None);
    }

    #[test]
    fn other_verbs_scripts_and_pmons_own_do_not_count() {
        let script = script();
        let other = self::script();
        let _status = Group::run(Command::new(&script.path).arg("status"));
        let _other = Group::run(Command::new(&other.path).arg("start"));
        let _reader = Group::run(Command::new("tail").arg("-f").arg(&script.path));
        assert_eq!(find(&search(&script)), None);

        let group = Group::run(Command::new(&script.path).arg("start"));
        let pid = group.0.id();
        assert_eq!(find(&search(&script)), Some(pid));
        let own = Search {
            own: Arc::new(HashSet::from([pid])),
            ..search(&script)
        };
        assert_eq!(find(&own), None);
        let except = Search {
            except: vec![pid],
            ..search(&script)
        };
        assert_eq!(find(&except), None);
        let old = Search {
            max_age: Duration::ZERO,
            ..search(&script)
        };
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(find(&old), None);
    }

    #[test]
    fn a_child_of_pmons_own_script_is_pmons_own() {
        let script = script();
        let wrapper = script.directory.path().join("wrapper");
        executable(
            &wrapper,
            &format!("#!/bin/sh\n{} start\n", script.path.display()),
        );
        let group = Group::run(&mut Command::new(&wrapper));
        let deadline = Instant::now() + Duration::from_secs(60);
        while find(&search(&script)).is_none() {
            assert!(Instant::now() < deadline);
        }
        assert_ne!(find(&search(&script)), Some(group.0.id()));
        let own = Search {
            own: Arc::new(HashSet::from([group.0.id()])),
            ..search(&script)
        };
        assert_eq!(find(&own), None);
    }

    #[test]
    fn the_cost_of_a_search_is_told() {
        let script = script();
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_str().unwrap().parse::<u32>().is_ok()
            })
            .count();
        let rounds = 20;
        // CPU time: what else the machine is doing does not count.
        let spent = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let before = spent();
        for _ in 0..rounds {
            assert_eq!(find(&search(&script)), None);
        }
        let each = (spent() - before) / rounds / u32::try_from(processes).unwrap();
        println!("{processes} processes, {each:?} each");
        assert!(each < Duration::from_millis(1), "{each:?}");
    }
}
