//! Events against an mtcAgent of the test.
#![expect(clippy::unwrap_used, reason = "tests")]

use jiff::Timestamp;

use super::*;
use crate::core::entity::Severity;

const LONG: Duration = Duration::from_secs(60);

struct World {
    agent: UdpSocket,
    sink: MtcAgent,
    subfunctions: Subfunctions,
    directory: tempfile::TempDir,
}

impl World {
    /// With a host that is controller and worker.
    fn new() -> Self {
        let agent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        agent.set_read_timeout(Some(LONG)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path().to_path_buf());
        for path in ["etc/platform", "var/run"] {
            std::fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        let platform = "subfunction=controller,worker\n";
        std::fs::write(
            directory.path().join("etc/platform/platform.conf"),
            platform,
        )
        .unwrap();
        let subfunctions = Subfunctions::default();
        let addressing = Addressing {
            controller: "127.0.0.1".to_owned(),
            port: agent.local_addr().unwrap().port(),
            // An address has no need of a name service.
            hostname: "127.0.0.1".to_owned(),
            root,
        };
        Self {
            agent,
            sink: MtcAgent::new(addressing, subfunctions.clone()).unwrap(),
            subfunctions,
            directory,
        }
    }

    /// Command, mask and text of the next event.
    fn next(&self) -> (u32, u32, String) {
        let mut buffer = [0; 2048];
        let (length, from) = self.agent.recv_from(&mut buffer).unwrap();
        assert!(from.ip().is_loopback());
        let number = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().unwrap());
        assert_eq!(buffer[length - 1], 0);
        let text = String::from_utf8(buffer[100..length - 1].to_vec()).unwrap();
        (number(72), number(80), text)
    }

    fn is_ready(&mut self) {
        self.sink.tick(clock::now()).unwrap();
        let named = r#"{"hostname":"127.0.0.1","service":"pmond","process":"pmond"}"#;
        assert_eq!(self.next(), (0xf0f0_f0f0, 3, named.to_owned()));
        assert_eq!(self.next(), clear());
    }
}

fn clear() -> (u32, u32, String) {
    let text = r#"{"hostname":"127.0.0.1","service":"pmond"}"#;
    (0x0202_0202, 3, text.to_owned())
}

fn about(command: u32, mask: u32, process: &str) -> (u32, u32, String) {
    let text = format!(r#"{{"hostname":"127.0.0.1","service":"pmond","process":"{process}"}}"#);
    (command, mask, text)
}

fn event(kind: AlarmKind, severity: Severity, entity: &str) -> AlarmEvent {
    AlarmEvent {
        kind,
        at: Timestamp::UNIX_EPOCH,
        host: "h".into(),
        entity: Some(entity.into()),
        severity,
        instance: format!("host=h.process={entity}"),
        reason: "it died".to_owned(),
        since: Timestamp::UNIX_EPOCH,
        incident: None,
        recovers: true,
    }
}

#[test]
fn readiness_is_told_once_and_health_every_ten_seconds() {
    let mut world = World::new();
    assert_eq!(world.sink.due(), Some(Time::default()));
    world.is_ready();
    let due = world.sink.due().unwrap();
    assert!(due > clock::now());
    world.sink.tick(due).unwrap();
    assert_eq!(world.next(), clear());
    assert_eq!(world.sink.due(), Some(due + Duration::from_secs(10)));
}

#[test]
fn failures_have_their_commands_and_no_health_is_told_while_one_lasts() {
    let mut world = World::new();
    world.is_ready();
    let mut deliver = |kind, severity| {
        let event = event(kind, severity, "sm");
        world.sink.deliver(&event).unwrap();
    };
    deliver(AlarmKind::FirstFailure, Severity::Major);
    deliver(AlarmKind::Raise, Severity::Major);
    deliver(AlarmKind::Refresh, Severity::Critical);
    deliver(AlarmKind::Raise, Severity::Minor);
    deliver(AlarmKind::Raise, Severity::Critical);
    deliver(AlarmKind::QuorumUnrecoverable, Severity::Critical);
    for command in [0x0303_0303, 0x0505_0505, 0x0404_0404, 0x0404_0404] {
        assert_eq!(world.next(), about(command, 3, "sm"));
    }
    let due = world.sink.due().unwrap();
    world.sink.tick(due).unwrap();
    let over = event(AlarmKind::Clear, Severity::Critical, "sm");
    world.sink.deliver(&over).unwrap();
    world.sink.tick(due + Duration::from_secs(10)).unwrap();
    assert_eq!(world.next(), clear(), "nothing in between");
}

#[test]
fn a_process_with_a_subfunction_carries_its_mask() {
    let mut world = World::new();
    let known = BTreeMap::from([("kubelet".to_owned(), "worker".to_owned())]);
    world.subfunctions.0.store(Arc::new(known));
    world.is_ready();
    let log = event(AlarmKind::FirstFailure, Severity::Major, "kubelet");
    world.sink.deliver(&log).unwrap();
    assert_eq!(world.next(), about(0x0303_0303, 2, "kubelet"));
}

#[test]
fn a_host_that_is_being_reset_says_nothing() {
    let mut world = World::new();
    world.is_ready();
    let flag = world.directory.path().join("var/run/.node_reset");
    std::fs::write(&flag, "").unwrap();
    let log = event(AlarmKind::FirstFailure, Severity::Major, "sm");
    world.sink.deliver(&log).unwrap();
    std::fs::remove_file(flag).unwrap();
    let other = event(AlarmKind::FirstFailure, Severity::Major, "other");
    world.sink.deliver(&other).unwrap();
    assert_eq!(world.next(), about(0x0303_0303, 3, "other"));
}

#[test]
fn ipv6_goes_first() {
    let four = IpAddr::from(Ipv4Addr::LOCALHOST);
    let six = IpAddr::from(Ipv6Addr::LOCALHOST);
    assert_eq!(preferred(&[four, six]), Some(six));
    assert_eq!(preferred(&[four]), Some(four));
    assert_eq!(preferred(&[]), None);
}
