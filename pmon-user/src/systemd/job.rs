//! A job of ours, from the request to its result.
//!
//! Must stay true: a start gives way to whatever anybody else wants of the unit
//! (mode `fail` of systemctl(1): a conflicting job is never cancelled), it starts
//! nothing twice (a unit that is up by the time the job is queued is not started
//! again), and it lasts as long as systemd lets it: a slow start is not a failed one
//! (spec/pmond.md, field stories S9, S11, S13).

use std::time::Duration;

use super::{
    Units,
    bus::{Bus, BusError},
    unit::JobId,
};
use crate::{causes::in_full, core::unit::UnitReport};

/// In case the end of a job went unheard, for instance because the connection
/// broke, systemd is asked whether it is still there.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// It did what it should.
    Done,
    /// It did not.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// Somebody else wants something of the unit, which comes first.
    YieldedTo {
        /// What that is, for people.
        what: String,
    },
    /// There is no bus: nothing was done, and it is for the client to do.
    Unreachable {
        /// With which verb of systemctl(1).
        verb: &'static str,
    },
}

/// Takes the job back when it is dropped before its end.
struct Queued {
    bus: Bus,
    id: JobId,
    ended: bool,
}

impl Drop for Queued {
    fn drop(&mut self) {
        if !self.ended {
            let (bus, id) = (self.bus.clone(), self.id);
            tokio::spawn(async move {
                if let Err(error) = bus.cancel(id).await {
                    tracing::debug!(error = in_full(&error), "a job could not be taken back");
                }
            });
        }
    }
}

impl Units {
    /// Brings a unit up whose process is not there, and waits for the result, as
    /// long as systemd takes. Dropped before, the job is taken back.
    pub async fn bring_up(&self, unit: &str) -> JobEnd {
        self.connected().await;
        let Some(state) = self.ask(unit).await else {
            // Ends what may be up, as nobody can tell.
            return JobEnd::Unreachable { verb: "restart" };
        };
        match state.report(None) {
            UnitReport::AtWork { what } => return JobEnd::YieldedTo { what },
            UnitReport::GoingDown => {
                return JobEnd::YieldedTo {
                    what: "the shutdown of the host".to_owned(),
                };
            }
            UnitReport::Active { .. } | UnitReport::Down { .. } | UnitReport::Stopped { .. } => {}
        }
        // What is up without the process has to be ended first. What is down is
        // started, which does nothing if somebody was faster.
        let (method, verb) = if state.is_down() {
            ("StartUnit", "start")
        } else {
            ("RestartUnit", "restart")
        };
        let Some(bus) = self.bus() else {
            return JobEnd::Unreachable { verb };
        };
        // systemd's limit of starts is for systemd's own; an operator's would be
        // refused as well. pmon has one of its own.
        if state.active == "failed"
            && let Err(error) = bus.reset_failed(unit).await
        {
            tracing::warn!(unit, error = in_full(&error), "its start limit stays");
        }
        self.run(&bus, method, unit, "fail").await
    }

    /// Has a unit stopped, whatever else was wanted of it, as `systemctl stop` does.
    pub async fn stop(&self, unit: &str) -> JobEnd {
        match self.bus() {
            Some(bus) => self.run(&bus, "StopUnit", unit, "replace").await,
            None => JobEnd::Unreachable { verb: "stop" },
        }
    }

    async fn run(&self, bus: &Bus, method: &'static str, unit: &str, mode: &'static str) -> JobEnd {
        let id = match bus.queue(method, unit, mode).await {
            Ok(id) => id,
            Err(error) => return failed(&error),
        };
        self.shared.lock().memory.own(id);
        let mut queued = Queued {
            bus: bus.clone(),
            id,
            ended: false,
        };
        let result = self.end_of(id, unit).await;
        queued.ended = true;
        let JobId(number) = id;
        match result.as_deref() {
            Some("done") => JobEnd::Done,
            Some("canceled") => JobEnd::YieldedTo {
                what: format!("somebody who has cancelled pmon's job {number} of `{unit}`"),
            },
            Some(result) => JobEnd::Failed {
                reason: format!(
                    "systemd's job {number} of `{unit}` ended as `{result}`{}",
                    self.unit_result(unit).await
                ),
            },
            None => JobEnd::Failed {
                reason: format!("how systemd's job {number} of `{unit}` ended is unknown"),
            },
        }
    }

    async fn unit_result(&self, unit: &str) -> String {
        let Some(bus) = self.bus() else {
            return String::new();
        };
        match bus.unit(unit).await {
            Ok(state) => format!(" (unit: {}, Result={})", state.active, state.result),
            Err(_) => String::new(),
        }
    }

    /// Waits for the end of a job; none when nobody knows how it ended.
    async fn end_of(&self, id: JobId, unit: &str) -> Option<String> {
        loop {
            let mut ended = std::pin::pin!(self.shared.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            if let Some(result) = self.shared.lock().memory.end_of(id) {
                return Some(result);
            }
            if tokio::time::timeout(ASK_AGAIN, ended).await.is_ok() {
                continue;
            }
            let Some(bus) = self.bus() else {
                continue;
            };
            if bus.job_type(id).await.is_err()
                && let Ok(state) = bus.unit(unit).await
                && state.job.is_none_or(|job| job.id != id)
            {
                self.settled().await;
                let heard = self.shared.lock().memory.end_of(id);
                return heard.or_else(|| (state.active == "active").then(|| "done".to_owned()));
            }
        }
    }
}

fn failed(error: &BusError) -> JobEnd {
    match error.refusal() {
        Some((name, words)) if name.ends_with(".TransactionIsDestructive") => JobEnd::YieldedTo {
            what: format!("a conflicting job of systemd ({words})"),
        },
        Some((name, words)) => JobEnd::Failed {
            reason: format!("systemd refuses: {words} ({name})"),
        },
        None => JobEnd::Failed {
            reason: in_full(error),
        },
    }
}
