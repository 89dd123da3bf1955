//! Does what the core asked for and the pid table does not do: removes
//! pidfiles, signals, starts successors.
//!
//! Each entity has a lane: its jobs are carried out in the order in which they
//! were submitted, and no entity ever waits for another. A start command is
//! only launched by its lane and then goes on beside it, so that the job that
//! cancels it is not stuck behind it. Everything that can block has a deadline.
//! What to do and when is decided in `core`, never here.

mod at_work;
mod cgroup;
mod command;
mod failure_text;
mod lane;
mod launch;
mod leftovers;
mod log;
mod name;
mod passage;
mod pidfile;
mod questions;
mod resumed;
mod sockets;
mod start;
mod status_script;
#[cfg(test)]
mod tests;
pub mod trace;
mod unit;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use self::{at_work::AtWork, cgroup::Cgroups, lane::Order, questions::Questions, sockets::Sockets};
pub use self::{log::Journal, passage::Passage, questions::end_orphans};
use crate::{
    core::{
        death::WaitStatus,
        effect::{ScriptTask, StartVerb},
        entity::{EntitySpec, StopPolicy},
        event::StartEnd,
        identity::Identity,
        socket::SocketSpec,
        time::Time,
    },
    sys::pidfd::VerifiedPid,
    systemd::Units,
};

/// One thing to do for one entity.
#[derive(Clone, Debug)]
pub enum Job {
    /// Remove the pidfile, only if it is a regular file that still names this
    /// process.
    RemovePidfile {
        /// The pidfile.
        path: PathBuf,
        /// Who must be named in it.
        identity: Identity,
    },
    /// Signal a verified process; one that is dead already is fine.
    Signal {
        /// Who.
        process: VerifiedPid,
        /// Signal number.
        signal: i32,
    },
    /// End what a dead process left behind in its process group, and say so.
    /// Holds up the entity's next job for at most 4 s.
    EndLeftovers {
        /// Who died.
        identity: Identity,
        /// When we knew of it.
        died: Time,
        /// How the entity's processes are ended.
        stop: StopPolicy,
    },
    /// Run the start method, after cancelling one that is still running.
    /// Answered by [`Report::StartEnded`] unless cancelled or forgotten.
    Start {
        /// What to start.
        spec: Arc<EntitySpec>,
        /// With which verb, where the method knows verbs.
        verb: StartVerb,
        /// Number of the run, repeated in its report.
        run: u64,
    },
    /// Run the script of an entity in status mode, after cancelling whatever was
    /// started for it and is still running. Answered by [`Report::ScriptEnded`] unless
    /// cancelled or forgotten.
    RunScript {
        /// Whose script.
        spec: Arc<EntitySpec>,
        /// What for.
        task: ScriptTask,
        /// Number of the run, repeated in its report.
        run: u64,
        /// Read the text that explains a failure at its end.
        failure_text: bool,
    },
    /// Have systemd stop the entity's unit. Nothing is done, and said, where
    /// the start method is another one.
    StopUnit {
        /// Whose unit.
        spec: Arc<EntitySpec>,
    },
    /// Go on with a start command or script of an earlier daemon as if this one had
    /// run it: it is ended at its deadline, or when it is cancelled. Its end is
    /// reported like any other's, as [`StartEnd::Untold`].
    ResumeStart {
        /// Whose.
        spec: Arc<EntitySpec>,
        /// Which process, the leader of its process group, if it lives still.
        command: Identity,
        /// Number of the run, repeated in its report.
        run: u64,
    },
    /// SIGKILL the process group of a start command or script that is still running; its
    /// end is not reported any more, except one that is under way already. A
    /// foreground program that was reported as running is no start command.
    CancelStart,
    /// Close the entity's sockets that are not among these any more.
    KeepSockets {
        /// Those that it is to have.
        sockets: Vec<SocketSpec>,
    },
    /// Take sockets that are not held back from a living process, which has them
    /// from an earlier daemon.
    TakeSocketsBack {
        /// Which.
        sockets: Vec<SocketSpec>,
        /// From whom.
        process: VerifiedPid,
    },
}

/// What became of a job.
#[derive(Clone, Debug)]
pub enum Report {
    /// The start command came to an end.
    StartEnded {
        /// Number of the run.
        run: u64,
        /// How.
        end: StartEnd,
        /// The monitored process itself, with [`StartEnd::Running`] only.
        process: Option<VerifiedPid>,
    },
    /// The script of an entity in status mode came to an end.
    ScriptEnded {
        /// Number of the run.
        run: u64,
        /// How; never [`StartEnd::Running`].
        end: StartEnd,
        /// What explains a failure, if that was wanted and could be read.
        failure_text: Option<String>,
    },
    /// The monitored process, a child of ours, was reaped.
    Reaped {
        /// Who.
        process: Identity,
        /// How it ended.
        status: WaitStatus,
    },
    /// There were leftovers.
    Leftovers {
        /// Who died.
        dead: Identity,
        /// Who was there still.
        left: Vec<Identity>,
        /// Whether they are gone now.
        gone: bool,
    },
    /// Something did not work, for people.
    Failed {
        /// What, and why.
        what: String,
    },
}

/// Where reports go. Called from the runtime's threads; must not block.
pub type Reporter = Arc<dyn Fn(Arc<str>, Report) + Send + Sync>;

/// What a program is that is about to be executed for an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The monitored process itself.
    Process,
    /// A start command, which is to bring that up.
    StartCommand,
}

/// Puts the identity of a program on record that is about to be executed, and lets
/// it through when that is done. Called from the runtime's threads; must not block.
pub type Recorder = Box<dyn Fn(Arc<str>, VerifiedPid, Role, Passage) + Send + Sync>;

/// What the host offers to started programs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the per-entity log files.
    pub log_directory: PathBuf,
    /// The journal, which then takes the output instead.
    pub journal: Option<Journal>,
    /// Directory, in a cgroup v2 file system, below which every entity gets a
    /// cgroup for what is started for it.
    pub cgroup_parent: Option<PathBuf>,
    /// The same of version 1's CPU controller, where that is mounted: for the
    /// questions of status mode.
    pub cpu_cgroup_parent: Option<PathBuf>,
    /// Directory in which questions of status mode are on record while they are at
    /// work ([`end_orphans`]).
    pub question_directory: Option<PathBuf>,
    /// The minimal environment of everything started.
    pub environment: BTreeMap<String, String>,
    /// Path of systemctl(1), for when systemd cannot be asked otherwise.
    pub systemctl: PathBuf,
    /// systemd, where it runs the host.
    pub units: Option<Units>,
}

impl Settings {
    /// As this host has it, with logs below the state directory.
    #[must_use]
    pub fn detect(state_directory: &Path) -> Self {
        /// systemd-journald's native stream socket (systemd-journald.service(8)).
        const STREAM: &str = "/run/systemd/journal/stdout";
        Self {
            log_directory: state_directory.join("log"),
            journal: fs::metadata(STREAM)
                .is_ok_and(|found| found.file_type().is_socket())
                .then(|| Journal {
                    stream: STREAM.into(),
                    reader: tool("journalctl"),
                }),
            cgroup_parent: cgroup::mount_point().map(|root| root.join("pmon.services")),
            cpu_cgroup_parent: cgroup::cpu_mount_point().map(|root| root.join("pmon.services")),
            question_directory: None,
            environment: minimal_environment(),
            systemctl: tool("systemctl"),
            units: None,
        }
    }
}

/// Where a tool of the host is, or should be.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    [Path::new("/usr/bin"), Path::new("/bin")]
        .into_iter()
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| Path::new("/usr/bin").join(name))
}

/// `PATH` with the system directories, where init scripts find their tools, and
/// pmon's own `LANG` if it has one. Nothing else of pmon's environment.
#[must_use]
pub fn minimal_environment() -> BTreeMap<String, String> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    [("PATH".to_owned(), path.to_owned())]
        .into_iter()
        .chain(
            std::env::var("LANG")
                .ok()
                .map(|lang| ("LANG".to_owned(), lang)),
        )
        .collect()
}

/// What all lanes share.
struct Shared {
    settings: Settings,
    cgroups: Cgroups,
    /// That programs stay in pmon's cgroup is said once, not at each start.
    said_no_cgroup: AtomicBool,
    at_work: AtWork,
    questions: Questions,
    sockets: Sockets,
    report: Reporter,
    record: Option<Recorder>,
}

/// Carries out jobs on a tokio runtime, for callers that are not on it.
pub struct Executor {
    runtime: Handle,
    shared: Arc<Shared>,
    /// `None` after the shutdown.
    lanes: Mutex<Option<HashMap<Arc<str>, mpsc::UnboundedSender<Order>>>>,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl Executor {
    /// An executor whose tasks run on `runtime`, which needs its I/O and time
    /// drivers.
    #[must_use]
    pub fn new(runtime: Handle, settings: Settings, report: Reporter) -> Self {
        Self::build(runtime, settings, report, None)
    }

    /// An executor that executes no monitored program and no start command before
    /// that is on record.
    #[must_use]
    pub fn recording(
        runtime: Handle,
        settings: Settings,
        report: Reporter,
        record: Recorder,
    ) -> Self {
        Self::build(runtime, settings, report, Some(record))
    }

    fn build(
        runtime: Handle,
        settings: Settings,
        report: Reporter,
        record: Option<Recorder>,
    ) -> Self {
        Self {
            runtime,
            shared: Arc::new(Shared {
                cgroups: Cgroups::new(settings.cgroup_parent.clone())
                    .with_cpu(settings.cpu_cgroup_parent.clone()),
                questions: Questions::new(settings.question_directory.clone()),
                settings,
                said_no_cgroup: AtomicBool::new(false),
                at_work: AtWork::default(),
                sockets: Sockets::default(),
                report,
                record,
            }),
            lanes: Mutex::new(Some(HashMap::new())),
        }
    }

    /// Queues a job behind the entity's earlier ones. Never blocks; after the
    /// shutdown it does nothing.
    pub fn submit(&self, entity: &Arc<str>, job: Job) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lanes) = lanes.as_mut() else {
            tracing::debug!(entity = &**entity, ?job, "dropped after the shutdown");
            return;
        };
        let lane = lanes.entry(Arc::clone(entity)).or_insert_with(|| {
            let (sender, orders) = mpsc::unbounded_channel();
            self.runtime.spawn(lane::run(
                Arc::clone(entity),
                orders,
                Arc::clone(&self.shared),
            ));
            sender
        });
        if lane.send(Order::Job(job)).is_err() {
            // Only when the runtime is gone: a lane ends after its sender.
            tracing::warn!(entity = &**entity, "no runtime to work on");
        }
    }

    /// Pids of the start commands that are at work now, each the leader of a
    /// session of its own.
    #[must_use]
    pub fn at_work(&self) -> HashSet<u32> {
        self.shared.at_work.pids()
    }

    /// Closes the entity's sockets and ends its lane once its jobs are done. A start command that is
    /// running may go on up to its deadline, but is not reported any more.
    pub fn forget(&self, entity: &str) {
        self.shared.sockets.forget(entity);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lanes) = lanes.as_mut() {
            lanes.remove(entity);
        }
    }

    /// Waits at most `within` for the jobs submitted so far, then removes what
    /// is empty of the cgroups. Running start commands and programs are left
    /// alone: they do not end with pmon. Questions of status mode do.
    pub async fn shutdown(&self, within: Duration) {
        let lanes = self
            .lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or_default();
        let drained = async {
            let flushes: Vec<_> = lanes
                .values()
                .filter_map(|lane| {
                    let (done, flushed) = oneshot::channel();
                    lane.send(Order::Flush(done)).ok().map(|()| flushed)
                })
                .collect();
            for flushed in flushes {
                // An error is a lane that has ended: nothing left to wait for.
                let _ = flushed.await;
            }
        };
        if tokio::time::timeout(within, drained).await.is_err() {
            tracing::warn!("jobs were still unfinished at the end of the shutdown");
        }
        let shared = Arc::clone(&self.shared);
        let cleaning = tokio::task::spawn_blocking(move || shared.cgroups.remove_all());
        let _ = tokio::time::timeout(within, cleaning).await;
    }
}

/// An errno for people: its name and its meaning.
fn errno_name(errno: Errno) -> String {
    let errno = nix::errno::Errno::from_raw(errno.raw_os_error());
    format!("{errno:?} ({})", errno.desc())
}
