//! The service that the tests monitor. Knows nothing of pmon; behaves well
//! unless told otherwise.
//!
//! With `--background` the command returns when the pidfile is complete. Two
//! threads: the main thread (the thread group's leader) waits for orders, a
//! worker receives the signals, so that either can end or exec alone.
//! SIGTERM ends it in order, SIGUSR1 does what `--on-usr1` says, SIGUSR2 ends
//! the worker thread alone with code 5.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use pmon_tests::kernel;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use signal_hook::{
    consts::{SIGTERM, SIGUSR1, SIGUSR2},
    iterator::Signals,
};
use socket2::Socket;

const READY: &str = "ready";

/// A service to be monitored.
#[derive(Clone, Parser)]
struct Arguments {
    /// A word to find this process by.
    #[arg(long)]
    tag: String,
    /// Written at the start, removed on SIGTERM.
    #[arg(long)]
    pidfile: Option<PathBuf>,
    /// Go to the background.
    #[arg(long)]
    background: bool,
    /// This is the background process already.
    #[arg(long, hide = true)]
    in_background: bool,
    /// Daemonize twice: the pidfile names a short-lived process first.
    #[arg(long)]
    twice: bool,
    /// SIGTERM is received and disregarded.
    #[arg(long)]
    ignore_term: bool,
    /// What SIGUSR1 does.
    #[arg(long)]
    on_usr1: Option<OnUsr1>,
    /// On SIGTERM, say here whether the pidfile was still there.
    #[arg(long)]
    witness: Option<PathBuf>,
    /// End after this many milliseconds.
    #[arg(long)]
    lifetime: Option<u64>,
    /// Keep so many MiB of memory in use.
    #[arg(long)]
    resident: Option<usize>,
    /// Answer each connection to a socket that was passed with one line: the pid
    /// and the sockets' names.
    #[arg(long)]
    answer: bool,
    /// Exit code after `--lifetime` and on SIGTERM.
    #[arg(long, default_value_t = 0)]
    code: i32,
}

/// What SIGUSR1 does.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnUsr1 {
    /// The leader thread ends, with code 3; the other lives on.
    LeaderExits,
    /// The leader thread executes this program again.
    LeaderExecs,
    /// Another thread executes this program again.
    ThreadExecs,
    /// The main thread reads memory that is not there.
    Faults,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.background {
        background(&arguments)
    } else if let Some(lifetime) = arguments.lifetime {
        short_life(&arguments, lifetime)
    } else {
        serve(&arguments)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pmon-test-service: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again in the background and waits until it is ready.
fn background(arguments: &Arguments) -> Result<()> {
    if arguments.twice {
        return twice(arguments);
    }
    let mut child = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1).filter(|word| word != "--background"))
        .arg("--in-background")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("no pipe to the child")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.trim() == READY, "the background process failed");
    Ok(())
}

/// The pidfile names this process, until its child names itself and this one
/// ends: as a daemon does that forks once more after writing its pidfile.
fn twice(arguments: &Arguments) -> Result<()> {
    if !arguments.in_background {
        Command::new(env::current_exe()?)
            .args(env::args_os().skip(1))
            .arg("--in-background")
            .stdin(Stdio::null())
            .spawn()?;
        return Ok(());
    }
    write_pidfile(arguments)?;
    thread::sleep(Duration::from_millis(150));
    let again = ["--background", "--twice", "--in-background"];
    let mut child = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1).filter(|word| {
            let word = word.to_string_lossy();
            !again.contains(&&*word)
        }))
        .arg("--in-background")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("no pipe to the child")?;
    BufReader::new(stdout).read_line(&mut String::new())?;
    Ok(())
}

fn short_life(arguments: &Arguments, lifetime: u64) -> Result<()> {
    write_pidfile(arguments)?;
    if arguments.in_background {
        report_ready()?;
    }
    if lifetime > 0 {
        thread::sleep(Duration::from_millis(lifetime));
    }
    process::exit(arguments.code)
}

/// The service itself.
fn serve(arguments: &Arguments) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGUSR1, SIGUSR2])?;
    if arguments.in_background {
        rustix::process::setsid()?;
    }
    // Written to, so that it is resident before anybody is told of this process.
    let resident = vec![1_u8; arguments.resident.unwrap_or(0) << 20];
    if arguments.answer {
        for listener in listeners()? {
            thread::spawn(move || answer(&listener));
        }
    }
    write_pidfile(arguments)?;
    if arguments.in_background {
        report_ready()?;
        detach_stdio()?;
    }
    let (orders, leader) = mpsc::channel();
    let own = arguments.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGTERM => terminate(&own),
                SIGUSR1 if own.on_usr1 == Some(OnUsr1::ThreadExecs) => exec_again(&own),
                SIGUSR1 => {
                    // The leader may be gone already.
                    orders.send(()).ok();
                }
                _ => kernel::exit_this_thread(5),
            }
        }
    });
    while leader.recv().is_ok() {
        match arguments.on_usr1 {
            Some(OnUsr1::LeaderExits) => kernel::exit_this_thread(3),
            Some(OnUsr1::LeaderExecs) => exec_again(arguments),
            Some(OnUsr1::Faults) => kernel::fault(),
            Some(OnUsr1::ThreadExecs) | None => {}
        }
    }
    // The worker is gone, and with it the way to end in order.
    std::hint::black_box(&resident);
    loop {
        thread::park();
    }
}

/// What was passed to this process, by the protocol of sd_listen_fds(3).
fn listeners() -> Result<Vec<Socket>> {
    let variable = |name: &str| env::var(name).with_context(|| format!("no `{name}`"));
    ensure!(
        variable("LISTEN_PID")? == process::id().to_string(),
        "`LISTEN_PID` is another one"
    );
    let count: i32 = variable("LISTEN_FDS")?.parse()?;
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    // As another process would get at them: no number is trusted blindly.
    (3..3 + count)
        .map(|number| Ok(pidfd_getfd(&this, number, PidfdGetfdFlags::empty())?.into()))
        .collect()
}

fn answer(listener: &Socket) {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let text = format!("{} {names}\n", process::id());
    while let Ok((mut connection, _)) = listener.accept() {
        // Its client may have gone away.
        connection.write_all(text.as_bytes()).ok();
    }
}

fn terminate(arguments: &Arguments) {
    if let (Some(witness), Some(pidfile)) = (&arguments.witness, &arguments.pidfile) {
        let text = if pidfile.exists() { "there" } else { "removed" };
        if let Err(error) = write_at_once(witness, text) {
            eprintln!("pmon-test-service: {error}");
        }
    }
    if arguments.ignore_term {
        return;
    }
    if let Some(pidfile) = &arguments.pidfile {
        let named = fs::read_to_string(pidfile).unwrap_or_default();
        if named.trim() == process::id().to_string() {
            // Somebody else may have removed it meanwhile.
            fs::remove_file(pidfile).ok();
        }
    }
    process::exit(arguments.code)
}

/// The same process, another image; its pidfile stays right.
fn exec_again(arguments: &Arguments) {
    let error = Command::new("/proc/self/exe")
        .arg0("pmon-test-service")
        .args(["--tag", &arguments.tag])
        .exec();
    eprintln!("pmon-test-service: exec: {error}");
    process::exit(1)
}

fn write_pidfile(arguments: &Arguments) -> Result<()> {
    if let Some(path) = &arguments.pidfile {
        write_at_once(path, &format!("{}\n", process::id()))?;
    }
    Ok(())
}

/// Written beside and renamed: a reader sees all of it or nothing.
fn write_at_once(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension(format!("new{}", process::id()));
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("can't write `{}`", path.display()))
}

fn report_ready() -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")?;
    Ok(stdout.flush()?)
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
