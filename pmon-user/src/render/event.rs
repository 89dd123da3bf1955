//! `pmon events`: one line per event.

use super::{Look, Tone, span, text::printable};
use crate::view::event::{EventView, Level};

/// One event, with its line end.
#[must_use]
pub fn event(view: &EventView, look: &Look) -> String {
    let EventView {
        seq: _,
        at,
        kind: _,
        level,
        entity,
        pid: _,
        incident,
        early,
        died_at: _,
        detect_latency_us: _,
        text,
    } = view;
    let early = if *early { " early:" } else { "" };
    let tone = match level {
        Level::Debug => Tone::Quiet,
        Level::Info => Tone::Plain,
        Level::Warning => Tone::Uneasy,
        Level::Error => Tone::Bad,
    };
    let entity = printable(entity.as_deref().unwrap_or("pmon"));
    let incident = incident.map_or_else(String::new, |number| format!(" #{number}"));
    format!(
        "{} {}{}{early} {}\n",
        look.paint(Tone::Quiet, &span::stamp(*at)),
        look.paint(Tone::Strong, &entity),
        look.paint(Tone::Quiet, &incident),
        look.paint(tone, &printable(text)),
    )
}

/// The line that says that some are missing.
#[must_use]
pub fn lost(count: u64, look: &Look) -> String {
    let text = format!("{count} events lost: this reader was too slow\n");
    look.paint(Tone::Uneasy, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{self, noon};

    #[test]
    fn an_event_is_a_line() {
        let look = Look {
            colour: false,
            width: None,
            now: noon(),
        };
        let mut view = samples::event(3, "web", "Killed (4700)\n");
        assert_eq!(
            event(&view, &look),
            "2026-08-01T12:00:00.000Z web #12 Killed (4700)\\n\n"
        );
        assert_eq!(
            event(&samples::early_event(3, "web", "ebpf reports"), &look),
            "2026-08-01T12:00:00.000Z web #12 early: ebpf reports\n"
        );
        view.entity = None;
        view.incident = None;
        view.text = "configuration reloaded".to_owned();
        assert_eq!(
            event(&view, &look),
            "2026-08-01T12:00:00.000Z pmon configuration reloaded\n"
        );
    }
}
