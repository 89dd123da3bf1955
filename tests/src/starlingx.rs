//! An invented StarlingX host: its files below a directory, its programs' sockets
//! in a network namespace that the test's thread, and everything that it starts
//! from then on, has for itself, because hostwd's name is a network namespace's.

use std::{
    fs, io,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::AsFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use serde_json::Value;

use crate::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    script::{self, quoted},
    wait,
};

/// The message to hostwd of a healthy host, written out from the description:
/// 1060 bytes.
#[must_use]
pub fn healthy() -> Vec<u8> {
    let mut message = vec![0; 1060];
    message[..17].copy_from_slice(b"cgts mtc cmd req:");
    message[64..66].copy_from_slice(&1_u16.to_ne_bytes());
    message
}

/// The same when the host is beyond recovery because of this process.
#[must_use]
pub fn beyond_recovery(process: &str) -> Vec<u8> {
    let mut message = healthy();
    message[72..76].copy_from_slice(&0x0404_0404_u32.to_ne_bytes());
    let text = format!("PMON detected {process} failure");
    message[100..100 + text.len()].copy_from_slice(text.as_bytes());
    message
}

/// The pulse to hbsClient: 100 bytes.
#[must_use]
pub fn pulse() -> Vec<u8> {
    let mut message = vec![0; 100];
    message[..17].copy_from_slice(b"pmond alive pulse");
    message
}

/// An event to mtcAgent as it reads one: command and text.
pub type AgentEvent = (u32, String);

/// `MTC_EVENT_MONITOR_READY`, once.
pub const READY: u32 = 0xf0f0_f0f0;
/// `MTC_EVENT_PMON_CLEAR`: nothing is failed.
pub const CLEAR: u32 = 0x0202_0202;
/// `MTC_EVENT_PMON_LOG`: a first failure.
pub const LOG: u32 = 0x0303_0303;
/// `MTC_EVENT_PMON_MAJOR`.
pub const MAJOR: u32 = 0x0505_0505;

/// What events say of a process of this host, or of the host.
///
/// # Panics
///
/// When the host's name is not UTF-8.
#[must_use]
pub fn about(process: Option<&str>) -> String {
    let system = rustix::system::uname();
    let hostname = system.nodename().to_str().unwrap();
    let process = process.map_or_else(String::new, |it| format!(r#","process":"{it}""#));
    format!(r#"{{"hostname":"{hostname}","service":"pmond"{process}}}"#)
}

/// What stands in `degraded` about StarlingX.
///
/// # Panics
///
/// When the daemon does not answer.
#[must_use]
pub fn troubles(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status();
    let degraded = status["degraded"].as_array().unwrap();
    let told = degraded.iter().filter_map(Value::as_str);
    told.filter(|it| it.starts_with("StarlingX"))
        .map(str::to_owned)
        .collect()
}

/// Why there can be no such host here; `None` when there can.
#[must_use]
pub fn no_host() -> Option<String> {
    privilege::no_root().or_else(|| privilege::no_program("unshare"))
}

/// See the module.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    /// hbsClient.
    pub client: UdpSocket,
    /// mtcAgent.
    pub agent: UdpSocket,
}

impl Host {
    /// One that is configured and runs: a controller. What is missing is told with
    /// [`Host::lacks`].
    ///
    /// # Panics
    ///
    /// When there can be none.
    #[must_use]
    pub fn new(place: &Place) -> Self {
        enter_network_namespace();
        let socket = |port| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            socket.set_read_timeout(Some(LONG)).unwrap();
            socket
        };
        let host = Self {
            root: place.path("starlingx"),
            client: socket(2109),
            agent: socket(2101),
        };
        host.platform("standard", "controller");
        host.has(INITIAL_CONFIG);
        host.has(GOENABLED);
        host.write(
            "/etc/mtc/pmond.conf",
            "[config]\naudit_period = 100\nhostwd_update_period = 1\npmon_amon_port = 2200\n\
             pmon_event_port = 2101\npmon_pulse_port = 2109\npmon_cmd_port = 2117\n\
             [timeouts]\nstart_delay = 1\n",
        );
        host
    }

    /// The table of the configuration that makes pmon work for it.
    #[must_use]
    pub fn configuration(&self) -> String {
        let root = quoted(&self.root);
        format!("[compat.starlingx]\nenabled = true\nroot = {root}\ncontroller = \"127.0.0.1\"\n\n")
    }

    /// A daemon that works for it, with these entities and other tables.
    #[must_use]
    pub fn served(&self, place: &Place, entities: &str) -> Daemon {
        place.configure(&format!("{}{entities}", self.configuration()));
        Daemon::start(place)
    }

    /// Where an absolute path of the host is.
    #[must_use]
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Writes a file.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    /// Writes an empty file.
    pub fn has(&self, path: &str) {
        self.write(path, "");
    }

    /// Removes a file.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn lacks(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// What kind of host it is.
    pub fn platform(&self, system_type: &str, functions: &str) {
        self.write(
            "/etc/platform/platform.conf",
            &format!(
                "system_type={system_type}\nsystem_mode=simplex\nsubfunction={functions}\n\
                 management_interface=lo\n"
            ),
        );
    }

    /// From now on systemd runs it, and says that it is in this state.
    ///
    /// # Panics
    ///
    /// When its files cannot be written.
    pub fn system_state(&self, word: &str) {
        self.write("/run/system-state", word);
        let marker = self.path("/run/systemd/system");
        let systemctl = self.path("/usr/bin/systemctl");
        if !marker.exists() {
            fs::create_dir_all(systemctl.parent().unwrap()).unwrap();
            let state = self.path("/run/system-state");
            let text = format!("#!/bin/sh\ncat {}\n", state.display());
            script::executable(&systemctl, &text);
            fs::create_dir_all(marker).unwrap();
        }
    }

    /// Waits for the next pulse to hbsClient.
    ///
    /// # Panics
    ///
    /// When none comes, or it is not one.
    pub fn pulsed(&self) {
        assert_eq!(receive(|buffer| self.client.recv(buffer)), pulse());
    }

    /// Waits for a pulse that is sent from now on; what has come before is read.
    ///
    /// # Panics
    ///
    /// When none comes, or anything is not one.
    pub fn pulses_still(&self) {
        self.client.set_nonblocking(true).unwrap();
        for waiting in received_already(|buffer| self.client.recv(buffer)) {
            assert_eq!(waiting, pulse());
        }
        self.client.set_nonblocking(false).unwrap();
        self.pulsed();
    }

    /// Command and text of the next event to mtcAgent.
    ///
    /// # Panics
    ///
    /// When none comes, or it is not one.
    #[must_use]
    pub fn event(&self) -> AgentEvent {
        let event = receive(|buffer| self.agent.recv(buffer));
        assert_eq!(&event[..18], b"mtce event msg  :\0");
        assert_eq!(event[64..66], 2_u16.to_ne_bytes());
        let (end, text) = event[100..].split_last().unwrap();
        assert_eq!(*end, 0);
        let command = u32::from_ne_bytes(event[72..76].try_into().unwrap());
        (command, String::from_utf8(text.to_vec()).unwrap())
    }
}

/// The host's configuration is complete.
pub const INITIAL_CONFIG: &str = "/etc/platform/.initial_config_complete";
/// The host's tests have passed.
pub const GOENABLED: &str = "/var/run/.goenabled";

/// The host watchdog.
#[derive(Debug)]
pub struct Hostwd(UnixDatagram);

impl Hostwd {
    /// In the network namespace of this thread.
    ///
    /// # Panics
    ///
    /// When there is one already.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it takes a name")]
    pub fn new() -> Self {
        let mut name = [0; 107];
        name[..12].copy_from_slice(b"HostWatchdog");
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self(socket)
    }

    /// Waits for the next message.
    ///
    /// # Panics
    ///
    /// When none comes.
    #[must_use]
    pub fn next(&self) -> Vec<u8> {
        receive(|buffer| self.0.recv(buffer))
    }

    /// What has come and was not read; nothing is waited for.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[must_use]
    pub fn waiting(&self) -> Vec<Vec<u8>> {
        self.0.set_nonblocking(true).unwrap();
        let waiting = received_already(|buffer| self.0.recv(buffer));
        self.0.set_nonblocking(false).unwrap();
        waiting
    }

    /// Waits for so many messages of a healthy host.
    ///
    /// # Panics
    ///
    /// When they do not come, or are others.
    pub fn petted(&self, times: u32) {
        for _ in 0..times {
            assert_eq!(self.next(), healthy());
        }
    }
}

/// What a socket receives; it has a deadline of its own.
///
/// # Panics
///
/// When nothing comes.
pub fn receive(receive: impl Fn(&mut [u8]) -> io::Result<usize>) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let length = loop {
        match receive(&mut buffer) {
            // With a deadline also after a stop of this process (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received.unwrap(),
        }
    };
    buffer.truncate(length);
    buffer
}

fn received_already(receive: impl Fn(&mut [u8]) -> io::Result<usize>) -> Vec<Vec<u8>> {
    let mut buffer = [0; 4096];
    let mut all = Vec::new();
    while let Ok(length) = receive(&mut buffer) {
        all.push(buffer[..length].to_vec());
    }
    all
}

/// A network namespace for this thread and its children, with a loopback device.
fn enter_network_namespace() {
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let mut keeper = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/net", keeper.id());
    wait::until("there is a network namespace", LONG, || {
        fs::read_link(&path)
            .is_ok_and(|net| net != own)
            .then_some(())
    });
    let namespace = fs::File::open(&path).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    drop(keeper.stdin.take());
    keeper.wait().unwrap();
    loopback_up();
}

/// `ip link set lo up` (rtnetlink(7)).
fn loopback_up() {
    const AF_NETLINK: i32 = 16;
    const RTM_NEWLINK: u16 = 16;
    /// `NLM_F_REQUEST | NLM_F_ACK`
    const FLAGS: u16 = 0x1 | 0x4;
    const IFF_UP: u32 = 1;
    const LOOPBACK: i32 = 1;
    let mut request = Vec::new();
    request.extend(32_u32.to_ne_bytes());
    request.extend(RTM_NEWLINK.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    // Sequence number and port.
    request.extend([0; 8]);
    // `struct ifinfomsg`: family, padding, type.
    request.extend([0; 4]);
    request.extend(LOOPBACK.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes());
    let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(0))).unwrap();
    socket.send(&request).unwrap();
    let mut answer = [0; 256];
    let length = io::Read::read(&mut &socket, &mut answer).unwrap();
    assert!(length >= 20, "an acknowledgement");
    let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    assert_eq!(error, 0, "lo cannot be brought up");
}
