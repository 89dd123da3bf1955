//! What happens to the host meanwhile.

use std::{process::Command, thread, time::Duration};

use pmon_tests::{daemon::Daemon, place::Place};
use serde_json::Value;

use crate::fleet::Fleet;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// Somebody restarts a service by its own script; a tester does that.
    ByHand,
    /// The daemon is killed, and started again a moment later.
    DaemonKilled,
    /// The configuration changes and is put into force.
    Reload,
    /// The kernel's table is frozen: nothing can be registered there.
    SourceFailure,
}

/// How often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) daemons: usize,
    pub(crate) reloads: usize,
    pub(crate) sources: usize,
}

/// The daemon, with what it needs.
pub(crate) struct Host<'a> {
    place: &'a Place,
    fleet: &'a Fleet,
    daemon: Option<Daemon>,
    round: usize,
    counts: Counts,
}

impl<'a> Host<'a> {
    pub(crate) fn new(place: &'a Place, fleet: &'a Fleet, daemon: Daemon) -> Self {
        Self {
            place,
            fleet,
            daemon: Some(daemon),
            round: 0,
            counts: Counts::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.daemon().log()
    }

    pub(crate) fn status(&self) -> Value {
        self.daemon().status()
    }

    pub(crate) fn disturb(&mut self, disturbance: Disturbance) {
        self.round += 1;
        match disturbance {
            Disturbance::ByHand => {}
            Disturbance::DaemonKilled => {
                self.daemon.take().unwrap().kill();
                let away = Duration::from_millis(self.round as u64 * 37 % 700);
                thread::sleep(away);
                self.daemon = Some(Daemon::start(self.place));
                self.counts.daemons += 1;
            }
            Disturbance::Reload => {
                // No two in a row are the same.
                self.fleet.configure(self.place, self.counts.reloads + 1);
                let answer = self.daemon().ask(&["reload", "-o", "json"]);
                assert_eq!(answer.code, Some(0), "{answer:?}");
                assert_ne!(
                    answer.json()["changed"],
                    serde_json::json!([]),
                    "{answer:?}"
                );
                self.counts.reloads += 1;
            }
            Disturbance::SourceFailure => {
                let pins = self.status()["daemon"]["pin_dir"].clone();
                let Some(pins) = pins.as_str() else {
                    // It has failed just now and is being replaced.
                    return;
                };
                let map = format!("{pins}/pmon_pids");
                let frozen = Command::new("bpftool")
                    .args(["map", "freeze", "pinned", &map])
                    .output()
                    .unwrap();
                // It may be frozen already, and about to be replaced.
                if frozen.status.success() {
                    self.counts.sources += 1;
                }
            }
        }
    }
}
