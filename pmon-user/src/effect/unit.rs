//! Starts and stops of units: jobs of systemd, whose results are awaited; or, where
//! systemd cannot be asked over D-Bus, runs of systemctl(1), which is not killed for
//! being slow either, and gives way to others likewise.

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
        // Starts as well what does not run (spec/pmond.md §2.8).
        None => JobEnd::Unreachable {
            verb: match wish {
                Wish::Up => "restart",
                Wish::Down => "stop",
            },
        },
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
        JobEnd::Failed { reason } => Some(StartEnd::JobFailed { reason }),
        JobEnd::YieldedTo { what } => Some(StartEnd::Yielded { to: what }),
        JobEnd::Unreachable { verb } => {
            let unit = unit.to_owned();
            let end = run_command(voice, Invocation::Systemctl { verb, unit }, CLIENT).await?;
            Some(gave_way(end))
        }
    }
}

/// systemd's refusal to cancel somebody else's job is no failure.
fn gave_way(end: StartEnd) -> StartEnd {
    match end {
        StartEnd::Exited {
            code,
            last_line: Some(line),
        } if code != 0 && line.contains("is destructive") => StartEnd::Yielded { to: line },
        end => end,
    }
}
