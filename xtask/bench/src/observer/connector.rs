//! The proc connector, as pmon listens to it, and a plain epoll loop.
//!
//! A listener for each death: it must not hear what others are measured with.

use anyhow::{Context as _, Result, bail};
use pmon_user::{
    core::time::Time,
    source::connector::{Connector as Listener, Heard},
    sys::{clock, pidfd::VerifiedPid},
};

use super::{
    Row,
    post::{Source, Watch},
};

/// A listener of the proc connector, while there is something to listen for.
#[derive(Default)]
pub(crate) struct Connector {
    listener: Option<Listener>,
    pid: u32,
}

impl Connector {
    /// Deaf so far.
    ///
    /// # Errors
    ///
    /// When it could not be made to listen.
    pub(crate) fn new() -> Result<Self> {
        Listener::start()?.stop()?;
        Ok(Self::default())
    }
}

impl Source for Connector {
    const ROW: Row = Row::ProcConnector;

    fn watch(&mut self, process: VerifiedPid, epoll: &Watch<'_>) -> Result<()> {
        self.pid = process.identity().pid;
        let mut listener = Listener::start()?;
        while listener.next().is_some() {}
        epoll.add(listener.fd())?;
        self.listener = Some(listener);
        Ok(())
    }

    fn heard(&mut self) -> Option<Time> {
        let heard = self.listener.as_mut()?.next()?;
        let at = clock::now();
        match heard {
            Heard::Exit(exit) => (exit.pid == self.pid && exit.tgid == self.pid).then_some(at),
            Heard::Overrun | Heard::Broken(_) => None,
        }
    }

    fn forget(&mut self, epoll: &Watch<'_>) -> Result<()> {
        let listener = self.listener.take().context("nothing was watched")?;
        epoll.remove(listener.fd())?;
        let overruns = listener.stats().overruns;
        listener.stop()?;
        if overruns > 0 {
            bail!("the proc connector overran {overruns} times");
        }
        Ok(())
    }
}
