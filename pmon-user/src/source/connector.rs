//! The proc connector source: netlink multicast of process events, narrowed to
//! exits.
//!
//! Its states: *asked* (bound to the group, a plain LISTEN sent, the kernel's
//! acknowledgement awaited, because from another pid or user namespace LISTEN is
//! ignored in silence); *listening* (acknowledged; narrowed to exits where the
//! kernel can, which would silence acknowledgements, too); *broken* (the socket
//! failed; nothing more is heard). Must stay true:
//!
//! * every LISTEN is followed by an IGNORE, on an orderly end and on drop: the
//!   kernel goes on making events for a listener that just closes its socket;
//! * only the kernel is believed: senders have port 0, acknowledgements our token;
//! * a message that is not understood is counted, never fatal;
//! * after an overrun nothing is known, until everything that was queued is read:
//!   the kernel drops in silence until then. So an overrun is told twice.
//!
//! The socket belongs into the receiver's epoll: exits of the whole host wake
//! it, and before Linux 6.6, where nothing narrows, forks and execs as well.
//! Events carry pids of the initial pid namespace, and an exit is one thread's:
//! whether its process is dead is decided on the pidfd, which is readable by the
//! time the event is sent (`exit_notify` precedes `proc_exit_connector` in the
//! kernel's `do_exit`). That is not done here.

pub mod message;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_CONNECTOR};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::sockopt,
};
use thiserror::Error;

use self::message::{ALL_EVENTS, EXIT_EVENTS, Exit, FrameError, Message, Request, messages};
use crate::{
    core::{death::WaitStatus, time::Time},
    sys::clock,
};

/// Asked for; the kernel doubles it (socket(7)). Holds the exits of a storm of
/// tens of thousands, and costs nothing while it is empty.
const RECEIVE_BUFFER: usize = 32 * 1024 * 1024;
/// For the acknowledgement, which the kernel sends while it takes the request.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longer than any datagram of the connector, which has 76 bytes.
const DATAGRAM: usize = 4096;
/// Datagrams without an exit that are read in one go.
const SKIPPED_AT_MOST: u32 = 1024;

/// A listener of the proc connector.
pub struct Connector {
    socket: Socket,
    datagram: Box<[u8]>,
    heard: VecDeque<Heard>,
    stats: ConnectorStats,
    token: u32,
    filtered: bool,
    listening: bool,
    /// Something was lost, and what is queued is older than that.
    behind: bool,
    broken: bool,
}

/// What the connector says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A thread exited.
    Exit(ExitHeard),
    /// The kernel had to drop events: any process may have died. Told as soon as
    /// it is known, and again when everything that was queued has been read.
    Overrun,
    /// The socket failed; nothing more will be heard.
    Broken(Errno),
}

/// A thread's exit; the leader's where `pid` is `tgid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitHeard {
    /// The thread.
    pub pid: u32,
    /// Its process.
    pub tgid: u32,
    /// With what the thread ended. Not always how its process did.
    pub status: WaitStatus,
    /// When the kernel sent the event, a moment after the exit. It is stamped
    /// with `CLOCK_MONOTONIC` and carried over to the boot clock with the present
    /// difference of the two, so a suspend in between moves it.
    pub at: Time,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectorStats {
    /// Exits of threads, registered or not.
    pub exits: u64,
    /// Times the kernel had to drop events; how many is not known.
    pub overruns: u64,
    /// Messages that were not understood.
    pub malformed: u64,
    /// The last one that was not understood, while none was since.
    pub misunderstood: Option<FrameError>,
    /// Datagrams that somebody else than the kernel sent; they were ignored.
    pub foreign: u64,
    /// Bytes the kernel holds for us at most.
    pub receive_buffer: usize,
}

impl ConnectorStats {
    /// What is wrong, until the kernel is understood again.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let misunderstood = self.misunderstood?;
        Some(format!(
            "not understood: {} of the kernel's messages, the last one as {misunderstood}; \
             deaths are noticed by their pidfds meanwhile",
            self.malformed
        ))
    }
}

/// Why the connector cannot be used; each message names the remedy where there is one.
#[derive(Debug, Error)]
pub enum ConnectorError {
    /// No socket.
    #[error("no netlink connector; the kernel needs CONFIG_PROC_EVENTS=y")]
    Socket(#[source] io::Error),
    /// `EPERM` for the group.
    #[error("process events are refused; needs CAP_NET_ADMIN (or root) before Linux 6.6")]
    Privilege(#[source] io::Error),
    /// The group cannot be had for another reason.
    #[error("cannot bind to the process events")]
    Bind(#[source] io::Error),
    /// `ECONNREFUSED`: nobody is at the other end.
    #[error(
        "this network namespace is not the host's, the only one that has process events; \
         run with the host's network (`--network=host`)"
    )]
    NetworkNamespace,
    /// LISTEN was taken and not answered.
    #[error(
        "the kernel did not acknowledge within {waited:?}: this pid or user namespace is not \
         the host's; run with the host's (`--pid=host`, no user namespace)"
    )]
    NotAcknowledged {
        /// How long it had.
        waited: Duration,
    },
    /// LISTEN was answered with an error.
    #[error("the kernel refuses process events")]
    Refused(#[source] Errno),
    /// The request could not be sent.
    #[error("cannot ask for process events")]
    Send(#[source] io::Error),
    /// The answer could not be received.
    #[error("cannot hear process events")]
    Receive(#[source] Errno),
}

/// What differs in tests.
#[derive(Clone, Copy, Debug)]
struct Options {
    protocol: isize,
    receive_buffer: usize,
    patience: Duration,
}

/// What one attempt to read gave.
enum Read {
    /// Messages, told or queued.
    Something,
    Nothing,
    Lost,
    Failed(Errno),
}

impl Connector {
    /// Listens. What exits before this returns may go unheard.
    ///
    /// # Errors
    ///
    /// See [`ConnectorError`].
    pub fn start() -> Result<Self, ConnectorError> {
        Self::start_with(Options {
            protocol: NETLINK_CONNECTOR,
            receive_buffer: RECEIVE_BUFFER,
            patience: PATIENCE,
        })
    }

    fn start_with(options: Options) -> Result<Self, ConnectorError> {
        let mut socket = Socket::new(options.protocol).map_err(ConnectorError::Socket)?;
        let receive_buffer = size_receive_buffer(&socket, options.receive_buffer);
        let group = SocketAddr::new(0, message::PROC_GROUPS);
        socket.bind(&group).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ConnectorError::Privilege(error),
            _ => ConnectorError::Bind(error),
        })?;
        let mut connector = Self {
            socket,
            datagram: vec![0; DATAGRAM].into(),
            heard: VecDeque::new(),
            stats: ConnectorStats {
                receive_buffer,
                ..ConnectorStats::default()
            },
            token: first_token(),
            filtered: false,
            listening: true,
            behind: false,
            broken: false,
        };
        connector.listen(options.patience)?;
        Ok(connector)
    }

    /// The handshake.
    fn listen(&mut self, patience: Duration) -> Result<(), ConnectorError> {
        let deadline = Instant::now() + patience;
        let mut token = self.ask(Request::Listen)?;
        loop {
            match self.answer_to(token)? {
                Answer::Yes => break,
                Answer::No(errno) => return Err(ConnectorError::Refused(errno)),
                // The answer may be among what was dropped.
                Answer::Lost => token = self.ask(Request::Listen)?,
                Answer::None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(ConnectorError::NotAcknowledged { waited: patience });
                    }
                    self.wait(left)?;
                }
            }
        }
        // A kernel that knows masks answers to the mask of all events, at once;
        // an earlier one ignores it. The mask of exits would not let an answer
        // through.
        let token = self.ask(Request::ListenTo(ALL_EVENTS))?;
        self.filtered = match self.answer_to(token)? {
            Answer::Yes => true,
            Answer::No(_) | Answer::None | Answer::Lost => false,
        };
        self.ask(Request::ListenTo(EXIT_EVENTS))?;
        Ok(())
    }

    /// Sends a request; gives the token that its answer will have.
    fn ask(&mut self, request: Request) -> Result<u32, ConnectorError> {
        self.token = self.token.wrapping_add(1);
        let bytes = request.encode(self.token);
        match self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0) {
            Ok(_) => Ok(self.token.wrapping_add(1)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(ConnectorError::NetworkNamespace)
            }
            Err(error) => Err(ConnectorError::Send(error)),
        }
    }

    /// Reads what is there until it is the answer.
    fn answer_to(&mut self, token: u32) -> Result<Answer, ConnectorError> {
        let mut answer = Answer::None;
        loop {
            let read = self.read(|message| match message {
                Message::Acknowledgement { ack, error } if ack == token => {
                    answer = match i32::try_from(error) {
                        Ok(0) => Answer::Yes,
                        number => Answer::No(Errno::from_raw_os_error(number.unwrap_or(0))),
                    };
                }
                Message::Acknowledgement { .. } | Message::Exit(_) | Message::Other => {}
            });
            match (read, answer) {
                (_, Answer::Yes | Answer::No(_)) => return Ok(answer),
                (Read::Something, _) => {}
                (Read::Nothing, _) => return Ok(answer),
                (Read::Lost, _) => answer = Answer::Lost,
                (Read::Failed(errno), _) => return Err(ConnectorError::Receive(errno)),
            }
        }
    }

    fn wait(&self, at_most: Duration) -> Result<(), ConnectorError> {
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        match poll(
            &mut [PollFd::from_borrowed_fd(self.fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(ConnectorError::Receive(errno)),
        }
    }

    /// Readable when something is to be heard.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What was heard next; `None` when there is nothing, or nothing but
    /// messages that do not concern pmon for quite a while. Never blocks.
    #[expect(
        clippy::should_implement_trait,
        reason = "`None` is not the end, as it is not for `TryRecv`"
    )]
    pub fn next(&mut self) -> Option<Heard> {
        for _ in 0..SKIPPED_AT_MOST {
            if let Some(heard) = self.heard.pop_front() {
                return Some(heard);
            }
            if self.broken {
                return None;
            }
            let mut heard = std::mem::take(&mut self.heard);
            let mut exits = 0;
            let read = self.read(|message| match message {
                Message::Exit(exit) => {
                    exits += 1;
                    heard.push_back(Heard::Exit(exit.into()));
                }
                Message::Acknowledgement { .. } | Message::Other => {}
            });
            self.heard = heard;
            self.stats.exits += exits;
            match read {
                Read::Something => {}
                Read::Nothing if self.behind => {
                    self.behind = false;
                    return Some(Heard::Overrun);
                }
                Read::Nothing => return None,
                Read::Lost => {
                    self.stats.overruns += 1;
                    self.behind = true;
                    return Some(Heard::Overrun);
                }
                Read::Failed(errno) => {
                    self.broken = true;
                    return Some(Heard::Broken(errno));
                }
            }
        }
        self.heard.pop_front()
    }

    /// Reads one datagram and has `told` take its messages.
    fn read(&mut self, told: impl FnMut(Message)) -> Read {
        let Self {
            socket,
            datagram,
            stats,
            ..
        } = self;
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        match socket.recv_from(&mut &mut datagram[..], flags) {
            Ok((length, sender)) => {
                take_datagram(stats, datagram, length, sender.port_number(), told);
                Read::Something
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => Read::Nothing,
                Some(Errno::INTR) => Read::Something,
                Some(Errno::NOBUFS) => Read::Lost,
                Some(errno) => Read::Failed(errno),
                None => Read::Failed(Errno::IO),
            },
        }
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> ConnectorStats {
        self.stats
    }

    /// Whether the kernel keeps everything but exits away from us.
    #[must_use]
    pub const fn is_filtered(&self) -> bool {
        self.filtered
    }

    /// Has the kernel stop making events for us. Dropping does the same, but
    /// cannot say what went wrong.
    ///
    /// # Errors
    ///
    /// When the request cannot be sent.
    pub fn stop(mut self) -> Result<(), ConnectorError> {
        self.ignore()
    }

    pub(crate) fn ignore(&mut self) -> Result<(), ConnectorError> {
        if std::mem::replace(&mut self.listening, false) {
            self.ask(Request::Ignore)?;
        }
        Ok(())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if let Err(error) = self.ignore() {
            tracing::debug!(%error, "the proc connector was not told to stop");
        }
    }
}

/// How a request was answered.
#[derive(Clone, Copy)]
enum Answer {
    Yes,
    No(Errno),
    None,
    /// Not, but something was lost.
    Lost,
}

/// Counts a datagram, and has `told` take its messages if it is the kernel's.
fn take_datagram(
    stats: &mut ConnectorStats,
    bytes: &[u8],
    length: usize,
    sender: u32,
    mut told: impl FnMut(Message),
) {
    // Port 0 is the kernel (netlink(7)).
    if sender != 0 {
        stats.foreign += 1;
        return;
    }
    let Some(bytes) = bytes.get(..length) else {
        stats.malformed += 1;
        stats.misunderstood = Some(FrameError::CutOff { length });
        return;
    };
    for message in messages(bytes) {
        match message {
            Ok(message) => {
                stats.misunderstood = None;
                told(message);
            }
            Err(error) => {
                stats.malformed += 1;
                stats.misunderstood = Some(error);
            }
        }
    }
}

/// As large as permitted; gives what it has become.
fn size_receive_buffer(socket: &Socket, bytes: usize) -> usize {
    // Beyond `net.core.rmem_max` with CAP_NET_ADMIN only.
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err()
        && let Err(error) = sockopt::set_socket_recv_buffer_size(socket, bytes)
    {
        tracing::debug!(%error, "the receive buffer keeps its size");
    }
    sockopt::socket_recv_buffer_size(socket).unwrap_or(0)
}

/// Hardly anybody else's: all listeners of the host hear each other's answers.
fn first_token() -> u32 {
    let bytes = clock::now().as_boot_ns().to_ne_bytes();
    let [a, b, c, d, ..] = bytes;
    u32::from_ne_bytes([a, b, c, d]) ^ std::process::id().rotate_left(16)
}

impl From<Exit> for ExitHeard {
    fn from(exit: Exit) -> Self {
        let Exit {
            pid,
            tgid,
            code,
            signal: _,
            monotonic_ns,
        } = exit;
        Self {
            pid,
            tgid,
            status: WaitStatus(code),
            at: clock::from_monotonic_ns(monotonic_ns),
        }
    }
}
