//! The canary's way: hatched on a thread that may block, registered and released
//! by the engine, reaped where it was hatched.
//!
//! Must stay true: whoever gives up on it, it ends and is reaped.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    engine::Engine,
    message::{Inbox, Message},
};
use crate::{
    causes::in_full,
    core::death::{LastSeen, SourceName, WaitStatus},
    source::{
        canary::{Verdict, Watch},
        selection::Event,
    },
    sys::{
        canary::{Canary, EXIT_CODE},
        clock,
        pidfd::VerifiedPid,
    },
    table::{EntityName, TABLE_FULL},
};

/// How a canary ends.
const STATUS: WaitStatus = WaitStatus((EXIT_CODE as u32) << 8);
/// fork(2) takes a fraction of a second, whatever the host is doing.
const HATCHING: Duration = Duration::from_secs(60);

/// In whose name canaries are registered: no entity can be called that
/// (`config::name`), so nothing that happens to it reaches one.
static NAME: LazyLock<EntityName> = LazyLock::new(|| Arc::from("/canary"));

/// A child that waits.
pub struct Hatched {
    /// Who.
    process: VerifiedPid,
    leash: Leash,
}

/// What holds a canary.
pub(super) struct Leash {
    /// Dropped to release it.
    release: Option<OwnedFd>,
    /// Dropped to have it reaped.
    _reap: oneshot::Sender<()>,
}

/// Hatches one, hands it to the engine, and reaps it when that is done with it.
pub(super) async fn fly(inbox: Inbox) {
    let hatching = tokio::task::spawn_blocking(Canary::hatch);
    let hatched = match tokio::time::timeout(HATCHING, hatching).await {
        Ok(Ok(hatched)) => hatched.map_err(|error| in_full(&error)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no child within {HATCHING:?}")),
    };
    let mut canary = match hatched {
        Ok(canary) => canary,
        Err(reason) => return inbox.send(Message::Canary(Err(reason))),
    };
    let (reap, over) = oneshot::channel();
    let leash = Leash {
        release: canary.take_release(),
        _reap: reap,
    };
    let process = canary.process().clone();
    inbox.send(Message::Canary(Ok(Hatched { process, leash })));
    // Never sent, only dropped.
    let _over = over.await;
    // Reaping waits for the end, which is near.
    tokio::task::spawn_blocking(move || drop(canary));
}

impl Engine {
    pub(super) fn canary_hatched(&mut self, hatched: Result<Hatched, String>) {
        match hatched.and_then(|hatched| self.release_canary(hatched)) {
            Ok(leash) => self.canary = Some(leash),
            Err(reason) => self.source_event(Event::NoCanary(reason)),
        }
    }

    fn release_canary(&mut self, hatched: Hatched) -> Result<Leash, String> {
        let Hatched { process, mut leash } = hatched;
        let identity = process.identity();
        let mut sources = vec![SourceName::Pidfd];
        if self.table.kernel().is_some() {
            sources.push(SourceName::Ebpf);
        }
        if self.table.connector().is_some() {
            sources.push(SourceName::ProcConnector);
        }
        let registered = self
            .table
            .register(&NAME, process, LastSeen::default(), &self.epoll)
            .map_err(|error| in_full(&error))?;
        let drops = self.table.ring_drops();
        let now = clock::now();
        let mut watch = Watch::new(
            identity,
            registered.generation,
            STATUS,
            &sources,
            drops,
            now,
        );
        match registered.pidfd_only {
            Some(full) if full == TABLE_FULL => {
                watch.settle(SourceName::Ebpf, Verdict::Unclear(full));
            }
            Some(reason) => watch.settle(
                SourceName::Ebpf,
                Verdict::Missed(format!("nothing can be registered: {reason}")),
            ),
            None => {}
        }
        self.table.watch_canary(watch);
        leash.release = None;
        Ok(leash)
    }

    /// Looks whether the canary that is out has proved what it can.
    pub(super) fn judge_canary(&mut self) {
        if self.canary.is_none() {
            return;
        }
        let now = clock::now();
        if let Some(verdicts) = self.table.canary_verdicts(now) {
            self.canary = None;
            // Only one that did not end is registered still.
            self.table.forget(&NAME, &self.epoll);
            self.source_event(Event::Canary(verdicts));
        }
    }
}
