//! A unit as systemd describes it, and what that means for whoever wants its
//! process back.
//!
//! Pure: the words of org.freedesktop.systemd1(5) go in, a [`UnitReport`] comes
//! out.

use std::time::Duration;

use crate::core::unit::UnitReport;

/// systemd's number of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct JobId(pub(super) u32);

/// A queued or running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Its number.
    pub(super) id: JobId,
    /// What it does, unless it ended before it could be asked.
    pub(super) kind: Option<JobType>,
}

/// What a job does to its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobType {
    /// Ends it.
    Stop,
    /// Starts it, or ends it and starts it.
    Start,
    /// Anything else, for instance `reload`, `verify-active`, `nop`.
    Other,
}

impl JobType {
    /// From systemd's word.
    pub(super) fn from_word(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "start" | "restart" | "try-restart" | "reload-or-start" => Self::Start,
            _ => Self::Other,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Other => "other",
        }
    }
}

/// What systemd says of a unit at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnitState {
    /// Its main name, whichever it was asked for with.
    pub(super) id: String,
    /// `ActiveState`: `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub(super) active: String,
    /// `SubState`, for instance `running`, `exited`, `auto-restart`.
    pub(super) sub: String,
    /// `InvocationID`: another one after each start; empty when there was none, or
    /// when systemd has forgotten the unit since.
    pub(super) invocation: Vec<u8>,
    /// How long it has been active, if it is.
    pub(super) up_for: Option<Duration>,
    /// The job that is queued or under way.
    pub(super) job: Option<Job>,
    /// `MainPID`, in pmon's pid namespace as long as systemd shares it.
    pub(super) main_pid: Option<u32>,
    /// `Result`: `success`, `exit-code`, `signal`, `start-limit-hit`, …
    pub(super) result: String,
    /// `Restart=`.
    pub(super) restart: String,
    /// The host is being shut down.
    pub(super) going_down: bool,
}

impl UnitState {
    /// Whether it is down, and no job is about to change that.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }

    /// Whether systemd waits to restart it by itself (`RestartSec=`).
    pub(super) fn is_auto_restarting(&self) -> bool {
        // auto-restart-queued: systemd 254 and later.
        self.sub.starts_with("auto-restart")
    }

    /// What that means for whoever wants its process back; `stopped` is the job
    /// that has stopped it on somebody's behalf, where there was one.
    pub(super) fn report(&self, stopped: Option<JobId>) -> UnitReport {
        if self.going_down {
            return UnitReport::GoingDown;
        }
        let unit = &self.id;
        if let Some(Job { id, kind }) = self.job {
            let JobId(number) = id;
            let kind = kind.map_or("", JobType::as_str);
            return UnitReport::AtWork {
                what: format!("systemd's {kind} job {number} of `{unit}`").replace("  ", " "),
            };
        }
        if self.is_auto_restarting() {
            return UnitReport::AtWork {
                what: format!(
                    "systemd's own restart of `{unit}` (Restart={})",
                    self.restart
                ),
            };
        }
        match self.active.as_str() {
            "active" => UnitReport::Active {
                up_for: self.up_for.unwrap_or(Duration::MAX),
            },
            "inactive" | "failed" => match stopped {
                Some(super::memory::EARLIER) => UnitReport::Stopped {
                    by: format!("a stop job of `{unit}`, before pmon was restarted"),
                },
                Some(JobId(number)) => UnitReport::Stopped {
                    by: format!("systemd's stop job {number} of `{unit}`"),
                },
                None => UnitReport::Down {
                    result: self.result.clone(),
                },
            },
            // activating, deactivating, reloading, and what may come.
            other => UnitReport::AtWork {
                what: format!("systemd: `{unit}` is {other} ({})", self.sub),
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn unit(active: &str, sub: &str) -> UnitState {
        UnitState {
            id: "web.service".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            invocation: vec![1],
            up_for: (active == "active").then_some(Duration::from_secs(60)),
            job: None,
            main_pid: None,
            result: "success".to_owned(),
            restart: "no".to_owned(),
            going_down: false,
        }
    }

    fn at_work(what: &str) -> UnitReport {
        UnitReport::AtWork {
            what: what.to_owned(),
        }
    }

    #[test]
    fn a_clean_exit_alone_is_nobodys_wish() {
        assert_eq!(
            unit("inactive", "dead").report(None),
            UnitReport::Down {
                result: "success".to_owned()
            }
        );
    }

    #[test]
    fn a_stop_job_is_a_wish_however_the_process_ended() {
        for active in ["inactive", "failed"] {
            let report = unit(active, "dead").report(Some(JobId(7)));
            let UnitReport::Stopped { by } = report else {
                panic!("{report:?}");
            };
            assert_eq!(by, "systemd's stop job 7 of `web.service`");
        }
    }

    #[test]
    fn a_stop_of_the_past_means_nothing_once_the_unit_is_up() {
        assert_eq!(
            unit("active", "running").report(Some(JobId(7))),
            UnitReport::Active {
                up_for: Duration::from_secs(60)
            }
        );
    }

    #[test]
    fn a_queued_job_is_waited_for_whatever_the_state() {
        for active in ["active", "inactive", "failed", "deactivating"] {
            let mut state = unit(active, "x");
            state.job = Some(Job {
                id: JobId(9),
                kind: Some(JobType::Stop),
            });
            let expected = at_work("systemd's stop job 9 of `web.service`");
            assert_eq!(state.report(None), expected);
            state.job = Some(Job {
                id: JobId(9),
                kind: None,
            });
            let expected = at_work("systemd's job 9 of `web.service`");
            assert_eq!(state.report(None), expected);
        }
    }

    #[test]
    fn a_restart_of_systemds_own_is_waited_for() {
        let mut state = unit("activating", "auto-restart");
        state.restart = "always".to_owned();
        assert_eq!(
            state.report(None),
            at_work("systemd's own restart of `web.service` (Restart=always)")
        );
    }

    #[test]
    fn transitions_without_a_job_are_waited_for() {
        assert_eq!(
            unit("deactivating", "stop-sigterm").report(None),
            at_work("systemd: `web.service` is deactivating (stop-sigterm)")
        );
    }

    #[test]
    fn nothing_else_matters_when_the_host_goes_down() {
        let mut state = unit("failed", "failed");
        state.going_down = true;
        assert_eq!(state.report(None), UnitReport::GoingDown);
    }
}
