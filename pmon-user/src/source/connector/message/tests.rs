//! The codec against the kernel's layout, and against everything else.
use proptest::{
    collection::vec, prelude::*, sample::Index, strategy::Union, test_runner::TestCaseResult,
};

use super::*;

/// `PROC_EVENT_FORK`.
const FORK: u32 = 1;

/// An event as the kernel sends it: 40 bytes, whatever it is.
fn event(what: u32, monotonic_ns: u64, fields: [u32; 4]) -> Vec<u8> {
    let mut bytes = what.to_ne_bytes().to_vec();
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend(monotonic_ns.to_ne_bytes());
    bytes.extend(fields.into_iter().flat_map(u32::to_ne_bytes));
    bytes.extend([0; 8]);
    bytes
}

/// A connector message, from the message that it is to be read as.
fn connector_bytes(message: Message) -> Vec<u8> {
    match message {
        Message::Acknowledgement { ack, error } => {
            connector_message(ack, &event(NO_EVENT, 5, [error, 0, 0, 0]))
        }
        Message::Exit(Exit {
            pid,
            tgid,
            code,
            signal,
            monotonic_ns,
        }) => connector_message(
            0,
            &event(EXIT_EVENTS, monotonic_ns, [pid, tgid, code, signal]),
        ),
        Message::Other => connector_message(0, &event(FORK, 5, [1, 1, 2, 2])),
    }
}

/// Messages as the kernel would send them, one datagram.
pub(in crate::source::connector) fn datagram(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend(netlink_message(&connector_bytes(*message)));
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    bytes
}

fn read(datagram: &[u8]) -> Vec<Result<Message, FrameError>> {
    messages(datagram).collect()
}

const DEATH: Message = Message::Exit(Exit {
    pid: 7,
    tgid: 8,
    code: 0x8b,
    signal: 17,
    monotonic_ns: 1_234_567_890_123,
});

#[test]
fn requests_have_the_kernels_layout() {
    let listen = Request::Listen.encode(9);
    assert_eq!(listen.len(), 40);
    assert_eq!(listen[..4], 40_u32.to_ne_bytes());
    assert_eq!(listen[4..6], 3_u16.to_ne_bytes());
    assert_eq!(listen[16..24], [1_u32.to_ne_bytes(); 2].concat());
    assert_eq!(listen[28..32], 9_u32.to_ne_bytes());
    assert_eq!(listen[32..34], 4_u16.to_ne_bytes());
    assert_eq!(listen[36..], 1_u32.to_ne_bytes());
    let narrowed = Request::ListenTo(EXIT_EVENTS).encode(9);
    assert_eq!(narrowed.len(), 44);
    assert_eq!(narrowed[32..34], 8_u16.to_ne_bytes());
    assert_eq!(narrowed[40..], 0x8000_0000_u32.to_ne_bytes());
    assert_eq!(Request::Ignore.encode(0)[36..], 2_u32.to_ne_bytes());
}

/// Received on Linux 6.18 (x86-64): the end of `sh -c 'exit 7'`.
#[test]
#[cfg(target_endian = "little")]
fn an_exit_as_the_kernel_sent_it() {
    const RECEIVED: [u32; 19] = [
        // struct nlmsghdr
        0x4c,
        0x03,
        0x03_4d,
        0x00, // struct cn_msg
        0x01,
        0x01,
        0x03_4d,
        0x00,
        0x28, // struct proc_event
        0x8000_0000,
        0x00,
        0x7d28_1a6f,
        0x0b9e,
        0x4dd2,
        0x4dd2,
        0x0700,
        0x11,
        0x4da5,
        0x4da5,
    ];
    let exit = Exit {
        pid: 19_922,
        tgid: 19_922,
        code: 0x700,
        signal: 17,
        monotonic_ns: 0x0b9e_7d28_1a6f,
    };
    let bytes = RECEIVED.map(u32::to_le_bytes).concat();
    assert_eq!(read(&bytes), [Ok(Message::Exit(exit))]);
}

#[test]
fn messages_are_told_apart() {
    let yes = Message::Acknowledgement { ack: 4, error: 0 };
    let no = Message::Acknowledgement { ack: 4, error: 22 };
    for message in [DEATH, yes, no, Message::Other] {
        assert_eq!(read(&datagram(&[message])), [Ok(message)]);
    }
}

/// `cn_netlink_send_mult` may put several connector messages into one.
#[test]
fn several_in_one_are_all_read() {
    let both = [connector_bytes(DEATH), connector_bytes(Message::Other)].concat();
    let mut bytes = netlink_message(&both);
    assert_eq!(read(&bytes), [Ok(DEATH), Ok(Message::Other)]);
    bytes.extend(datagram(&[DEATH]));
    assert_eq!(read(&bytes), [Ok(DEATH), Ok(Message::Other), Ok(DEATH)]);
}

#[test]
fn a_noop_is_skipped() {
    let mut bytes = datagram(&[DEATH, DEATH]);
    bytes[4..6].copy_from_slice(&NOOP.to_ne_bytes());
    assert_eq!(read(&bytes), [Ok(Message::Other), Ok(DEATH)]);
}

#[test]
fn each_kind_of_garbage_has_a_name() {
    let good = datagram(&[DEATH]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        // What follows a message that can be stepped over is read.
        changed.extend(&good);
        read(&changed)
    };
    assert_eq!(read(&[]), [Err(FrameError::Empty)]);
    assert_eq!(
        read(&good[..15]),
        [Err(FrameError::NetlinkHeader { left: 15 })]
    );
    assert_eq!(
        with(0, &15_u32.to_ne_bytes()),
        [Err(FrameError::NetlinkLength {
            claimed: 15,
            left: 152
        })]
    );
    assert_eq!(
        with(0, &u32::MAX.to_ne_bytes()),
        [Err(FrameError::NetlinkLength {
            claimed: u32::MAX,
            left: 152
        })]
    );
    assert_eq!(
        with(4, &2_u16.to_ne_bytes()),
        [Err(FrameError::NetlinkType { kind: 2 }), Ok(DEATH)]
    );
    assert_eq!(
        with(16, &6_u32.to_ne_bytes()),
        [
            Err(FrameError::ConnectorId { index: 6, value: 1 }),
            Ok(DEATH)
        ]
    );
    assert_eq!(
        with(32, &41_u16.to_ne_bytes()),
        [
            Err(FrameError::ConnectorLength {
                claimed: 41,
                left: 40
            }),
            Ok(DEATH)
        ]
    );
    // A shorter event leaves bytes that are no message.
    assert_eq!(
        with(32, &31_u16.to_ne_bytes()),
        [Err(FrameError::Event { length: 31 }), Ok(DEATH)]
    );
    assert_eq!(
        with(32, &32_u16.to_ne_bytes()),
        [
            Ok(DEATH),
            Err(FrameError::ConnectorHeader { left: 8 }),
            Ok(DEATH)
        ]
    );
    assert_eq!(
        read(&netlink_message(&[])),
        [Err(FrameError::ConnectorHeader { left: 0 })]
    );
}

fn any_message() -> impl Strategy<Value = Message> {
    let exit = any::<([u32; 4], u64)>().prop_map(|([pid, tgid, code, signal], monotonic_ns)| {
        Message::Exit(Exit {
            pid,
            tgid,
            code,
            signal,
            monotonic_ns,
        })
    });
    let acknowledgement =
        any::<(u32, u32)>().prop_map(|(ack, error)| Message::Acknowledgement { ack, error });
    Union::new([
        exit.boxed(),
        acknowledgement.boxed(),
        Just(Message::Other).boxed(),
    ])
}

/// What the bytes of a valid datagram may be turned into.
#[derive(Clone, Debug)]
enum Damage {
    /// Cut off somewhere.
    Cut(Index),
    /// One byte, somewhere.
    Byte(Index, u8),
    /// A word where a length, a type or an identifier stands.
    Word(Index, u32),
    /// Some bytes put in.
    Inserted(Index, Vec<u8>),
    /// Some bytes taken out.
    Removed(Index, Index),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let word = prop_oneof![0..100_u32, any::<u32>(), Just(u32::MAX - 3)];
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        any::<(Index, u8)>().prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<Index>(), word).prop_map(|(at, word)| Damage::Word(at, word)),
        (any::<Index>(), vec(any::<u8>(), 1..40)).prop_map(|(at, new)| Damage::Inserted(at, new)),
        any::<(Index, Index)>().prop_map(|(from, to)| Damage::Removed(from, to)),
    ]
}

impl Damage {
    fn done_to(&self, bytes: &mut Vec<u8>) {
        let size = bytes.len();
        if size < 4 {
            return;
        }
        match self {
            Self::Cut(at) => bytes.truncate(at.index(size)),
            Self::Byte(at, byte) => bytes[at.index(size)] = *byte,
            Self::Word(at, word) => {
                let at = at.index(size / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
            Self::Inserted(at, new) => {
                bytes.splice(at.index(size)..at.index(size), new.iter().copied());
            }
            Self::Removed(from, to) => {
                let (from, to) = (from.index(size), to.index(size));
                bytes.drain(from.min(to)..from.max(to));
            }
        }
    }
}

/// Whatever the bytes are: reading ends, every byte is accounted for at most
/// once, and what is called a message has the bytes of one.
fn is_sound(bytes: &[u8]) -> TestCaseResult {
    let read = read(bytes);
    prop_assert!(!read.is_empty());
    let items = bytes.len() / NETLINK_HEADER + bytes.len() / CONNECTOR_HEADER + 1;
    prop_assert!(read.len() <= items, "{} of {}", read.len(), bytes.len());
    let events = read
        .iter()
        .filter(|item| matches!(item, Ok(Message::Exit(_) | Message::Acknowledgement { .. })))
        .count();
    prop_assert!(events * (CONNECTOR_HEADER + EVENT_HEADER + 4) <= bytes.len());
    for item in read {
        if let Err(error) = item {
            prop_assert!(!error.to_string().is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        // More with `PROPTEST_CASES`.
        cases: ProptestConfig::default().cases.max(40_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_read_to_their_end(bytes in vec(any::<u8>(), 0..200)) {
        is_sound(&bytes)?;
    }

    #[test]
    fn damaged_messages_are_read_to_their_end(
        messages in vec(any_message(), 1..4),
        damage in vec(any_damage(), 1..4),
    ) {
        let mut bytes = datagram(&messages);
        for damage in damage {
            damage.done_to(&mut bytes);
        }
        is_sound(&bytes)?;
    }

    #[test]
    fn what_was_written_is_read(messages in vec(any_message(), 1..6)) {
        let expected: Vec<_> = messages.iter().copied().map(Ok).collect();
        prop_assert_eq!(&read(&datagram(&messages)), &expected);
        let together: Vec<u8> = messages.iter().copied().flat_map(connector_bytes).collect();
        prop_assert_eq!(read(&netlink_message(&together)), expected);
    }

    /// Of a datagram that was cut off, everything before the cut is read.
    #[test]
    fn a_cut_costs_one_message(messages in vec(any_message(), 1..5), at in any::<Index>()) {
        let whole = datagram(&messages);
        let at = at.index(whole.len());
        let read = read(&whole[..at]);
        let complete = at / (whole.len() / messages.len());
        let expected: Vec<_> = messages[..complete].iter().copied().map(Ok).collect();
        prop_assert_eq!(&read[..complete], expected);
        prop_assert_eq!(read.len() - complete, usize::from(at % 76 != 0 || at == 0));
        prop_assert!(read[complete..].iter().all(Result::is_err));
    }
}
