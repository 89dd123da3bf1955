//! `reregister`: somebody restarts a process by hand; how long from the moment
//! at which its pidfile is in its place until a listener has read that it is
//! registered.
//!
//! Must stay true: beside it, of the same pidfiles, stands what the least that
//! could be done takes in the same run: wake up by inotify, read the file, open
//! a pidfd.

use std::{
    fmt, fs,
    mem::MaybeUninit,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pmon_user::{core::time::Time, sys::clock};
use rustix::{
    fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::Serialize;

use crate::{
    aim::{Aim, write_json},
    daemon::Daemon,
    latency::Figures,
    listener::Listener,
    machine::{self, Machine},
    overhead::PID_LIMIT,
    storm::entities,
};

const ROUNDS: usize = 200;
const QUICK: usize = 10;
/// What was asked for: 100 ms, in microseconds.
const AIM: f64 = 100_000.0;
/// After so long without any event there is none to come.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two rounds: the pidfile comes to rest.
const REST: Duration = Duration::from_millis(150);
const NAME: &str = "restarted";

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Few rounds only, to see that it works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/reregister.json")]
    output: PathBuf,
}

/// Everything there is to tell.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    load_average: [Option<f32>; 2],
    cases: Vec<Case>,
    aims: Vec<Aim>,
}

/// One way to restart.
#[derive(Debug, Serialize)]
struct Case {
    what: &'static str,
    /// Until told, in microseconds.
    pmon: Figures,
    /// Until a pidfd is open, in microseconds.
    reference: Figures,
}

/// Measures, prints a table, writes JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::detect()?;
    let before = machine::load();
    let rounds = if options.quick { QUICK } else { ROUNDS };
    let mut cases = Vec::new();
    for (what, ended_first) in [("the old one ended before", true), ("it lives on", false)] {
        eprintln!("{what}: {rounds} restarts");
        cases.push(measure(what, ended_first, rounds)?);
    }
    let worst = cases.iter().map(|case| case.pmon.p99).fold(0.0, f64::max);
    let report = Report {
        machine,
        quick: options.quick,
        load_average: [before, machine::load()],
        aims: vec![Aim::at_most("µs until registered, p99", AIM, worst)],
        cases,
    };
    print!("{report}");
    write_json(&report, &options.output)
}

fn measure(what: &'static str, ended_first: bool, rounds: usize) -> Result<Case> {
    let daemon = Daemon::start(1024, PID_LIMIT)?;
    let directory = tempfile::tempdir()?;
    let pidfile = directory.path().join("restarted.pid");
    let reference = reference(directory.path(), pidfile.clone())?;
    let mut old = Sleeper::start()?;
    put(&pidfile, old.0.id())?;
    daemon.register_pidfile(NAME, &pidfile)?;
    // What is told of the beginning must not be taken for a round's.
    let began = Instant::now();
    while !entities(&daemon.status()).all(|entity| entity["registered"] == true) {
        ensure!(
            began.elapsed() < SILENCE,
            "not registered: {}",
            daemon.log()
        );
        std::thread::sleep(REST);
    }
    std::thread::sleep(REST);
    let listener = Listener::to(&daemon.socket())?;
    let (mut told, mut seen) = (Vec::new(), Vec::new());
    let mut leaving = Vec::new();
    for _ in 0..rounds {
        std::thread::sleep(REST);
        while reference.try_recv().is_ok() {}
        let new = Sleeper::start()?;
        if ended_first {
            drop(std::mem::replace(&mut old, new));
            listener.wait_for("died", 1, SILENCE)?;
            std::thread::sleep(REST);
        } else {
            leaving.push(std::mem::replace(&mut old, new).leave());
        }
        let began = put(&pidfile, old.0.id())?;
        let (registered, _) = listener.wait_for("registered", 1, SILENCE)?;
        let opened = reference.recv_timeout(SILENCE).context("no inotify")?;
        ensure!(registered >= began, "an earlier registration was heard");
        told.push(nanoseconds(registered, began));
        seen.push(nanoseconds(opened, began));
    }
    for one in leaving {
        // A panic there has been told.
        let _ended: std::thread::Result<()> = one.join();
    }
    Ok(Case {
        what,
        pmon: Figures::of(told).context("no rounds")?,
        reference: Figures::of(seen).context("no rounds")?,
    })
}

fn nanoseconds(later: Time, earlier: Time) -> u64 {
    u64::try_from(later.since(earlier).as_nanos()).unwrap_or(u64::MAX)
}

/// Writes beside and renames; from when on it is in its place, at the latest.
fn put(pidfile: &Path, pid: u32) -> Result<Time> {
    let beside = pidfile.with_extension("new");
    fs::write(&beside, format!("{pid}\n"))?;
    let began = clock::now();
    fs::rename(&beside, pidfile)?;
    Ok(began)
}

/// Tells when a pidfd of whom the pidfile names was open.
fn reference(directory: &Path, pidfile: PathBuf) -> Result<Receiver<Time>> {
    let inotify = init(CreateFlags::CLOEXEC)?;
    add_watch(&inotify, directory, WatchFlags::MOVED_TO)?;
    let (telling, opened) = channel();
    std::thread::spawn(move || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&inotify, &mut buffer);
        while reader.next().is_ok() {
            let text = fs::read_to_string(&pidfile).unwrap_or_default();
            let pid = text.trim().parse().ok().and_then(Pid::from_raw);
            let pidfd = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            let at = clock::now();
            if matches!(pidfd, Some(Ok(_))) && telling.send(at).is_err() {
                return;
            }
        }
    });
    Ok(opened)
}

/// A process that is restarted by hand.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Result<Self> {
        let child = Command::new("/bin/sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// Ends it a moment after its successor has taken its place.
    fn leave(self) -> JoinHandle<()> {
        std::thread::spawn(move || {
            std::thread::sleep(REST);
            drop(self);
        })
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // Gone already is as good.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine,
            quick,
            load_average,
            cases,
            aims,
        } = self;
        if *quick {
            writeln!(
                f,
                "QUICK: too few restarts for these figures to mean anything."
            )?;
        }
        writeln!(f, "{}", machine.headline(*load_average))?;
        writeln!(
            f,
            "Pidfiles renamed into place: µs until pmon tells of the registration, and until a\n\
             bare inotify loop has a pidfd.\n"
        )?;
        writeln!(
            f,
            "{:<26}{:>12}{:>12}{:>12}{:>16}{:>10}",
            "restart", "p50", "p99", "max", "reference p50", "ratio"
        )?;
        for Case {
            what,
            pmon,
            reference,
        } in cases
        {
            writeln!(
                f,
                "{what:<26}{:>12.0}{:>12.0}{:>12.0}{:>16.0}{:>10.1}",
                pmon.p50,
                pmon.p99,
                pmon.max,
                reference.p50,
                pmon.p50 / reference.p50
            )?;
        }
        writeln!(f)?;
        aims.iter().try_for_each(|aim| writeln!(f, "{aim}"))
    }
}
