//! The sockets of active monitoring, on a task of their own: requests go out of
//! one, all answers come in at the other, `127.0.0.1:2200` unless configured
//! otherwise, because clients have that port compiled in.
//!
//! Must stay true: the engine waits for nothing in here; nothing goes out before
//! the answers could be received; a port that somebody else has is told, and
//! tried again until it is free; the port is held only while there is somebody
//! to ask. What had arrived when a request is given up is read before it is
//! called unanswered.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use rustix::net::RecvFlags;
use tokio::{
    net::UdpSocket,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until},
};

use super::{
    correspondence::{Correspondence, Faults, Heard, Strays},
    initialised,
    wire::{self, LIMIT},
};
use crate::{core::pulse::PulseEvent, table::EntityName};

/// The port that clients answer to (`TXPORT` of pmond's client library).
pub const REPLY_PORT: u16 = 2200;

/// A port in use is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// More datagrams than fit into a receive buffer of the default size (212992
/// bytes, socket(7); each takes at least 512 of them): after so many, all that
/// had arrived before has been read, whatever keeps arriving.
const BACKLOG: usize = 512;

/// How it is to run.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// Where answers arrive.
    pub reply_port: u16,
    /// The file that says that the host is fully initialised; none = that of
    /// the platform.
    pub initialised_file: Option<PathBuf>,
}

/// What the engine wants.
#[derive(Clone, Debug)]
pub enum Order {
    /// Send a request.
    Ask(Ask),
    /// Give a request up if there is no answer.
    Collect {
        /// Whose.
        entity: EntityName,
        /// Which.
        round: u64,
        /// Whether silence counts only on an initialised host.
        full_init_required: bool,
    },
    /// The entity is gone.
    Forget(EntityName),
}

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who is asked.
    pub entity: EntityName,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// Number of the request.
    pub round: u64,
    /// Its sequence number.
    pub sequence: u32,
}

/// What the engine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Something has become of a request.
    Happened {
        /// Whose.
        entity: EntityName,
        /// What.
        event: PulseEvent,
        /// What was wrong with its answers until now.
        faults: Faults,
        /// What belonged to nobody until now.
        strays: Strays,
    },
    /// Why answers cannot be received; none when they can again.
    Port(Option<String>),
}

/// The way to the endpoint.
#[derive(Clone, Debug)]
pub struct Handle(UnboundedSender<Order>);

impl Handle {
    /// Never blocks.
    ///
    /// # Errors
    ///
    /// What the engine must be told when nobody is there to carry it out.
    pub fn submit(&self, order: Order) -> Result<(), Report> {
        self.0.send(order).map_err(|_| {
            Report::Port(Some(
                "its task has ended; restart the daemon (`systemctl restart pmon`)".to_owned(),
            ))
        })
    }
}

/// Starts the endpoint on the current runtime. It ends with its last handle.
pub fn start<F>(settings: EndpointSettings, report: F) -> Handle
where
    F: Fn(Report) + Send + Sync + 'static,
{
    let (sender, orders) = unbounded_channel();
    let endpoint = Endpoint {
        settings,
        report,
        correspondence: Correspondence::default(),
        requests: None,
        replies: None,
        held: Vec::new(),
        trouble: None,
        retry: None,
    };
    tokio::spawn(endpoint.run(orders));
    Handle(sender)
}

struct Endpoint<F> {
    settings: EndpointSettings,
    report: F,
    correspondence: Correspondence,
    requests: Option<std::net::UdpSocket>,
    replies: Option<UdpSocket>,
    /// Requests that wait until answers can be received; one for each entity.
    held: Vec<Ask>,
    /// Why answers cannot be received, as the engine has been told.
    trouble: Option<String>,
    retry: Option<Instant>,
}

impl<F: Fn(Report) + Send + Sync> Endpoint<F> {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        loop {
            let arrival = async {
                match &self.replies {
                    Some(replies) => replies.readable().await,
                    None => std::future::pending().await,
                }
            };
            let again = async {
                match self.retry {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => return,
                },
                arrived = arrival => match arrived {
                    Ok(()) => self.receive(UdpSocket::try_recv),
                    Err(error) => self.lose(&error),
                },
                () = again => self.open(),
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Ask(ask) => {
                self.held.retain(|other| other.entity != ask.entity);
                self.held.push(ask);
                self.open();
            }
            Order::Collect {
                entity,
                round,
                full_init_required,
            } => {
                let initialised = !full_init_required
                    || initialised::is_it(self.settings.initialised_file.as_deref()).await;
                self.receive(recv_now);
                let event = if self.correspondence.close(&entity, round) {
                    PulseEvent::Silent { round, initialised }
                } else {
                    // If it was answered just now, that was told before this.
                    PulseEvent::Unheard { round }
                };
                self.tell(entity, event);
            }
            Order::Forget(entity) => {
                self.held.retain(|ask| ask.entity != entity);
                self.correspondence.forget(&entity);
                if self.correspondence.is_empty() && self.held.is_empty() {
                    self.replies = None;
                    self.requests = None;
                    self.retry = None;
                    self.tell_port(None);
                }
            }
        }
    }

    /// Makes sure that answers can be received; then what was held goes out.
    fn open(&mut self) {
        self.retry = None;
        if self.held.is_empty() {
            return;
        }
        if self.replies.is_none() {
            match bind(self.settings.reply_port).and_then(UdpSocket::from_std) {
                Ok(replies) => self.replies = Some(replies),
                Err(error) => {
                    let port = self.settings.reply_port;
                    self.retry = Some(Instant::now() + RETRY);
                    return self.tell_port(Some(format!(
                        "UDP port 127.0.0.1:{port}, where processes answer \
                         (`active_reply_port`), cannot be had: {error}; it is tried again \
                         every second"
                    )));
                }
            }
        }
        self.tell_port(None);
        for ask in std::mem::take(&mut self.held) {
            self.ask(ask);
        }
    }

    fn ask(&mut self, ask: Ask) {
        let Ask {
            entity,
            port,
            round,
            sequence,
        } = ask;
        let request = wire::request(&entity, sequence);
        let event = match self.send(port, request.as_bytes()) {
            Ok(()) => {
                self.correspondence.asked(&entity, round);
                PulseEvent::Sent { round }
            }
            Err(error) => {
                let reason = error.to_string();
                PulseEvent::NotSent { round, reason }
            }
        };
        self.tell(entity, event);
    }

    fn send(&mut self, port: u16, request: &[u8]) -> io::Result<()> {
        if self.requests.is_none() {
            self.requests = Some(bind(0)?);
        }
        let Some(requests) = &self.requests else {
            return Err(ErrorKind::NotConnected.into());
        };
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        // Loopback takes a datagram at once or never.
        requests.send_to(request, to).map(drop)
    }

    /// Reads what has arrived, each datagram with `recv`.
    fn receive(&mut self, recv: impl Fn(&UdpSocket, &mut [u8]) -> io::Result<usize>) {
        for _ in 0..BACKLOG {
            let Some(replies) = &self.replies else {
                return;
            };
            // One byte more than there may be, so that too much is seen as such.
            let mut datagram = [0; LIMIT + 1];
            let length = match recv(replies, &mut datagram) {
                Ok(length) => length,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted => continue,
                    _ => return self.lose(&error),
                },
            };
            let datagram = datagram.get(..length).unwrap_or_default();
            match self.correspondence.hear(datagram) {
                Heard::Answer {
                    entity,
                    round,
                    sequence,
                } => self.tell(entity, PulseEvent::Answered { round, sequence }),
                Heard::Nonsense(Some(complaint)) => tracing::warn!("{complaint}"),
                Heard::Nonsense(None) => {}
            }
        }
    }

    /// The port is opened anew with the next request; what was asked before is
    /// nobody's miss.
    fn lose(&mut self, error: &io::Error) {
        tracing::warn!(%error, "the port of the answers is opened anew");
        self.replies = None;
        self.correspondence.interrupt();
    }

    fn tell(&self, entity: EntityName, event: PulseEvent) {
        (self.report)(Report::Happened {
            faults: self.correspondence.faults(&entity),
            strays: self.correspondence.strays(),
            entity,
            event,
        });
    }

    fn tell_port(&mut self, trouble: Option<String>) {
        if self.trouble != trouble {
            (self.report)(Report::Port(trouble.clone()));
            self.trouble = trouble;
        }
    }
}

/// What is in the socket now, whether or not the runtime knows of it yet.
fn recv_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    let (length, _) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(length)
}

fn bind(port: u16) -> io::Result<std::net::UdpSocket> {
    // Without SO_REUSEADDR: two receivers of one port would take each other's
    // answers.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
#[path = "endpoint/tests.rs"]
mod tests;
