//! Varlink's framing: JSON texts, each ended by a NUL byte.
//!
//! Must stay true: a peer can make us hold at most [`MAX_REQUEST`] bytes and a
//! fixed number of timers, whatever it sends or does not send. zlink's own
//! connection takes up to 100 MB per message and any number of file descriptors;
//! this one takes neither, because plain reads make the kernel discard descriptors.

use std::{io, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};

/// Longest request in bytes: the longest sensible one is a list of a few hundred names.
pub(super) const MAX_REQUEST: usize = 64 * 1024;

/// How long a connection may rest between two requests.
pub(super) const IDLE: Duration = Duration::from_secs(300);

/// How long a request may take from its first byte to its last.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// How long one reply may take to be read; events are exempt.
pub(super) const REPLY: Duration = Duration::from_secs(30);

/// How long and how much a refused peer may still send before the door shuts.
const LINGER: (Duration, usize) = (Duration::from_millis(500), 4 * 1024 * 1024);

/// What came from a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A message, without its NUL byte.
    Message(Vec<u8>),
    /// The peer is done.
    End,
    /// The peer was silent for too long between two messages.
    Idle,
    /// The peer ended or fell silent in the middle of a message.
    Half,
    /// The message is longer than [`MAX_REQUEST`].
    TooLong,
}

/// One end of a control connection.
#[derive(Debug)]
pub(super) struct Messages {
    stream: UnixStream,
    /// Read, not yet handed out; never longer than `MAX_REQUEST`.
    buffer: Vec<u8>,
    idle: Duration,
    request: Duration,
}

impl Messages {
    /// With the deadlines for the first byte of a request and for the rest of it.
    pub(super) const fn new(stream: UnixStream, idle: Duration, request: Duration) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            idle,
            request,
        }
    }

    /// The next message.
    pub(super) async fn receive(&mut self) -> io::Result<Received> {
        let idle_until = Instant::now() + self.idle;
        let mut half_until = (!self.buffer.is_empty()).then(|| Instant::now() + self.request);
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == 0) {
                let rest = self.buffer.split_off(end + 1);
                let mut message = std::mem::replace(&mut self.buffer, rest);
                message.truncate(end);
                return Ok(Received::Message(message));
            }
            if self.buffer.len() >= MAX_REQUEST {
                return Ok(Received::TooLong);
            }
            let (deadline, too_late) = match half_until {
                Some(deadline) => (deadline, Received::Half),
                None => (idle_until, Received::Idle),
            };
            match timeout_at(deadline, self.fill()).await {
                Err(_elapsed) => return Ok(too_late),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(0)) if self.buffer.is_empty() => return Ok(Received::End),
                Ok(Ok(0)) => return Ok(Received::Half),
                Ok(Ok(_)) => {
                    half_until.get_or_insert_with(|| Instant::now() + self.request);
                }
            }
        }
    }

    /// Reads what there is, up to the limit.
    async fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let room = chunk.len().min(MAX_REQUEST - self.buffer.len());
        let read = self.stream.read(&mut chunk[..room]).await?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    /// Returns when the peer has gone, or has sent more than it could be owed
    /// while it is the one being sent to.
    pub(super) async fn gone(&mut self) {
        while self.buffer.len() < MAX_REQUEST {
            match self.fill().await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Sends one message, however long the peer takes to read it.
    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message).await?;
        self.stream.write_all(&[0]).await
    }

    /// Sends one message to a peer that is expected to read it soon.
    pub(super) async fn send_soon(&mut self, message: &[u8]) -> io::Result<()> {
        timeout(REPLY, self.send(message)).await?
    }

    /// Ends the connection such that what was sent last is still read: a peer
    /// that is in the middle of a long write would otherwise see it fail first.
    pub(super) async fn close(mut self) {
        let (patience, mut budget) = LINGER;
        let discard = async {
            self.stream.shutdown().await?;
            let mut chunk = [0; 4096];
            loop {
                let read = self.stream.read(&mut chunk).await?;
                if read == 0 || read > budget {
                    return io::Result::Ok(());
                }
                budget -= read;
            }
        };
        // Whatever comes of it, the socket is closed now.
        drop(timeout(patience, discard).await);
    }
}

/// A message's bytes.
///
/// # Errors
///
/// Our own types cannot fail to serialise; the error is kept for the log.
pub(super) fn encode<T: Serialize>(message: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(message)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn pair() -> (Messages, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Messages::new(ours, SHORT, SHORT), theirs)
    }

    #[tokio::test]
    async fn messages_arrive_whole_however_they_are_cut() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"one\0two\0th").await.unwrap();
        assert_eq!(
            ours.receive().await.unwrap(),
            Received::Message(b"one".to_vec())
        );
        assert_eq!(
            ours.receive().await.unwrap(),
            Received::Message(b"two".to_vec())
        );
        theirs.write_all(b"ree\0\0").await.unwrap();
        assert_eq!(
            ours.receive().await.unwrap(),
            Received::Message(b"three".to_vec())
        );
        assert_eq!(ours.receive().await.unwrap(), Received::Message(Vec::new()));
        drop(theirs);
        assert_eq!(ours.receive().await.unwrap(), Received::End);
    }

    #[tokio::test]
    async fn silence_is_told_from_half_a_message() {
        let (mut ours, mut theirs) = pair();
        assert_eq!(ours.receive().await.unwrap(), Received::Idle);
        theirs.write_all(b"{").await.unwrap();
        assert_eq!(ours.receive().await.unwrap(), Received::Half);
        drop(theirs);
        assert_eq!(ours.receive().await.unwrap(), Received::Half);
    }

    #[tokio::test]
    async fn a_message_fits_exactly_or_is_too_long() {
        for (length, fits) in [(MAX_REQUEST - 1, true), (MAX_REQUEST, false)] {
            let (mut ours, mut theirs) = pair();
            let writer = tokio::spawn(async move {
                let mut message = vec![b'x'; length];
                message.push(0);
                theirs.write_all(&message).await.ok();
                theirs
            });
            match ours.receive().await.unwrap() {
                Received::Message(message) => {
                    assert!(fits);
                    assert_eq!(message.len(), length);
                }
                other => {
                    assert!(!fits);
                    assert_eq!(other, Received::TooLong);
                }
            }
            ours.close().await;
            writer.await.unwrap();
        }
    }
}
