//! The original's command inbox: off unless wanted, on 127.0.0.1 only, silent,
//! and obedient to what is right.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    process::ExitStatus,
    sync::atomic::{AtomicU32, Ordering},
};

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege, process,
    script::Lsb,
    skip_if, wait,
};

/// A place whose daemon takes commands, and who sends them.
struct Scene {
    daemon: Daemon,
    sender: UdpSocket,
    port: u16,
    lsb: Lsb,
    place: Place,
}

/// A port that nobody has at this moment, and that the kernel gives to nobody who
/// does not ask for it (`net.ipv4.ip_local_port_range` begins with 32768).
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id() % 2000 * 10;
    let mut ports = std::iter::repeat_with(|| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        10_000 + u16::try_from((own + next) % 20_000).unwrap()
    });
    ports
        .find(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap()
}

impl Scene {
    fn new(settings: &str) -> Self {
        let place = Place::new();
        let lsb = Lsb::new(&place, &place.name("web"), &[]);
        let port = free_port();
        place.configure(&format!(
            "[compat.starlingx]\ncommand_inbox = true\ncommand_port = {port}\n{settings}\n{}",
            lsb.entity(&[("restarts", "3"), ("interval", "\"1s\"")])
        ));
        let daemon = Daemon::start(&place);
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sender.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        sender.set_nonblocking(true).unwrap();
        Self {
            daemon,
            sender,
            port,
            lsb,
            place,
        }
    }

    fn name(&self) -> &str {
        &self.lsb.name
    }

    fn send(&self, command: &str, process: &str) {
        let text = format!("{{\"command\":\"{command}\",\"process\":\"{process}\"}}\n");
        self.sender.send(text.as_bytes()).unwrap();
    }

    /// Waits until the log has such a line.
    fn logged(&self, line: &str) {
        wait::until_seen(line, LONG, || self.daemon.log(), |log| log.contains(line));
    }

    /// Nobody has answered.
    fn is_silent(&self) {
        let answer = self.sender.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(answer.kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn and_are_obeyed_in_silence() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new("");
    let (daemon, name) = (&scene.daemon, scene.name());
    let first = daemon.up(name);
    // A start of what was not stopped; test tools look for this line.
    scene.send("start", name);
    scene.logged(&format!("{name} process is not in the stopped state"));
    assert_eq!(daemon.up(name), first);

    scene.send("restart", name);
    let second = daemon.entity_when(name, "it is restarted", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != first
    })["pid"]
        .clone();
    assert_eq!(daemon.entity(name)["restarts"]["operator"], 1);

    scene.send("stop", name);
    let stopped = daemon.entity_when(name, "it is down", LONG, |entity| entity["state"] == "down");
    assert!(process::instances(name).is_empty());
    // Half an hour.
    assert!(stopped["next_action_at"].is_string(), "{stopped:#}");
    scene.send("stop", name);
    scene.logged(&format!("{name} is stopped already"));

    scene.send("start", name);
    let third = daemon.up(name);
    assert_ne!(third, second);
    assert_eq!(process::instances(name), [third]);

    // Garbage of every kind, and then something right.
    for text in [
        &b""[..],
        b"\0\0",
        b"(null)",
        b"{}",
        b"not json \x1b[2J",
        b"{\"command\":\"stop\"}",
        b"{\"command\":\"explode\",\"process\":\"web\"}",
        &[b' '; 512],
        &[0xff; 4000],
    ] {
        scene.sender.send(text).unwrap();
    }
    scene.send("stop", "nobody-of-that-name");
    scene.logged("stop of nobody-of-that-name: unknown process");
    assert!(!daemon.log().contains('\u{1b}'));
    assert_eq!(daemon.up(name), third);
    // Not by the name of its service.
    let service = scene.lsb.script.file_name().unwrap().to_str().unwrap();
    scene.send("stop", service);
    scene.logged(&format!("stop of {service}: unknown process"));
    assert_eq!(daemon.up(name), third);

    daemon.json(&["hold", name]);
    scene.send("restart", name);
    scene.logged("is held by uid");
    assert_eq!(process::instances(name), [third]);
    scene.is_silent();
}

/// V9 for real: what was stopped that way comes back after its time, though the
/// daemon is another one by then.
#[test]
fn and_a_stop_is_over_after_its_time() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new("stop_recovers_after = \"4s\"");
    let first = scene.daemon.up(scene.name());
    scene.send("stop", scene.name());
    scene
        .daemon
        .entity_when(scene.name(), "it is down", LONG, |entity| {
            entity["state"] == "down"
        });
    let Scene {
        daemon, place, lsb, ..
    } = scene;
    let ended: ExitStatus = daemon.terminate();
    assert!(ended.success());
    let daemon = Daemon::start(&place);
    let second = daemon.up(&lsb.name);
    assert_ne!(second, first);
    let told = daemon.events().all();
    assert!(told.iter().any(|event| event.is(&lsb.name, "stop_expired")));
}

#[test]
fn and_pmond_restarts_itself() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new("");
    let first = scene.daemon.up(scene.name());
    scene.send("restart", "pmond");
    let Scene {
        daemon, place, lsb, ..
    } = scene;
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(process::instances(&lsb.name), [first]);
    // Whoever dies meanwhile is told of by the next one.
    process::Process::open(first).unwrap().kill();
    let daemon = Daemon::start(&place);
    let second = daemon.up(&lsb.name);
    assert_ne!(second, first);
    let entity = daemon.entity(&lsb.name);
    assert_eq!(entity["last_death"]["pid"], first);
    assert_eq!(entity["last_death"]["signal"], 9);
}

#[test]
fn on_127_0_0_1_only_and_not_unless_wanted() {
    let scene = Scene::new("");
    // Everything else on this port is free for others, and nobody hears it.
    for address in ["127.0.0.2", "0.0.0.0", "::1"] {
        let address: std::net::IpAddr = address.parse().unwrap();
        let mut from_proc = String::new();
        for file in ["/proc/net/udp", "/proc/net/udp6"] {
            from_proc += &std::fs::read_to_string(file).unwrap_or_default();
        }
        let port = format!(":{:04X}", scene.port);
        let bound: Vec<_> = (from_proc.lines())
            .filter_map(|line| line.split_whitespace().nth(1))
            .filter(|local| local.ends_with(&port))
            .collect();
        assert_eq!(bound, [format!("0100007F{port}")], "{address}");
        if address.is_unspecified() {
            continue;
        }
        let Ok(elsewhere) = UdpSocket::bind((address, 0)) else {
            println!("no {address} on this host");
            continue;
        };
        elsewhere.connect((address, scene.port)).unwrap();
        // The first datagram brings an ICMP error back, the second one shows it.
        elsewhere.send(b"{}").unwrap();
        let refused = wait::until("it is refused", LONG, || elsewhere.send(b"{}").err());
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
    // Another daemon cannot have the same port, says so, and works otherwise.
    let other = Place::new();
    let toml = std::fs::read_to_string(scene.place.config()).unwrap();
    let (settings, _) = toml.split_once("[[entity]]").unwrap();
    other.configure(settings);
    let second = Daemon::start(&other);
    let degraded = second.status()["degraded"].to_string();
    assert!(
        degraded.contains(&format!("no command inbox on 127.0.0.1:{}", scene.port)),
        "{degraded}"
    );
    // Nor without its switch.
    let port = free_port();
    other.configure(&format!(
        "[compat.starlingx]\nenabled = true\ncommand_port = {port}\n"
    ));
    second.terminate();
    let third = Daemon::start(&other);
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    drop(free);
    assert!(third.is_running());
}
