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
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

pub mod atomic;
pub mod changes;
pub mod journal;
pub mod lock;
pub mod record;
pub mod registrations;
mod trusted;

use atomic::Reach;
use changes::{Change, Saved, Unsaved};
use journal::Journal;
use registrations::Registrations;

use crate::sys::sched;

/// Registrations change in bursts (a recovery changes them several times); they
/// are written this long after the first change.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Pause before something that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Bytes of journal lines that may wait for a disk; then the oldest are given
/// up. Several times what the journal keeps.
const BACKLOG_BYTES: usize = 32 << 20;
/// Commands that may wait for the thread; what they are about does not wait here.
const COMMANDS: usize = 64;

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
    /// What has changed and is not on disk.
    unsaved: Mutex<Unsaved>,
    /// Journal lines that are not on disk.
    backlog: Mutex<Backlog>,
    status: watch::Sender<StoreStatus>,
}

/// Called, on the writing thread, when something is written, or given up.
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

#[derive(Default)]
struct Backlog {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog")
            .field("lines", &self.lines.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

impl Backlog {
    /// Adds a line; those that had to go for it.
    fn push(&mut self, line: Line) -> Vec<Line> {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        let mut lost = Vec::new();
        while self.bytes > BACKLOG_BYTES
            && let Some(line) = self.pop()
        {
            lost.push(line);
        }
        lost
    }

    fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.text.len();
        Some(line)
    }

    /// Puts a line back that could not be written.
    fn unpop(&mut self, line: Line) {
        self.bytes += line.text.len();
        self.lines.push_front(line);
    }
}

#[derive(Debug)]
enum Command {
    /// There are unsaved changes of registrations.
    Save,
    /// There are lines for the journal.
    Append,
    Flush(oneshot::Sender<Result<(), String>>),
}

impl Store {
    /// Starts the writing thread for a state directory, which is created where
    /// it is missing; `initial` is what is remembered already.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. A directory that cannot be written is no error but a
    /// degraded status.
    pub fn start(directory: &Path, initial: Registrations) -> Result<Self, StoreError> {
        Self::start_with(directory, initial, DEBOUNCE, RETRY, Reach::Disk)
    }

    /// Starts the thread that writes registrations to a volatile directory, each
    /// as it comes and without waiting for a disk: what the next daemon needs to
    /// know when this one is killed (see [`registrations::load_newest`]). A program
    /// that is to be executed waits for it: `priority` is its thread's under
    /// SCHED_FIFO, where that is permitted; 0 for none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn start_volatile(
        directory: &Path,
        initial: Registrations,
        priority: u8,
    ) -> Result<Self, StoreError> {
        let reach = Reach::Cache;
        Self::start_under(priority, directory, initial, Duration::ZERO, RETRY, reach)
    }

    fn start_with(
        directory: &Path,
        initial: Registrations,
        debounce: Duration,
        retry: Duration,
        reach: Reach,
    ) -> Result<Self, StoreError> {
        Self::start_under(0, directory, initial, debounce, retry, reach)
    }

    fn start_under(
        priority: u8,
        directory: &Path,
        initial: Registrations,
        debounce: Duration,
        retry: Duration,
        reach: Reach,
    ) -> Result<Self, StoreError> {
        let (commands, receiver) = sync_channel(COMMANDS);
        let (sender, status) = watch::channel(StoreStatus::default());
        let shared = Arc::new(Shared {
            unsaved: Mutex::default(),
            backlog: Mutex::default(),
            status: sender,
        });
        let writer = Writer {
            directory: directory.to_owned(),
            shared: Arc::clone(&shared),
            debounce,
            retry,
            reach,
            saved: Saved::new(initial),
            waiting: Vec::new(),
            journal: None,
            save_at: None,
            append_at: None,
            save_error: None,
            append_error: None,
        };
        thread::Builder::new()
            .name("pmon-state".to_owned())
            .spawn(move || {
                if priority > 0
                    && let Err(error) = sched::set_fifo(i32::from(priority))
                {
                    tracing::debug!(%error, "normal priority");
                }
                writer.run(&receiver);
            })
            .map_err(StoreError::Thread)?;
        Ok(Self {
            shared,
            commands,
            status,
        })
    }

    /// Has a change written soon; never blocks.
    pub fn save(&self, change: Change) {
        lock(&self.shared.unsaved).add(change);
        self.wake(Command::Save);
    }

    /// The same at once; calls `then` when it is written.
    pub fn save_then(&self, change: Change, then: impl FnOnce() + Send + 'static) {
        lock(&self.shared.unsaved).add_then(change, Box::new(then));
        self.wake(Command::Save);
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
        let lost = lock(&self.shared.backlog).push(Line { text, then });
        if !lost.is_empty() {
            self.shared.lost(lost.len() as u64);
        }
        for line in lost {
            line.done();
        }
        self.wake(Command::Append);
    }

    fn wake(&self, command: Command) {
        // Full: the thread is awake and will see. Gone: so is the daemon.
        let _awake: Result<(), TrySendError<Command>> = self.commands.try_send(command);
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
    saved: Saved,
    /// Who waits for registrations to be written.
    waiting: Vec<Then>,
    journal: Option<Journal>,
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
                Ok(Command::Save | Command::Append) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Command::Flush(done)) => {
                    // The asker may have gone meanwhile.
                    let _gone: Result<(), Result<(), String>> = done.send(self.write_all());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let _told: Result<(), String> = self.write_all();
                    return;
                }
            }
            let now = Instant::now();
            // Whatever the command was: others may have found no room.
            {
                let unsaved = lock(&self.shared.unsaved);
                if self.save_error.is_none() && unsaved.is_awaited() {
                    self.save_at = Some(now);
                } else if self.save_at.is_none() && self.saved.is_behind(&unsaved) {
                    self.save_at = Some(now + self.debounce);
                }
            }
            if self.append_at.is_none() && !lock(&self.shared.backlog).lines.is_empty() {
                self.append_at = Some(now);
            }
            if self.append_at.is_some_and(|at| at <= now) {
                self.write_lines();
            }
            if self.save_at.is_some_and(|at| at <= now) {
                self.write_registrations();
            }
        }
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
        let mut unsaved = std::mem::take(&mut *lock(&self.shared.unsaved));
        self.waiting.append(&mut unsaved.take_waiting());
        if self.save_error.is_none() && !self.saved.is_behind(&unsaved) {
            return;
        }
        let lines = self.saved.take_over(unsaved);
        let written = self.saved.write(&self.directory, lines, self.reach);
        self.save_error = match written {
            Ok(()) => {
                for then in self.waiting.drain(..) {
                    then();
                }
                None
            }
            Err(error) => {
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
        if lock(&self.shared.backlog).lines.is_empty() {
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
        let pop = || lock(&self.shared.backlog).pop();
        while let Some(line) = pop() {
            match journal.append(&line.text) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.shared.lost(1),
                Err(error) => {
                    lock(&self.shared.backlog).unpop(line);
                    return Err(error);
                }
            }
            line.done();
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

/// A panic elsewhere leaves what is behind the lock as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
