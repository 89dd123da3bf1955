//! Where alarms go: what a receiver is told ([`event`]), what it must be able to
//! do ([`AlarmSink`]), and what anybody may ask of the host's health ([`health`]).
//!
//! When an alarm is raised is decided in `core::recovery`, for the host in
//! `core::degrade`; what is told here has been decided. Must stay true: a receiver
//! that hangs or fails delays nobody but itself, is told of in `status`, and is
//! told the full state again when it comes back; an alarm is cleared under exactly
//! the instance under which it was raised, so that `sm` clears nothing of `sm-api`
//! (FIX of spec/pmond.md §8.3).

pub mod dispatch;
pub mod event;
pub mod file;
pub mod fm;
pub mod health;
pub mod hook;
mod message;
pub mod queue;
#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use thiserror::Error;

use self::{event::AlarmEvent, file::FileSink, hook::HookSink};
use crate::{config::settings::AlarmSettings, core::time::Time};

/// A receiver of alarms. Each has a thread of its own, on which all of this is
/// called, and which alone may be blocked by it.
pub trait AlarmSink: Send {
    /// For people, in log and `status`: for instance `hook /usr/bin/page`.
    fn name(&self) -> String;

    /// At one event for longer, it is said to hang.
    fn patience(&self) -> Duration {
        Duration::from_secs(15)
    }

    /// Tells one event. After an error it is told again later, with everything
    /// else that is still true; an event may thus be told more than once, and
    /// [`event::AlarmKind::Refresh`] says the same as a raise that was lost.
    ///
    /// # Errors
    ///
    /// That the receiver may not have heard of it.
    fn deliver(&mut self, event: &AlarmEvent) -> Result<(), SinkError>;

    /// When [`Self::tick`] is due, events or not.
    fn due(&self) -> Option<Time> {
        None
    }

    /// Something is due.
    ///
    /// # Errors
    ///
    /// That the receiver may not have heard of it.
    fn tick(&mut self, now: Time) -> Result<(), SinkError> {
        let _nothing_is_due = now;
        Ok(())
    }
}

/// The receivers that are configured.
#[must_use]
pub fn sinks(settings: &AlarmSettings) -> Vec<Box<dyn AlarmSink>> {
    let AlarmSettings {
        hook,
        hook_timeout,
        file,
    } = settings;
    let mut sinks: Vec<Box<dyn AlarmSink>> = Vec::new();
    if let Some(hook) = HookSink::new(hook, *hook_timeout) {
        sinks.push(Box::new(hook));
    }
    if let Some(path) = file {
        sinks.push(Box::new(FileSink::new(path.clone())));
    }
    sinks
}

/// Why a receiver may not have heard of an event.
#[derive(Debug, Error)]
pub enum SinkError {
    /// It could not be reached.
    #[error("cannot {what}")]
    Io {
        /// What was being done, as it follows `cannot`.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It was reached, and did not accept it.
    #[error("it {reason}")]
    Refused {
        /// What it did instead, for instance `exited with code 1`.
        reason: String,
    },
    /// It took too long.
    #[error("it did not end within {0:?} and was killed")]
    TimedOut(Duration),
}
