//! Commands of the original's datagrams (`compat::inbox`), carried out on the
//! engine's thread with the original's rules (spec/pmond.md §6.2 to §6.4).
//!
//! Unlike through the control socket a name must match exactly, a start is for
//! what was stopped only, and a stop is over after some time.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    engine::Engine,
    message::{Inbox, Request},
};
use crate::{
    compat::inbox::{
        CommandInbox, Commands, Outcome,
        datagram::{Command, Verb},
    },
    config::settings::starlingx::StarlingxSettings,
    control::backend::Refusal,
    core::{
        event::{OperatorAction, OperatorRequest},
        recovery::Stage,
    },
};

/// What carries commands out for the inbox.
struct Carrier {
    inbox: Inbox,
    /// When a stop is over.
    stop_lasts: Duration,
    /// Told when the daemon is to end.
    restart: Arc<Notify>,
}

impl Commands for Carrier {
    async fn command(&self, command: Command, by: String) -> Outcome {
        let stop_lasts = self.stop_lasts;
        let asked = self.inbox.ask(|reply| Request::Command {
            command,
            stop_lasts,
            by,
            reply,
        });
        match asked.await {
            Ok(outcome) => outcome,
            Err(refusal) => Outcome::Refused(refusal.to_string()),
        }
    }

    fn restart_daemon(&self) {
        self.restart.notify_one();
    }
}

/// Starts the inbox if it is wanted. Why there is none, if that is so.
pub(super) async fn start(
    settings: &StarlingxSettings,
    inbox: &Inbox,
    restart: &Arc<Notify>,
) -> Option<String> {
    if !settings.command_inbox {
        return None;
    }
    let commands = Carrier {
        inbox: inbox.clone(),
        stop_lasts: settings.stop_recovers_after,
        restart: Arc::clone(restart),
    };
    match CommandInbox::bind(settings.command_port).await {
        Ok(socket) => {
            let port = settings.command_port;
            tracing::info!("commands of anybody on this host are taken on 127.0.0.1:{port}");
            tokio::spawn(socket.run(Arc::new(commands)));
            None
        }
        Err(error) => Some(crate::causes::in_full(&error)),
    }
}

impl Engine {
    /// Carries out a command, or says why it has no effect.
    pub(super) fn command(
        &mut self,
        command: Command,
        stop_lasts: Duration,
        by: String,
    ) -> Outcome {
        let Command { verb, process } = command;
        let Some(entity) = self.entities.get(process.as_str()) else {
            return Outcome::Unknown;
        };
        let is_stopped = entity.stopped().is_some() || *entity.recovery.stage() == Stage::Stopped;
        let action = match verb {
            Verb::Start if !is_stopped => return Outcome::NotStopped,
            Verb::Start => OperatorAction::Start,
            Verb::Stop if is_stopped => return Outcome::AlreadyStopped,
            Verb::Stop => OperatorAction::StopFor { lasts: stop_lasts },
            Verb::Restart if entity.recovery.is_manual() => return Outcome::InProgress,
            Verb::Restart => OperatorAction::Restart,
        };
        let reason = None;
        match self.operate(&process, OperatorRequest { action, reason, by }) {
            Ok(_) => Outcome::Accepted,
            Err(Refusal::UnknownEntity { .. }) => Outcome::Unknown,
            Err(refusal) => Outcome::Refused(refusal.to_string()),
        }
    }
}
