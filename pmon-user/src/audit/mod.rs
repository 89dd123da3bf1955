//! When to look again: at once when a pidfile changes, and at every entity in
//! a slow sweep that finds what everything else has missed.
//!
//! The auditor has a thread of its own, because a path on a hung file system
//! can block it; it tells through one callback and touches nothing else. Must
//! stay true: while nothing changes it wakes up for the sweep and for nothing
//! else, and whatever fails here costs speed and never the sweep. Looking
//! itself is `look`'s.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use thiserror::Error;
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch as value},
    time::{Interval, MissedTickBehavior, interval_at, sleep_until},
};

pub mod discrepancy;
mod execution;
pub mod settle;
pub mod watch;

use execution::Executions;
use settle::Settle;
use watch::Watch;

use crate::sys::readable::Readable;

/// How often, how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Quiet time after a pidfile's last change before it is looked at.
    pub settle: Duration,
    /// Time between sweeps, at least 1 ms.
    pub sweep: Duration,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(50),
            sweep: Duration::from_secs(30),
        }
    }
}

/// Something is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// This entity's pidfile has begun to change.
    Stirred(Arc<str>),
    /// This entity's pidfile has changed and come to rest.
    Changed(Arc<str>),
    /// The program of this entity, which is missing, may have been executed.
    Executed(Arc<str>),
    /// Every entity.
    Sweep(SweepReason),
}

/// Why every entity is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepReason {
    /// It is time.
    Timer,
    /// The kernel has dropped inotify records.
    Overflow,
    /// Somebody asked.
    Asked,
}

/// How the auditor is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditStatus {
    /// Why pidfile changes are not (all) told at once; the sweep goes on.
    pub degraded: Option<String>,
    /// inotify watches in use.
    pub watches: usize,
    /// Times the auditor has woken up, for whatever reason.
    pub wakeups: u64,
    /// Sweeps called for.
    pub sweeps: u64,
    /// Pidfile changes told.
    pub changes: u64,
    /// Times the kernel dropped inotify records.
    pub overflows: u64,
}

/// Why there is no auditor.
#[derive(Debug, Error)]
pub enum AuditError {
    /// No thread or no event loop for it.
    #[error("cannot start the audit thread")]
    Thread(#[source] io::Error),
}

enum Command {
    Watch(Arc<str>, PathBuf),
    Forget(Arc<str>),
    AwaitExecution(Arc<str>, Option<PathBuf>),
    Tell(oneshot::Sender<()>),
    Sweep,
}

/// The way to a running auditor, which ends when this is dropped.
#[derive(Debug)]
pub struct AuditHandle {
    commands: mpsc::UnboundedSender<Command>,
    status: value::Receiver<AuditStatus>,
}

impl AuditHandle {
    /// Watches an entity's pidfile from now on, in place of an earlier one; a
    /// look that was made before the watch was established is made good by
    /// another one, if the pidfile has changed lately. Without a pidfile the
    /// entity is watched no more.
    pub fn watch(&self, entity: Arc<str>, pidfile: Option<PathBuf>) {
        self.send(match pidfile {
            Some(pidfile) => Command::Watch(entity, pidfile),
            None => Command::Forget(entity),
        });
    }

    /// Tells of executions of a missing entity's program from now on, or, without
    /// one, no more. It is looked for once in any case, after the watch is there.
    pub fn await_execution(&self, entity: Arc<str>, program: Option<PathBuf>) {
        self.send(Command::AwaitExecution(entity, program));
    }

    /// Waits until everything that was asked for is watched.
    pub async fn established(&self) {
        let (done, established) = oneshot::channel();
        self.send(Command::Tell(done));
        // An error means that the auditor is gone, which `status` tells.
        let _gone: Result<(), oneshot::error::RecvError> = established.await;
    }

    /// Calls for a sweep now; the next one follows a full period later.
    pub fn sweep_now(&self) {
        self.send(Command::Sweep);
    }

    fn send(&self, command: Command) {
        // The auditor is gone: `status` tells.
        let _gone: Result<(), mpsc::error::SendError<Command>> = self.commands.send(command);
    }

    /// How it is doing. A receiver is woken when `degraded` changes, and only then.
    #[must_use]
    pub fn status(&self) -> value::Receiver<AuditStatus> {
        self.status.clone()
    }
}

/// Starts the auditor on a thread of its own. `report` is called on that
/// thread and must not block.
///
/// # Errors
///
/// See [`AuditError`]. A missing inotify is no error but a degraded status.
pub fn start(
    settings: AuditSettings,
    report: impl FnMut(Due) + Send + 'static,
) -> Result<AuditHandle, AuditError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(AuditError::Thread)?;
    let (commands, receiver) = mpsc::unbounded_channel();
    let (sender, status) = value::channel(AuditStatus::default());
    thread::Builder::new()
        .name("pmon-audit".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                Auditor::new(settings, report, sender).run(receiver).await;
            });
        })
        .map_err(AuditError::Thread)?;
    Ok(AuditHandle { commands, status })
}

struct Auditor<R> {
    pidfiles: HashMap<Arc<str>, PathBuf>,
    /// `None` where inotify has failed; tried again with every sweep.
    watching: Option<Watching>,
    /// `None` until some entity is missing.
    executions: Option<Executions>,
    settle: Settle,
    sweep: Interval,
    report: R,
    status: value::Sender<AuditStatus>,
}

impl<R: FnMut(Due)> Auditor<R> {
    fn new(settings: AuditSettings, report: R, status: value::Sender<AuditStatus>) -> Self {
        let AuditSettings { settle, sweep } = settings;
        let period = sweep.max(Duration::from_millis(1));
        let mut sweep = interval_at(tokio::time::Instant::now() + period, period);
        // A late sweep sees everything that the missed ones would have seen.
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut auditor = Self {
            pidfiles: HashMap::new(),
            watching: None,
            executions: None,
            settle: Settle::new(settle),
            sweep,
            report,
            status,
        };
        auditor.begin_watching();
        auditor
    }

    fn begin_watching(&mut self) {
        match Watching::begin(&self.pidfiles) {
            Ok(watching) => self.watching = Some(watching),
            Err(error) => self.stop_watching(format!("no inotify: {error}")),
        }
    }

    fn stop_watching(&mut self, reason: String) {
        self.watching = None;
        self.status.send_if_modified(|status| {
            let reason = Some(reason);
            let changed = status.degraded != reason;
            status.degraded = reason;
            changed
        });
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let due = self.executions.as_ref().and_then(Executions::next);
            let next = self.settle.next().into_iter().chain(due).min();
            let mut established = None;
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => established = self.command(command),
                },
                changes = next_changes(self.watching.as_mut()) => match changes {
                    Ok(changes) => self.changed(changes),
                    Err(error) => {
                        self.stop_watching(format!("inotify failed: {error}"));
                        self.call_for_sweep(SweepReason::Overflow);
                    }
                },
                opened = next_execution(self.executions.as_mut()) => {
                    if let Err(error) = opened {
                        tracing::warn!(%error, "executions are not seen any more");
                        self.executions = None;
                    }
                }
                () = until(next) => {}
                _ = self.sweep.tick() => self.call_for_sweep(SweepReason::Timer),
            }
            for entity in self.settle.take_due(Instant::now()) {
                self.status.send_if_modified(|status| {
                    status.changes += 1;
                    false
                });
                (self.report)(Due::Changed(entity));
            }
            if let Some(executions) = &mut self.executions {
                for entity in executions.take_due(Instant::now()) {
                    (self.report)(Due::Executed(entity));
                }
            }
            self.tell_status();
            if let Some(done) = established {
                // The asker may have gone meanwhile.
                let _gone: Result<(), ()> = done.send(());
            }
        }
    }

    /// Carries a command out; whom to tell once the status is up to date.
    fn command(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        match command {
            Command::Watch(entity, pidfile) => {
                if let Some(Watching { watch, .. }) = &mut self.watching {
                    watch.add(&entity, pidfile.clone());
                }
                if changed_lately(&pidfile) {
                    self.settle.changed(Arc::clone(&entity), Instant::now());
                }
                self.pidfiles.insert(entity, pidfile);
                None
            }
            Command::Forget(entity) => {
                self.settle.forget(&entity);
                if let Some(Watching { watch, .. }) = &mut self.watching {
                    watch.remove(&entity);
                }
                self.pidfiles.remove(&entity);
                None
            }
            Command::AwaitExecution(entity, program) => {
                self.await_execution(&entity, program);
                None
            }
            Command::Tell(done) => Some(done),
            Command::Sweep => {
                self.sweep.reset();
                self.call_for_sweep(SweepReason::Asked);
                None
            }
        }
    }

    fn await_execution(&mut self, entity: &Arc<str>, program: Option<PathBuf>) {
        let Some(program) = program else {
            if let Some(executions) = &mut self.executions {
                executions.forget(entity);
            }
            return;
        };
        if self.executions.is_none() {
            match Executions::begin() {
                Ok(begun) => self.executions = Some(begun),
                Err(error) => tracing::warn!(%error, "executions are not seen"),
            }
        }
        if let Some(executions) = &mut self.executions {
            executions.await_one(entity, program, Instant::now());
        }
    }

    fn changed(&mut self, changes: watch::Changes) {
        let watch::Changes { entities, overflow } = changes;
        let now = Instant::now();
        for entity in entities {
            if self.settle.changed(Arc::clone(&entity), now) {
                (self.report)(Due::Stirred(entity));
            }
        }
        if overflow {
            self.status.send_if_modified(|status| {
                status.overflows += 1;
                false
            });
            self.call_for_sweep(SweepReason::Overflow);
        }
    }

    fn call_for_sweep(&mut self, reason: SweepReason) {
        self.status.send_if_modified(|status| {
            status.sweeps += 1;
            false
        });
        if let Some(executions) = &mut self.executions {
            executions.refresh();
        }
        // Whatever this changes is about to be looked at in any case.
        match &mut self.watching {
            Some(Watching { watch, .. }) => {
                watch.refresh();
            }
            None => self.begin_watching(),
        }
        (self.report)(Due::Sweep(reason));
    }

    fn tell_status(&self) {
        self.status.send_if_modified(|status| {
            status.wakeups += 1;
            status.watches = self.executions.as_ref().map_or(0, Executions::watches);
            let Some(Watching { watch, .. }) = &self.watching else {
                return false;
            };
            status.watches += watch.watches();
            let degraded = watch.problem();
            let changed = status.degraded != degraded;
            status.degraded = degraded;
            changed
        });
    }
}

/// The watches and their place in the event loop.
struct Watching {
    watch: Watch,
    readable: Readable,
}

impl Watching {
    fn begin(pidfiles: &HashMap<Arc<str>, PathBuf>) -> io::Result<Self> {
        let mut watch = Watch::new().map_err(|errno| match errno {
            Errno::MFILE => io::Error::other(
                "too many open files, or the limit `fs.inotify.max_user_instances` is reached",
            ),
            errno => errno.into(),
        })?;
        let readable = Readable::new(watch.descriptor())?;
        for (entity, pidfile) in pidfiles {
            watch.add(entity, pidfile.clone());
        }
        Ok(Self { watch, readable })
    }
}

/// Whether a pidfile has changed since an entity of it may have been looked at
/// first.
fn changed_lately(pidfile: &Path) -> bool {
    /// Far more than lies between a look and the watch after it.
    const LATELY: Duration = Duration::from_secs(10);
    let changed = std::fs::metadata(pidfile).and_then(|metadata| metadata.modified());
    // Of the future: as if it were now.
    changed.is_ok_and(|changed| changed.elapsed().unwrap_or_default() < LATELY)
}

async fn next_changes(watching: Option<&mut Watching>) -> io::Result<watch::Changes> {
    match watching {
        None => std::future::pending().await,
        Some(Watching { watch, readable }) => readable.read(|_| watch.read()).await,
    }
}

async fn next_execution(executions: Option<&mut Executions>) -> io::Result<()> {
    match executions {
        None => std::future::pending().await,
        Some(executions) => executions.read().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod repair;
#[cfg(test)]
mod tests;
