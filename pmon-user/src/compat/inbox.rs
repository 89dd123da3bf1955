//! pmond's command inbox: UDP datagrams on 127.0.0.1 (spec/pmond.md §6.1).
//!
//! There is no authentication: whoever can send to the loopback interface can
//! stop whatever is monitored. It is off unless configured, and what it does is
//! no more than the original does: no answer, only lines in the log. Must stay
//! true: only 127.0.0.1 is listened on, only its senders are heard; however
//! many datagrams come, a few are read in each period, and the rest is dropped
//! by the kernel; nobody waits for this task.

pub mod datagram;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{net::UdpSocket, time::Instant};

use datagram::{BUFFER, Command, Verb, parse, shown};

/// Datagrams that are read in one period, as in one round of pmond's loop
/// (spec/pmond.md §6.1).
const AT_ONCE: u32 = 4;
/// pmond's `audit_period`.
const PERIOD: Duration = Duration::from_millis(500);
/// The name by which the daemon itself is addressed.
const DAEMON: &str = "pmond";

/// What came of a command; every case is a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is carried out.
    Accepted,
    /// No process has that name.
    Unknown,
    /// `start` of what was not stopped.
    NotStopped,
    /// `stop` of what was stopped already.
    AlreadyStopped,
    /// `restart` while one is under way.
    InProgress,
    /// It cannot be done now.
    Refused(String),
}

/// Who carries commands out.
pub trait Commands: Send + Sync + 'static {
    /// Carries one out; `by` is who sent it, for the history.
    fn command(&self, command: Command, by: String) -> impl Future<Output = Outcome> + Send;
    /// The daemon is to end in order, for the service manager to start it again.
    fn restart_daemon(&self);
}

/// Why there is no inbox.
#[derive(Debug, Error)]
#[error("no command inbox on 127.0.0.1:{port}")]
pub struct BindError {
    /// Where.
    port: NonZeroU16,
    /// What the kernel said.
    #[source]
    source: io::Error,
}

/// The socket, bound.
#[derive(Debug)]
pub struct CommandInbox {
    socket: UdpSocket,
}

impl CommandInbox {
    /// Binds the port on 127.0.0.1. Unlike the original's it is not shared
    /// (`SO_REUSEADDR`), so that nobody else can take the commands.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for instance because another daemon has it.
    pub async fn bind(port: NonZeroU16) -> Result<Self, BindError> {
        let address = (Ipv4Addr::LOCALHOST, port.get());
        match UdpSocket::bind(address).await {
            Ok(socket) => Ok(Self { socket }),
            Err(source) => Err(BindError { port, source }),
        }
    }

    /// Takes commands until the task is ended.
    pub async fn run<C: Commands>(self, commands: Arc<C>) {
        // One byte more than is looked at tells a longer datagram apart.
        let mut buffer = [0; BUFFER + 1];
        let mut budget = Budget::new(Instant::now());
        loop {
            tokio::time::sleep_until(budget.next(Instant::now())).await;
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, sender)) => {
                    let text = buffer.get(..length).unwrap_or_default();
                    heard(text, sender, &*commands).await;
                }
                // A sender's ICMP error, or memory is short; neither lasts.
                Err(error) => tracing::debug!(%error, "command inbox"),
            }
        }
    }
}

/// One datagram.
async fn heard<C: Commands>(text: &[u8], sender: SocketAddr, commands: &C) {
    if !sender.ip().is_loopback() {
        tracing::warn!(%sender, "command inbox: not from this host's loopback; disregarded");
        return;
    }
    let command = match parse(text) {
        Ok(command) => command,
        Err(reason) => {
            tracing::warn!(%sender, "command inbox: {reason}; disregarded");
            return;
        }
    };
    let verb = command.verb;
    let process = shown(&command.process);
    if verb == Verb::Restart && command.process == DAEMON {
        tracing::info!(%sender, "command inbox: {DAEMON} restarts itself");
        return commands.restart_daemon();
    }
    let what = verb.as_str();
    let by = format!("{sender} (command inbox)");
    match commands.command(command, by).await {
        Outcome::Accepted => tracing::info!(%sender, "command inbox: {what} of {process}"),
        Outcome::Unknown => {
            tracing::warn!(%sender, "command inbox: {what} of {process}: unknown process");
        }
        // Tools search the log for this one.
        Outcome::NotStopped => {
            tracing::info!(%sender, "{process} process is not in the stopped state");
        }
        Outcome::AlreadyStopped => {
            tracing::info!(%sender, "command inbox: {process} is stopped already");
        }
        Outcome::InProgress => {
            tracing::info!(%sender, "command inbox: restart of {process} is in progress");
        }
        Outcome::Refused(reason) => {
            tracing::warn!(%sender, "command inbox: {what} of {process}: {}", shown(&reason));
        }
    }
}

/// How many datagrams may still be read in this period.
#[derive(Debug)]
struct Budget {
    since: Instant,
    left: u32,
}

impl Budget {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
            left: AT_ONCE,
        }
    }

    /// Takes one; when it may be read.
    fn next(&mut self, now: Instant) -> Instant {
        if now.saturating_duration_since(self.since) >= PERIOD {
            *self = Self::new(now);
        }
        if self.left == 0 {
            *self = Self::new(self.since + PERIOD);
        }
        self.left -= 1;
        self.since.max(now)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Obedient {
        obeyed: Mutex<Vec<String>>,
        restarts: tokio::sync::Notify,
    }

    impl Commands for Obedient {
        async fn command(&self, command: Command, by: String) -> Outcome {
            assert!(by.starts_with("127.0.0.1:"), "{by}");
            let Command { verb, process } = command;
            let mut obeyed = self.obeyed.lock().unwrap();
            obeyed.push(format!("{} {process}", verb.as_str()));
            Outcome::Accepted
        }

        fn restart_daemon(&self) {
            self.restarts.notify_one();
        }
    }

    /// Garbage is passed over in silence, and what comes after it is obeyed.
    #[tokio::test]
    async fn silent_on_garbage_and_obedient_on_commands() {
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // Any free port; the kernel picks one.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let commands = Arc::new(Obedient::default());
        let inbox = tokio::spawn(CommandInbox { socket }.run(Arc::clone(&commands)));
        for text in [
            &b""[..],
            b"\xff\xfe",
            &[b'x'; 600],
            br#"{"command":"stop"}"#,
            br#"{"command":"stop","process":"web"}"#,
            br#"{"command":"restart","process":"web"}"#,
            br#"{"command":"start","process":"pmond"}"#,
            br#"{"command":"restart","process":"pmond"}"#,
        ] {
            sender.send_to(text, address).await.unwrap();
        }
        commands.restarts.notified().await;
        assert_eq!(
            *commands.obeyed.lock().unwrap(),
            ["stop web", "restart web", "start pmond"]
        );
        let mut answer = [0; 16];
        let silent = sender.try_recv(&mut answer).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
        inbox.abort();
    }

    #[tokio::test]
    async fn others_than_loopback_are_not_heard() {
        let commands = Obedient::default();
        let text = br#"{"command":"stop","process":"web"}"#;
        for stranger in ["192.0.2.1:5", "[2001:db8::1]:5", "0.0.0.0:5"] {
            heard(text, stranger.parse().unwrap(), &commands).await;
        }
        assert!(commands.obeyed.lock().unwrap().is_empty());
        heard(text, "127.0.0.1:5".parse().unwrap(), &commands).await;
        assert_eq!(*commands.obeyed.lock().unwrap(), ["stop web"]);
    }

    #[tokio::test]
    async fn a_flood_is_read_four_at_a_time() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut at = Vec::new();
        let mut now = start;
        for _ in 0..10 {
            now = budget.next(now);
            at.push((now - start).as_millis());
        }
        assert_eq!(at, [0, 0, 0, 0, 500, 500, 500, 500, 1000, 1000]);
        // After a pause there is no debt and no credit.
        now += Duration::from_secs(60);
        let after: Vec<_> = (0..5)
            .map(|_| (budget.next(now) - now).as_millis())
            .collect();
        assert_eq!(after, [0, 0, 0, 0, 500]);
    }
}
