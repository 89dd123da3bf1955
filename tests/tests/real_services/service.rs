//! The three services: their pmon.d files, their init scripts, and how one
//! sees from outside that they work.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{daemon::wait_for, sandbox::succeed};
use pmon_tests::daemon::LONG;

/// A service under test.
pub(crate) struct Service {
    /// Name of the entity.
    pub(crate) entity: &'static str,
    /// Its pmon.d file.
    pub(crate) conf: String,
    /// Its init script.
    pub(crate) script: &'static str,
    /// Its main program.
    pub(crate) program: &'static str,
    /// Where it writes its pid.
    pub(crate) pidfile: &'static str,
    /// It has workers, which survive the death of their master and keep its port.
    pub(crate) workers: bool,
    /// Whether it does its work.
    answers: fn() -> bool,
}

/// The shipped file for sshd; Debian names the service `ssh`.
pub(crate) fn sshd() -> Service {
    let sample = fs::read_to_string(sample()).unwrap();
    Service {
        entity: "sshd",
        conf: with(&sample, "service", "ssh"),
        script: "/etc/init.d/ssh",
        program: "/usr/sbin/sshd",
        pidfile: "/var/run/sshd.pid",
        workers: false,
        answers: || exchange(22, "", "SSH-2.0-"),
    }
}

pub(crate) fn cron() -> Service {
    Service {
        entity: "cron",
        conf: include_str!("pmon.d/cron.conf").to_owned(),
        script: "/etc/init.d/cron",
        program: "/usr/sbin/cron",
        pidfile: "/var/run/crond.pid",
        workers: false,
        answers: || true,
    }
}

pub(crate) fn nginx() -> Service {
    Service {
        entity: "nginx",
        conf: include_str!("pmon.d/nginx.conf").to_owned(),
        script: "/etc/init.d/nginx",
        program: "/usr/sbin/nginx",
        pidfile: "/var/run/nginx.pid",
        workers: true,
        answers: || exchange(80, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200"),
    }
}

/// The collected file, beside the repository unless `PMON_SHARED` says where.
fn sample() -> PathBuf {
    let shared = env::var_os("PMON_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    shared.join("samples/pmon.d/metal__mtce-src-pmon-scripts-sshd.conf")
}

/// What the host lacks for these programs.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    if programs.contains(&"/usr/sbin/sshd") && !sample().exists() {
        return Some(format!("the sample `{}` is absent", sample().display()));
    }
    programs
        .iter()
        .find(|program| !Path::new(program).exists())
        .map(|program| format!("`{program}` is not installed"))
}

/// The file with another value for one key, and not a letter more.
fn with(conf: &str, key: &str, value: &str) -> String {
    let mut found = 0;
    let lines: Vec<String> = conf
        .lines()
        .map(|line| match line.split_once('=') {
            Some((name, rest)) if name.trim() == key => {
                found += 1;
                let old = rest.split(';').next().unwrap_or(rest);
                let blanks = &old[..old.len() - old.trim_start().len()];
                let after = &rest[old.trim_end().len()..];
                format!("{name}={blanks}{value}{after}")
            }
            Some(_) | None => line.to_owned(),
        })
        .collect();
    assert_eq!(found, 1, "`{key}` in {conf}");
    lines.join("\n") + "\n"
}

impl Service {
    /// Failed attempts before a recovery from SIGKILL succeeds: the first one
    /// cannot have the port, the second one ends the workers.
    pub(crate) fn failures(&self) -> usize {
        usize::from(self.workers)
    }

    /// With seconds in place of the shipped times.
    pub(crate) fn hurried(mut self) -> Self {
        for key in ["interval", "debounce", "startuptime"] {
            self.conf = with(&self.conf, key, "1");
        }
        self
    }

    /// Runs the init script, as an operator would.
    pub(crate) fn script(&self, verb: &str) {
        succeed(
            Command::new(self.script)
                .arg(verb)
                .stdin(Stdio::null())
                .current_dir("/"),
        );
    }

    /// The process the pidfile names, if it is the program, and ours.
    pub(crate) fn main_process(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.pidfile).ok()?.trim().parse().ok()?;
        self.is_ours(pid).then_some(pid)
    }

    /// Processes that run the program and are not children of one that does.
    pub(crate) fn masters(&self) -> Vec<u32> {
        processes()
            .filter(|&pid| self.is_ours(pid))
            .filter(|&pid| !parent(pid).is_some_and(|parent| self.is_ours(parent)))
            .collect()
    }

    /// Children of a process that run the same program.
    pub(crate) fn workers(&self, master: u32) -> Vec<u32> {
        processes()
            .filter(|&pid| self.is_ours(pid) && parent(pid) == Some(master))
            .collect()
    }

    /// Runs this program, in our network namespace: the host may have its own.
    fn is_ours(&self, pid: u32) -> bool {
        let network = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/net")).map(|ns| ns.ino());
        let pid = pid.to_string();
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(self.program))
            && matches!((network(&pid), network("self")), (Ok(its), Ok(ours)) if its == ours)
    }

    /// SIGKILL for a process that is certainly this service's.
    pub(crate) fn kill(&self, pid: u32) {
        let raw = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).unwrap();
        // Looked at after the pidfd was opened: the number is still its own.
        assert!(self.is_ours(pid), "({pid}) is a stranger");
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    }

    /// The one instance, which answers; its pid.
    pub(crate) fn the_one(&self) -> u32 {
        wait_for(self.entity, LONG, || {
            let pid = self.main_process()?;
            (self.masters() == [pid] && (self.answers)()).then_some(pid)
        })
    }

    /// Ends what the test started, without asking whether anything went well.
    pub(crate) fn clear_away(&self) {
        for pid in processes() {
            let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pidfd = raw.and_then(|raw| pidfd_open(raw, PidfdFlags::empty()).ok());
            if let Some(pidfd) = pidfd.filter(|_| self.is_ours(pid)) {
                // Gone meanwhile is as good.
                pidfd_send_signal(&pidfd, Signal::KILL).ok();
            }
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Whether a TCP service on this port says what is expected.
fn exchange(port: u16, say: &str, hear: &str) -> bool {
    let talk = || {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        connection.write_all(say.as_bytes())?;
        let mut heard = vec![0; hear.len()];
        connection.read_exact(&mut heard)?;
        Ok::<_, std::io::Error>(heard == hear.as_bytes())
    };
    talk().unwrap_or_else(|_| {
        thread::sleep(Duration::from_millis(50));
        false
    })
}
