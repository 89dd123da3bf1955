//! What state the host's service manager is in, asked of it: over the bus where this
//! host's systemd can be asked, or else by systemctl.
//!
//! Blocking, with a deadline: for the thread of `gates` alone. What follows from
//! the answer is `core::gate`'s.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::root::Root;
use crate::{
    core::gate::{System, SystemState},
    sys::clock,
    systemd::Units,
};

/// Somebody who knows the state.
pub trait SystemStateSource: Send {
    /// The state now.
    fn ask(&mut self) -> System;
}

/// `systemctl is-system-running` (systemctl(1)), where systemd runs the host.
#[derive(Clone, Debug)]
pub struct Systemctl {
    program: PathBuf,
    /// sd_booted(3).
    marker: PathBuf,
    deadline: Duration,
}

/// A service manager that takes longer is not asked in vain: the question is put
/// again a second later.
const DEADLINE: Duration = Duration::from_secs(3);

impl Systemctl {
    /// That of the host.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        Self {
            program: root.path("/usr/bin/systemctl"),
            marker: root.path("/run/systemd/system"),
            deadline: DEADLINE,
        }
    }

    fn run(&self) -> Result<SystemState, String> {
        let program = self.program.display();
        let mut child = Command::new(&self.program)
            .arg("is-system-running")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("`{program}` cannot be run: {error}"))?;
        let ended = ends_within(&child, self.deadline);
        if ended != Ok(true) {
            // Gone already is as good.
            let _gone: std::io::Result<()> = child.kill();
        }
        let text = output(&mut child);
        let reaped = child.wait();
        match ended {
            Err(errno) => return Err(format!("`{program}` cannot be waited for: {errno}")),
            Ok(false) => {
                return Err(format!(
                    "`{program}` did not end within {:?}",
                    self.deadline
                ));
            }
            Ok(true) => {}
        }
        reaped.map_err(|error| format!("`{program}` was lost: {error}"))?;
        SystemState::parse(&text).ok_or_else(|| format!("`{program}` says `{}`", text.trim()))
    }
}

impl SystemStateSource for Systemctl {
    fn ask(&mut self) -> System {
        if !self.marker.exists() {
            return System::Unmanaged;
        }
        match self.run() {
            Ok(state) => System::Is(state),
            Err(reason) => System::Silent { reason },
        }
    }
}

/// systemd over the connection that is held for units; where that does not say, the
/// client is asked.
#[derive(Debug)]
pub struct OverBus {
    units: Units,
    runtime: tokio::runtime::Handle,
    client: Systemctl,
}

impl OverBus {
    /// Has the connection held from now on. Only for the host itself: the bus is
    /// this host's.
    #[must_use]
    pub fn new(units: Units, runtime: tokio::runtime::Handle, root: &Root) -> Self {
        units.connect();
        Self {
            units,
            runtime,
            client: Systemctl::new(root),
        }
    }
}

impl SystemStateSource for OverBus {
    fn ask(&mut self) -> System {
        let (answer, answered) = mpsc::channel();
        let units = self.units.clone();
        // Not waited for with the runtime, which may have ended.
        self.runtime.spawn(async move {
            // Who has asked may have given up.
            let _late = answer.send(units.system_state().await);
        });
        let said = answered.recv_timeout(DEADLINE).ok().flatten();
        match said.as_deref().and_then(SystemState::parse) {
            Some(state) => System::Is(state),
            None => self.client.ask(),
        }
    }
}

/// Whether it ends in time.
fn ends_within(child: &Child, limit: Duration) -> rustix::io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let end = clock::now() + limit;
    loop {
        let left = end.since(clock::now());
        let timeout = Timespec::try_from(left).map_err(|_| rustix::io::Errno::INVAL)?;
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What it has printed so far; who else holds the pipe is not waited for.
fn output(child: &mut Child) -> String {
    let mut text = [0; 256];
    let Some(mut stdout) = child.stdout.take() else {
        return String::new();
    };
    let length = match rustix::io::ioctl_fionbio(&stdout, true) {
        Ok(()) => stdout.read(&mut text).unwrap_or(0),
        Err(_) => 0,
    };
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::specimen::executable;

    fn systemctl(directory: &Path, script: &str) -> Systemctl {
        let root = Root::new(directory.to_path_buf());
        std::fs::create_dir_all(root.path("/run/systemd/system")).unwrap();
        std::fs::create_dir_all(root.path("/usr/bin")).unwrap();
        let program = root.path("/usr/bin/systemctl");
        executable(&program, &format!("#!/bin/sh\n{script}\n"));
        Systemctl {
            deadline: Duration::from_secs(60),
            ..Systemctl::new(&root)
        }
    }

    #[test]
    fn the_word_counts_and_not_the_exit_code() {
        let directory = tempfile::tempdir().unwrap();
        let script = "[ \"$1\" = is-system-running ] && echo degraded; exit 1";
        let mut systemctl = systemctl(directory.path(), script);
        assert_eq!(systemctl.ask(), System::Is(SystemState::Degraded));
    }

    #[test]
    fn without_systemd_nobody_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path().to_path_buf());
        assert_eq!(Systemctl::new(&root).ask(), System::Unmanaged);
    }

    #[test]
    fn whatever_it_does_instead_of_answering_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut odd = systemctl(directory.path(), "echo unknown");
        let silent = |system| match system {
            System::Silent { reason } => reason,
            other => format!("{other:?}"),
        };
        assert!(silent(odd.ask()).ends_with("says `unknown`"));
        let directory = tempfile::tempdir().unwrap();
        let mut hanging = systemctl(directory.path(), "exec sleep 1000");
        hanging.deadline = Duration::from_millis(100);
        assert!(silent(hanging.ask()).contains("did not end within"));
        let mut absent = Systemctl {
            program: directory.path().join("nothing"),
            ..hanging
        };
        assert!(silent(absent.ask()).contains("cannot be run"));
    }
}
