//! A place of its own for every test: configuration, run, state and pin
//! directories, and a word that is part of every name in it.
//!
//! Dropping it, also while a test fails, ends what still runs by that word or
//! in a cgroup of that word, and removes pins and cgroups. What a test run that was itself killed left behind
//! is swept up by the next one.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::process;

/// Where bpffs is mounted (Documentation/bpf, systemd's convention).
const BPFFS: &str = "/sys/fs/bpf";
/// Pin directories of tests: this, the test's pid, and a number.
const PINS: &str = "pmon-test-";
/// cgroup v2, alone or beside v1, and the CPU controller of v1.
const CGROUPS: [&str; 4] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/cpu",
    "/sys/fs/cgroup/cpu,cpuacct",
];

/// See the module.
#[derive(Debug)]
pub struct Place {
    directory: tempfile::TempDir,
    word: String,
    pins: PathBuf,
}

impl Place {
    /// A new one, with an empty configuration.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes directories")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        static PREPARED: Once = Once::new();
        PREPARED.call_once(prepare);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let run = format!("{}-{number}", std::process::id());
        // Ends with a letter: no word is the beginning of another.
        let word = format!("pt{run}z");
        let directory = tempfile::Builder::new()
            .prefix(&format!("{word}-"))
            .tempdir()
            .unwrap();
        // The socket decides who may connect, not the directory above it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self {
            directory,
            word,
            pins: Path::new(BPFFS).join(format!("{PINS}{run}")),
        };
        fs::create_dir(place.pmon_d()).unwrap();
        place.configure("");
        place
    }

    /// A file or directory of this place.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A name that nobody else uses.
    #[must_use]
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}-{}", self.word)
    }

    /// The native configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("pmon.toml")
    }

    /// The directory of pmon.d files.
    #[must_use]
    pub fn pmon_d(&self) -> PathBuf {
        self.path("pmon.d")
    }

    /// The run directory.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.path("run")
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("pmon.sock")
    }

    /// The pin directory as given to the daemon.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Writes the native configuration.
    pub fn configure(&self, toml: &str) {
        fs::write(self.config(), toml).unwrap();
    }

    /// Writes a pmon.d file.
    pub fn pmon_d_file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.pmon_d().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        process::end_all_that_mention(Path::new(&self.word));
        remove_pins(&self.pins);
        for (cgroup, _) in cgroups_of_tests() {
            if cgroup.to_string_lossy().contains(&self.word) {
                fs::write(cgroup.join("cgroup.kill"), "1").ok();
                // What is dying may keep it for a moment; the next run finds
                // it empty at the latest.
                let patience = Instant::now() + Duration::from_secs(5);
                while fs::remove_dir(&cgroup).is_err() && Instant::now() < patience {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

/// Once per test run: a bpffs to pin in, and no pins of dead runs.
fn prepare() {
    if rustix::process::geteuid().is_root() && !is_bpffs() {
        let status = Command::new("mount")
            .args(["-t", "bpf", "bpf", BPFFS])
            .status();
        if !status.is_ok_and(|status| status.success()) {
            println!("no bpffs can be mounted; tests run without pins");
        }
    }
    for pins in entries(Path::new(BPFFS)) {
        let run = pins
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix(PINS)?.split('-').next());
        if let Some(pid) = run
            && !Path::new("/proc").join(pid).exists()
        {
            remove_pins(&pins);
        }
    }
    for (cgroup, pid) in cgroups_of_tests() {
        if !Path::new("/proc").join(pid.to_string()).exists() {
            fs::remove_dir(cgroup).ok();
        }
    }
}

/// The cgroups of entities whose names are from [`Place::name`], and the pids of
/// those tests.
fn cgroups_of_tests() -> Vec<(PathBuf, u32)> {
    let roots = CGROUPS
        .iter()
        .map(|root| Path::new(root).join("pmon.services"));
    let found = roots.flat_map(|root| entries(&root)).filter_map(|cgroup| {
        let name = cgroup.file_name()?.to_str()?;
        let (_, run) = name.rsplit_once("-pt")?;
        let pid = run.split('-').next()?.parse().ok()?;
        Some((cgroup, pid))
    });
    found.collect()
}

/// Whether pins can be made.
#[must_use]
pub fn is_bpffs() -> bool {
    /// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
    const MAGIC: u64 = 0xcafe_4a11;
    rustix::fs::statfs(BPFFS).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MAGIC))
}

fn remove_pins(base: &Path) {
    for version in entries(base) {
        for pin in entries(&version) {
            fs::remove_file(pin).ok();
        }
        fs::remove_dir(version).ok();
    }
    fs::remove_dir(base).ok();
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
