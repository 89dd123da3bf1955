//! One entity's lane: its jobs, one after the other.
//!
//! A lane waits for a pidfile's removal, as the signal behind it must come
//! later, and for the end of leftovers, as the start behind it must, but at most
//! for a deadline; it waits for no command. States of the
//! start slot (and likewise of the stop slot), which scripts of status mode use
//! as start commands do:
//!
//! * empty: `Start` fills it, `CancelStart` does nothing;
//! * filled: the command runs, or has ended (perhaps as a program that runs in the
//!   foreground) and nobody looked yet. `Start`
//!   cancels the old command, waits until it has let go, then fills the slot
//!   anew; `CancelStart` empties it likewise; the end of the lane silences it
//!   and waits for its end.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::{
    Job, Report, Shared, errno_name, leftovers, pidfile, resumed, start, status_script,
    trace::{self, Deed},
};
use crate::{
    core::{effect::ScriptTask, entity::StopPolicy, identity::Identity, time::Time},
    sys::pidfd::VerifiedPid,
};

/// Longest time a pidfile's removal may hold up the signal behind it.
const PIDFILE_DEADLINE: Duration = Duration::from_secs(2);

/// Longest time that sockets may hold up the job behind theirs.
const SOCKETS_DEADLINE: Duration = Duration::from_secs(2);

/// Longest time a cancelled command may take to let go: it kills its process
/// and waits for that for a second at most.
const CANCEL_DEADLINE: Duration = Duration::from_secs(2);

/// What a lane is told.
pub(super) enum Order {
    /// Do this.
    Job(Job),
    /// Say when everything before is done.
    Flush(oneshot::Sender<()>),
}

/// A command's way to report, which can be taken away from it.
pub(super) struct Voice {
    entity: Arc<str>,
    silent: AtomicBool,
    /// Whether `cancelled` was notified, for those who cannot wait for it.
    is_cancelled: AtomicBool,
    /// Notified when the command is to be cancelled.
    pub(super) cancelled: Notify,
    /// Shared by all lanes.
    pub(super) shared: Arc<Shared>,
}

impl Voice {
    fn new(entity: &Arc<str>, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            entity: Arc::clone(entity),
            silent: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            cancelled: Notify::new(),
            shared: Arc::clone(shared),
        })
    }

    /// Whose command.
    pub(super) const fn entity(&self) -> &Arc<str> {
        &self.entity
    }

    /// The voice of no entity, for tests.
    #[cfg(test)]
    pub(super) fn of_nobody() -> Arc<Self> {
        let settings = super::Settings::detect(std::path::Path::new("/nonexistent"));
        let shared = Shared {
            cgroups: super::Cgroups::new(None),
            settings,
            said_no_cgroup: AtomicBool::new(false),
            at_work: super::AtWork::default(),
            questions: super::Questions::default(),
            sockets: super::Sockets::default(),
            report: Arc::new(|_, _| {}),
            record: None,
        };
        Self::new(&Arc::from("nobody"), &Arc::new(shared))
    }

    /// Silences the command and tells it to end.
    pub(super) fn cancel(&self) {
        self.silent.store(true, Ordering::Release);
        self.is_cancelled.store(true, Ordering::Release);
        self.cancelled.notify_one();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    pub(super) fn report(&self, report: Report) {
        if !self.silent.load(Ordering::Acquire) {
            (self.shared.report)(Arc::clone(&self.entity), report);
        }
    }

    pub(super) fn failed(&self, what: impl Into<String>) {
        self.report(Report::Failed { what: what.into() });
    }
}

/// A command that goes on beside the lane.
struct Running {
    voice: Arc<Voice>,
    /// Gives back the program in the foreground that it has become.
    task: JoinHandle<Option<VerifiedPid>>,
    /// It asks for a status, which is of use only to this daemon.
    is_question: bool,
}

impl Running {
    fn new(
        voice: &Arc<Voice>,
        work: impl Future<Output = Option<VerifiedPid>> + Send + 'static,
    ) -> Self {
        Self {
            voice: Arc::clone(voice),
            task: tokio::spawn(work),
            is_question: false,
        }
    }

    /// One that becomes no program in the foreground.
    fn without_process(
        voice: &Arc<Voice>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self::new(voice, async {
            work.await;
            None
        })
    }

    fn silence(&self) {
        self.voice.silent.store(true, Ordering::Release);
    }

    /// Silences the command and ends it, with its process group; the next one
    /// shall not meet it.
    async fn cancel(self) -> Option<VerifiedPid> {
        self.voice.cancel();
        // An error is the task's panic, or that it does not let go.
        timeout(CANCEL_DEADLINE, self.task).await.ok()?.ok()?
    }
}

/// Carries out the orders until there can be no more.
pub(super) async fn run(
    entity: Arc<str>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    shared: Arc<Shared>,
) {
    let mut started: Option<Running> = None;
    let mut stopping: Option<Running> = None;
    let turns = Arc::new(tokio::sync::Mutex::new(()));
    while let Some(order) = orders.recv().await {
        let job = match order {
            Order::Job(job) => job,
            Order::Flush(done) => {
                if let Some(question) = started.take_if(|running| running.is_question) {
                    question.cancel().await;
                }
                // Nobody to tell: the shutdown did not wait that long.
                let _ = done.send(());
                continue;
            }
        };
        let voice = Voice::new(&entity, &shared);
        match job {
            Job::RemovePidfile { path, identity } => {
                remove_pidfile(&voice, path, identity).await;
            }
            Job::Signal { process, signal } => send_signal(&voice, &process, signal),
            Job::EndLeftovers {
                identity,
                died,
                stop,
            } => end_leftovers(&voice, identity, died, stop).await,
            Job::Start { spec, verb, run } => {
                if let Some(running) = started.take() {
                    running.cancel().await;
                }
                let start = start::start(Arc::clone(&voice), spec, verb, run);
                started = Some(Running::new(&voice, start));
            }
            Job::ResumeStart { spec, command, run } => {
                if let Some(running) = started.take() {
                    running.cancel().await;
                }
                let going_on = resumed::go_on(Arc::clone(&voice), spec, command, run);
                started = Some(Running::without_process(&voice, going_on));
            }
            Job::RunScript {
                spec,
                task,
                run,
                failure_text,
            } => {
                if let Some(running) = started.take() {
                    running.cancel().await;
                }
                let asked = status_script::Asked {
                    spec,
                    task,
                    run,
                    failure_text,
                };
                let turns = Arc::clone(&turns);
                let script = status_script::run(Arc::clone(&voice), asked, turns);
                started = Some(Running {
                    is_question: task == ScriptTask::Status,
                    ..Running::without_process(&voice, script)
                });
            }
            Job::StopUnit { spec } => {
                if let Some(running) = stopping.take() {
                    running.cancel().await;
                }
                let stop = start::stop_unit(Arc::clone(&voice), spec);
                stopping = Some(Running::without_process(&voice, stop));
            }
            Job::KeepSockets { sockets } => {
                on_sockets(&voice, move |voice| {
                    voice.shared.sockets.keep(voice.entity(), &sockets);
                    Ok(())
                })
                .await;
            }
            Job::TakeSocketsBack { sockets, process } => {
                on_sockets(&voice, move |voice| {
                    let held = &voice.shared.sockets;
                    held.take_back(voice.entity(), &sockets, &process)
                })
                .await;
            }
            Job::CancelStart => {
                // Whoever cancels has not heard yet that it runs, and never will:
                // nobody else would end it.
                if let Some(running) = started.take()
                    && let Some(process) = running.cancel().await
                    && let Err(error) = process.signal(libc::SIGKILL)
                    && error != Errno::SRCH
                {
                    let identity = process.identity();
                    voice.failed(format!(
                        "cannot end {identity}, which was cancelled: {error}"
                    ));
                }
            }
        }
    }
    for running in [started, stopping].into_iter().flatten() {
        running.silence();
        // An error is the task's panic, which is not this lane's.
        let _ = running.task.await;
    }
    let _ = tokio::task::spawn_blocking(move || shared.cgroups.remove(&entity)).await;
}

async fn remove_pidfile(voice: &Voice, path: PathBuf, identity: Identity) {
    let abandoned = Arc::new(AtomicBool::new(false));
    let removal = {
        let path = path.clone();
        let abandoned = Arc::clone(&abandoned);
        tokio::task::spawn_blocking(move || pidfile::remove(&path, identity, &abandoned))
    };
    let outcome = match timeout(PIDFILE_DEADLINE, removal).await {
        Ok(Ok(Ok(removal))) => removal.as_str(),
        Ok(Ok(Err(error))) => {
            voice.failed(error.to_string());
            "could not be removed"
        }
        Ok(Err(error)) => {
            voice.failed(format!(
                "cannot remove pidfile `{}`: {error}",
                path.display()
            ));
            "could not be removed"
        }
        Err(_) => {
            abandoned.store(true, Ordering::Release);
            voice.failed(format!(
                "pidfile `{}` could not be removed within {PIDFILE_DEADLINE:?}",
                path.display()
            ));
            "could not be removed in time"
        }
    };
    trace::note(voice.entity(), identity, Deed::Pidfile(outcome));
}

async fn on_sockets(
    voice: &Arc<Voice>,
    work: impl FnOnce(&Voice) -> Result<(), String> + Send + 'static,
) {
    let working = {
        let voice = Arc::clone(voice);
        tokio::task::spawn_blocking(move || work(&voice))
    };
    match timeout(SOCKETS_DEADLINE, working).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(reason))) => voice.failed(reason),
        Ok(Err(error)) => voice.failed(format!("sockets: {error}")),
        Err(_) => voice.failed(format!("sockets: not done within {SOCKETS_DEADLINE:?}")),
    }
}

async fn end_leftovers(voice: &Voice, dead: Identity, died: Time, stop: StopPolicy) {
    let ending = tokio::task::spawn_blocking(move || leftovers::end(dead, died, stop));
    // An error is that task's panic: there is nothing to tell then.
    let Ok((left, gone)) = ending.await else {
        return;
    };
    trace::note(voice.entity(), dead, Deed::LeftoversEnded);
    if !left.is_empty() {
        voice.report(Report::Leftovers { dead, left, gone });
    }
}

fn send_signal(voice: &Voice, process: &VerifiedPid, signal: i32) {
    let sent = process.signal(signal);
    trace::note(voice.entity(), process.identity(), Deed::Signalled(signal));
    match sent {
        // Dead already is what a signal is for, most of the time.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => voice.failed(format!(
            "cannot send signal {signal} to `{}`: {}",
            process.identity(),
            errno_name(errno)
        )),
    }
}
