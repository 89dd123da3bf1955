//! What survives the daemon: registrations and incidents, under the state
//! directory.
//!
//! A thread of its own does the writing, because a disk may hang. Must stay
//! true: no failure here ends or stops the daemon. What cannot be written is
//! kept (within bounds), tried again and told as a degraded status. Who reads
//! the records and what they mean is not decided here.

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

pub mod atomic;
pub mod journal;
pub mod lock;
pub mod registrations;

use atomic::Reach;
use journal::Journal;
use registrations::Registrations;

/// Registrations change in bursts (a recovery changes them several times); they
/// are written this long after the first change.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Pause before something that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Journal lines that may wait for a disk; then the oldest are given up.
const BACKLOG: usize = 16 * 1024;

/// Why there is no store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No thread.
    #[error("cannot start the state thread")]
    Thread(#[source] io::Error),
}

/// How the store is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Why something is not on disk that should be.
    pub degraded: Option<String>,
    /// Journal lines that were given up.
    pub lost: u64,
}

/// The way to the writing thread, which ends, after a last attempt to write
/// everything, when this is dropped.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    status: watch::Receiver<StoreStatus>,
}

#[derive(Debug)]
struct Shared {
    unsaved: Mutex<Unsaved>,
    status: watch::Sender<StoreStatus>,
}

/// What is not on disk.
#[derive(Default)]
struct Unsaved {
    /// The newest registrations.
    registrations: Option<Registrations>,
    /// Who waits for them.
    then: Vec<Then>,
}

impl fmt::Debug for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsaved")
            .field("registrations", &self.registrations.is_some())
            .field("then", &self.then.len())
            .finish()
    }
}

/// Called, on the writing thread, when a line is in the journal, or given up.
type Then = Box<dyn FnOnce() + Send>;

/// A line on its way into the journal.
struct Line {
    text: String,
    then: Option<Then>,
}

impl Line {
    fn done(self) {
        if let Some(then) = self.then {
            then();
        }
    }
}

enum Command {
    /// There are unsaved registrations.
    Save,
    Append(Line),
    Flush(oneshot::Sender<Result<(), String>>),
}

impl Store {
    /// Starts the writing thread for a state directory, which is created where
    /// it is missing.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. A directory that cannot be written is no error but a
    /// degraded status.
    pub fn start(directory: &Path) -> Result<Self, StoreError> {
        Self::start_with(directory, DEBOUNCE, RETRY, Reach::Disk)
    }

    /// Starts the thread that writes registrations to a volatile directory, each
    /// as it comes and without waiting for a disk: what the next daemon needs to
    /// know when this one is killed (see [`registrations::load_newest`]).
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn start_volatile(directory: &Path) -> Result<Self, StoreError> {
        Self::start_with(directory, Duration::ZERO, RETRY, Reach::Cache)
    }

    fn start_with(
        directory: &Path,
        debounce: Duration,
        retry: Duration,
        reach: Reach,
    ) -> Result<Self, StoreError> {
        let (commands, receiver) = sync_channel(BACKLOG);
        let (sender, status) = watch::channel(StoreStatus::default());
        let shared = Arc::new(Shared {
            unsaved: Mutex::default(),
            status: sender,
        });
        let writer = Writer {
            directory: directory.to_owned(),
            shared: Arc::clone(&shared),
            debounce,
            retry,
            reach,
            journal: None,
            backlog: VecDeque::new(),
            save_at: None,
            append_at: None,
            save_error: None,
            append_error: None,
        };
        thread::Builder::new()
            .name("pmon-state".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(StoreError::Thread)?;
        Ok(Self {
            shared,
            commands,
            status,
        })
    }

    /// Has the registrations written soon; never blocks.
    pub fn save(&self, registrations: Registrations) {
        self.save_soon(registrations, None);
    }

    /// The same; calls `then` when they, or newer ones, are written.
    pub fn save_then(&self, registrations: Registrations, then: impl FnOnce() + Send + 'static) {
        self.save_soon(registrations, Some(Box::new(then)));
    }

    fn save_soon(&self, registrations: Registrations, then: Option<Then>) {
        {
            let unsaved = self.shared.unsaved.lock();
            let mut unsaved = unsaved.unwrap_or_else(PoisonError::into_inner);
            unsaved.registrations = Some(registrations);
            unsaved.then.extend(then);
        }
        // Full: the thread is awake and will see them. Gone: so is the daemon.
        let _awake: Result<(), TrySendError<Command>> = self.commands.try_send(Command::Save);
    }

    /// Has one incident written as one line of the journal; never blocks.
    ///
    /// # Errors
    ///
    /// When the value cannot be expressed in JSON.
    pub fn append(&self, incident: &impl Serialize) -> Result<(), serde_json::Error> {
        self.append_line(serde_json::to_string(incident)?, None);
        Ok(())
    }

    /// The same; calls `then` when the line is in the journal, where the
    /// daemon's end cannot touch it any more, or is given up. Not called when the
    /// value cannot be expressed.
    ///
    /// # Errors
    ///
    /// When the value cannot be expressed in JSON.
    pub fn append_then(
        &self,
        incident: &impl Serialize,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<(), serde_json::Error> {
        self.append_line(serde_json::to_string(incident)?, Some(Box::new(then)));
        Ok(())
    }

    fn append_line(&self, text: String, then: Option<Then>) {
        let command = Command::Append(Line { text, then });
        if let Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) =
            self.commands.try_send(command)
        {
            self.shared.lost(1);
            if let Command::Append(line) = refused {
                line.done();
            }
        }
    }

    /// Waits until everything handed over so far is on disk, or could not be
    /// written. Can take as long as the disk: give it a deadline.
    ///
    /// # Errors
    ///
    /// What could not be written and why.
    pub async fn flush(&self) -> Result<(), String> {
        let (done, flushed) = oneshot::channel();
        let mut command = Command::Flush(done);
        // The queue is full while a disk hangs.
        while let Err(error) = self.commands.try_send(command) {
            match error {
                TrySendError::Full(refused) => command = refused,
                TrySendError::Disconnected(_) => return Err("the state thread is gone".to_owned()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        flushed
            .await
            .unwrap_or_else(|_| Err("the state thread is gone".to_owned()))
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<StoreStatus> {
        self.status.clone()
    }
}

impl Shared {
    fn lost(&self, lines: u64) {
        self.status.send_modify(|status| status.lost += lines);
    }
}

/// The writing thread's own. `save_at` and `append_at` say when something that
/// waits is to be tried; `None`: nothing waits.
struct Writer {
    directory: PathBuf,
    shared: Arc<Shared>,
    debounce: Duration,
    retry: Duration,
    reach: Reach,
    journal: Option<Journal>,
    backlog: VecDeque<Line>,
    save_at: Option<Instant>,
    append_at: Option<Instant>,
    save_error: Option<String>,
    append_error: Option<String>,
}

impl Writer {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let due = [self.save_at, self.append_at].into_iter().flatten().min();
            let command = match due {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => commands.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match command {
                Ok(Command::Save) => {
                    let soon = Instant::now() + self.debounce;
                    self.save_at = Some(self.save_at.map_or(soon, |at| at.min(soon)));
                }
                Ok(Command::Append(line)) => {
                    self.remember(line);
                    // What failed a moment ago would fail again.
                    if self.append_error.is_none() {
                        self.append_at = Some(Instant::now());
                    }
                }
                Ok(Command::Flush(done)) => {
                    // The asker may have gone meanwhile.
                    let _gone: Result<(), Result<(), String>> = done.send(self.write_all());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let _told: Result<(), String> = self.write_all();
                    return;
                }
            }
            let now = Instant::now();
            if self.append_at.is_some_and(|at| at <= now) {
                self.write_lines();
            }
            if self.save_at.is_some_and(|at| at <= now) {
                self.write_registrations();
            }
        }
    }

    fn remember(&mut self, line: Line) {
        if self.backlog.len() == BACKLOG
            && let Some(lost) = self.backlog.pop_front()
        {
            self.shared.lost(1);
            lost.done();
        }
        self.backlog.push_back(line);
    }

    fn write_all(&mut self) -> Result<(), String> {
        self.write_lines();
        self.write_registrations();
        let errors = [&self.save_error, &self.append_error];
        match errors.into_iter().flatten().next() {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    fn write_registrations(&mut self) {
        self.save_at = None;
        let unsaved = || {
            self.shared
                .unsaved
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let (registrations, waiting) = {
            let mut unsaved = unsaved();
            let Some(registrations) = unsaved.registrations.take() else {
                return;
            };
            (registrations, std::mem::take(&mut unsaved.then))
        };
        let written = create(&self.directory)
            .and_then(|()| registrations::save(&self.directory, &registrations, self.reach));
        self.save_error = match written {
            Ok(()) => {
                for then in waiting {
                    then();
                }
                None
            }
            Err(error) => {
                let mut unsaved = unsaved();
                // Unless there are newer ones by now.
                unsaved.registrations.get_or_insert(registrations);
                unsaved.then.extend(waiting);
                self.save_at = Some(Instant::now() + self.retry);
                Some(format!(
                    "cannot write `{}`: {error}",
                    self.directory.join(registrations::FILE).display()
                ))
            }
        };
        self.tell_status();
    }

    fn write_lines(&mut self) {
        self.append_at = None;
        if self.backlog.is_empty() {
            return;
        }
        let written = self.try_write_lines();
        self.append_error = match written {
            Ok(()) => None,
            Err(error) => {
                self.append_at = Some(Instant::now() + self.retry);
                Some(format!(
                    "cannot write `{}`: {error}",
                    self.directory.join(journal::FILE).display()
                ))
            }
        };
        self.tell_status();
    }

    fn try_write_lines(&mut self) -> io::Result<()> {
        let mut journal = match self.journal.take() {
            Some(journal) => journal,
            None => {
                create(&self.directory)?;
                Journal::open(&self.directory)?
            }
        };
        // On an error it is opened anew next time: it may have been deleted.
        while let Some(line) = self.backlog.front() {
            match journal.append(&line.text) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.shared.lost(1),
                Err(error) => return Err(error),
            }
            if let Some(written) = self.backlog.pop_front() {
                written.done();
            }
        }
        journal.sync()?;
        self.journal = Some(journal);
        Ok(())
    }

    fn tell_status(&self) {
        let degraded = self.save_error.clone().or(self.append_error.clone());
        self.shared.status.send_if_modified(|status| {
            let changed = status.degraded != degraded;
            status.degraded = degraded;
            changed
        });
    }
}

/// Creates the state directory, for the daemon's user alone.
fn create(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
}

#[cfg(test)]
mod tests;
