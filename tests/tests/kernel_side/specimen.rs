//! Processes that wait for a word before they do what they are for, so that
//! they are registered first. They end with their test.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use pmon_tests::{binary, daemon::LONG, wait};

/// See the module.
pub(crate) struct Specimen {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Specimen {
    /// Runs `script` with `sh` after a word, as this user.
    pub(crate) fn script_as(uid: u32, script: &str, arguments: &[&str]) -> Self {
        Self::spawn(
            Command::new("sh")
                .args(["-c", &format!("read word; {script}"), "sh"])
                .args(arguments)
                .uid(uid),
        )
    }

    /// Runs `script` with `sh` after a word.
    pub(crate) fn script(script: &str) -> Self {
        Self::script_as(rustix::process::geteuid().as_raw(), script, &[])
    }

    /// The test service with its two threads; see its `--help`.
    pub(crate) fn service(arguments: &[&str]) -> Self {
        Self::service_called("kernel-side", arguments)
    }

    /// The same with a word to find it by.
    pub(crate) fn service_called(tag: &str, arguments: &[&str]) -> Self {
        let service = Self::spawn(
            Command::new(binary::service())
                .args(["--tag", tag])
                .args(arguments),
        );
        let tasks = format!("/proc/{}/task", service.pid());
        wait::until("both threads", LONG, || {
            (fs::read_dir(&tasks).unwrap().count() == 2).then_some(())
        });
        service
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for the line `ready`.
    pub(crate) fn ready(&mut self) {
        assert_eq!(self.line(), "ready");
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says the word.
    pub(crate) fn go(&mut self) {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Reaps it.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Specimen {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
