//! The proc connector: netlink multicast of process events, narrowed to exits.
//!
//! Its states: deaf; asked (LISTEN sent, the kernel's acknowledgement awaited,
//! because without it nothing proves that the kernel listens); hearing (LISTEN
//! sent again with the mask, which silences the acknowledgement, too). Must stay
//! true: every LISTEN is followed by an IGNORE, whatever happens, because the
//! kernel goes on making events for a listener that just closed its socket.

mod message;

use std::{os::fd::AsFd as _, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_CONNECTOR};
use pmon_user::{
    core::time::Time,
    sys::{clock, pidfd::VerifiedPid},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::message::{Heard, IGNORE, LISTEN, PROC_GROUP, listen_to_exits, request};
use super::{
    Row,
    post::{Source, Watch},
};

/// For the acknowledgement, which the kernel sends while it takes the request.
const PATIENCE: Duration = Duration::from_secs(2);
/// Larger than any message of the connector.
const MESSAGE: usize = 256;

/// A listener of the proc connector.
pub(crate) struct Connector {
    socket: Socket,
    pid: u32,
}

impl Connector {
    /// A socket bound to the group, deaf so far.
    pub(crate) fn new() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_CONNECTOR).context("no proc connector")?;
        socket
            .bind(&SocketAddr::new(0, PROC_GROUP))
            .context("the proc connector is refused")?;
        Ok(Self { socket, pid: 0 })
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        self.socket.send_to(message, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    fn receive(&self) -> Option<Heard> {
        let mut buffer = [0; MESSAGE];
        let (length, sender) = self
            .socket
            .recv_from(&mut &mut buffer[..], libc::MSG_DONTWAIT)
            .ok()?;
        // Port 0 is the kernel.
        if sender.port_number() != 0 {
            return Some(Heard::Other);
        }
        Some(Heard::parse(buffer.get(..length)?))
    }

    fn acknowledged(&self) -> Result<()> {
        loop {
            let timeout = Timespec {
                tv_sec: i64::try_from(PATIENCE.as_secs())?,
                tv_nsec: 0,
            };
            let socket = self.socket.as_fd();
            let ready = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timeout))?;
            ensure!(
                ready > 0,
                "not acknowledged; needs the host's pid and user namespaces"
            );
            match self.receive() {
                Some(Heard::Acknowledgement { error: 0 }) => return Ok(()),
                Some(Heard::Acknowledgement { error }) => bail!("refused with error {error}"),
                Some(Heard::Exit { .. } | Heard::Other) | None => {}
            }
        }
    }
}

impl Source for Connector {
    const ROW: Row = Row::ProcConnector;

    fn watch(&mut self, process: VerifiedPid, epoll: &Watch<'_>) -> Result<()> {
        self.pid = process.identity().pid;
        self.send(&request(LISTEN))?;
        self.acknowledged()?;
        self.send(&listen_to_exits())?;
        while self.receive().is_some() {}
        Ok(epoll.add(&self.socket)?)
    }

    fn heard(&mut self) -> Option<Time> {
        let heard = self.receive()?;
        let at = clock::now();
        match heard {
            Heard::Exit { pid, tgid } => (pid == self.pid && tgid == self.pid).then_some(at),
            Heard::Acknowledgement { .. } | Heard::Other => None,
        }
    }

    fn forget(&mut self, epoll: &Watch<'_>) -> Result<()> {
        self.send(&request(IGNORE))?;
        epoll.remove(&self.socket)?;
        while self.receive().is_some() {}
        Ok(())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Harmless when it is deaf already: the kernel counts one per socket.
        if let Err(error) = self.send(&request(IGNORE)) {
            eprintln!("the proc connector was not told to stop: {error}");
        }
    }
}
