//! The daemon of a run, and its clients: `pmon` called as a user would call it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::Sender,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::{Happening, scratch::Scratch};

/// Time for the daemon to answer on its socket.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// Time for the daemon to end after SIGTERM.
const END_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// `pmon`'s exit code for "daemon unreachable".
const UNREACHABLE: i32 = 5;
/// Lines of the daemon's log shown when it fails.
const LOG_TAIL: usize = 20;

/// The daemon, a child of ours until it is reaped here.
pub(super) struct Daemon {
    child: Child,
    program: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

/// What this command needs of `pmon status -o json`.
#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) entities: Vec<Entity>,
    #[serde(default)]
    pub(super) degraded: Vec<String>,
}

/// One monitored program.
#[derive(Deserialize)]
pub(super) struct Entity {
    pub(super) name: String,
    pub(super) pid: Option<u32>,
    pub(super) state: String,
}

impl Daemon {
    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it ends or doesn't answer in time, with the end of its log.
    pub(super) fn start(scratch: &Scratch) -> Result<Self> {
        let directory = &scratch.directory;
        let program = directory.join("bin/pmon");
        let log = scratch.daemon_log();
        let child = Command::new(&program)
            .arg("daemon")
            .arg("--config")
            .arg(directory.join("pmon.toml"))
            .arg("--pmon-d")
            .arg(directory.join("pmon.d"))
            .arg("--run-dir")
            .arg(directory.join("run"))
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--pin-dir")
            .arg(match &scratch.pins {
                Some(pins) => pins.as_os_str(),
                None => "none".as_ref(),
            })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            // The terminal's Ctrl-C is for us.
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start `{}`", program.display()))?;
        let mut daemon = Self {
            child,
            program,
            socket: scratch.socket(),
            log,
        };
        let deadline = Instant::now() + START_DEADLINE;
        while daemon.call(&["status"])?.status.code() == Some(UNREACHABLE) {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("the daemon ended: {status}\n{}", daemon.log_tail());
            }
            if Instant::now() > deadline {
                let tail = daemon.log_tail();
                daemon.end()?;
                bail!(
                    "the daemon doesn't answer after {} s\n{tail}",
                    START_DEADLINE.as_secs()
                );
            }
            thread::sleep(POLL);
        }
        Ok(daemon)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails once the daemon has ended.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended: {status}\n{}", self.log_tail()),
        }
    }

    /// The table for people.
    pub(super) fn table(&self) -> Result<String> {
        let output = self.call(&["status"])?;
        // Codes 3 and 8 say something of the entities, not of the call.
        let text = if output.stdout.is_empty() {
            output.stderr
        } else {
            output.stdout
        };
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    pub(super) fn status(&self) -> Result<Status> {
        let output = self.call(&["status", "-o", "json"])?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "can't understand `pmon status -o json`: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )
        })
    }

    /// Asks the daemon to stop everything it runs.
    ///
    /// # Errors
    ///
    /// When the daemon doesn't answer or refuses.
    pub(super) fn stop_entities(&self) -> Result<()> {
        for entity in self.status()?.entities {
            let output = self.call(&[
                "stop",
                &entity.name,
                "--wait",
                "--reason",
                "end of the example run",
            ])?;
            if !output.status.success() {
                bail!(
                    "`pmon stop {}` failed: {}",
                    entity.name,
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        Ok(())
    }

    /// SIGTERM, then SIGKILL when it takes too long; reaps it.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Not yet reaped, so the pid is still our child's.
        kill_process(pid.context("the daemon has no pid")?, Signal::TERM)?;
        let deadline = Instant::now() + END_DEADLINE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                eprintln!(
                    "warning: the daemon ignored SIGTERM for {} s",
                    END_DEADLINE.as_secs()
                );
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Follows the event stream and sends each line on, from a thread of its own.
    /// The returned child must be killed and reaped by the caller.
    ///
    /// # Errors
    ///
    /// When `pmon events` can't be started.
    pub(super) fn follow_events(&self, to: Sender<Happening>) -> Result<Child> {
        let mut child = self
            .client(&["events", "-f", "-o", "jsonl"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start `pmon events`")?;
        let stdout = child.stdout.take().context("no pipe to `pmon events`")?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if to.send(Happening::Event(line)).is_err() {
                    return;
                }
            }
        });
        Ok(child)
    }

    fn call(&self, arguments: &[&str]) -> Result<Output> {
        self.client(arguments)
            .output()
            .with_context(|| format!("can't start `pmon {}`", arguments.join(" ")))
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("PMON_SOCKET", &self.socket)
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_TAIL)..);
        tail.unwrap_or_default().join("\n")
    }
}
