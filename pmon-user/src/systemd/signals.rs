//! What is heard, in the order in which systemd said it.
//!
//! The reader only sorts and never waits for anything, so that the connection's
//! queue stays empty; whoever follows ([`super::task`]) may ask questions.

use std::{future::poll_fn, pin::pin};

use tokio::sync::{mpsc, oneshot};
use zbus::{Message, MessageStream, OwnedObjectPath, export::futures_core::Stream as _, message};

use super::{Shared, bus::MANAGER, unit::JobId};
use crate::table::EntityName;

/// What there is to do, in order.
#[derive(Debug)]
pub(super) enum Event {
    /// A job was queued.
    JobNew {
        /// Which.
        job: JobId,
        /// Its unit's main name.
        unit: String,
    },
    /// A job has ended.
    JobRemoved {
        /// Which.
        job: JobId,
        /// Its unit's main name.
        unit: String,
        /// How.
        result: String,
    },
    /// systemd has read its units anew.
    Reloaded,
    /// A connection is wanted, whatever the units.
    Wanted,
    /// An entity's unit is of interest.
    Watch(EntityName),
    /// One is not any more.
    Forgotten,
    /// Everything before this is done.
    Settle(oneshot::Sender<()>),
    /// Nobody is left to restart what was taken from systemd.
    GiveBack(oneshot::Sender<()>),
}

/// Reads until the connection breaks. Signals come before what we ask of
/// ourselves: whoever asks has an answer in hand already, and must find what was
/// said before that.
pub(super) async fn read(
    shared: &Shared,
    mut messages: MessageStream,
    asked: &mut mpsc::UnboundedReceiver<Event>,
    heard: &mpsc::UnboundedSender<Event>,
) {
    loop {
        let event = tokio::select! {
            biased;
            message = poll_fn(|context| pin!(&mut messages).poll_next(context)) => match message {
                None | Some(Err(_)) => return,
                Some(Ok(message)) => match parse(&message) {
                    None => continue,
                    Some(event) => event,
                },
            },
            asked = asked.recv() => match asked {
                None => return,
                Some(event) => event,
            },
        };
        if let Event::JobRemoved { job, result, .. } = &event {
            shared.lock().memory.ended(*job, result);
            shared.ended.notify_waiters();
        }
        if heard.send(event).is_err() {
            return;
        }
    }
}

fn parse(message: &Message) -> Option<Event> {
    let header = message.header();
    if header.message_type() != message::Type::Signal || header.interface()?.as_str() != MANAGER {
        return None;
    }
    match header.member()?.as_str() {
        "JobNew" => {
            let (number, _, unit): (u32, OwnedObjectPath, String) =
                message.body().deserialize().ok()?;
            Some(Event::JobNew {
                job: JobId(number),
                unit,
            })
        }
        "JobRemoved" => {
            let (number, _, unit, result): (u32, OwnedObjectPath, String, String) =
                message.body().deserialize().ok()?;
            Some(Event::JobRemoved {
                job: JobId(number),
                unit,
                result,
            })
        }
        "Reloading" => {
            let (begins,): (bool,) = message.body().deserialize().ok()?;
            (!begins).then_some(Event::Reloaded)
        }
        _ => None,
    }
}
