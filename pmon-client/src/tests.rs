//! The format, and a real exchange on loopback.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;

#[test]
fn a_request_and_its_response_byte_for_byte() {
    let request = Request::parse(b"hbsClient 12345678 1").unwrap();
    assert_eq!(request.name, "hbsClient");
    assert_eq!(request.magic, 0x1234_5678);
    assert_eq!(request.sequence, 1);
    assert_eq!(request.response(), "hbsClient edcba987 1");
    // `%8x` fills up, `%d` is signed.
    let odd = Request::parse(b"x fffffffe 4294967295").unwrap();
    assert_eq!(odd.response(), "x        1 -1");
}

#[test]
fn nonsense_is_no_request() {
    for nonsense in [
        &b""[..],
        b"web",
        b"web 12345678",
        b"web 12345678 one",
        b"web 123456789 1",
        b"web 12345678 -1",
        b"\xff 12345678 1",
        &[b'x'; LIMIT],
    ] {
        assert_eq!(
            Request::parse(nonsense),
            None,
            "{}",
            nonsense.escape_ascii()
        );
    }
}

#[test]
fn names_that_cannot_be_asked_are_refused() {
    for name in ["", "two words", "line\nbreak", &"n".repeat(80)] {
        let refused = ActiveMonitor::initialize(name, 0).unwrap_err();
        assert!(matches!(refused, InitializeError::Name { .. }), "{refused}");
    }
    ActiveMonitor::initialize(&"n".repeat(LONGEST_NAME), 0).unwrap();
}

/// A monitor by hand.
struct Monitor(UdpSocket);

impl Monitor {
    fn new() -> (Self, ActiveMonitor) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let reply_port = socket.local_addr().unwrap().port();
        let service = ActiveMonitor::with_reply_port("web", 0, reply_port).unwrap();
        (Self(socket), service)
    }

    fn send(&self, service: &ActiveMonitor, datagram: &[u8]) {
        let to = service.requests.local_addr().unwrap();
        self.0.send_to(datagram, to).unwrap();
    }

    fn answer(&self) -> String {
        let mut buffer = [0; 200];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[test]
fn it_answers_what_it_is_asked_and_nothing_else() {
    let (monitor, mut service) = Monitor::new();
    assert_eq!(service.dispatch().unwrap(), Dispatched::Nothing);
    monitor.send(&service, b"other 12345678 1");
    monitor.send(&service, &[b'w'; 300]);
    monitor.send(&service, b"web 12345678 7");
    assert_eq!(service.dispatch().unwrap(), Dispatched::Disregarded);
    assert_eq!(service.dispatch().unwrap(), Dispatched::Disregarded);
    let answered = Dispatched::Answered { sequence: 7 };
    assert_eq!(service.dispatch().unwrap(), answered);
    assert!(!service.dispatch().unwrap().is_something());
    assert_eq!(monitor.answer(), "web edcba987 7");
    let port = service.requests.local_addr().unwrap().port();
    let taken = ActiveMonitor::initialize("web", port).unwrap_err();
    assert!(matches!(taken, InitializeError::Port { .. }), "{taken}");
    service.finalize();
    ActiveMonitor::initialize("web", port).unwrap();
}

#[cfg(feature = "fault-insertion")]
#[test]
fn faults_are_those_of_the_original() {
    let (monitor, mut service) = Monitor::new();
    for (fault, answer) in [
        (Some(Fault::Magic), "web 12345678 7"),
        (Some(Fault::Sequence), "web edcba987 6"),
        (Some(Fault::Process), "xxb edcba987 7"),
        (None, "web edcba987 7"),
    ] {
        service.insert_fault(fault);
        monitor.send(&service, b"web 12345678 7");
        service.dispatch().unwrap();
        assert_eq!(monitor.answer(), answer);
    }
}
