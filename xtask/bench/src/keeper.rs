//! The keeper: a process that puts right what a measurement has changed on this
//! machine, once the measurement is gone, however it ended. It may also run the
//! daemon that is measured, and ends it then.
//!
//! Must stay true: it shares no process group with the measurement, so that
//! Ctrl-C does not reach it, and its stdin is held open by nobody else.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};

/// Highest pid that may be handed out, plus one.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// Whoever changes it takes this lock, the tests too.
const LOCK: &str = "pmon-test-pid-max.lock";
/// How long a daemon may take to end in order; with 100,000 entities some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keeper's command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// `kernel.pid_max` meanwhile, unless it is higher.
    #[arg(long)]
    pid_max: Option<u32>,
    /// A directory to remove at the end.
    #[arg(long)]
    remove: Vec<PathBuf>,
    /// Where the command's stderr goes.
    #[arg(long)]
    log: Option<PathBuf>,
    /// A command to run meanwhile.
    #[arg(last = true)]
    command: Vec<String>,
}

/// What was there before.
struct PidMax {
    before: String,
    _lock: File,
}

impl PidMax {
    fn raise(wanted: u32) -> Result<Self> {
        let lock = File::create(std::env::temp_dir().join(LOCK))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let before = fs::read_to_string(PID_MAX)?;
        if before.trim().parse::<u32>()? < wanted {
            fs::write(PID_MAX, wanted.to_string())
                .with_context(|| format!("cannot write `{PID_MAX}`"))?;
        }
        Ok(Self {
            before,
            _lock: lock,
        })
    }
}

impl Drop for PidMax {
    fn drop(&mut self) {
        if let Err(error) = fs::write(PID_MAX, &self.before) {
            eprintln!(
                "`{PID_MAX}` could not be restored to {}: {error}",
                self.before.trim()
            );
        }
    }
}

/// Until stdin ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options {
        pid_max,
        remove,
        log,
        command,
    } = options;
    let _pid_max = pid_max.map(PidMax::raise).transpose()?;
    let child = match command.split_first() {
        None => None,
        Some((program, arguments)) => Some(start(program, arguments, log.as_deref())?),
    };
    println!("{}", child.as_ref().map_or(0, Child::id));
    io::stdout().flush()?;
    // The end, or an error, which is as good.
    let _end = io::stdin().read_to_end(&mut Vec::new());
    if let Some(child) = child
        && let Err(error) = end(child)
    {
        eprintln!("the daemon could not be ended: {error:#}");
    }
    for path in remove {
        match fs::remove_dir_all(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => eprintln!("`{}` could not be removed: {error}", path.display()),
        }
    }
    Ok(())
}

fn start(program: &str, arguments: &[String], log: Option<&Path>) -> Result<Child> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(log) = log {
        command.stderr(File::create(log)?);
    }
    command
        .spawn()
        .with_context(|| format!("can't start `{program}`"))
}

/// In order; or else not.
fn end(mut child: Child) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("no pid")?;
    if child.try_wait()?.is_none() {
        // Not reaped yet, so it is still the same process.
        kill_process(pid, Signal::TERM)?;
    }
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The process, seen from outside. Dropping it waits until all is put right.
pub(crate) struct Keeper {
    process: Child,
    stdin: Option<ChildStdin>,
    charge: u32,
}

impl Keeper {
    /// Starts it with this command line; returns when what it changes is changed
    /// and its command runs.
    pub(crate) fn start(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self> {
        let own = std::env::current_exe().context("can't find this program")?;
        let mut process = Command::new(own)
            .arg("keep")
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start the keeper")?;
        let stdin = process.stdin.take();
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("no stdout")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the keeper has ended");
        Ok(Self {
            process,
            stdin,
            charge: line.trim().parse()?,
        })
    }

    /// Room for pids up to this one.
    pub(crate) fn of_pids(pid_max: u32) -> Result<Self> {
        Self::start(["--pid-max".into(), pid_max.to_string().into()])
    }

    /// Pid of what it runs.
    pub(crate) const fn charge(&self) -> u32 {
        self.charge
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if let Err(error) = self.process.wait() {
            eprintln!("the keeper: {error}");
        }
    }
}
