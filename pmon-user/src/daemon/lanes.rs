//! The lanes' thread: the way from the engine's decision to the successor's execve,
//! on a runtime of its own.
//!
//! On a host that has more to do than CPUs every thread of normal priority waits
//! some milliseconds for its turn, each time it is woken; on this way several are
//! woken one after the other. So this thread and its helpers, which look, prepare and
//! execute, run under SCHED_FIFO, one below the engine, where that does: both
//! detection and recovery come before everything else, in this order. Must stay true:
//! nothing runs here whose CPU time grows with what people ask for or are told; what
//! is started here has normal priority (`SCHED_RESET_ON_FORK`).

use std::thread;

use anyhow::Context as _;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::SHUTDOWN;
use crate::sys::sched;

/// Helpers that may be at work, or hang, at the same time.
const HELPERS: usize = 64;

/// The thread at work.
pub(super) struct Lanes {
    runtime: Handle,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Lanes {
    /// Starts the thread; `priority` is 0 for a normal one.
    pub(super) fn start(priority: u8) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("pmon-helper")
            .max_blocking_threads(HELPERS)
            .on_thread_start(move || hurry(priority))
            .build()
            .context("cannot start the lanes' runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("pmon-lanes".to_owned())
            .spawn(move || {
                hurry(priority);
                // Also when the sender is dropped: then the daemon ends as well.
                let _ended = runtime.block_on(stopped);
                runtime.shutdown_timeout(SHUTDOWN);
            })
            .context("cannot start the lanes' thread")?;
        Ok(Self {
            runtime: handle,
            stop,
            thread,
        })
    }

    /// Where lanes and helpers run.
    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Ends it; waits for helpers that are at work, but not for ever.
    pub(super) async fn end(self) {
        let Self {
            runtime: _,
            stop,
            thread,
        } = self;
        drop(stop);
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the lanes' thread did not end in order");
        }
    }
}

/// What is not permitted is told by the receiver already, which asks for more.
fn hurry(priority: u8) {
    if priority > 0
        && let Err(error) = sched::set_fifo(i32::from(priority))
    {
        tracing::debug!(%error, "normal priority");
    }
}
