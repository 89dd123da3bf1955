//! Hears from victims when their `main()` began, and holds on to the newest of
//! each, so that nobody else is killed in its place.
//!
//! Who a victim is says the kernel, in the terms of this process's pid namespace:
//! one may live in a container.

use std::{
    collections::HashMap,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use pmon_tests::process::Process;
use pmon_user::core::time::Time;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred,
};

/// A victim that lives.
#[derive(Debug)]
pub(crate) struct Victim {
    process: Process,
    /// When its `main()` began.
    pub(crate) born: Time,
    ready: bool,
}

/// All that was heard.
pub(crate) struct Births {
    socket: UnixDatagram,
    path: PathBuf,
    living: HashMap<String, Victim>,
}

impl Births {
    /// Listens at a new path.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        let socket = UnixDatagram::bind(&path)?;
        set_socket_passcred(&socket, true)?;
        Ok(Self {
            socket,
            path,
            living: HashMap::new(),
        })
    }

    /// Where victims tell it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until a victim other than `not` is ready; it is the living one from
    /// then on.
    pub(crate) fn next(
        &mut self,
        of: &str,
        not: Option<u32>,
        patience: Duration,
    ) -> Result<&Victim> {
        let deadline = Instant::now() + patience;
        let is_it = |victim: &Victim| victim.ready && Some(victim.process.pid()) != not;
        while !self.living.get(of).is_some_and(is_it) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no process for {patience:?}");
            }
            self.hear(left)?;
        }
        self.living.get(of).context("it lives")
    }

    fn hear(&mut self, patience: Duration) -> Result<()> {
        self.socket.set_read_timeout(Some(patience))?;
        let mut buffer = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(&self.socket, &mut parts, &mut ancillary, RecvFlags::empty());
        let Ok(received) = received else {
            // Nothing was said; the deadline decides.
            return Ok(());
        };
        let pid = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
            _ => None,
        });
        let pid = pid.context("the kernel does not say who a victim is")?;
        let text = std::str::from_utf8(buffer.get(..received.bytes).unwrap_or_default())?;
        let words: Vec<&str> = text.split(' ').collect();
        let [of, born, what] = words[..] else {
            bail!("a victim says `{text}`");
        };
        // It may have died since.
        if let Ok(process) = Process::open(pid.as_raw_pid().cast_unsigned()) {
            let victim = Victim {
                process,
                born: Time::from_boot_ns(born.parse()?),
                ready: what == "ready",
            };
            self.living.insert(of.to_owned(), victim);
        }
        Ok(())
    }

    /// Nobody brings it back any more.
    pub(crate) fn end(&mut self, of: &str) {
        if let Some(victim) = self.living.remove(of) {
            // Gone already is as good.
            let _gone = victim.process.signal(rustix::process::Signal::KILL);
        }
    }
}

impl Victim {
    /// Its pid.
    pub(crate) const fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it SIGKILL.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }
}

impl Drop for Births {
    fn drop(&mut self) {
        let all: Vec<String> = self.living.keys().cloned().collect();
        for of in all {
            self.end(&of);
        }
    }
}
