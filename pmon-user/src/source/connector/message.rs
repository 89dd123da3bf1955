//! The proc connector's messages, as bytes. Pure; no sockets here.
//!
//! A datagram holds one or more `struct nlmsghdr` (16 bytes, each message padded
//! to 4), a message one or more `struct cn_msg` (20 bytes), each of which has an
//! `enum proc_cn_mcast_op` with an optional event mask on the way to the kernel
//! and a `struct proc_event` on the way back; all in native byte order
//! (`include/uapi/linux/netlink.h`, `connector.h`, `cn_proc.h`). Must stay true:
//! whatever the bytes are, reading them ends, in messages or in typed errors.

use thiserror::Error;

/// `CN_IDX_PROC` as the multicast groups of a socket address: group 1 is bit 0.
pub const PROC_GROUPS: u32 = 1;
/// Every event, as a mask (`PROC_EVENT_ALL`).
pub const ALL_EVENTS: u32 = 0xe000_03c7;
/// Exits of threads and processes (`PROC_EVENT_EXIT`), as an event and as a mask.
pub const EXIT_EVENTS: u32 = 0x8000_0000;

/// `CN_IDX_PROC`.
const INDEX: u32 = 1;
/// `CN_VAL_PROC`.
const VALUE: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_CN_MCAST_IGNORE`.
const IGNORE: u32 = 2;
/// `PROC_EVENT_NONE`: an acknowledgement.
const NO_EVENT: u32 = 0;
/// `NLMSG_NOOP`: to be skipped (netlink(7)).
const NOOP: u16 = 1;
/// `NLMSG_DONE`, the type of all connector messages.
const DONE: u16 = 3;
/// `NLMSG_ALIGNTO`.
const ALIGNMENT: usize = 4;

const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
/// `what`, `cpu` and `timestamp_ns` of `struct proc_event`.
const EVENT_HEADER: usize = 16;

/// What pmon asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Events, please: all of them.
    Listen,
    /// Events of this mask. Linux 6.6 and later; earlier ones ignore it.
    ListenTo(u32),
    /// No more events.
    Ignore,
}

impl Request {
    /// The message. The kernel answers with `token + 1`, to all listeners.
    #[must_use]
    pub fn encode(self, token: u32) -> Vec<u8> {
        let (operation, mask) = match self {
            Self::Listen => (LISTEN, None),
            Self::ListenTo(mask) => (LISTEN, Some(mask)),
            Self::Ignore => (IGNORE, None),
        };
        let mut payload = operation.to_ne_bytes().to_vec();
        payload.extend(mask.into_iter().flat_map(u32::to_ne_bytes));
        netlink_message(&connector_message(token, &payload))
    }
}

/// `struct nlmsghdr` before a body.
fn netlink_message(body: &[u8]) -> Vec<u8> {
    let length = NETLINK_HEADER + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(DONE.to_ne_bytes());
    // Flags, sequence number and port, none of which the connector needs.
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes
}

/// `struct cn_msg` before its data.
fn connector_message(ack: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CONNECTOR_HEADER + data.len());
    bytes.extend(INDEX.to_ne_bytes());
    bytes.extend(VALUE.to_ne_bytes());
    // The sequence number; the kernel puts its own into what it sends.
    bytes.extend([0; 4]);
    bytes.extend(ack.to_ne_bytes());
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    // Flags.
    bytes.extend([0; 2]);
    bytes.extend(data);
    bytes
}

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The answer to somebody's request, not necessarily to ours.
    Acknowledgement {
        /// The request's token and 1.
        ack: u32,
        /// An errno; 0 is success.
        error: u32,
    },
    /// A thread exited.
    Exit(Exit),
    /// Something that does not concern pmon.
    Other,
}

/// `exit_proc_event`: a thread exited, the leader where `pid` is `tgid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The thread, as the initial pid namespace numbers it.
    pub pid: u32,
    /// Its process.
    pub tgid: u32,
    /// `task_struct.exit_code` of this thread: a raw wait status.
    pub code: u32,
    /// The signal that its parent gets.
    pub signal: u32,
    /// `CLOCK_MONOTONIC` nanoseconds at which the kernel made the event.
    pub monotonic_ns: u64,
}

/// Why bytes were no message of the proc connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The datagram was empty.
    #[error("an empty datagram")]
    Empty,
    /// The datagram did not fit into the receiver's memory.
    #[error("a datagram of {length} bytes that was cut off")]
    CutOff {
        /// Its length.
        length: usize,
    },
    /// Less is left than a netlink header.
    #[error("{left} bytes where a netlink header should be")]
    NetlinkHeader {
        /// Bytes left.
        left: usize,
    },
    /// A netlink message claims to be shorter than its header or longer than what is there.
    #[error("a netlink message that claims {claimed} bytes of {left}")]
    NetlinkLength {
        /// Its `nlmsg_len`.
        claimed: u32,
        /// Bytes left.
        left: usize,
    },
    /// A netlink message that the connector does not send.
    #[error("a netlink message of type {kind}")]
    NetlinkType {
        /// Its `nlmsg_type`.
        kind: u16,
    },
    /// Less is left than a connector header.
    #[error("{left} bytes where a connector header should be")]
    ConnectorHeader {
        /// Bytes left.
        left: usize,
    },
    /// A message of another user of the connector.
    #[error("a connector message of {index}:{value}")]
    ConnectorId {
        /// Its `idx`.
        index: u32,
        /// Its `val`.
        value: u32,
    },
    /// A connector message claims more than what is there.
    #[error("a connector message that claims {claimed} bytes of {left}")]
    ConnectorLength {
        /// Its `len`.
        claimed: u16,
        /// Bytes left.
        left: usize,
    },
    /// An event is too short for what it says it is.
    #[error("an event of {length} bytes, which is too short")]
    Event {
        /// Its length.
        length: usize,
    },
}

/// The messages of one datagram, and what else was in it.
#[must_use]
pub const fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages {
        datagram,
        connector: &[],
        started: false,
    }
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    /// What follows the current netlink message.
    datagram: &'a [u8],
    /// What is left of the current netlink message.
    connector: &'a [u8],
    started: bool,
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.connector.is_empty() {
            if self.datagram.is_empty() {
                let first = !std::mem::replace(&mut self.started, true);
                return first.then_some(Err(FrameError::Empty));
            }
            self.started = true;
            match self.enter_netlink_message() {
                Ok(DONE) => {}
                Ok(NOOP) => {
                    self.connector = &[];
                    return Some(Ok(Message::Other));
                }
                Ok(kind) => {
                    self.connector = &[];
                    return Some(Err(FrameError::NetlinkType { kind }));
                }
                Err(error) => {
                    // Where the next message begins is not known.
                    self.datagram = &[];
                    return Some(Err(error));
                }
            }
        }
        let message = self.connector_message();
        if message.is_err() {
            // The next netlink message may be sound.
            self.connector = &[];
        }
        Some(message)
    }
}

impl Messages<'_> {
    /// Steps into the next netlink message; gives its type.
    fn enter_netlink_message(&mut self) -> Result<u16, FrameError> {
        let left = self.datagram.len();
        let (Some(claimed), Some(kind), true) = (
            word(self.datagram, 0),
            half(self.datagram, 4),
            left >= NETLINK_HEADER,
        ) else {
            return Err(FrameError::NetlinkHeader { left });
        };
        let body = usize::try_from(claimed)
            .ok()
            .and_then(|end| self.datagram.get(NETLINK_HEADER..end))
            .ok_or(FrameError::NetlinkLength { claimed, left })?;
        let end = (NETLINK_HEADER + body.len()).next_multiple_of(ALIGNMENT);
        self.connector = body;
        // The last message need not be padded.
        self.datagram = self.datagram.get(end..).unwrap_or_default();
        Ok(kind)
    }

    fn connector_message(&mut self) -> Result<Message, FrameError> {
        let bytes = self.connector;
        let left = bytes.len();
        let (Some(index), Some(value), Some(ack), Some(claimed), Some(data)) = (
            word(bytes, 0),
            word(bytes, 4),
            word(bytes, 12),
            half(bytes, 16),
            bytes.get(CONNECTOR_HEADER..),
        ) else {
            return Err(FrameError::ConnectorHeader { left });
        };
        let end = usize::from(claimed);
        let (Some(event), Some(rest)) = (data.get(..end), data.get(end..)) else {
            let left = data.len();
            return Err(FrameError::ConnectorLength { claimed, left });
        };
        if (index, value) != (INDEX, VALUE) {
            return Err(FrameError::ConnectorId { index, value });
        }
        self.connector = rest;
        read_event(event, ack)
    }
}

fn read_event(event: &[u8], ack: u32) -> Result<Message, FrameError> {
    let too_short = FrameError::Event {
        length: event.len(),
    };
    let what = word(event, 0).ok_or(too_short)?;
    let monotonic_ns = double(event, 8).ok_or(too_short)?;
    let data = event.get(EVENT_HEADER..).ok_or(too_short)?;
    let field = |number: usize| word(data, 4 * number).ok_or(too_short);
    match what {
        NO_EVENT => Ok(Message::Acknowledgement {
            ack,
            error: field(0)?,
        }),
        // Linux 4.18 and later append the parent, which is of no use here.
        EXIT_EVENTS => Ok(Message::Exit(Exit {
            pid: field(0)?,
            tgid: field(1)?,
            code: field(2)?,
            signal: field(3)?,
            monotonic_ns,
        })),
        // Numbers of the kernel's, not an enum of ours.
        _ => Ok(Message::Other),
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn double(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(super) mod tests;
