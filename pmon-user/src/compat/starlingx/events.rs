//! Events to mtcAgent on the active controller (spec/pmond.md §7.2), a receiver
//! of alarms like any other.
//!
//! When something is told is decided in `core`; here is what it is called on the
//! wire, and how the datagram gets there: from the management address, for mtcAgent
//! drops what comes from an address that it does not know, and to wherever
//! `controller` is at that moment (FIX: the original resolves it once in its life).
//! Must stay true: everything that can hang has a deadline, and is on the thread
//! that every receiver of alarms has for itself.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    message::{self, EventCommand},
    platform::Platform,
    resolver::Resolver,
    root::Root,
};
use crate::{
    alarm::{
        AlarmSink, SinkError,
        event::{AlarmEvent, AlarmKind},
    },
    core::{
        degrade::{DegradeAudit, DegradeMessage},
        entity::EntitySpec,
        time::Time,
    },
    sys::clock,
};

/// While it exists, the host is being reset and nobody is to be told anything.
const NODE_RESET: &str = "/var/run/.node_reset";

/// For both names together. resolv.conf(5) allows for 10 s with one name server
/// that is silent.
const PATIENCE: Duration = Duration::from_secs(3);

/// `subfunction` of every entity that has one; shared with who reads configurations.
#[derive(Clone, Debug, Default)]
pub struct Subfunctions(Arc<ArcSwap<BTreeMap<String, String>>>);

impl Subfunctions {
    /// A configuration is in force.
    pub fn learn(&self, entities: &[EntitySpec]) {
        let named = entities.iter().filter_map(|entity| {
            let subfunction = entity.subfunction.clone()?;
            Some((entity.name.clone(), subfunction))
        });
        self.0.store(Arc::new(named.collect()));
    }

    /// What `other` knows is in force.
    pub fn take_from(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }
}

/// Where events go, and from where.
#[derive(Clone, Debug)]
pub struct Addressing {
    /// Host name or address of the active controller.
    pub controller: String,
    /// Port of mtcAgent.
    pub port: u16,
    /// Our own host name, as in the events.
    pub hostname: String,
    /// Where StarlingX's files are.
    pub root: Root,
}

/// The way to mtcAgent.
#[derive(Debug)]
pub struct MtcAgent {
    addressing: Addressing,
    subfunctions: Subfunctions,
    resolver: Resolver,
    audit: DegradeAudit,
    /// It has been told that there is a monitor.
    ready: bool,
    /// The last one that worked, and what it is bound to.
    socket: Option<(IpAddr, UdpSocket)>,
}

impl MtcAgent {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub fn new(addressing: Addressing, subfunctions: Subfunctions) -> io::Result<Self> {
        Ok(Self {
            addressing,
            subfunctions,
            resolver: Resolver::start()?,
            audit: DegradeAudit::new(clock::now()),
            ready: false,
            socket: None,
        })
    }

    /// Says that there is a monitor, if that was not said yet.
    fn be_ready(&mut self) -> Result<(), SinkError> {
        if !self.ready {
            self.send(EventCommand::Ready, Some("pmond"))?;
            // As with every configuration that pmond loads.
            self.send(EventCommand::Clear, None)?;
            self.ready = true;
        }
        Ok(())
    }

    fn tell(&mut self, message: &DegradeMessage) -> Result<(), SinkError> {
        match message {
            DegradeMessage::Clear => self.send(EventCommand::Clear, None),
            DegradeMessage::Major(entity) => self.send(EventCommand::Major, Some(entity)),
            DegradeMessage::Critical(entity) => self.send(EventCommand::Critical, Some(entity)),
        }
    }

    fn send(&mut self, command: EventCommand, process: Option<&str>) -> Result<(), SinkError> {
        let Addressing { hostname, root, .. } = &self.addressing;
        if root.path(NODE_RESET).exists() {
            return Ok(());
        }
        let platform = Platform::read(root).unwrap_or_else(|_| Platform::parse(""));
        let subfunctions = self.subfunctions.0.load();
        let subfunction = process.and_then(|process| subfunctions.get(process));
        let mask = platform.event_mask(subfunction.map(String::as_str));
        let Some(datagram) = message::event(command, mask, hostname, process) else {
            let reason = "a name is too long for mtcAgent".to_owned();
            return Err(SinkError::Refused { reason });
        };
        let sent = self.transmit(&datagram);
        if sent.is_err() {
            // Addresses may have changed.
            self.socket = None;
        }
        sent
    }

    fn transmit(&mut self, datagram: &[u8]) -> Result<(), SinkError> {
        let Addressing {
            controller,
            port,
            hostname,
            root: _,
        } = self.addressing.clone();
        let refused = |reason| SinkError::Refused { reason };
        let found = self.resolver.resolve(&controller, PATIENCE);
        let destination = preferred(&found.map_err(refused)?)
            .ok_or_else(|| refused(format!("`{controller}` has no address")))?;
        let source = self.source(&hostname, destination);
        let socket = match self.socket.take() {
            Some((bound, socket)) if bound == source => socket,
            Some(_) | None => bind(source).map_err(|source| SinkError::Io {
                what: "open a socket for events".to_owned(),
                source,
            })?,
        };
        let address = SocketAddr::new(destination, port);
        let sent = socket.send_to(datagram, address);
        self.socket = Some((source, socket));
        sent.map(drop).map_err(|source| SinkError::Io {
            what: format!("send to mtcAgent at {address}"),
            source,
        })
    }

    /// Our address in the management network, by which mtcAgent knows this host:
    /// that of our own name. Whichever the kernel takes, where that has none.
    fn source(&mut self, hostname: &str, destination: IpAddr) -> IpAddr {
        let own = self.resolver.resolve(hostname, PATIENCE);
        let usable = own.unwrap_or_default().into_iter().find(|own| {
            own.is_ipv4() == destination.is_ipv4()
                // 127.0.1.1 in /etc/hosts is no address to anybody else.
                && own.is_loopback() <= destination.is_loopback()
        });
        usable.unwrap_or(match destination {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        })
    }
}

impl AlarmSink for MtcAgent {
    fn name(&self) -> String {
        format!("mtcAgent on `{}`", self.addressing.controller)
    }

    fn deliver(&mut self, event: &AlarmEvent) -> Result<(), SinkError> {
        self.be_ready()?;
        let Some(entity) = &event.entity else {
            return Ok(());
        };
        if let Some(change) = event.change() {
            return match self.audit.hear(entity, change) {
                Some(message) => self.tell(&message),
                None => Ok(()),
            };
        }
        match event.kind {
            AlarmKind::FirstFailure => self.send(EventCommand::Log, Some(entity)),
            // hostwd is told of the quorum, and the host's state follows from the
            // alarms.
            AlarmKind::Raise
            | AlarmKind::Refresh
            | AlarmKind::Clear
            | AlarmKind::Flapping
            | AlarmKind::FlappingClear
            | AlarmKind::QuorumFailure
            | AlarmKind::QuorumUnrecoverable
            | AlarmKind::QuorumClear
            | AlarmKind::HostDegraded
            | AlarmKind::HostClear => Ok(()),
        }
    }

    fn due(&self) -> Option<Time> {
        Some(if self.ready {
            self.audit.due()
        } else {
            Time::default()
        })
    }

    fn tick(&mut self, now: Time) -> Result<(), SinkError> {
        self.be_ready()?;
        match self.audit.audit(now) {
            Some(message) => self.tell(&message),
            None => Ok(()),
        }
    }
}

/// IPv6 goes before IPv4, as in the original.
fn preferred(addresses: &[IpAddr]) -> Option<IpAddr> {
    let six = addresses.iter().find(|address| address.is_ipv6());
    six.or_else(|| addresses.first()).copied()
}

fn bind(source: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
#[path = "tests/events.rs"]
mod tests;
