//! Programs and processes that tests bring to life.
//!
//! Must stay true: a process ends with its test, also with one that fails; a
//! program can be executed at once, whatever other tests of this process are
//! forking meanwhile.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::sys::pidfd::{VerifiedPid, verify};

/// Writes an executable file, or replaces it.
///
/// Not by this process: while it has a descriptor to write with, any other
/// thread may fork, and until that child executes something it has the
/// descriptor too, which makes the program `ETXTBSY`.
pub(crate) fn executable(path: &Path, text: &str) {
    let mut writer = Command::new("/bin/sh")
        .args([
            "-c",
            r#"cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#,
        ])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = writer.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let status = writer.wait().unwrap();
    assert!(status.success(), "`{}`: {status}", path.display());
}

/// A process that does nothing until it is ended.
pub(crate) struct Sleeper(Child);

impl Sleeper {
    pub(crate) fn spawn() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn verified(&self) -> VerifiedPid {
        verify(self.pid()).unwrap()
    }

    /// Kills it and leaves its zombie until [`Sleeper::end`].
    pub(crate) fn leave_zombie(&self) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::KILL).unwrap();
        waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
        .unwrap();
    }

    /// Kills it; it is reaped and its pid free when this returns.
    pub(crate) fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // Ended already is as good.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
