//! The connector on the real kernel, with real processes. What needs a larger
//! setting (the pid table, namespaces) is tested elsewhere.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{collections::HashMap, process::Command, thread::JoinHandle};

use netlink_sys::protocols::NETLINK_ROUTE;

use super::{message::tests::datagram, *};
use crate::sys::exchange::exchange;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// A connector, where this user may have one.
pub(crate) fn connector_or_skip() -> Option<Connector> {
    with_buffer_or_skip(RECEIVE_BUFFER)
}

/// The same with a receive buffer of this size, which the kernel doubles.
pub(crate) fn with_buffer_or_skip(receive_buffer: usize) -> Option<Connector> {
    let started = Connector::start_with(Options {
        protocol: NETLINK_CONNECTOR,
        receive_buffer,
        patience: LONG,
    });
    match started {
        Ok(connector) => Some(connector),
        Err(error @ ConnectorError::Privilege(_)) => {
            println!("SKIP: {}", crate::causes::in_full(&error));
            None
        }
        Err(error) => panic!("{}", crate::causes::in_full(&error)),
    }
}

/// Hears until this says that it is enough.
fn hear(connector: &mut Connector, mut enough: impl FnMut(Heard) -> bool) {
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        match connector.next() {
            Some(heard) if enough(heard) => return,
            Some(_) => {}
            None => connector.wait(Duration::from_millis(100)).unwrap(),
        }
    }
    panic!("not heard within {LONG:?}");
}

#[test]
fn a_childs_exit_is_heard_with_its_status_and_time() {
    let Some(mut connector) = connector_or_skip() else {
        return;
    };
    assert!(connector.stats().receive_buffer > 200 * 1024);
    let before = clock::now();
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    hear(&mut connector, |heard| {
        let Heard::Exit(exit) = heard else {
            return false;
        };
        if exit.pid != pid {
            return false;
        }
        assert_eq!(exit.tgid, pid);
        assert_eq!(exit.status, WaitStatus(7 << 8));
        assert!(exit.at > before && exit.at <= clock::now());
        true
    });
    let stats = connector.stats();
    assert!(stats.exits >= 1);
    assert_eq!((stats.malformed, stats.misunderstood), (0, None));
    connector.stop().unwrap();
}

#[test]
fn masks_are_known_to_work_where_the_kernel_has_them() {
    let Some(mut connector) = connector_or_skip() else {
        return;
    };
    // Between the handshake and here, exits of strangers only.
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(connector.is_filtered(), version >= (6, 6), "{release}");
    while connector.next().is_some() {}
}

/// In a network namespace that is not the first, nobody is at the other end;
/// the same is true of a netlink protocol that has no kernel side.
#[test]
fn nobody_at_the_other_end_is_another_network_namespace() {
    const NETLINK_USERSOCK: isize = 2;
    let refused = Connector::start_with(Options {
        protocol: NETLINK_USERSOCK,
        receive_buffer: 4096,
        patience: LONG,
    });
    let error = refused.err().unwrap();
    assert!(
        matches!(error, ConnectorError::NetworkNamespace),
        "{error:?}"
    );
    assert!(error.to_string().contains("--network=host"));
}

/// rtnetlink takes the request and says nothing to it, as the proc connector
/// does in another pid or user namespace.
#[test]
fn silence_is_another_pid_namespace() {
    let silent = Connector::start_with(Options {
        protocol: NETLINK_ROUTE,
        receive_buffer: 4096,
        patience: Duration::from_millis(50),
    });
    let error = silent.err().unwrap();
    assert!(
        matches!(error, ConnectorError::NotAcknowledged { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("--pid=host"));
}

#[test]
fn other_listeners_answers_and_ends_do_not_disturb() {
    let (Some(mut first), Some(second)) = (connector_or_skip(), connector_or_skip()) else {
        return;
    };
    assert_ne!(first.token, second.token);
    second.stop().unwrap();
    drop(connector_or_skip());
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    hear(
        &mut first,
        |heard| matches!(heard, Heard::Exit(exit) if exit.pid == pid),
    );
}

#[test]
fn an_overrun_is_told_when_it_is_known_and_when_all_is_read() {
    let Some(mut connector) = with_buffer_or_skip(1) else {
        return;
    };
    // The smallest buffer there is holds a handful of messages.
    for _ in 0..100 {
        Command::new("true").status().unwrap();
    }
    let mut told = Vec::new();
    hear(&mut connector, |heard| {
        told.push(heard);
        told.iter()
            .filter(|heard| **heard == Heard::Overrun)
            .count()
            == 2
    });
    assert_eq!(told.first(), Some(&Heard::Overrun));
    let exits = told.iter().filter(|heard| matches!(heard, Heard::Exit(_)));
    assert!(exits.count() > 0, "what was queued is still told");
    assert!(connector.stats().overruns >= 1);
}

#[test]
fn a_socket_that_fails_is_told_once() {
    let Some(mut connector) = connector_or_skip() else {
        return;
    };
    connector.ignore().unwrap();
    let (other, _end) = rustix::pipe::pipe().unwrap();
    exchange(connector.fd(), &other).unwrap();
    assert_eq!(connector.next(), Some(Heard::Broken(Errno::NOTSOCK)));
    assert_eq!(connector.next(), None);
}

/// Only root may send to somebody else's port, and not as the kernel.
#[test]
fn what_others_send_is_ignored_and_counted() {
    let Some(mut connector) = connector_or_skip() else {
        return;
    };
    let mut address = SocketAddr::new(0, 0);
    connector.socket.get_address(&mut address).unwrap();
    let mut sender = Socket::new(NETLINK_CONNECTOR).unwrap();
    sender.bind_auto().unwrap();
    let lie = datagram(&[Message::Exit(Exit {
        pid: 1,
        tgid: 1,
        code: 9,
        signal: 17,
        monotonic_ns: 1,
    })]);
    let to = SocketAddr::new(address.port_number(), 0);
    match sender.send_to(&lie, &to, 0) {
        Ok(_) => {}
        Err(error) => {
            println!("SKIP: cannot send to a netlink port: {error}");
            return;
        }
    }
    sender.send_to(b"garbage", &to, 0).unwrap();
    let deadline = Instant::now() + LONG;
    while connector.stats().foreign < 2 {
        assert!(Instant::now() < deadline);
        match connector.next() {
            Some(Heard::Exit(exit)) => assert_ne!(exit.tgid, 1),
            Some(heard) => panic!("{heard:?}"),
            None => {}
        }
    }
    assert_eq!(connector.stats().malformed, 0);
}

/// From the kernel itself, which cannot be made to send it.
#[test]
fn garbage_is_counted_until_something_is_understood_again() {
    let mut stats = ConnectorStats::default();
    let mut told = Vec::new();
    let good = datagram(&[Message::Other]);
    let mut take = |stats: &mut ConnectorStats, bytes: &[u8], length: usize| {
        take_datagram(stats, bytes, length, 0, |message| told.push(message));
    };
    take(&mut stats, &good, 20);
    assert_eq!(stats.malformed, 1);
    assert_eq!(
        stats.misunderstood,
        Some(FrameError::NetlinkLength {
            claimed: 76,
            left: 20
        })
    );
    take(&mut stats, &good, 5000);
    assert_eq!(stats.malformed, 2);
    assert_eq!(
        stats.misunderstood,
        Some(FrameError::CutOff { length: 5000 })
    );
    assert_eq!(
        stats.problem().as_deref(),
        Some(
            "not understood: 2 of the kernel's messages, the last one as a datagram of 5000 \
             bytes that was cut off; deaths are noticed by their pidfds meanwhile"
        )
    );
    take(&mut stats, &good, 76);
    assert_eq!(stats.problem(), None);
    assert_eq!((stats.malformed, stats.misunderstood), (2, None));
    assert_eq!(told, [Message::Other]);
}

/// 20,000 processes that live for a moment.
pub(crate) fn storm() -> JoinHandle<()> {
    std::thread::spawn(|| {
        let script = "i=0; while [ $i -lt 5000 ]; do (:); i=$((i+1)); done";
        let shells: Vec<_> = (0..4)
            .map(|_| Command::new("sh").args(["-c", script]).spawn().unwrap())
            .collect();
        for mut shell in shells {
            assert!(shell.wait().unwrap().success());
        }
    })
}

/// As many strangers as fit beside, and nothing is lost.
#[test]
fn a_storm_of_strangers_hides_nobody() {
    let Some(mut connector) = connector_or_skip() else {
        return;
    };
    let storm = storm();
    let mut expected = HashMap::new();
    for code in 0..100 {
        let script = format!("exit {code}");
        let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        expected.insert(child.id(), WaitStatus(code << 8));
        child.wait().unwrap();
    }
    storm.join().unwrap();
    let mut heard = HashMap::new();
    hear(&mut connector, |said| {
        if let Heard::Exit(exit) = said
            && expected.contains_key(&exit.pid)
        {
            assert_eq!(heard.insert(exit.pid, exit.status), None, "told once");
        }
        heard.len() == expected.len()
    });
    assert_eq!(heard, expected);
    while connector.next().is_some() {}
    let stats = connector.stats();
    assert!(stats.exits > 20_000, "{stats:?}");
    assert_eq!((stats.overruns, stats.malformed), (0, 0));
}
