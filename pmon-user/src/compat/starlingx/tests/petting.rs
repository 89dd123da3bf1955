//! The petting against a hostwd and an hbsClient of the test, with a core that
//! answers, and with one that does not.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::unix::net::UnixDatagram,
    sync::Mutex,
};

use super::{super::watchdog::address, *};
use crate::alarm::health::Health;

/// Longer than any machine is held up.
const LONG: Duration = Duration::from_secs(60);

const CADENCE: Cadence = Cadence {
    pulse: Duration::from_millis(20),
    watchdog: Duration::from_millis(50),
    start_delay: Duration::from_millis(100),
};

fn second(n: u64) -> Time {
    Time::default() + Duration::from_secs(n)
}

#[test]
fn hostwd_is_told_each_second_at_first_and_then_in_its_own_time() {
    let cadence = Cadence {
        pulse: Duration::from_millis(500),
        watchdog: Duration::from_secs(30),
        start_delay: Duration::from_secs(3),
    };
    let mut rounds = Rounds::new(cadence, second(0));
    let mut told = Vec::new();
    for s in 0..=100 {
        if rounds.watchdog_is_due(None, second(s)) {
            rounds.watchdog_told(true, None, second(s));
            told.push(s);
        }
    }
    assert_eq!(told, [0, 1, 2, 3, 33, 63, 93]);
}

#[test]
fn what_could_not_be_sent_is_tried_again_soon() {
    let cadence = Cadence::from(&PmondConfig::default());
    let mut rounds = Rounds::new(cadence, second(0));
    rounds.watchdog_told(true, None, second(60));
    assert!(!rounds.watchdog_is_due(None, second(89)));
    assert!(rounds.watchdog_is_due(None, second(90)));
    rounds.watchdog_told(false, None, second(90));
    assert!(!rounds.watchdog_is_due(None, second(90)));
    assert!(rounds.watchdog_is_due(None, second(91)));
}

#[test]
fn a_failure_is_told_at_once_and_so_is_its_end() {
    let mut rounds = Rounds::new(Cadence::from(&PmondConfig::default()), second(0));
    rounds.watchdog_told(true, None, second(60));
    let failure = Some(Arc::from("sm"));
    assert!(rounds.watchdog_is_due(failure.as_ref(), second(61)));
    rounds.watchdog_told(true, failure.clone(), second(61));
    assert!(!rounds.watchdog_is_due(failure.as_ref(), second(62)));
    assert!(rounds.watchdog_is_due(None, second(62)));
}

/// Both receivers, of this test alone.
struct World {
    hostwd: UnixDatagram,
    client: UdpSocket,
    petting: Petting,
    troubles: Troubles,
}

impl World {
    fn new(name: &str) -> Self {
        let name = format!("pmon-test-{}-petting-{name}", std::process::id());
        let hostwd = UnixDatagram::bind_addr(&address(name.as_bytes()).unwrap()).unwrap();
        hostwd.set_read_timeout(Some(LONG)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        let receivers = Receivers {
            watchdog: Watchdog::to(name.as_bytes()).unwrap(),
            pulse: Pulse::new(client.local_addr().unwrap().port()).unwrap(),
        };
        let troubles = Troubles::default();
        let petting = Petting::start(CADENCE, receivers, troubles.clone()).unwrap();
        Self {
            hostwd,
            client,
            petting,
            troubles,
        }
    }

    /// Waits for the next message to hostwd.
    fn petted(&self) -> Vec<u8> {
        let mut buffer = vec![0; 2048];
        let length = self.hostwd.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    fn pulsed(&self) {
        let mut buffer = [0; 2048];
        let length = self.client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], message::pulse());
    }

    /// Waits until the petting says that it has stopped, and takes what it had
    /// sent before.
    fn has_stopped(&self, why: &str) {
        let patience = std::time::Instant::now() + LONG;
        while !self.troubles.list().iter().any(|it| it.contains(why)) {
            assert!(std::time::Instant::now() < patience, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.hostwd.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2048];
        while self.hostwd.recv(&mut buffer).is_ok() {}
        self.hostwd.set_nonblocking(false).unwrap();
    }

    fn is_silent(&self) -> bool {
        let pause = Some(CADENCE.watchdog * 5);
        self.hostwd.set_read_timeout(pause).unwrap();
        let silent = self.hostwd.recv(&mut [0; 2048]).is_err();
        self.hostwd.set_read_timeout(Some(LONG)).unwrap();
        silent
    }
}

/// Answers, or keeps the questions.
#[derive(Clone, Default)]
struct FakeCore {
    kept: Arc<Mutex<Vec<Proof>>>,
    wedged: Arc<std::sync::atomic::AtomicBool>,
}

impl Core for FakeCore {
    fn ask(&self, proof: Proof) {
        if self.wedged.load(Ordering::SeqCst) {
            self.kept.lock().unwrap().push(proof);
        } else {
            proof.give();
        }
    }
}

fn health(unrecoverable: Option<&str>) -> Health {
    Health {
        unrecoverable: unrecoverable.map(Arc::from),
        degraded: None,
    }
}

#[test]
fn it_begins_before_there_is_a_core_and_stops_if_none_comes() {
    let world = World::new("start");
    assert_eq!(world.petted(), message::watchdog(None));
    world.pulsed();
    world.has_stopped("the daemon does not come up");
    assert!(world.is_silent());
    // It comes all the same, if late.
    world
        .petting
        .attach(Box::<FakeCore>::default(), HostHealth::default());
    assert_eq!(world.petted(), message::watchdog(None));
    world.petting.stop();
}

#[test]
fn a_core_that_does_not_answer_stops_it_and_one_that_does_lets_it_go_on() {
    let world = World::new("wedged");
    let core = FakeCore::default();
    world
        .petting
        .attach(Box::new(core.clone()), HostHealth::default());
    // Past the start: these are proven.
    for _ in 0..10 {
        assert_eq!(world.petted(), message::watchdog(None));
        world.pulsed();
    }
    core.wedged.store(true, Ordering::SeqCst);
    world.has_stopped("the engine does not answer");
    assert!(world.is_silent());
    assert_eq!(core.kept.lock().unwrap().len(), 1, "one question at a time");

    core.wedged.store(false, Ordering::SeqCst);
    core.kept.lock().unwrap().pop().unwrap().give();
    assert_eq!(world.petted(), message::watchdog(None));
    world.petting.stop();
}

#[test]
fn a_failed_quorum_is_told_as_long_as_it_lasts() {
    let world = World::new("quorum");
    let shared = HostHealth::default();
    world
        .petting
        .attach(Box::<FakeCore>::default(), shared.clone());
    assert_eq!(world.petted(), message::watchdog(None));
    shared.write(health(Some("sm")));
    let failed = message::watchdog(Some("sm"));
    while world.petted() != failed {}
    assert_eq!(world.petted(), failed, "again in its time");
    shared.write(health(None));
    while world.petted() != message::watchdog(None) {}
    world.petting.stop();
}
