//! Starts and stops of units: jobs of systemd, whose results are awaited; or, where
//! systemd cannot be asked over D-Bus, runs of systemctl(1), which is not killed for
//! being slow either.

use std::{sync::Arc, time::Duration};

use super::{lane::Voice, start::run_command};
use crate::{core::event::StartEnd, effect::command::Invocation, systemd::JobEnd};

/// A client of systemd that takes longer than this hangs: units have deadlines of
/// their own, 90 s unless configured (systemd-system.conf(5)).
const CLIENT: Duration = Duration::from_secs(15 * 60);

/// What is wanted of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// That it runs.
    Up,
    /// That it does not.
    Down,
}

/// `None` when cancelled.
pub(super) async fn carry_out(voice: &Arc<Voice>, unit: &str, wish: Wish) -> Option<StartEnd> {
    let end = match &voice.shared.settings.units {
        None => JobEnd::Unreachable,
        Some(units) => {
            let job = async {
                match wish {
                    Wish::Up => units.bring_up(unit).await,
                    Wish::Down => units.stop(unit).await,
                }
            };
            tokio::select! {
                biased;
                () = voice.cancelled.notified() => return None,
                end = job => end,
            }
        }
    };
    match end {
        JobEnd::Done => Some(StartEnd::Exited {
            code: 0,
            last_line: None,
        }),
        JobEnd::Failed { reason } => Some(StartEnd::NotExecuted { reason }),
        JobEnd::YieldedTo { what } => Some(StartEnd::Yielded { to: what }),
        JobEnd::Unreachable => {
            let verb = match wish {
                // Starts as well what does not run (spec/pmond.md §2.8).
                Wish::Up => "restart",
                Wish::Down => "stop",
            };
            let unit = unit.to_owned();
            run_command(voice, Invocation::Systemctl { verb, unit }, CLIENT).await
        }
    }
}
