//! Real sockets on loopback, each test with ports of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::UdpSocket as StdSocket;

use tokio::time::timeout;

use super::*;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(30);

/// An endpoint with a monitored process and what it reports.
struct World {
    endpoint: Handle,
    reports: UnboundedReceiver<Report>,
    reply_port: u16,
    /// The monitored process.
    process: StdSocket,
}

impl World {
    fn new() -> Self {
        let (world, taken) = Self::with_taken_port();
        drop(taken);
        world
    }

    /// Somebody else has the port of the answers.
    fn with_taken_port() -> (Self, StdSocket) {
        let taken = StdSocket::bind("127.0.0.1:0").unwrap();
        let reply_port = taken.local_addr().unwrap().port();
        let process = StdSocket::bind("127.0.0.1:0").unwrap();
        process.set_read_timeout(Some(LONG)).unwrap();
        let (sender, reports) = unbounded_channel();
        let settings = EndpointSettings {
            reply_port,
            initialised_file: None,
        };
        let world = Self {
            endpoint: start(settings, move |report| sender.send(report).unwrap()),
            reports,
            reply_port,
            process,
        };
        (world, taken)
    }

    fn ask(&self, entity: &str, round: u64, sequence: u32) {
        let ask = Ask {
            entity: EntityName::from(entity),
            port: self.process.local_addr().unwrap().port(),
            round,
            sequence,
        };
        self.endpoint.submit(Order::Ask(ask)).unwrap();
    }

    fn collect(&self, entity: &str, round: u64) {
        let collect = Order::Collect {
            entity: EntityName::from(entity),
            round,
            full_init_required: false,
        };
        self.endpoint.submit(collect).unwrap();
    }

    async fn report(&mut self) -> Report {
        let next = timeout(LONG, self.reports.recv()).await;
        next.unwrap().unwrap()
    }

    /// The next of a request: somebody else may have had the port for a moment.
    async fn event(&mut self) -> PulseEvent {
        loop {
            if let Report::Happened { event, .. } = self.report().await {
                return event;
            }
        }
    }

    fn request(&self) -> Vec<u8> {
        let mut buffer = [0; 200];
        let length = self.process.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    fn answer(&self, datagram: &[u8]) {
        let to = ("127.0.0.1", self.reply_port);
        self.process.send_to(datagram, to).unwrap();
    }
}

#[tokio::test]
async fn a_request_and_its_answer_byte_for_byte() {
    let mut world = World::new();
    world.ask("hbsClient", 9, 1);
    assert_eq!(world.event().await, PulseEvent::Sent { round: 9 });
    assert_eq!(world.request(), b"hbsClient 12345678 1");
    world.answer(b"hbsClient edcba987 1");
    let answered = PulseEvent::Answered {
        round: 9,
        sequence: 1,
    };
    assert_eq!(world.event().await, answered);
}

#[tokio::test]
async fn what_has_arrived_is_read_before_silence_is_told() {
    let mut world = World::new();
    world.ask("web", 1, 1);
    assert_eq!(world.event().await, PulseEvent::Sent { round: 1 });
    // Both at once: the task has not run since.
    world.answer(b"web edcba987 1");
    world.collect("web", 1);
    let answered = PulseEvent::Answered {
        round: 1,
        sequence: 1,
    };
    assert_eq!(world.event().await, answered);
    assert_eq!(world.event().await, PulseEvent::Unheard { round: 1 });

    world.ask("web", 2, 2);
    assert_eq!(world.event().await, PulseEvent::Sent { round: 2 });
    world.collect("web", 2);
    let silent = PulseEvent::Silent {
        round: 2,
        initialised: true,
    };
    assert_eq!(world.event().await, silent);
}

#[tokio::test]
async fn nonsense_is_counted_and_told_with_the_next_report() {
    let mut world = World::new();
    world.ask("web", 1, 1);
    assert_eq!(world.event().await, PulseEvent::Sent { round: 1 });
    world.answer(b"web 12345678 1");
    world.answer(b"xxb edcba987 1");
    world.answer(b"nonsense");
    world.answer(&[b'x'; 150]);
    world.collect("web", 1);
    let Report::Happened {
        event,
        faults,
        strays,
        ..
    } = world.report().await
    else {
        panic!("not an event");
    };
    assert!(matches!(event, PulseEvent::Silent { .. }), "{event:?}");
    assert_eq!((faults.bad_magic, faults.not_waiting), (1, 0));
    assert_eq!((strays.wrong_name, strays.malformed), (1, 2));
}

#[tokio::test]
async fn a_port_in_use_is_told_and_tried_again() {
    let (mut world, taken) = World::with_taken_port();
    world.ask("web", 1, 1);
    let Report::Port(Some(why)) = world.report().await else {
        panic!("the port was had twice");
    };
    assert!(why.contains(&world.reply_port.to_string()), "{why}");
    assert!(why.contains("in use"), "{why}");
    // Nothing has gone out; it goes when the port is there, and only the newest.
    world.ask("web", 2, 2);
    drop(taken);
    assert_eq!(world.report().await, Report::Port(None));
    assert_eq!(world.event().await, PulseEvent::Sent { round: 2 });
    assert_eq!(world.request(), b"web 12345678 2");
}

#[tokio::test]
async fn the_port_is_held_only_while_somebody_is_asked() {
    let mut world = World::new();
    world.ask("web", 1, 1);
    assert_eq!(world.event().await, PulseEvent::Sent { round: 1 });
    StdSocket::bind(("127.0.0.1", world.reply_port)).unwrap_err();
    world
        .endpoint
        .submit(Order::Forget(EntityName::from("web")))
        .unwrap();
    let patience = Instant::now() + LONG;
    while StdSocket::bind(("127.0.0.1", world.reply_port)).is_err() {
        assert!(Instant::now() < patience, "it is still held");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
