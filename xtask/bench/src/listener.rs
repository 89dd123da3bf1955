//! Somebody who listens to the daemon's events, as `pmon events -f` does, and
//! counts them.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use pmon_user::{core::time::Time, sys::clock};
use serde::Deserialize;

const REQUEST: &[u8] =
    b"{\"method\":\"io.pmon.Monitor.Events\",\"parameters\":{\"recent\":1},\"more\":true}\0";

/// For the first answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// As much of an event as counts.
#[derive(Debug, Deserialize)]
struct Event {
    kind: String,
}

/// What the daemon sends for an event.
#[derive(Debug, Deserialize)]
struct Parameters {
    event: Option<Event>,
}

#[derive(Debug, Deserialize)]
struct Reply {
    parameters: Parameters,
}

/// A connection on which events come in.
pub(crate) struct Listener {
    heard: Receiver<(Time, String)>,
}

impl Listener {
    /// Listens from now on. Something must have been told before: that it is told
    /// again shows that whatever follows will be.
    pub(crate) fn to(socket: &Path) -> Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(REQUEST)?;
        let (telling, heard) = channel();
        std::thread::Builder::new().spawn(move || {
            for message in BufReader::new(stream).split(0).map_while(Result::ok) {
                let at = clock::now();
                let Ok(reply) = serde_json::from_slice::<Reply>(&message) else {
                    eprintln!("not an event: {}", String::from_utf8_lossy(&message));
                    continue;
                };
                let Some(Event { kind }) = reply.parameters.event else {
                    continue;
                };
                if telling.send((at, kind)).is_err() {
                    return;
                }
            }
        })?;
        heard
            .recv_timeout(PATIENCE)
            .context("the daemon tells nothing")?;
        Ok(Self { heard })
    }

    /// Waits for so many events of a kind; the time of the last, and how many
    /// there were. Fewer when nothing at all is told for `silence`: a listener
    /// that lags behind loses some, never the last.
    pub(crate) fn wait_for(
        &self,
        kind: &str,
        count: usize,
        silence: Duration,
    ) -> Result<(Time, usize)> {
        let mut last = None;
        let mut seen = 0;
        let mut quiet_since = Instant::now();
        while seen < count {
            match self.heard.recv_timeout(silence) {
                Ok((at, told)) => {
                    quiet_since = Instant::now();
                    if told == kind {
                        seen += 1;
                        last = Some(at);
                    }
                }
                Err(RecvTimeoutError::Timeout) if quiet_since.elapsed() >= silence => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the daemon has ended"),
            }
        }
        let last = last.with_context(|| format!("no `{kind}` was told"))?;
        Ok((last, seen))
    }
}
