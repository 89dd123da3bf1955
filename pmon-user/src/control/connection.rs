//! One client: its calls one after the other, or its stream of events.
//!
//! Whatever goes wrong here ends this connection and nothing else. A reader of
//! events may be as slow as it likes: what it misses is dropped from the
//! daemon's broadcast buffer, never queued for it.

use std::{io, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    select,
    sync::{broadcast::error::RecvError, watch},
    time::timeout,
};
use zlink::{Reply, varlink_service};

use super::{
    access::{Access, AccessRules, Peer, Rights},
    backend::{Backend, WantedEvents},
    dispatch,
    error::ControlError,
    interface::{EventReply, Verb},
    requests::{self, Failure, Request, What},
    transport::{MAX_REQUEST, Messages, Received, encode},
};
use crate::view::event::EventView;

/// How long the engine may take to answer before the client is told so.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// A client that may at least look.
#[derive(Debug)]
pub(super) struct Client<B> {
    pub(super) backend: Arc<B>,
    pub(super) rules: Arc<AccessRules>,
    pub(super) peer: Peer,
    pub(super) rights: Rights,
    /// How long the engine may take to answer.
    pub(super) patience: Duration,
    /// Becomes true when the service ends.
    pub(super) closing: watch::Receiver<bool>,
}

/// What follows a call.
enum Next {
    Receive,
    Close,
}

impl<B: Backend> Client<B> {
    /// Serves the client until one side ends the connection.
    pub(super) async fn converse(mut self, mut messages: Messages) {
        loop {
            let received = select! {
                received = messages.receive() => received,
                _ = self.closing.wait_for(|closing| *closing) => return,
            };
            let next = match received {
                Ok(Received::Message(message)) => self.answer(&message, &mut messages).await,
                Ok(Received::TooLong) => {
                    let reason = format!("longer than {MAX_REQUEST} bytes");
                    let error = ControlError::InvalidRequest { reason };
                    fail(&error.into(), &mut messages)
                        .await
                        .map(|()| Next::Close)
                }
                Ok(Received::Half) => {
                    let reason = "the message was not finished by a NUL byte".to_owned();
                    let error = ControlError::InvalidRequest { reason };
                    fail(&error.into(), &mut messages)
                        .await
                        .map(|()| Next::Close)
                }
                Ok(Received::End | Received::Idle) => return,
                Err(error) => Err(error),
            };
            match next {
                Ok(Next::Receive) => {}
                Ok(Next::Close) => return messages.close().await,
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "control connection lost");
                    return;
                }
            }
        }
    }

    async fn answer(&mut self, message: &[u8], messages: &mut Messages) -> io::Result<Next> {
        let request = match requests::parse(message) {
            Ok(request) => request,
            Err(failure) => {
                // After what is no call at all, the peer's idea of where messages
                // begin cannot be trusted.
                let next = match &failure {
                    Failure::Control(ControlError::InvalidRequest { .. }) => Next::Close,
                    Failure::Control(_) | Failure::Varlink(_) => Next::Receive,
                };
                tracing::debug!(peer = %self.peer, ?failure, "unusable control request");
                fail(&failure, messages).await?;
                return Ok(next);
            }
        };
        let Request {
            what,
            parameters,
            oneway,
            more,
        } = request;
        let answer = match what {
            What::Info => dispatch::info(),
            What::Description => dispatch::describe(parameters),
            What::Verb(verb) if !self.rights.allow(verb.access()) => Err(self.denied(verb)),
            What::Verb(Verb::Events) if more && !oneway => {
                return match dispatch::wanted(parameters) {
                    Ok(wanted) => self.stream(wanted, messages).await.map(|()| Next::Close),
                    Err(error) => {
                        fail(&error.into(), messages).await?;
                        Ok(Next::Receive)
                    }
                };
            }
            What::Verb(verb) => self.perform(verb, parameters).await,
        };
        if !oneway {
            match answer {
                Ok(reply) => messages.send_soon(&reply).await?,
                Err(failure) => fail(&failure, messages).await?,
            }
        }
        Ok(Next::Receive)
    }

    async fn perform(&self, verb: Verb, parameters: Value) -> Result<Vec<u8>, Failure> {
        let what = match verb.access() {
            Access::Read => None,
            Access::Write | Access::Own => Some(parameters.to_string()),
        };
        let work = dispatch::perform(verb, parameters, self.backend.as_ref(), &self.peer);
        let answer = timeout(self.patience, work)
            .await
            .unwrap_or_else(|_elapsed| {
                let seconds = self.patience.as_secs();
                Err(ControlError::TimedOut { seconds }.into())
            });
        if let Some(parameters) = what {
            let Peer { uid, gid, pid, .. } = self.peer;
            let verb = verb.name();
            match &answer {
                Ok(_) => tracing::info!(uid, gid, pid, verb, parameters, "control request done"),
                Err(failure) => {
                    tracing::warn!(
                        uid,
                        gid,
                        pid,
                        verb,
                        parameters,
                        ?failure,
                        "control request failed"
                    );
                }
            }
        }
        answer
    }

    fn denied(&self, verb: Verb) -> Failure {
        let Peer { uid, gid, pid, .. } = self.peer;
        tracing::warn!(uid, gid, pid, verb = verb.name(), "control request denied");
        ControlError::PermissionDenied {
            needed: self.rules.needed(verb.access()),
        }
        .into()
    }

    async fn stream(&mut self, wanted: WantedEvents, messages: &mut Messages) -> io::Result<()> {
        let (past, mut further) = self.backend.events(wanted);
        let mut last = None;
        for event in past {
            messages.send(&event_message(Some(&event), None)?).await?;
            last = Some(event.seq);
        }
        let mut lost = 0;
        loop {
            let received = select! {
                () = messages.gone() => return Ok(()),
                _ = self.closing.wait_for(|closing| *closing) => Err(RecvError::Closed),
                received = further.recv() => received,
            };
            match received {
                // Sent already, as one of the recent ones.
                Ok(event) if !event.early && last.is_some_and(|last| event.seq <= last) => {}
                Ok(event) => {
                    let missing = (lost > 0).then_some(lost);
                    messages
                        .send(&event_message(Some(&event), missing)?)
                        .await?;
                    lost = 0;
                }
                Err(RecvError::Lagged(count)) => lost += count,
                Err(RecvError::Closed) => {
                    // What was said before the end is still told.
                    while let Ok(event) = further.try_recv() {
                        messages.send(&event_message(Some(&event), None)?).await?;
                    }
                    return messages.send_soon(&event_message(None, None)?).await;
                }
            }
        }
    }
}

/// Answers the first call of a peer that is not served, and ends the connection.
pub(super) async fn turn_away(error: ControlError, mut messages: Messages) {
    match messages.receive().await {
        Ok(Received::Message(_) | Received::TooLong | Received::Half) => {
            if fail(&error.into(), &mut messages).await.is_ok() {
                messages.close().await;
            }
        }
        Ok(Received::End | Received::Idle) | Err(_) => {}
    }
}

async fn fail(failure: &Failure, messages: &mut Messages) -> io::Result<()> {
    let message = match failure {
        Failure::Control(error) => encode(error),
        Failure::Varlink(error) => encode::<varlink_service::Error<'_>>(error),
    }?;
    messages.send_soon(&message).await
}

/// One reply of the event stream; without an event it is the last.
fn event_message(event: Option<&EventView>, lost: Option<u64>) -> io::Result<Vec<u8>> {
    let continues = event.is_some();
    let reply = EventReply {
        event: event.cloned(),
        lost,
    };
    Ok(encode(
        &Reply::new(Some(reply)).set_continues(Some(continues)),
    )?)
}
