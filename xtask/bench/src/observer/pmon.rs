//! pmon itself: its engine on its receiver thread, with its table, its epoll
//! and its kernel program, as the daemon runs it. A worker thread makes the
//! looks that registration needs; whatever else the engine hands out is dropped,
//! as nothing comes after the death.
//!
//! A hint counts from the time that the engine puts on the notice, which it
//! takes immediately before it steps the core.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use pmon_user::sys::pidfd::verify;
use pmon_user::{
    config::settings::SourceChoice,
    control::backend::RegisterRequest,
    core::{death::SourceName, notice::Notice, time::Time},
    daemon::{
        engine::{Engine, Facts},
        hands::Hands,
        message::{Inbox, Message, OnRecord, Request, Tale, Told, Work},
    },
    look::look,
    source::{
        ebpf::Ebpf,
        selection::{self, Selection},
    },
    sys::{clock, sched, wake::Wake},
    table::Table,
};
use tokio::sync::{
    mpsc::{UnboundedReceiver, unbounded_channel},
    oneshot,
};

use super::{Observer, Row, Sighting};

/// The one entity's name.
const ENTITY: &str = "victim";
/// Who registers it.
const ASKER: &str = "bench";
/// Longer than any measurement.
const CANARY_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Registration takes some 100 µs.
const PATIENCE: Duration = Duration::from_secs(5);

/// pmon's engine.
pub(crate) struct Pmon {
    inbox: Inbox,
    told: Receiver<Told>,
    pid: u32,
    thread: i32,
    engine: Option<JoinHandle<()>>,
    worker: Option<JoinHandle<()>>,
}

impl Pmon {
    /// Starts the engine; with a priority under SCHED_FIFO.
    pub(crate) fn start(ebpf: Ebpf, priority: Option<u8>) -> Result<Self> {
        let wake = Wake::new()?;
        let (inbox, messages) = Inbox::new(wake.clone());
        let (work, orders) = unbounded_channel();
        let (ready, started) = channel();
        let engine = std::thread::Builder::new().spawn(move || {
            let hands = Hands::of(work);
            let engine = prepare(ebpf, priority, wake, messages, hands);
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            match engine {
                Ok(engine) => {
                    let _starter_waits: Result<(), _> = ready.send(Ok(thread));
                    drop(engine.run());
                }
                Err(error) => {
                    let _starter_waits: Result<(), _> = ready.send(Err(error));
                }
            }
        })?;
        let thread = started.recv()??;
        let (telling, told) = channel();
        let looks = inbox.clone();
        let worker =
            std::thread::Builder::new().spawn(move || work_on(orders, &looks, &telling))?;
        Ok(Self {
            inbox,
            told,
            pid: 0,
            thread,
            engine: Some(engine),
            worker: Some(worker),
        })
    }

    /// The next notice about this process; `None` once `deadline` has passed.
    fn notice(&self, deadline: Instant) -> Result<Option<(Time, Notice)>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(Told {
                    at,
                    entity: _,
                    incident: _,
                    what: Tale::Notice(notice),
                }) if notice.pid() == Some(self.pid) => return Ok(Some((at, notice))),
                // About nobody, or about an earlier victim.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("pmon's engine has ended"),
            }
        }
    }
}

impl Observer for Pmon {
    fn watch(&mut self, pid: u32) -> Result<()> {
        self.pid = pid;
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::Request(Request::Register {
            request: RegisterRequest {
                name: ENTITY.to_owned(),
                pid: Some(pid),
                pidfile: None,
                restart: None,
                follow: false,
            },
            process: Some(verify(pid)?.identity()),
            by: ASKER.to_owned(),
            reply,
        }));
        answer
            .blocking_recv()
            .context("pmon's engine has ended")??;
        match self.notice(Instant::now() + PATIENCE)? {
            Some((_, Notice::Registered(_))) => Ok(()),
            Some((_, notice)) => bail!("pmon did not register the victim: {notice}"),
            None => bail!("pmon did not register the victim within {PATIENCE:?}"),
        }
    }

    fn collect(&mut self, deadline: Instant) -> Result<Vec<Sighting>> {
        let mut hinted = None;
        let died = loop {
            match self.notice(deadline)? {
                Some((at, Notice::Hinted(_))) => hinted = Some(at),
                Some((at, Notice::Died(_))) => break Some(at),
                Some(_) => {}
                None => break None,
            }
        };
        Ok(vec![(Row::PmonHint, hinted), (Row::PmonConfirmed, died)])
    }

    fn forget(&mut self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::Request(Request::Unregister {
            name: ENTITY.to_owned(),
            by: ASKER.to_owned(),
            reply,
        }));
        Ok(answer
            .blocking_recv()
            .context("pmon's engine has ended")??)
    }

    fn thread(&self) -> i32 {
        self.thread
    }
}

impl Drop for Pmon {
    fn drop(&mut self) {
        self.inbox.send(Message::Stop);
        for thread in [self.engine.take(), self.worker.take()] {
            // Only a panic, which has been printed.
            let _ended = thread.map(JoinHandle::join);
        }
    }
}

fn prepare(
    ebpf: Ebpf,
    priority: Option<u8>,
    wake: Wake,
    messages: Receiver<Message>,
    hands: Hands,
) -> Result<Engine> {
    if let Some(priority) = priority {
        sched::set_fifo(i32::from(priority)).context("SCHED_FIFO is refused")?;
    }
    let table = Table::new(Some(ebpf));
    let now = clock::now();
    let mut selection = Selection::new(SourceChoice::Ebpf, CANARY_INTERVAL, now);
    // It runs already. The canary that this asks for is never hatched, so there
    // is none beside what is measured.
    let _asked_for = selection.step(selection::Event::Started(SourceName::Ebpf), now);
    Ok(Engine::new(
        table,
        selection,
        Facts::default(),
        wake,
        messages,
        hands,
        1,
    )?)
}

fn work_on(mut work: UnboundedReceiver<Work>, inbox: &Inbox, telling: &Sender<Told>) {
    while let Some(work) = work.blocking_recv() {
        match work {
            Work::Look { entity, request } => inbox.send(Message::Looked {
                entity,
                look: look(&request),
            }),
            Work::Tell(told) => {
                // Nobody listens once the measurement has ended.
                let _ended: Result<(), _> = telling.send(told);
            }
            // Nothing is written down here; the kernel's entry may go.
            Work::Died {
                entity, identity, ..
            }
            | Work::HandedOver {
                entity, identity, ..
            } => inbox.send(Message::Settled { entity, identity }),
            Work::Record { then, .. } => then(OnRecord::Yes),
            Work::Job { .. }
            | Work::Pulse(_)
            | Work::Launched { .. }
            | Work::Forget(_)
            | Work::Unit(..)
            | Work::Opened(_)
            | Work::Alarm { .. }
            | Work::Closed(_)
            | Work::Remember(..)
            | Work::Watch(..)
            | Work::AwaitExecution(..)
            | Work::Sweep(_)
            | Work::Inquire(_)
            | Work::AskGate(_)
            | Work::Count(_)
            | Work::CountAgain(_)
            | Work::Hatch
            | Work::Source(_) => {}
        }
    }
}
