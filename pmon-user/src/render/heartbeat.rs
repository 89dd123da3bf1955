//! Active monitoring in `pmon show`: requests, answers and what was wrong with
//! them.

use std::fmt::Write;

use super::{Look, entity::field, span};
use crate::view::entity::{ActiveView, HeartbeatView, StraysView};

/// The state of the correspondence, a few lines.
#[must_use]
pub fn heartbeat(view: &HeartbeatView, look: &Look) -> String {
    let HeartbeatView {
        misses,
        fails_at,
        sequence,
        last_request,
        last_answer,
        answers_wanted,
        requests,
        answers,
        missed,
        unsent,
        failures,
        wrong_sequence,
        bad_magic,
        not_waiting,
        strays,
    } = view;
    let ago = |at| format!("{} ago", span::age(at, look.now));
    let mut state = match last_request {
        Some(at) => format!("request {sequence}, {}", ago(*at)),
        None => "no request yet".to_owned(),
    };
    match last_answer {
        Some(at) => write!(state, "; last answer {}", ago(*at)).ok(),
        None => write!(state, "; no answer yet").ok(),
    };
    write!(state, "; {misses} missed in a row, fails with {fails_at}").ok();
    if let Some(wanted) = answers_wanted {
        write!(state, "; {wanted} answers wanted").ok();
    }
    let mut text = String::new();
    field(&mut text, "heartbeat", Some(&state));
    let counted =
        format!("{requests} requests, {answers} answered, {missed} missed; {failures} failures");
    field(&mut text, "", Some(&counted));
    let StraysView {
        wrong_name,
        malformed,
    } = strays;
    let faults: Vec<String> = [
        (unsent, "not sent"),
        (wrong_sequence, "wrong sequence"),
        (bad_magic, "bad magic"),
        (not_waiting, "not waited for"),
        (wrong_name, "wrong name (host)"),
        (malformed, "malformed (host)"),
    ]
    .into_iter()
    .filter(|(count, _)| **count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    let faults = (!faults.is_empty()).then(|| faults.join(", "));
    field(&mut text, "faults", faults.as_deref());
    text
}

/// The configuration, in one line.
#[must_use]
pub fn settings(active: &ActiveView) -> String {
    let ActiveView {
        port,
        period_ms,
        timeout_ms,
        threshold,
        full_init_required,
    } = active;
    let mut text = format!(
        "to 127.0.0.1:{port} every {}, failed after {threshold} misses; period {}",
        span::millis(*timeout_ms),
        span::millis(*period_ms)
    );
    if *full_init_required {
        text.push_str("; only once the host is fully initialised");
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
    fn a_healthy_correspondence() {
        let view = HeartbeatView {
            fails_at: 5,
            sequence: 12,
            last_request: Some(before(2)),
            last_answer: Some(before(2)),
            requests: 12,
            answers: 12,
            ..HeartbeatView::default()
        };
        assert_eq!(
            heartbeat(&view, &LOOK()),
            "  heartbeat     request 12, 2s ago; last answer 2s ago; 0 missed in a row, fails with 5
                12 requests, 12 answered, 0 missed; 0 failures
"
        );
    }

    #[test]
    fn everything_wrong() {
        let view = HeartbeatView {
            misses: 3,
            fails_at: 36,
            answers_wanted: Some(6),
            unsent: 1,
            failures: 2,
            wrong_sequence: 2,
            bad_magic: 3,
            not_waiting: 4,
            strays: StraysView {
                wrong_name: 5,
                malformed: 6,
            },
            ..HeartbeatView::default()
        };
        assert_eq!(
            heartbeat(&view, &LOOK()),
            "  heartbeat     no request yet; no answer yet; 3 missed in a row, fails with 36; \
6 answers wanted
                0 requests, 0 answered, 0 missed; 2 failures
  faults        1 not sent, 2 wrong sequence, 3 bad magic, 4 not waited for, \
5 wrong name (host), 6 malformed (host)
"
        );
    }

    #[test]
    fn settings_in_one_line() {
        let active = ActiveView {
            port: 2202,
            period_ms: 5000,
            timeout_ms: 4000,
            threshold: 5,
            full_init_required: true,
        };
        assert_eq!(
            settings(&active),
            "to 127.0.0.1:2202 every 4 s, failed after 5 misses; period 5 s; \
only once the host is fully initialised"
        );
    }
}
