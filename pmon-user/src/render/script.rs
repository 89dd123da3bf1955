//! Status monitoring in `pmon show`: the script and its runs.

use std::fmt::Write;

use super::{Look, entity::field, span};
use crate::view::script::{ScriptRunView, ScriptView, StatusSettingsView};

/// How the last runs ended, a few lines.
#[must_use]
pub fn script(view: &ScriptView, look: &Look) -> String {
    let ScriptView {
        running,
        running_since,
        last_status,
        last_start,
        asked,
        bad,
        starts,
        failed_starts,
        failures,
        alarm_text,
    } = view;
    let ended = |run: &ScriptRunView| {
        let ScriptRunView {
            at,
            took_ms,
            good: _,
            end,
        } = run;
        format!(
            "{end}, {} ago, after {}",
            span::age(*at, look.now),
            span::millis(*took_ms)
        )
    };
    let mut text = String::new();
    let last_status = last_status.as_ref().map(ended);
    field(
        &mut text,
        "status",
        Some(last_status.as_deref().unwrap_or("not asked yet")),
    );
    let last_start = last_start.as_ref().map(ended);
    field(&mut text, "last start", last_start.as_deref());
    if let Some(task) = running {
        let mut running = format!("the script, for `{task}`");
        if let Some(since) = running_since {
            write!(running, ", for {}", span::age(*since, look.now)).ok();
        }
        field(&mut text, "running", Some(&running));
    }
    let counted = format!(
        "asked {asked} times, {bad} bad; {starts} starts, {failed_starts} failed; \
         {failures} failures since the last alarm"
    );
    field(&mut text, "runs", Some(&counted));
    field(&mut text, "alarm text", alarm_text.as_deref());
    text
}

/// The configuration, in one line.
#[must_use]
pub fn settings(status: &StatusSettingsView) -> String {
    let StatusSettingsView {
        script,
        start_arg: _,
        status_arg,
        period_ms,
        timeout_ms,
        failure_text,
    } = status;
    let mut text = format!(
        "{script} {status_arg} every {}; killed after {}",
        span::millis(*period_ms),
        span::millis(*timeout_ms)
    );
    if let Some(path) = failure_text {
        write!(text, "; explained in {path}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{before, noon};

    const LOOK: fn() -> Look = || Look {
        colour: false,
        width: None,
        now: noon(),
    };

    #[test]
    fn a_script_that_was_not_asked_yet() {
        assert_eq!(
            script(&ScriptView::default(), &LOOK()),
            "  status        not asked yet
  runs          asked 0 times, 0 bad; 0 starts, 0 failed; 0 failures since the last alarm
"
        );
    }

    #[test]
    fn everything_known() {
        let run = |seconds, end: &str| ScriptRunView {
            at: before(seconds),
            took_ms: 1500,
            good: false,
            end: end.to_owned(),
        };
        let view = ScriptView {
            running: Some("start".to_owned()),
            running_since: Some(before(3)),
            last_status: Some(run(5, "exited with code 1: no quorum")),
            last_start: Some(run(35, "exited with code 0")),
            asked: 7,
            bad: 4,
            starts: 4,
            failed_starts: 1,
            failures: 1,
            alarm_text: Some("mon.a is down".to_owned()),
        };
        assert_eq!(
            script(&view, &LOOK()),
            "  status        exited with code 1: no quorum, 5s ago, after 1.50 s
  last start    exited with code 0, 35s ago, after 1.50 s
  running       the script, for `start`, for 3s
  runs          asked 7 times, 4 bad; 4 starts, 1 failed; 1 failures since the last alarm
  alarm text    mon.a is down
"
        );
    }

    #[test]
    fn settings_in_one_line() {
        let status = StatusSettingsView {
            script: "/etc/init.d/ceph".to_owned(),
            start_arg: "start mds".to_owned(),
            status_arg: "status mds".to_owned(),
            period_ms: 30_000,
            timeout_ms: 120_000,
            failure_text: Some("/run/ceph.txt".to_owned()),
        };
        assert_eq!(
            settings(&status),
            "/etc/init.d/ceph status mds every 30 s; killed after 2m00s; explained in /run/ceph.txt"
        );
    }
}
