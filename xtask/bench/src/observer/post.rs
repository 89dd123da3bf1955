//! The thread of an observer that waits in epoll: takes orders through an
//! eventfd, and tells when its source was heard.
//!
//! Must stay true: between the wake-up and the taking of the time there is
//! nothing but what the source itself needs, so that it is measured at its best.

use std::{
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use pmon_user::{
    core::time::Time,
    sys::{
        pidfd::{VerifiedPid, verify},
        sched,
        wake::Wake,
    },
};
use rustix::{buffer::spare_capacity, event::epoll, io::Errno};

use super::{Observer, Row, Sighting};

/// Epoll token of the source.
const SOURCE: u64 = 0;
/// Epoll token of the orders.
const ORDERS: u64 = 1;

/// Something with a descriptor that becomes readable upon a death.
pub(crate) trait Source: Send + 'static {
    /// Its row.
    const ROW: Row;

    /// Watches a process, from this epoll instance.
    fn watch(&mut self, process: VerifiedPid, epoll: &Watch<'_>) -> Result<()>;

    /// The descriptor is readable: the time, if it is the watched one's death.
    fn heard(&mut self) -> Option<Time>;

    /// Stops watching.
    fn forget(&mut self, epoll: &Watch<'_>) -> Result<()>;
}

/// An epoll instance, for a source's descriptor only.
pub(crate) struct Watch<'a>(&'a OwnedFd);

impl Watch<'_> {
    /// Waits for this descriptor, too.
    pub(crate) fn add(&self, fd: impl std::os::fd::AsFd) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(SOURCE);
        epoll::add(self.0, fd, data, epoll::EventFlags::IN)
    }

    /// No longer waits for it.
    pub(crate) fn remove(&self, fd: impl std::os::fd::AsFd) -> Result<(), Errno> {
        epoll::delete(self.0, fd)
    }
}

enum Order {
    Watch(VerifiedPid),
    Forget,
    End,
}

enum Answer {
    Started { thread: i32 },
    Done(Result<()>),
    Heard(Time),
}

/// An observer on its thread.
pub(crate) struct Post {
    row: Row,
    orders: Sender<Order>,
    wake: Wake,
    answers: Receiver<Answer>,
    thread: i32,
    handle: Option<JoinHandle<()>>,
}

impl Post {
    /// Starts the thread; with a priority under SCHED_FIFO.
    pub(crate) fn start<S: Source>(source: S, priority: Option<u8>) -> Result<Self> {
        let wake = Wake::new()?;
        let (orders, inbox) = channel();
        let (outbox, answers) = channel();
        let woken = wake.clone();
        let handle = std::thread::Builder::new().spawn(move || {
            let end = outbox.clone();
            if let Err(error) = serve(source, priority, &woken, &inbox, &outbox) {
                let _nobody_asks: Result<(), _> = end.send(Answer::Done(Err(error)));
            }
        })?;
        let thread = match answers.recv()? {
            Answer::Started { thread } => thread,
            Answer::Done(outcome) => {
                outcome?;
                bail!("{:?} did not start", S::ROW)
            }
            Answer::Heard(_) => bail!("{:?} heard a death at the start", S::ROW),
        };
        Ok(Self {
            row: S::ROW,
            orders,
            wake,
            answers,
            thread,
            handle: Some(handle),
        })
    }

    fn order(&self, order: Order) -> Result<()> {
        let row = self.row;
        self.orders
            .send(order)
            .ok()
            .with_context(|| format!("{row:?} has ended"))?;
        self.wake.call();
        loop {
            match self.answers.recv()? {
                Answer::Done(outcome) => {
                    return outcome.with_context(|| format!("{row:?}"));
                }
                // Of a death that was given up before.
                Answer::Heard(_) => {}
                Answer::Started { .. } => bail!("{row:?} started twice"),
            }
        }
    }
}

impl Observer for Post {
    fn watch(&mut self, pid: u32) -> Result<()> {
        self.order(Order::Watch(verify(pid)?))
    }

    fn collect(&mut self, deadline: Instant) -> Result<Vec<Sighting>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answers.recv_timeout(left) {
            Ok(Answer::Heard(at)) => Ok(vec![(self.row, Some(at))]),
            Ok(Answer::Done(outcome)) => {
                outcome?;
                bail!("{:?} answered what it was not asked", self.row)
            }
            Ok(Answer::Started { .. }) => bail!("{:?} started twice", self.row),
            Err(RecvTimeoutError::Timeout) => Ok(vec![(self.row, None)]),
            Err(RecvTimeoutError::Disconnected) => bail!("{:?} has ended", self.row),
        }
    }

    fn forget(&mut self) -> Result<()> {
        self.order(Order::Forget)
    }

    fn thread(&self) -> i32 {
        self.thread
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if self.orders.send(Order::End).is_ok() {
            self.wake.call();
        }
        // Only a panic, which has been printed.
        let _ended = self.handle.take().map(JoinHandle::join);
    }
}

fn serve<S: Source>(
    mut source: S,
    priority: Option<u8>,
    wake: &Wake,
    orders: &Receiver<Order>,
    answers: &Sender<Answer>,
) -> Result<()> {
    if let Some(priority) = priority {
        sched::set_fifo(i32::from(priority)).context("SCHED_FIFO is refused")?;
    }
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(ORDERS);
    epoll::add(&epoll, wake, data, epoll::EventFlags::IN)?;
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    answers.send(Answer::Started { thread })?;
    let mut events = Vec::with_capacity(2);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &events {
            let event: &epoll::Event = event;
            if event.data.u64() == SOURCE {
                if let Some(at) = source.heard() {
                    answers.send(Answer::Heard(at))?;
                }
                continue;
            }
            wake.clear();
            while let Ok(order) = orders.try_recv() {
                let outcome = match order {
                    Order::Watch(process) => source.watch(process, &Watch(&epoll)),
                    Order::Forget => source.forget(&Watch(&epoll)),
                    Order::End => return Ok(()),
                };
                answers.send(Answer::Done(outcome))?;
            }
        }
    }
}
