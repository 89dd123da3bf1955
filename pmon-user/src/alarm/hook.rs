//! A command that is executed for each event, one after the other.
//!
//! It gets the event as JSON on its standard input and as `PMON_ALARM_*` in a
//! minimal environment. Must stay true: it is executed without a shell, in a
//! process group of its own; at its deadline the group gets SIGKILL as long as
//! its leader is not reaped, so that the number can be nobody else's.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

use super::{AlarmSink, SinkError, event::AlarmEvent, message};

/// As much of its output as is looked at for the last line.
const TAIL: u64 = 4096;

/// Executes a command.
#[derive(Debug)]
pub struct HookSink {
    program: String,
    arguments: Vec<String>,
    deadline: Duration,
}

impl HookSink {
    /// `command` is an absolute path and arguments. None without a program.
    #[must_use]
    pub fn new(command: &[String], deadline: Duration) -> Option<Self> {
        let (program, arguments) = command.split_first()?;
        Some(Self {
            program: program.clone(),
            arguments: arguments.to_vec(),
            deadline,
        })
    }

    fn failed(&self, what: &str, source: io::Error) -> SinkError {
        SinkError::Io {
            what: format!("{what} `{}`", self.program),
            source,
        }
    }

    fn spawn(&self, event: &AlarmEvent, output: &File) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            // What init scripts get; see environ(7) of systemd.exec.
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .envs(message::variables(event))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .process_group(0)
            .spawn()
    }

    /// Waits until it has ended; none if it has not in time and was killed.
    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(ErrorKind::InvalidData)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let end = Instant::now() + self.deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| ErrorKind::InvalidInput)?;
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
                Ok(0) => {
                    // ESRCH: it ended at this moment.
                    let _ended = kill_process_group(pid, Signal::KILL);
                    child.wait()?;
                    return Ok(None);
                }
                Ok(_) => return child.wait().map(Some),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AlarmSink for HookSink {
    fn name(&self) -> String {
        format!("alarm hook `{}`", self.program)
    }

    fn patience(&self) -> Duration {
        self.deadline + Duration::from_secs(10)
    }

    fn deliver(&mut self, event: &AlarmEvent) -> Result<(), SinkError> {
        let line = message::json(event).map_err(|error| self.failed("tell", error.into()))?;
        let output = memfd_create("pmon-hook", MemfdFlags::CLOEXEC);
        let mut output = File::from(output.map_err(|errno| self.failed("run", errno.into()))?);
        let mut child = (self.spawn(event, &output)).map_err(|error| self.failed("run", error))?;
        if let Some(mut input) = child.stdin.take() {
            // It fits into the pipe's buffer, and who does not read it need not.
            let _not_wanted = input.write_all(&line);
        }
        let status = self.wait(&mut child);
        let status = status.map_err(|error| self.failed("wait for", error))?;
        let Some(status) = status else {
            return Err(SinkError::TimedOut(self.deadline));
        };
        tracing::debug!(hook = self.program, "told of {}", event.in_short());
        if status.success() {
            return Ok(());
        }
        let end = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => format!("ended with {status}"),
        };
        Err(SinkError::Refused {
            reason: match last_line(&mut output) {
                Some(line) => format!("{end}: {line}"),
                None => end,
            },
        })
    }
}

fn last_line(output: &mut File) -> Option<String> {
    let length = output.seek(SeekFrom::End(0)).ok()?;
    output
        .seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut tail = Vec::new();
    output.take(TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::alarm::{event::AlarmKind, tests::event};

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, argument: &Path, deadline: Duration) -> HookSink {
        let argument = argument.display().to_string();
        let command = ["/bin/sh", "-c", script, "hook", &argument].map(str::to_owned);
        HookSink::new(&command, deadline).unwrap()
    }

    #[test]
    fn it_gets_the_event_twice_over_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let mut hook = shell("cat >$1; env >>$1", &out, LONG);
        hook.deliver(&event(AlarmKind::Raise, "web", 60)).unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        let json = text.lines().next().unwrap();
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["kind"], "raise");
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "PMON_ALARM_KIND=raise",
            "PMON_ALARM_ENTITY=web",
            "PMON_ALARM_HOST=host-1",
            "PMON_ALARM_SEVERITY=major",
            "PMON_ALARM_INSTANCE=host=host-1.process=web",
            "PMON_ALARM_INCIDENT=7",
            "PMON_ALARM_RECOVERS=1",
        ] {
            assert!(lines.contains(&line), "{line}: {text}");
        }
        assert!(!text.contains("CARGO"), "the daemon's own environment");
    }

    #[test]
    fn what_it_does_not_accept_is_told_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo first; echo 'no route' >&2; exit 3";
        let mut hook = shell(script, directory.path(), LONG);
        let error = hook
            .deliver(&event(AlarmKind::Raise, "web", 60))
            .unwrap_err();
        assert_eq!(error.to_string(), "it exited with code 3: no route");
        let mut missing = HookSink::new(&["/no/such/hook".to_owned()], LONG).unwrap();
        let error = missing
            .deliver(&event(AlarmKind::Raise, "web", 1))
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot run `/no/such/hook`");
        assert!(HookSink::new(&[], LONG).is_none());
    }

    #[test]
    fn at_its_deadline_it_goes_with_all_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("pid");
        let script = "sleep 1000 & echo $! >$1.new; mv $1.new $1; wait";
        let mut deadline = Duration::from_millis(200);
        let pid = loop {
            let mut hook = shell(script, &out, deadline);
            let error = hook
                .deliver(&event(AlarmKind::Raise, "web", 60))
                .unwrap_err();
            assert!(matches!(error, SinkError::TimedOut(_)), "{error}");
            // It may have been killed before it got so far.
            match std::fs::read_to_string(&out) {
                Ok(pid) => break pid.trim().parse::<i32>().unwrap(),
                Err(_) => deadline *= 2,
            }
        };
        let pid = Pid::from_raw(pid).unwrap();
        let end = Instant::now() + LONG;
        while let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
            let second = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
            if poll(&mut watched, Some(&second)) == Ok(1) {
                return;
            }
            assert!(Instant::now() < end, "its child was left behind");
        }
    }
}
