//! What operators may do with the kernel side: look at it while its runs are
//! counted, and switch its own log.
//!
//! Must stay true: the engine's thread neither waits nor loads anything here;
//! the kernel counts runs only while somebody looks, even if this daemon is
//! killed meanwhile; programs are switched by one operator at a time.

use std::{sync::Arc, time::Duration};

use aya::sys::{Stats, enable_stats};
use tokio::sync::{Mutex, oneshot};

use super::{
    logging,
    message::{Inbox, Request},
};
use crate::{
    causes::in_full,
    control::backend::Refusal,
    source::programs::Selection,
    sys::clock,
    view::diagnosis::{BpfLogView, BpfView},
};

/// The kernel side with its runs counted for so long; not at all for no time.
pub(super) async fn show(inbox: &Inbox, time: Duration) -> Result<BpfView, Refusal> {
    // Statistics are off again when this descriptor is closed, by whomever.
    let statistics = if time.is_zero() {
        Err("it was not asked for".to_owned())
    } else {
        enable_stats(Stats::RunTime).map_err(|error| {
            let error = in_full(&error);
            format!("{error}; this needs CAP_SYS_ADMIN and Linux 5.8")
        })
    };
    let before = inbox.ask(Request::Bpf).await?;
    let begun = clock::now();
    let counted = match statistics {
        // Nothing could have run.
        Ok(_) if before.is_off() => Err("there is nothing to count".to_owned()),
        Ok(statistics) => {
            tokio::time::sleep(time).await;
            let after = inbox.ask(Request::Bpf).await?;
            drop(statistics);
            Ok((after, clock::elapsed(begun)))
        }
        Err(why) => Err(why),
    };
    let view = move || match counted {
        Ok((after, time)) => after.into_view(Ok((&before, time))),
        Err(why) => before.into_view(Err(why)),
    };
    tokio::task::spawn_blocking(view)
        .await
        .map_err(|error| failed(&error))
}

/// The log of the kernel side, which one operator at a time may switch.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelLog {
    /// Ends the reader, when there is one.
    reader: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl KernelLog {
    /// Has the programs log what they do, or not. Goes on to its end when the
    /// asker goes away.
    pub(super) async fn switch(&self, on: bool, inbox: &Inbox) -> Result<BpfLogView, Refusal> {
        let (reader, inbox) = (Arc::clone(&self.reader), inbox.clone());
        let switched = tokio::spawn(async move {
            let mut reader = reader.lock().await;
            switch(on, &inbox, &mut reader).await
        });
        switched.await.map_err(|error| failed(&error))?
    }
}

async fn switch(
    on: bool,
    inbox: &Inbox,
    reader: &mut Option<oneshot::Sender<()>>,
) -> Result<BpfLogView, Refusal> {
    let (plan, was_on) = inbox.ask(Request::PlanPrograms).await?;
    if was_on == on {
        return Ok(BpfLogView { on, was_on });
    }
    let load = move || {
        let selection = Selection {
            log: on,
            ..Selection::of_this_host()
        };
        plan.load(&selection)
    };
    let replacement = tokio::task::spawn_blocking(load)
        .await
        .map_err(|error| failed(&error))?
        .map_err(|error| refused(in_full(&error)))?;
    let (replaced, log) = inbox
        .ask(|reply| Request::ReplacePrograms(Box::new(replacement), reply))
        .await?;
    let (stop, stopped) = oneshot::channel();
    let earlier = match log {
        Some(log) => {
            tokio::spawn(logging::kernel_log(log, stopped));
            reader.replace(stop)
        }
        None => reader.take(),
    };
    tokio::task::spawn_blocking(move || drop(replaced))
        .await
        .map_err(|error| failed(&error))?;
    // Detached now, the programs before say nothing more.
    drop(earlier);
    tracing::info!("kernel: the log is {}", if on { "on" } else { "off" });
    Ok(BpfLogView { on, was_on })
}

fn refused(reason: String) -> Refusal {
    Refusal::Refused { reason }
}

fn failed(error: &tokio::task::JoinError) -> Refusal {
    refused(format!("it did not come to its end: {error}"))
}
