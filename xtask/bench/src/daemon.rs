//! A daemon of our own: the real binary, with directories and pins that nobody
//! else uses. The keeper runs it and cleans up after it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::keeper::Keeper;

/// Where bpffs is mounted.
const BPFFS: &str = "/sys/fs/bpf";
/// Until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Until so many are registered as are asked for.
const REGISTERED: Duration = Duration::from_secs(300);
/// `include/uapi/linux/bpf.h`.
const BPF_MAP_TYPE_HASH: u64 = 1;

/// Of the entity that watches a process.
fn name(pid: u32) -> String {
    format!("bench{pid}")
}

/// The running daemon. Dropping it ends it.
pub(crate) struct Daemon {
    directory: PathBuf,
    keeper: Keeper,
}

impl Daemon {
    /// Starts one that has room for so many registrations, while pids go up to
    /// `pid_max`; returns when it answers.
    pub(crate) fn start(max_pids: usize, pid_max: u32) -> Result<Self> {
        let config = format!("[daemon]\nmax_pids = {max_pids}\naudit_interval = \"1h\"\n");
        Self::configured(&config, Some(pid_max))
    }

    /// Starts one that has these entities, and defaults.
    pub(crate) fn with_entities(entities: &str) -> Result<Self> {
        Self::configured(entities, None)
    }

    fn configured(text: &str, pid_max: Option<u32>) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("pmon-bench-{}-", std::process::id()))
            .tempdir()?
            .keep();
        let pins = Path::new(BPFFS).join(directory.file_name().context("a name")?);
        fs::create_dir(directory.join("pmon.d"))?;
        let config = directory.join("pmon.toml");
        fs::write(&config, text)?;
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(pid_max) = pid_max {
            arguments.extend(["--pid-max".into(), pid_max.to_string().into()]);
        }
        arguments.extend([
            "--remove".into(),
            pins.clone().into(),
            "--remove".into(),
            directory.clone().into(),
            "--log".into(),
            directory.join("log").into(),
            "--".into(),
            program()?.into(),
            "daemon".into(),
        ]);
        for (option, path) in [
            ("--config", config),
            ("--pmon-d", directory.join("pmon.d")),
            ("--run-dir", directory.join("run")),
            ("--state-dir", directory.join("state")),
            ("--pin-dir", pins),
        ] {
            arguments.extend([option.into(), path.into()]);
        }
        let daemon = Self {
            keeper: Keeper::start(arguments)?,
            directory,
        };
        let began = Instant::now();
        while !daemon.answers() {
            if began.elapsed() > PATIENCE {
                bail!("the daemon does not answer: {}", daemon.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Whether it answers and its first canary is back.
    fn answers(&self) -> bool {
        let Ok(stream) = UnixStream::connect(self.socket()) else {
            return false;
        };
        let status = pmon_tests::nursery::status_over(&stream);
        let sources = status["sources"].as_array();
        sources.is_some_and(|sources| {
            let unproven = |source: &&Value| source["state"] == "unproven";
            sources.iter().find(unproven).is_none()
        })
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Its control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("run/pmon.sock")
    }

    /// Its pid.
    pub(crate) const fn pid(&self) -> u32 {
        self.keeper.charge()
    }

    /// Registers all of them over one connection; how long that took.
    pub(crate) fn register(&self, pids: &[u32]) -> Duration {
        let began = Instant::now();
        pmon_tests::nursery::register(&self.socket(), pids, name);
        began.elapsed()
    }

    /// Registers an entity that is known by its pidfile, and not restarted.
    pub(crate) fn register_pidfile(&self, name: &str, pidfile: &Path) -> Result<()> {
        let status = Command::new(program()?)
            .args(["register", name, "--pidfile"])
            .arg(pidfile)
            .arg("--socket")
            .arg(self.socket())
            .env_remove("PMON_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "`pmon register`: {status}");
        Ok(())
    }

    /// Waits until all of them are watched; nobody else may be registered.
    pub(crate) fn wait_until_registered(&self, pids: &[u32]) -> Result<()> {
        let began = Instant::now();
        // In the order of the requests, but for those that are under way together.
        for &pid in pids.iter().rev().step_by(pids.len().div_ceil(8).max(1)) {
            while self.entity(pid)?["registered"] != true {
                if began.elapsed() > REGISTERED {
                    bail!("`{pid}` is not registered: {}", self.log());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        loop {
            let status = self.status();
            let entities = status["entities"].as_array().into_iter().flatten();
            let registered = entities.filter(|it| it["registered"] == true).count();
            if registered == pids.len() {
                return Ok(());
            }
            if began.elapsed() > REGISTERED {
                bail!(
                    "{registered} of {} are registered: {}",
                    pids.len(),
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// One entity.
    fn entity(&self, pid: u32) -> Result<Value> {
        let mut stream = UnixStream::connect(self.socket())?;
        let request = serde_json::json!({
            "method": "io.pmon.Monitor.List",
            "parameters": {"names": [name(pid)]},
        });
        stream.write_all(format!("{request}\0").as_bytes())?;
        let mut reply = Vec::new();
        BufReader::new(stream).read_until(0, &mut reply)?;
        reply.pop();
        let mut reply: Value = serde_json::from_slice(&reply)?;
        Ok(reply["parameters"]["entities"][0].take())
    }

    /// Bytes of the kernel's table per place in it, as the kernel counts them.
    pub(crate) fn table_bytes_each(&self) -> Result<u64> {
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.pid()))? {
            // Descriptors come and go.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            let field = |name: &str| -> Option<u64> {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim_start_matches(':').trim().parse().ok()
            };
            if field("map_type") == Some(BPF_MAP_TYPE_HASH)
                && let (Some(bytes), Some(places)) = (field("memlock"), field("max_entries"))
            {
                return Ok(bytes / places.max(1));
            }
        }
        bail!("the daemon has no table")
    }

    /// Everything it knows, in its own words.
    pub(crate) fn status(&self) -> Value {
        pmon_tests::nursery::status(&self.socket())
    }

    /// How long `pmon status` takes, from the start of the program to its end.
    pub(crate) fn time_status(&self) -> Result<Duration> {
        let began = Instant::now();
        let status = Command::new(program()?)
            .args(["status", "--socket"])
            .arg(self.socket())
            .env_remove("PMON_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        // 3: not all entities are well.
        ensure!(
            matches!(status.code(), Some(0 | 3)),
            "`pmon status`: {status}"
        );
        Ok(began.elapsed())
    }

    /// A line of `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, what: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(what)?.strip_suffix("kB"))
            .with_context(|| format!("no `{what}`"))?;
        Ok(kib.trim().parse::<u64>()? << 10)
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = procfs::process::Process::new(i32::try_from(self.pid())?)?.stat()?;
        let ticks = stat.utime + stat.stime;
        Ok(Duration::from_secs(1) * u32::try_from(ticks)?
            / u32::try_from(procfs::ticks_per_second())?)
    }

    /// How often each thread went to sleep so far.
    pub(crate) fn sleeps(&self) -> BTreeMap<u32, u64> {
        pmon_tests::process::sleeps(self.pid())
    }
}

/// `PMON_BIN`, or the `pmon` beside this program.
fn program() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("PMON_BIN") {
        return Ok(given.into());
    }
    let beside = std::env::current_exe()?.with_file_name("pmon");
    ensure!(
        beside.is_file(),
        "there is no `{}`; `cargo xtask bench` builds it",
        beside.display()
    );
    Ok(beside)
}
