//! The service's side of active monitoring: a monitor (pmon, or the pmond of
//! StarlingX) sends requests to a UDP port on 127.0.0.1, and the service answers
//! each of them. A service that stops answering is ended and started anew.
//!
//! ```no_run
//! use pmon_client::ActiveMonitor;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut monitor = ActiveMonitor::initialize("web", 2299)?;
//! loop {
//!     // Wait with poll(2) or its like until `monitor` (it is `AsFd`), or
//!     // anything else of the service, is readable. Then:
//!     while monitor.dispatch()?.is_something() {}
//!     # break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Call [`ActiveMonitor::dispatch`] where the service does its work. A thread
//! that does nothing else proves only that it is alive itself.
//!
//! Must stay true: nothing here blocks, and nothing that arrives makes it panic
//! or send anything but a well-formed response to 127.0.0.1.

mod request;

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

pub use request::Request;

/// The port to which responses go (`TXPORT` of the original client library).
pub const REPLY_PORT: u16 = 2200;

/// Datagrams are shorter than this (the original's buffers).
pub const LIMIT: usize = 100;

/// Longest name: with it the longest request has 99 bytes.
pub const LONGEST_NAME: usize = LIMIT - 1 - 1 - 8 - 1 - 10;

/// Why active monitoring cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// Nobody could be asked by that name.
    #[error("`{name}` cannot be used as a name: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The port of the requests cannot be had.
    #[error("UDP port 127.0.0.1:{port} cannot be had")]
    Port {
        /// Which.
        port: u16,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// There is no socket to answer with.
    #[error("there is no socket for answers")]
    Answers(#[source] io::Error),
}

/// A service that answers.
#[derive(Debug)]
pub struct ActiveMonitor {
    name: String,
    requests: UdpSocket,
    responses: UdpSocket,
    reply_to: SocketAddrV4,
    #[cfg(feature = "fault-insertion")]
    fault: Option<Fault>,
}

/// What [`ActiveMonitor::dispatch`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// Nothing had arrived.
    Nothing,
    /// A request was answered.
    Answered {
        /// Its sequence number.
        sequence: u32,
    },
    /// A datagram was disregarded: no request, or not one to this service.
    Disregarded,
}

impl Dispatched {
    /// Whether there was a datagram, so that there may be another.
    #[must_use]
    pub const fn is_something(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// A wrong answer.
#[cfg(feature = "fault-insertion")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The magic of the request, not its complement.
    Magic,
    /// The sequence number less one.
    Sequence,
    /// Another name: the first two characters are `x`.
    Process,
}

impl ActiveMonitor {
    /// Begins to listen on 127.0.0.1:`port`. `name` is that of the service in the
    /// monitor's configuration (`process` or `name`).
    ///
    /// # Errors
    ///
    /// When the name does not fit into a request, or a socket cannot be had.
    pub fn initialize(name: &str, port: u16) -> Result<Self, InitializeError> {
        Self::with_reply_port(name, port, REPLY_PORT)
    }

    /// The same, for a monitor that expects answers on another port than 2200.
    ///
    /// # Errors
    ///
    /// As [`ActiveMonitor::initialize`].
    pub fn with_reply_port(
        name: &str,
        port: u16,
        reply_port: u16,
    ) -> Result<Self, InitializeError> {
        if let Some(why) = unusable(name) {
            let name = name.to_owned();
            return Err(InitializeError::Name { name, why });
        }
        let requests = listen(port).map_err(|error| InitializeError::Port { port, error })?;
        let responses = listen(0).map_err(InitializeError::Answers)?;
        Ok(Self {
            name: name.to_owned(),
            requests,
            responses,
            reply_to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, reply_port),
            #[cfg(feature = "fault-insertion")]
            fault: None,
        })
    }

    /// From now on answers are wrong in this way, or right again.
    #[cfg(feature = "fault-insertion")]
    pub const fn insert_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Takes one datagram, if one has arrived, and answers it if it is a request
    /// to this service. Never blocks.
    ///
    /// # Errors
    ///
    /// When receiving or answering fails; the next call may succeed.
    pub fn dispatch(&mut self) -> io::Result<Dispatched> {
        // One byte more than there may be, so that too much is seen as such.
        let mut datagram = [0; LIMIT + 1];
        let length = loop {
            match self.requests.recv(&mut datagram) {
                Ok(length) => break length,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(Dispatched::Nothing),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        };
        let datagram = datagram.get(..length).unwrap_or_default();
        let Some(request) = Request::parse(datagram).filter(|it| it.name == self.name) else {
            return Ok(Dispatched::Disregarded);
        };
        let response = self.response(&request);
        self.responses.send_to(response.as_bytes(), self.reply_to)?;
        Ok(Dispatched::Answered {
            sequence: request.sequence,
        })
    }

    #[cfg(not(feature = "fault-insertion"))]
    fn response(&self, request: &Request<'_>) -> String {
        request.response()
    }

    #[cfg(feature = "fault-insertion")]
    fn response(&self, request: &Request<'_>) -> String {
        let Request {
            name,
            magic,
            sequence,
        } = *request;
        let x: String;
        let wrong = match self.fault {
            None => *request,
            Some(Fault::Magic) => Request {
                magic: !magic,
                ..*request
            },
            Some(Fault::Sequence) => Request {
                sequence: sequence.wrapping_sub(1),
                ..*request
            },
            Some(Fault::Process) => {
                let rest: String = name.chars().skip(2).collect();
                x = format!("xx{rest}");
                Request {
                    name: &x,
                    ..*request
                }
            }
        };
        wrong.response()
    }

    /// Ends active monitoring on this side; so does dropping. From the next request
    /// on the monitor misses answers.
    pub fn finalize(self) {}
}

/// What to wait for: readable when a request has arrived.
impl AsFd for ActiveMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.requests.as_fd()
    }
}

fn listen(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Why nobody can be asked by this name.
fn unusable(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > LONGEST_NAME {
        Some("it is longer than 79 bytes")
    } else if name.bytes().any(request::is_blank) || name.contains('\0') {
        Some("it contains a blank or NUL")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
