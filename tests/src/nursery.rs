//! Many processes at once, and their registration over one connection.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::binary;

/// Highest pid that may be handed out, plus one.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// A process with many children that wait to be killed.
#[derive(Debug)]
pub struct Nursery {
    process: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    pids: Vec<u32>,
    _room: PidRoom,
}

/// As many pids as are needed, until this is dropped. One at a time.
#[derive(Debug)]
struct PidRoom {
    before: String,
    _lock: File,
}

impl PidRoom {
    fn new(processes: usize) -> Self {
        let lock = File::create(std::env::temp_dir().join("pmon-test-pid-max.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let before = fs::read_to_string(PID_MAX).unwrap();
        let wanted = processes * 2 + 40_000;
        if before.trim().parse::<usize>().unwrap() < wanted {
            fs::write(PID_MAX, wanted.to_string()).unwrap();
        }
        Self {
            before,
            _lock: lock,
        }
    }
}

impl Drop for PidRoom {
    fn drop(&mut self) {
        fs::write(PID_MAX, &self.before).ok();
    }
}

impl Nursery {
    /// So many children. Needs root.
    ///
    /// # Panics
    ///
    /// When they cannot be made.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let room = PidRoom::new(count);
        let mut process = Command::new(binary::nursery())
            .arg(count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let mut reports = BufReader::new(process.stdout.take().unwrap());
        let mut pids = Vec::new();
        loop {
            let mut line = String::new();
            reports.read_line(&mut line).unwrap();
            match line.trim().parse() {
                Ok(pid) => pids.push(pid),
                Err(_) => {
                    assert_eq!(line, "ready\n");
                    break;
                }
            }
        }
        assert_eq!(pids.len(), count);
        Self {
            process,
            orders,
            reports,
            pids,
            _room: room,
        }
    }

    /// Their pids.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Kills and reaps all of them.
    ///
    /// # Panics
    ///
    /// When the nursery has gone.
    pub fn kill(&mut self) {
        self.orders.write_all(b"kill\n").unwrap();
        let mut line = String::new();
        self.reports.read_line(&mut line).unwrap();
        assert_eq!(line, "dead\n");
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // The children die with it.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Registers processes under the names that `name` gives them, many requests at
/// once over one connection (Varlink).
///
/// # Panics
///
/// When one is refused.
pub fn register(socket: &Path, pids: &[u32], name: impl Fn(u32) -> String + Sync) {
    let stream = UnixStream::connect(socket).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for &pid in pids {
                let request = json!({
                    "method": "io.pmon.Monitor.Register",
                    "parameters": {"name": name(pid), "pid": pid},
                });
                (&stream)
                    .write_all(format!("{request}\0").as_bytes())
                    .unwrap();
            }
        });
        let mut replies = BufReader::new(&stream);
        for pid in pids {
            let mut reply = Vec::new();
            replies.read_until(0, &mut reply).unwrap();
            reply.pop();
            let reply: Value = serde_json::from_slice(&reply).unwrap();
            assert!(reply.get("error").is_none(), "{pid}: {reply}");
        }
    });
}

/// `Status` of everything, by the same way: too long for a command's output to
/// be of use.
///
/// # Panics
///
/// When there is no answer.
#[must_use]
pub fn status(socket: &Path) -> Value {
    status_over(&UnixStream::connect(socket).unwrap())
}

/// The same over a connection that there is already.
///
/// # Panics
///
/// When there is no answer.
#[must_use]
pub fn status_over(mut stream: &UnixStream) -> Value {
    stream
        .write_all(b"{\"method\":\"io.pmon.Monitor.Status\",\"parameters\":{}}\0")
        .unwrap();
    let mut reply = Vec::new();
    let mut reader = BufReader::new(stream.take(1 << 30));
    reader.read_until(0, &mut reply).unwrap();
    reply.pop();
    let mut reply: Value = serde_json::from_slice(&reply).unwrap();
    reply["parameters"].take()
}
