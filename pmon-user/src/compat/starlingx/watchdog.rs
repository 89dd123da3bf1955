//! The socket to hostwd (spec/pmond.md §7.4), which reboots the host when it is
//! not told for long that the monitor is well.
//!
//! Must stay true: nothing here blocks. The original's socket did, and stood
//! still once hostwd had stopped reading.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// hostwd's name in the abstract namespace.
const NAME: &[u8] = b"HostWatchdog";
/// Both ends give the whole of `sun_path` (unix(7): 108 bytes, the first of them
/// NUL), so that the zeros behind the name are part of it.
const NAME_BYTES: usize = 107;

/// The way to hostwd.
#[derive(Debug)]
pub struct Watchdog {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Watchdog {
    /// A socket; hostwd need not be there yet.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        Self::to(NAME)
    }

    /// To somebody else than hostwd, for tests: abstract names are the host's.
    ///
    /// # Errors
    ///
    /// As [`Watchdog::new`], and for names that are too long.
    pub(super) fn to(name: &[u8]) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let address = address(name)?;
        Ok(Self { socket, address })
    }

    /// Sends a message, now or not at all.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` when hostwd is not there, `EAGAIN` when it does not read.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to_addr(message, &self.address).map(drop)
    }
}

/// The address of this name, padded as hostwd pads its own.
pub(super) fn address(name: &[u8]) -> io::Result<SocketAddr> {
    let mut padded = [0; NAME_BYTES];
    let Some(place) = padded.get_mut(..name.len()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    place.copy_from_slice(name);
    SocketAddr::from_abstract_name(padded)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compat::starlingx::message;

    /// A hostwd of this test alone.
    fn hostwd(name: &str) -> (Vec<u8>, UnixDatagram) {
        let name = format!("pmon-test-{}-{name}", std::process::id()).into_bytes();
        let socket = UnixDatagram::bind_addr(&address(&name).unwrap()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        (name, socket)
    }

    #[test]
    fn the_name_has_108_bytes() {
        let (name, hostwd) = hostwd("name");
        let own = hostwd.local_addr().unwrap();
        let own = own.as_abstract_name().unwrap();
        assert_eq!(own.len(), 107, "and the NUL before it");
        assert!(own.starts_with(&name));
        assert!(own[name.len()..].iter().all(|byte| *byte == 0));

        let watchdog = Watchdog::to(&name).unwrap();
        watchdog.send(&message::watchdog(None)).unwrap();
        let mut buffer = [0; 2048];
        let length = hostwd.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], message::watchdog(None));

        // The short name is another one, and nobody has it.
        let short = SocketAddr::from_abstract_name(&name).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let refused = sender.send_to_addr(b"x", &short).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn one_that_does_not_read_holds_nobody_up() {
        let (name, hostwd) = hostwd("full");
        let watchdog = Watchdog::to(&name).unwrap();
        // More than `net.unix.max_dgram_qlen` ever is by default.
        let full = (0..100_000)
            .find_map(|_| watchdog.send(&message::watchdog(None)).err())
            .unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(hostwd);
        let gone = watchdog.send(&message::watchdog(None)).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
    }
}
