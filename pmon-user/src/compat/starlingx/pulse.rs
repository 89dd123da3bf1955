//! The socket to hbsClient (spec/pmond.md §7.3), which tells the controllers
//! whether this host has a process monitor.
//!
//! Must stay true: nothing here blocks.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
};

use super::message;

/// The way to hbsClient.
#[derive(Debug)]
pub struct Pulse {
    socket: UdpSocket,
}

impl Pulse {
    /// To this port of 127.0.0.1; hbsClient need not be there yet.
    ///
    /// # Errors
    ///
    /// When there is no descriptor or port left.
    pub fn new(port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        Ok(Self { socket })
    }

    /// One pulse, now or not at all.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` when nobody listened to the one before.
    pub fn send(&self) -> io::Result<()> {
        self.socket.send(&message::pulse()).map(drop)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pulse_is_one_datagram() {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let pulse = Pulse::new(client.local_addr().unwrap().port()).unwrap();
        pulse.send().unwrap();
        let mut buffer = [0; 2048];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], message::pulse());
    }
}
