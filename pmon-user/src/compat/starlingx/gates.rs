//! Looks after the gates of the host (`core::gate`): flag files, and the state of
//! the service manager (spec/pmond.md §0, §1.6, §2.3).
//!
//! A thread of its own, which may block. It looks when it is asked, and by itself
//! once a second as long as something is waited for. Must stay true: a question
//! is answered by what was seen after it was put.

use std::{
    collections::BTreeSet,
    io,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use super::{
    platform::{PLATFORM_CONF, Platform},
    root::Root,
    system_state::SystemStateSource,
    troubles::{Concern, Troubles},
};
use crate::core::gate::{Conditions, Flag, Knowledge, System, Verdict};

/// How often something that is waited for is looked for. pmond looks for the gate
/// files every 2 s, for the flags every 3 s and at the system state every second.
const PERIOD: Duration = Duration::from_secs(1);

/// Files that pmond waits for before it does anything, in their order.
const GATE_FILES: [&str; 2] = [
    "/etc/platform/.initial_config_complete",
    "/var/run/.goenabled",
];

/// Files that entities with a `subfunction` wait for.
const FLAGS: [(Flag, &str); 2] = [
    (Flag::WorkerConfigured, "/var/run/.worker_config_complete"),
    (Flag::StorageConfigured, "/var/run/.storage_config_complete"),
];

/// What was seen after so many questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of the last question that this answers.
    pub question: u64,
    /// What was seen.
    pub knowledge: Knowledge,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Gates(mpsc::Sender<u64>);

impl Gates {
    /// Puts a question, by its number. Never blocks.
    pub fn ask(&self, question: u64) {
        // The thread ends only with us.
        let _sent: Result<(), _> = self.0.send(question);
    }
}

/// Everything that can be seen without asking anybody, and what was seen before.
#[derive(Debug)]
pub struct Watch {
    root: Root,
    pause: Duration,
    /// The host is configured; that does not change any more.
    passed: BTreeSet<&'static str>,
    platform: Option<Platform>,
    met: BTreeSet<Flag>,
}

impl Watch {
    /// Nothing seen yet. `pause` is pmond's `start_delay`.
    #[must_use]
    pub const fn new(root: Root, pause: Duration) -> Self {
        Self {
            root,
            pause,
            passed: BTreeSet::new(),
            platform: None,
            met: BTreeSet::new(),
        }
    }

    /// Looks at the files, on file systems that no network can hang.
    #[must_use]
    pub fn look(&mut self, system: System) -> Knowledge {
        if self.platform.as_ref().is_none_or(|it| !it.is_complete()) {
            self.platform = Platform::read(&self.root).ok();
        }
        let complete = self.platform.as_ref().is_some_and(Platform::is_complete);
        let mut missing = Vec::new();
        if !complete {
            missing.push(self.root.path(PLATFORM_CONF).display().to_string());
        }
        for file in GATE_FILES {
            let path = self.root.path(file);
            if self.passed.contains(file) || path.exists() {
                self.passed.insert(file);
            } else {
                missing.push(path.display().to_string());
            }
        }
        for (flag, file) in FLAGS {
            if self.root.path(file).exists() {
                self.met.insert(flag);
            }
        }
        Knowledge {
            missing,
            system,
            conditions: Conditions {
                several_functions: self
                    .platform
                    .as_ref()
                    .is_none_or(Platform::has_several_functions),
                met: self.met.clone(),
                pause: self.pause,
            },
        }
    }

    /// Whether there is anything left that could appear.
    fn waits(&self, knowledge: &Knowledge) -> bool {
        let flags = knowledge.conditions.several_functions && self.met.len() < FLAGS.len();
        flags || knowledge.verdict() != Verdict::Open
    }
}

/// Starts the thread, which goes on from what `watch` has seen.
///
/// # Errors
///
/// When there can be no more threads.
pub fn start(
    watch: Watch,
    source: impl SystemStateSource + 'static,
    troubles: Troubles,
    report: impl Fn(Report) + Send + 'static,
) -> io::Result<Gates> {
    let (questions, inbox) = mpsc::channel();
    std::thread::Builder::new()
        .name("pmon-gates".to_owned())
        .spawn(move || run(watch, source, &troubles, report, &inbox))?;
    Ok(Gates(questions))
}

fn run(
    mut watch: Watch,
    mut source: impl SystemStateSource,
    troubles: &Troubles,
    report: impl Fn(Report),
    questions: &mpsc::Receiver<u64>,
) {
    let mut question = 0;
    let mut asked = false;
    let mut system = System::Unasked;
    let mut told: Option<Knowledge> = None;
    loop {
        let mut knowledge = watch.look(system.clone());
        // The service manager is asked only where its word decides.
        if knowledge.missing.is_empty() && (asked || knowledge.verdict() != Verdict::Open) {
            system = source.ask();
            knowledge.system = system.clone();
        }
        tell_trouble(troubles, &knowledge);
        if asked || told.as_ref() != Some(&knowledge) {
            let knowledge = knowledge.clone();
            report(Report {
                question,
                knowledge: knowledge.clone(),
            });
            told = Some(knowledge);
        }
        let received = if watch.waits(&knowledge) {
            questions.recv_timeout(PERIOD)
        } else {
            questions.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        asked = match received {
            Ok(number) => {
                // What was put meanwhile is answered by the same look.
                question = questions.try_iter().fold(number, u64::max);
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

fn tell_trouble(troubles: &Troubles, knowledge: &Knowledge) {
    let trouble = match knowledge.verdict() {
        Verdict::Open => None,
        Verdict::Closed { why } => Some(why),
    };
    troubles.report(Concern::SystemState, trouble);
}

#[cfg(test)]
#[path = "tests/gates.rs"]
mod tests;
