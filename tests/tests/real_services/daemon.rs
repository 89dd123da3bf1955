//! pmon, as the tests run it: the real binary, its event stream and its views.
//!
//! Nothing is asked of the daemon's inside; what is not told by the event
//! stream or by `status` and `history` is not known here.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value;

use pmon_tests::{binary::pmon, daemon::LONG};

use crate::{sandbox::BPFFS, service::Service};

/// One line of `pmon events -o jsonl`, as far as the tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) seq: u64,
    pub(crate) kind: String,
    pub(crate) entity: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) early: bool,
    pub(crate) text: String,
}

/// What has been told so far.
#[derive(Default)]
struct Stream {
    events: Mutex<Vec<Event>>,
    more: Condvar,
}

/// A running daemon; dropping it ends it.
pub(crate) struct Daemon {
    process: Child,
    listener: Option<Child>,
    stream: Arc<Stream>,
    directory: PathBuf,
}

impl Daemon {
    /// Starts the daemon with these services' pmon.d files, in `directory`.
    pub(crate) fn start(directory: &Path, services: &[Service]) -> Self {
        let pmon_d = directory.join("pmon.d");
        fs::create_dir(&pmon_d).unwrap();
        for service in services {
            fs::write(pmon_d.join(service.entity), &service.conf).unwrap();
        }
        let toml = directory.join("pmon.toml");
        fs::write(&toml, "").unwrap();
        let process = Command::new(pmon())
            .arg("daemon")
            .arg("--config")
            .arg(&toml)
            .arg("--pmon-d")
            .arg(&pmon_d)
            .arg("--run-dir")
            .arg(directory.join("run"))
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--pin-dir")
            .arg(Path::new(BPFFS).join("pmon"))
            .env("PMON_LOG", "pmon=debug,pmon_user=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        // Ends it, should it not get any further.
        let mut daemon = Self {
            process,
            listener: None,
            stream: Arc::default(),
            directory: directory.to_owned(),
        };
        let socket = directory.join("run/pmon.sock");
        wait_for("the control socket", LONG, || socket.exists().then_some(()));
        let mut listener = Command::new(pmon())
            .args(["events", "--follow", "--early", "--lines", "1000"])
            .args(["--output", "jsonl"])
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It complains when the daemon ends.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(listener.stdout.take().unwrap()).lines();
        let writer = Arc::clone(&daemon.stream);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap();
                writer.events.lock().unwrap().push(event);
                writer.more.notify_all();
            }
        });
        daemon.listener = Some(listener);
        daemon
    }

    /// Waits until everything has been heard that the daemon has told by now:
    /// the stream comes through another process.
    fn catch_up(&self) {
        let newest = self.verb(&["events", "-n", "1", "-o", "jsonl"]).output();
        let newest: Event = serde_json::from_slice(&newest.unwrap().stdout).unwrap();
        wait_for("news of the event stream", LONG, || {
            let events = self.stream.events.lock().unwrap();
            let last = events.last()?.seq;
            (last >= newest.seq).then_some(())
        });
    }

    /// How much has been told.
    pub(crate) fn told(&self) -> usize {
        self.catch_up();
        self.stream.events.lock().unwrap().len()
    }

    /// What was told of an entity after `mark`.
    pub(crate) fn since(&self, mark: usize, entity: &str) -> Vec<Event> {
        self.catch_up();
        let events = self.stream.events.lock().unwrap();
        let of_entity = |event: &&Event| event.entity.as_deref() == Some(entity);
        events[mark..].iter().filter(of_entity).cloned().collect()
    }

    /// Waits for an event of that kind after `mark`.
    pub(crate) fn wait_told(&self, mark: usize, entity: &str, kind: &str) {
        let deadline = Instant::now() + LONG;
        let mut events = self.stream.events.lock().unwrap();
        while !events[mark..]
            .iter()
            .any(|event| event.kind == kind && event.entity.as_deref() == Some(entity))
        {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "`{entity}`: no `{kind}`; told was {:#?}\nlog:\n{}",
                &events[mark..],
                self.log()
            );
            events = self.stream.more.wait_timeout(events, left).unwrap().0;
        }
    }

    /// No event was lost on its way here.
    pub(crate) fn assert_nothing_lost(&self) {
        let events = self.stream.events.lock().unwrap();
        // Early ones have the number of the event before them.
        let numbered = events.iter().filter(|event| !event.early);
        for (number, event) in (1..).zip(numbered) {
            assert_eq!(event.seq, number, "the event stream has a gap");
        }
    }

    /// A verb's `-o json`, whatever its exit code says about the entities.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.verb(arguments).args(["-o", "json"]).output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
    }

    /// A client verb, not yet run.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(pmon());
        command
            .args(arguments)
            .arg("--socket")
            .arg(self.directory.join("run/pmon.sock"))
            .stdin(Stdio::null());
        command
    }

    /// The entity as `status` has it.
    pub(crate) fn entity(&self, name: &str) -> Value {
        self.ask(&["status", name])["entities"][0].clone()
    }

    /// The daemon's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Ends the daemon in order; its log.
    pub(crate) fn stop(mut self) -> String {
        terminate(&self.process);
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}\nlog:\n{}", self.log());
        self.log()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            terminate(&self.process);
            let _already_gone = self.process.wait();
        }
        if let Some(listener) = &mut self.listener {
            let _already_gone = listener.kill();
            let _already_gone = listener.wait();
        }
    }
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// Asks again and again until there is an answer.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} within {limit:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
