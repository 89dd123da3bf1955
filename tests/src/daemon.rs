//! A running `pmon daemon`, and what its clients say.
//!
//! Dropping it ends it: SIGTERM, then SIGKILL. When a test fails, its log is
//! printed. Every daemon of every test says in its log what it does to processes,
//! and in which order; that is checked at its end (see [`order`]).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{binary, events::Events, order, place::Place, process::Process, wait};

/// Longer than anything takes that the tests wait for, also on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    process: Process,
    socket: PathBuf,
    log: PathBuf,
}

/// How a client ended.
#[derive(Debug)]
pub struct Answer {
    /// Exit code.
    pub code: Option<i32>,
    /// stdout.
    pub stdout: String,
    /// stderr.
    pub stderr: String,
}

impl Answer {
    /// stdout as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `pmon daemon` with the directories of the place.
#[must_use]
pub fn command(place: &Place) -> Command {
    let mut command = Command::new(binary::pmon());
    add_arguments(&mut command, place, place.pins());
    command
}

/// The same with pins elsewhere.
#[must_use]
pub fn command_with_pins(place: &Place, pins: &Path) -> Command {
    let mut command = Command::new(binary::pmon());
    add_arguments(&mut command, place, pins);
    command
}

/// `pmon daemon` with the directories of the place, behind another program
/// that executes its arguments (such as `setpriv`).
#[must_use]
pub fn command_behind(program: &[&str], place: &Place) -> Command {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(binary::pmon());
    add_arguments(&mut command, place, place.pins());
    command
}

fn add_arguments(command: &mut Command, place: &Place, pins: &Path) {
    command
        .arg("daemon")
        .arg("--config")
        .arg(place.config())
        .arg("--pmon-d")
        .arg(place.pmon_d())
        .arg("--run-dir")
        .arg(place.run())
        .arg("--state-dir")
        .arg(place.state())
        .arg("--pin-dir")
        .arg(pins);
}

impl Daemon {
    /// Starts one and waits until it answers.
    #[must_use]
    pub fn start(place: &Place) -> Self {
        Self::launch(place, command(place))
    }

    /// Starts this command and waits until the daemon answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn launch(place: &Place, command: Command) -> Self {
        let mut daemon = Self::launch_beside(place, command);
        wait::until("the daemon answers", LONG, || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended: {status}");
            }
            (daemon.ask(&["list", "-o", "json"]).code == Some(0)).then_some(())
        });
        // Its first canary is a process like any other to whoever counts them.
        wait::until_seen(
            "the first canary is back",
            LONG,
            || daemon.status()["sources"].clone(),
            |sources| {
                let mut sources = sources.as_array().unwrap().iter();
                sources.all(|source| source["state"] != "unproven" || !source["canary"].is_null())
            },
        );
        daemon
    }

    /// Starts this command, perhaps beside a daemon that it will take over from.
    ///
    /// # Panics
    ///
    /// When it cannot be executed.
    #[must_use]
    pub fn launch_beside(place: &Place, mut command: Command) -> Self {
        let log = place.path("daemon.log");
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        if !command.get_envs().any(|(name, _)| name == order::VARIABLE) {
            command.env(order::VARIABLE, order::WANTED);
        }
        let child = command
            .env_remove("PMON_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let process = Process::open(child.id()).unwrap();
        Self {
            child,
            process,
            socket: place.socket(),
            log,
        }
    }

    /// Waits until it is this one that answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn answers(&self) {
        wait::until("this daemon answers", LONG, || {
            let answer = self.ask(&["status", "-o", "json"]);
            let answered = matches!(answer.code, Some(0 | 3));
            (answered && answer.json()["daemon"]["pid"] == self.pid()).then_some(())
        });
    }

    /// Waits for its end, for which somebody else has asked.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn end(mut self) -> ExitStatus {
        assert!(self.process.ends_within(LONG), "the daemon does not end");
        self.child.wait().unwrap()
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client of this daemon, not started yet.
    #[must_use]
    pub fn client(&self, arguments: &[&str]) -> Command {
        client(&self.socket, arguments)
    }

    /// What a client says.
    pub fn ask(&self, arguments: &[&str]) -> Answer {
        answer(&mut self.client(arguments))
    }

    /// What a client says that must succeed, as JSON.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.ask(&[arguments, &["-o", "json"]].concat());
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
        answer.json()
    }

    /// `pmon status`: whatever its exit code says of the entities.
    ///
    /// # Panics
    ///
    /// When the daemon does not answer.
    #[must_use]
    pub fn status(&self) -> Value {
        let answer = self.ask(&["status", "-o", "json"]);
        assert!(matches!(answer.code, Some(0 | 3)), "{answer:?}");
        answer.json()
    }

    /// Waits until a kernel source is in this state; what `pmon status` says of it.
    pub fn source_when(&self, name: &str, state: &str) -> Value {
        wait::until_seen(
            &format!("{name} is {state}"),
            LONG,
            || source(&self.status(), name),
            |source| source["state"] == state,
        )
    }

    /// One entity of `pmon status`.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    #[must_use]
    pub fn entity(&self, name: &str) -> Value {
        let answer = self.ask(&["list", name, "-o", "json"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.json()["entities"][0].clone()
    }

    /// Waits until the entity is as wanted.
    pub fn entity_when(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        wait::until_seen(what, limit, || self.entity(name), wanted)
    }

    /// Waits until the entity rests, healthy and registered; its pid.
    ///
    /// # Panics
    ///
    /// When it does not get there.
    #[must_use]
    pub fn up(&self, name: &str) -> u32 {
        let entity = self.entity_when(name, "it is up", LONG, |entity| {
            entity["state"] == "up" && entity["registered"] == true
        });
        pid_of(&entity)
    }

    /// Waits until the entity is in this stage.
    pub fn in_stage(&self, name: &str, stage: &str) -> Value {
        let what = format!("`{name}` is in stage {stage}");
        self.entity_when(name, &what, LONG, |entity| entity["stage"] == stage)
    }

    /// Its events.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::of(self)
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it is still there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_alive()
    }

    /// Ends it as init does.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn terminate(mut self) -> ExitStatus {
        self.process.signal(Signal::TERM).unwrap();
        assert!(
            self.process.ends_within(LONG),
            "the daemon disregards SIGTERM"
        );
        self.child.wait().unwrap()
    }

    /// Kills it.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn kill(mut self) {
        self.process.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Gone in between is as good.
            self.process.signal(Signal::TERM).ok();
            if !self.process.ends_within(LONG) {
                self.process.signal(Signal::KILL).ok();
            }
            self.child.wait().ok();
        }
        if thread::panicking() {
            println!("--- log of the daemon\n{}---", self.log());
        } else if let Err(wrong) = order::check(&self.log()) {
            panic!("{wrong}\n--- log of the daemon\n{}---", self.log());
        }
    }
}

/// A client of the daemon behind this socket.
#[must_use]
pub fn client(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::pmon());
    command
        .env_remove("PMON_SOCKET")
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .stdin(Stdio::null());
    command
}

/// Runs a client to its end.
///
/// # Panics
///
/// When it cannot be run.
pub fn answer(command: &mut Command) -> Answer {
    let output = command.output().expect("pmon runs");
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The pid in an entity's view.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn pid_of(entity: &Value) -> u32 {
    let pid = entity["pid"].as_u64().and_then(|pid| pid.try_into().ok());
    pid.unwrap_or_else(|| panic!("it has a pid: {entity:#}"))
}

/// What stands at `path` of a kernel source in `pmon status`.
#[must_use]
pub fn source(status: &Value, name: &str) -> Value {
    status["sources"]
        .as_array()
        .and_then(|sources| sources.iter().find(|source| source["name"] == name))
        .cloned()
        .unwrap_or(Value::Null)
}
