//! The proc connector's messages, as bytes: `struct nlmsghdr` (16 bytes), then
//! `struct cn_msg` (20), then `enum proc_cn_mcast_op` with an optional event mask
//! to the kernel, `struct proc_event` from it. All in native byte order
//! (`include/uapi/linux/netlink.h`, `connector.h`, `cn_proc.h`).

/// `CN_IDX_PROC`, as the multicast group of a socket address: group 1 is bit 0.
pub(super) const PROC_GROUP: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
pub(super) const LISTEN: u32 = 1;
/// `PROC_CN_MCAST_IGNORE`.
pub(super) const IGNORE: u32 = 2;

/// `CN_IDX_PROC`.
const INDEX: u32 = 1;
/// `CN_VAL_PROC`.
const VALUE: u32 = 1;
/// `NLMSG_DONE`, the type of all connector messages.
const NLMSG_DONE: u16 = 3;
/// `PROC_EVENT_EXIT`; masks are honoured since Linux 6.6, ignored before.
const EXIT: u32 = 0x8000_0000;
/// `PROC_EVENT_NONE`: an acknowledgement.
const NONE: u32 = 0;

const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
const EVENT: usize = NETLINK_HEADER + CONNECTOR_HEADER;
/// Behind `what`, `cpu` and `timestamp_ns`.
const EVENT_DATA: usize = EVENT + 16;

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Answer to LISTEN or IGNORE; 0 is success.
    Acknowledgement { error: u32 },
    /// A thread exited; a process's leader where the two are the same.
    Exit { pid: u32, tgid: u32 },
    /// Something else.
    Other,
}

impl Heard {
    pub(super) fn parse(message: &[u8]) -> Self {
        let word = |at: usize| {
            let bytes = message.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        if word(NETLINK_HEADER) != Some(INDEX) || word(NETLINK_HEADER + 4) != Some(VALUE) {
            return Self::Other;
        }
        match (word(EVENT), word(EVENT_DATA), word(EVENT_DATA + 4)) {
            (Some(NONE), Some(error), _) => Self::Acknowledgement { error },
            (Some(EXIT), Some(pid), Some(tgid)) => Self::Exit { pid, tgid },
            _ => Self::Other,
        }
    }
}

/// LISTEN or IGNORE, to be acknowledged.
pub(super) fn request(operation: u32) -> Vec<u8> {
    message(&operation.to_ne_bytes())
}

/// LISTEN with a mask that lets exits through and nothing else.
pub(super) fn listen_to_exits() -> Vec<u8> {
    let [a, b, c, d] = LISTEN.to_ne_bytes();
    let [e, f, g, h] = EXIT.to_ne_bytes();
    message(&[a, b, c, d, e, f, g, h])
}

fn message(payload: &[u8]) -> Vec<u8> {
    let length = NETLINK_HEADER + CONNECTOR_HEADER + payload.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(NLMSG_DONE.to_ne_bytes());
    // Flags, sequence number and port, none of which the connector needs.
    bytes.extend([0; 10]);
    bytes.extend(INDEX.to_ne_bytes());
    bytes.extend(VALUE.to_ne_bytes());
    // Sequence and acknowledgement numbers.
    bytes.extend([0; 8]);
    let payload_length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    bytes.extend(payload_length.to_ne_bytes());
    // Flags.
    bytes.extend([0; 2]);
    bytes.extend(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_kernels_layout() {
        let listen = request(LISTEN);
        assert_eq!(listen.len(), 40);
        assert_eq!(listen[..4], 40_u32.to_ne_bytes());
        assert_eq!(listen[4..6], 3_u16.to_ne_bytes());
        assert_eq!(listen[16..24], [1_u32.to_ne_bytes(); 2].concat());
        assert_eq!(listen[32..34], 4_u16.to_ne_bytes());
        assert_eq!(listen[36..], 1_u32.to_ne_bytes());
        let narrowed = listen_to_exits();
        assert_eq!(narrowed.len(), 44);
        assert_eq!(narrowed[32..34], 8_u16.to_ne_bytes());
        assert_eq!(narrowed[40..], 0x8000_0000_u32.to_ne_bytes());
    }

    #[test]
    fn events_are_told_apart() {
        let event = |what: u32, data: [u32; 2]| {
            let mut payload = what.to_ne_bytes().to_vec();
            payload.extend([0; 12]);
            payload.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
            Heard::parse(&message(&payload))
        };
        assert_eq!(event(EXIT, [7, 8]), Heard::Exit { pid: 7, tgid: 8 });
        assert_eq!(event(NONE, [22, 0]), Heard::Acknowledgement { error: 22 });
        assert_eq!(event(1, [7, 8]), Heard::Other);
        assert_eq!(Heard::parse(&[0; 60]), Heard::Other);
        assert_eq!(Heard::parse(&message(&EXIT.to_ne_bytes())), Heard::Other);
    }
}
