//! What a run shows: on a terminal one block, redrawn in place, of what to try,
//! the table and the last events; elsewhere the table once, then events as they
//! come.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Stdout, Write as _},
};

use anyhow::Result;
use rustix::termios::tcgetwinsize;
use serde::Deserialize;

/// Events kept for the block.
const EVENTS: usize = 12;
/// Size of a terminal that doesn't tell its own.
const FALLBACK: (usize, usize) = (24, 80);

/// Writes to stdout.
pub(super) struct Screen {
    stdout: Stdout,
    terminal: bool,
    /// Lines of the block on the screen now.
    drawn: usize,
    events: VecDeque<String>,
    shown_once: bool,
}

/// One line of `pmon events -o jsonl`.
#[derive(Deserialize)]
struct Event {
    at: String,
    entity: Option<String>,
    text: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self {
            stdout,
            terminal,
            drawn: 0,
            events: VecDeque::new(),
            shown_once: false,
        }
    }

    /// Takes an event in; off a terminal it is printed.
    ///
    /// # Errors
    ///
    /// When nobody reads stdout any more.
    pub(super) fn event(&mut self, line: &str) -> Result<()> {
        let line = readable(line);
        if !self.terminal {
            writeln!(self.stdout, "{line}")?;
            return Ok(());
        }
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(line);
        Ok(())
    }

    /// Shows what to try and the table; off a terminal only the first time.
    ///
    /// # Errors
    ///
    /// As [`Screen::event`].
    pub(super) fn show(&mut self, hint: &str, table: &str) -> Result<()> {
        if !self.terminal {
            if !self.shown_once {
                writeln!(self.stdout, "{hint}\n\n{table}\n")?;
                self.shown_once = true;
            }
            return Ok(());
        }
        let (rows, columns) = self.size();
        // A block higher than the terminal would scroll its start out of the
        // cursor's reach; the cursor needs a line of its own.
        let height = rows.saturating_sub(1);
        let mut block: Vec<&str> = hint
            .lines()
            .chain([""])
            .chain(table.lines())
            .chain([""])
            .take(height)
            .collect();
        let room = height.saturating_sub(block.len());
        let older = self.events.len().saturating_sub(room);
        block.extend(self.events.iter().skip(older).map(String::as_str));
        let mut text = String::new();
        if self.drawn > 0 {
            // Cursor up to the block's first line.
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        self.drawn = 0;
        for line in block {
            text.extend(line.chars().take(columns));
            // Erase the rest of the line.
            text.push_str("\x1b[K\n");
            self.drawn += 1;
        }
        // Erase what a longer block left below.
        text.push_str("\x1b[J");
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()?;
        Ok(())
    }

    /// A line below everything.
    ///
    /// # Errors
    ///
    /// As [`Screen::event`].
    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        self.drawn = 0;
        writeln!(self.stdout, "{text}")?;
        Ok(())
    }

    fn size(&self) -> (usize, usize) {
        match tcgetwinsize(&self.stdout) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                (usize::from(size.ws_row), usize::from(size.ws_col))
            }
            Ok(_) | Err(_) => FALLBACK,
        }
    }
}

/// `12:34:56.789 greeter  Registered 4711`; a line that isn't an event as it is.
fn readable(line: &str) -> String {
    let Ok(Event { at, entity, text }) = serde_json::from_str(line) else {
        return line.to_owned();
    };
    // RFC 3339: the time of day follows the `T`; milliseconds are enough here.
    let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time);
    let time: String = time.trim_end_matches('Z').chars().take(12).collect();
    format!(
        "{time:<12}  {:<12}  {text}",
        entity.as_deref().unwrap_or("pmon")
    )
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn event_becomes_one_short_line() {
        let line = r#"{"seq":3,"at":"2026-01-02T03:04:05.678901Z","kind":"registered",
            "level":"info","entity":"greeter","pid":42,"incident":null,"text":"Registered 42"}"#;
        assert_eq!(readable(line), "03:04:05.678  greeter       Registered 42");
        assert_eq!(readable("not an event"), "not an event");
    }
}
