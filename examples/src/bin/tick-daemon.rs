//! A classic daemon: goes to the background, writes a pidfile, tells the time
//! to whoever connects to its Unix socket, ends on SIGTERM.
//!
//! Must stay true: when the start command returns 0, the pidfile is complete
//! and the socket answers; when it returns 1, no daemon was started.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command, ExitCode, Stdio},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use pmon_examples::{listen, serve};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// What the daemon tells its parent when it is ready.
const READY: &str = "ready";

/// Tells the time on a Unix socket.
#[derive(Parser)]
struct Arguments {
    /// Holds the daemon's process id while it runs.
    #[arg(long)]
    pidfile: PathBuf,
    /// Socket to answer on.
    #[arg(long)]
    socket: PathBuf,
    /// Stay in the foreground.
    #[arg(long)]
    foreground: bool,
    /// This is the background process.
    #[arg(long, hide = true, conflicts_with = "foreground")]
    background: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.foreground || arguments.background {
        run(&arguments)
    } else {
        start()
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tick-daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again in the background and waits until it is ready.
fn start() -> Result<()> {
    let mut child = Command::new(env::current_exe()?)
        .arg0("tick-daemon")
        .args(env::args_os().skip(1))
        .arg("--background")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("can't start the background process")?;
    let stdout = child.stdout.take().context("no pipe to the child")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != READY {
        let status = child.wait()?;
        bail!("the background process ended before it was ready: {status}");
    }
    Ok(())
}

/// The daemon itself.
fn run(arguments: &Arguments) -> Result<()> {
    if arguments.background {
        rustix::process::setsid().context("can't begin a new session")?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let listener = listen(&arguments.socket)
        .with_context(|| format!("can't listen on `{}`", arguments.socket.display()))?;
    thread::spawn(move || {
        serve(&listener, |client| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_err(io::Error::other)?;
            writeln!(client, "{}", now.as_secs())
        });
    });
    write_pidfile(&arguments.pidfile)?;
    if arguments.background {
        report_ready()?;
        detach_stdio()?;
    }
    let signal = signals.forever().next();
    eprintln!("tick-daemon: ending on signal {signal:?}");
    // Who finds no pidfile may start a successor, so that goes last.
    fs::remove_file(&arguments.socket)?;
    remove_pidfile(&arguments.pidfile)
}

fn report_ready() -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{READY}")?;
    stdout.flush()
}

/// Lets go of the parent's pipe and terminal.
fn detach_stdio() -> Result<()> {
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Written beside and renamed: a reader sees the old content or all of the new.
fn write_pidfile(path: &Path) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, format!("{}\n", process::id()))
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("can't write `{}`", path.display()))
}

/// Only while it names this process: a successor's pidfile stays.
fn remove_pidfile(path: &Path) -> Result<()> {
    let named = fs::read_to_string(path).unwrap_or_default();
    if named.trim() == process::id().to_string() {
        fs::remove_file(path)?;
    }
    Ok(())
}
