//! `pmon history`: incidents, each with its death and its timeline.

use std::fmt::Write;

use super::{Look, Tone, death, span, text::counted, text::printable};
use crate::view::incident::{IncidentResult, IncidentView};

/// `pmon history`: newest first, as they come.
#[must_use]
pub fn history(incidents: &[IncidentView], look: &Look) -> String {
    if incidents.is_empty() {
        return "no incidents\n".to_owned();
    }
    let all: Vec<_> = incidents.iter().map(|view| incident(view, look)).collect();
    all.join("\n")
}

/// One incident.
#[must_use]
pub fn incident(view: &IncidentView, look: &Look) -> String {
    let IncidentView {
        incident,
        entity,
        opened_at,
        closed_at: _,
        result,
        attempts,
        death: certificate,
        deaths: _,
        timeline,
    } = view;
    let (word, tone) = outcome(*result);
    let mut text = format!(
        "{} {}: {}, {}, {} ({} ago)\n",
        look.paint(Tone::Strong, &format!("#{incident}")),
        printable(entity),
        look.paint(tone, word),
        counted(usize::try_from(*attempts).unwrap_or(usize::MAX), "attempt"),
        span::stamp(*opened_at),
        span::age(*opened_at, look.now),
    );
    if let Some(certificate) = certificate {
        let paragraph = death::paragraph(certificate);
        writeln!(text, "  pid {}: {paragraph}", certificate.pid).ok();
    }
    for entry in timeline {
        let after = format!("+{}", span::micros(entry.after_us));
        writeln!(text, "  {after:>12}  {}", printable(&entry.text)).ok();
    }
    text
}

const fn outcome(result: IncidentResult) -> (&'static str, Tone) {
    match result {
        IncidentResult::Open => ("open", Tone::Uneasy),
        IncidentResult::Recovered => ("recovered", Tone::Good),
        IncidentResult::RecoveredExternally => ("recovered by somebody else", Tone::Good),
        IncidentResult::Stopped => ("stopped by an operator", Tone::Quiet),
        IncidentResult::GaveUp => ("GAVE UP", Tone::Bad),
        IncidentResult::PutRight => ("put right by the audit", Tone::Quiet),
        IncidentResult::Interrupted => ("interrupted by the daemon's end", Tone::Uneasy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{self, noon};

    #[test]
    fn a_history_is_one_story_per_incident() {
        let look = Look {
            colour: false,
            width: None,
            now: noon(),
        };
        let mut open = samples::incident();
        open.incident = 13;
        open.result = IncidentResult::GaveUp;
        open.attempts = 3;
        open.death = None;
        open.timeline.truncate(1);
        assert_eq!(
            history(&[open, samples::incident()], &look),
            "\
#13 web: GAVE UP, 3 attempts, 2026-08-01T11:57:00.000Z (3m00s ago)
         +0 µs  ebpf: (4700) died

#12 web: recovered, 1 attempt, 2026-08-01T11:57:00.000Z (3m00s ago)
  pid 4700: killed by SIGKILL from `bash` (pid 812, uid 0) after 1 h 57 min; seen by ebpf after \
87 µs; memory released 1.20 ms later; used 1.25 s of CPU time and 12 MiB of memory at its peak; \
successor up after 41 ms
         +0 µs  ebpf: (4700) died
      +1.20 ms  Killed (4700)
        +41 ms  successor (4711) is running
      +10.04 s  Recovered (4711)
"
        );
        assert_eq!(history(&[], &look), "no incidents\n");
    }
}
