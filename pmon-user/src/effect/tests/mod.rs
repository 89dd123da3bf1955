//! The executor with real processes: what the tests below share.
//!
//! Each test has its own runtime, directory and cgroup parent; the test's
//! thread stands for the engine's, outside the runtime.

#![expect(clippy::unwrap_used, reason = "tests")]

mod command;
mod foreground;
mod lane;
mod resumed;
mod script;
mod status_script;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::{Executor, Job, Report, Settings, cgroup, minimal_environment};
use crate::{
    core::{
        effect::StartVerb,
        entity::{CommandSpec, EntitySpec, Mode, Origin, Severity, StartMethod, StopPolicy},
        event::StartEnd,
    },
    specimen::executable,
    sys::pidfd::{VerifiedPid, verify},
};

/// Longer than anything here takes, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Fixture {
    directory: TempDir,
    executor: Executor,
    runtime: Handle,
    /// The thread that drives the runtime, until it is told to stop.
    driver: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    reports: mpsc::Receiver<(Arc<str>, Report)>,
    settings: Settings,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With settings changed.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut settings = Settings {
            log_directory: directory.path().join("log"),
            journal: None,
            cgroup_parent: geteuid()
                .is_root()
                .then(cgroup::mount_point)
                .flatten()
                .map(|root| root.join(format!("pmon.test.{}.{next}", std::process::id()))),
            cpu_cgroup_parent: None,
            question_directory: None,
            environment: minimal_environment(),
            systemctl: directory.path().join("systemctl"),
            units: None,
        };
        change(&mut settings);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        let (sender, reports) = mpsc::channel();
        let executor = Executor::new(
            handle.clone(),
            settings.clone(),
            Arc::new(move |entity, report| {
                let _ = sender.send((entity, report));
            }),
        );
        Self {
            directory,
            executor,
            runtime: handle,
            driver: Some((stop, driver)),
            reports,
            settings,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes an executable file; `DIR` in the text stands for the directory.
    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let text = text.replace("DIR", self.directory.path().to_str().unwrap());
        executable(&path, &text);
        path
    }

    fn script(&self, text: &str) -> EntitySpec {
        let path = self.program("script", &format!("#!/bin/sh\n{text}\n"));
        spec(StartMethod::Script { path })
    }

    fn submit(&self, entity: &str, job: Job) {
        self.executor.submit(&Arc::from(entity), job);
    }

    fn start(&self, entity: &str, spec: &EntitySpec) {
        self.submit(
            entity,
            Job::Start {
                run: 1,
                spec: Arc::new(spec.clone()),
                verb: StartVerb::Start,
            },
        );
    }

    /// The next report, but for those of processes that were reaped.
    fn report(&self) -> (Arc<str>, Report) {
        loop {
            let report = self.reports.recv_timeout(LONG).unwrap();
            if !matches!(report.1, Report::Reaped { .. }) {
                return report;
            }
        }
    }

    /// The next report, which must be a start's end.
    fn end(&self) -> (StartEnd, Option<VerifiedPid>) {
        match self.report().1 {
            Report::StartEnded { end, process, .. } => (end, process),
            Report::Failed { what } => panic!("{what}"),
            Report::ScriptEnded { end, .. } => panic!("{end:?}"),
            Report::Leftovers { left, .. } => panic!("{left:?}"),
            Report::Reaped { process, .. } => panic!("{process}"),
        }
    }

    /// Starts and waits for the end.
    fn run(&self, spec: &EntitySpec) -> StartEnd {
        self.start("entity", spec);
        self.end().0
    }

    fn failure(&self) -> String {
        match self.report().1 {
            Report::Failed { what } => what,
            Report::StartEnded { end, .. } | Report::ScriptEnded { end, .. } => {
                panic!("{end:?}")
            }
            Report::Leftovers { left, .. } => panic!("{left:?}"),
            Report::Reaped { process, .. } => panic!("{process}"),
        }
    }

    fn assert_silence(&self) {
        // That a process ended is told whenever it does.
        let report = loop {
            match self.reports.recv_timeout(Duration::from_millis(300)) {
                Ok((_, Report::Reaped { .. })) => {}
                report => break report,
            }
        };
        assert!(report.is_err(), "{report:?}");
    }

    /// What the file has in it once it ends with a newline.
    fn read(&self, name: &str) -> String {
        let path = self.path(name);
        eventually(|| {
            fs::read_to_string(&path)
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
    }

    /// The process whose pid a script wrote into a file.
    fn process(&self, name: &str) -> VerifiedPid {
        verify(self.read(name).trim().parse().unwrap()).unwrap()
    }

    /// Ends the runtime as the daemon's end would.
    fn end_runtime(&mut self) {
        if let Some((stop, driver)) = self.driver.take() {
            drop(stop);
            driver.join().unwrap();
        }
    }

    /// Ends what a test has left behind, most of all one that has failed.
    fn end_processes(&self) {
        let Some(parent) = &self.settings.cgroup_parent else {
            return;
        };
        for entity in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entity.path().is_dir() {
                let _ = fs::write(entity.path().join("cgroup.kill"), "1");
                eventually(|| fs::remove_dir(entity.path()).ok());
            }
        }
        let _ = fs::remove_dir(parent);
    }

    fn shutdown(&self) {
        self.runtime.block_on(self.executor.shutdown(LONG));
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if self.driver.is_some() {
            self.shutdown();
        }
        self.end_runtime();
        self.end_processes();
    }
}

fn spec(start: StartMethod) -> EntitySpec {
    EntitySpec {
        name: "entity".to_owned(),
        mode: Mode::Passive,
        severity: Severity::Major,
        restarts: 3,
        interval: Duration::from_secs(5),
        debounce: Duration::from_secs(20),
        startuptime: Duration::from_secs(5),
        start_timeout: LONG,
        adoption_window: Duration::ZERO,
        pidfile: None,
        start,
        stop: StopPolicy::KillFirst,
        follow: false,
        quorum: false,
        subfunction: None,
        active: None,
        status: None,
        dependencies: crate::core::dependency::Dependencies::default(),
        storm: crate::core::storm::StormPolicy::PMOND,
        origin: Origin::Operator,
    }
}

fn command(argv: &[&str]) -> CommandSpec {
    CommandSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        environment: BTreeMap::new(),
        directory: Path::new("/").to_owned(),
        user: None,
        group: None,
        daemonizes: false,
        log: None,
        early: false,
        sockets: Vec::new(),
    }
}

/// A command that is waited for.
fn awaited(argv: &[&str]) -> EntitySpec {
    spec(StartMethod::Command(CommandSpec {
        daemonizes: true,
        ..command(argv)
    }))
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

fn assert_dies(process: &VerifiedPid) {
    eventually(|| process.is_dead().then_some(()));
}

fn stat(process: &VerifiedPid) -> procfs::process::Stat {
    let pid = i32::try_from(process.identity().pid).unwrap();
    procfs::process::Process::new(pid).unwrap().stat().unwrap()
}

fn exited(code: i32, last_line: &str) -> StartEnd {
    StartEnd::Exited {
        code,
        last_line: (!last_line.is_empty()).then(|| last_line.to_owned()),
    }
}

#[track_caller]
fn assert_not_executed(end: &StartEnd, words: &[&str]) {
    let StartEnd::NotExecuted { reason } = end else {
        panic!("{end:?}");
    };
    for word in words {
        assert!(reason.contains(word), "{reason}");
    }
}

/// Whether this test can do what only root can; says so if not.
fn is_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        #[expect(clippy::print_stdout, reason = "a skipped test says so")]
        {
            println!("SKIP: {what} needs root");
        }
    }
    root
}
