//! Where output goes and what it looks like there.

use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::arguments::{Form, Global};
use crate::render::Look;

/// What is known of the terminal behind stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// It shows colour.
    pub colour: bool,
    /// Its width, in columns.
    pub width: Option<usize>,
}

impl Terminal {
    /// The one this process writes to, if it does.
    #[must_use]
    pub fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::default();
        }
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|columns| *columns > 0);
        Self {
            // https://no-color.org
            colour: !set("NO_COLOR") && !dumb,
            width,
        }
    }
}

/// The output of one run.
pub struct Output<'a> {
    to: &'a mut dyn Write,
    form: Form,
    terminal: Terminal,
}

impl<'a> Output<'a> {
    /// Writes to `to`, in the form asked for.
    pub fn new(to: &'a mut dyn Write, global: &Global, terminal: Terminal) -> Self {
        Self {
            to,
            form: global.output,
            terminal: Terminal {
                colour: terminal.colour && !global.no_color,
                width: terminal.width,
            },
        }
    }

    /// The form asked for.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// How to render for people, now.
    #[must_use]
    pub fn look(&self) -> Look {
        Look {
            colour: self.terminal.colour,
            width: self.terminal.width,
            now: Timestamp::now(),
        }
    }

    /// Writes text as it is.
    ///
    /// # Errors
    ///
    /// When it cannot be written; so for all that follow.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.to.write_all(text.as_bytes())?;
        self.to.flush()
    }

    /// One JSON document, for people's eyes too.
    ///
    /// # Errors
    ///
    /// As [`Self::text`].
    pub fn document<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.text(&text)
    }

    /// One JSON object on a line of its own.
    ///
    /// # Errors
    ///
    /// As [`Self::text`].
    pub fn line<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut text = serde_json::to_string(value)?;
        text.push('\n');
        self.text(&text)
    }

    /// `all` as a document, `each` as lines, or text for people.
    ///
    /// # Errors
    ///
    /// As [`Self::text`].
    pub fn show<T: Serialize, E: Serialize>(
        &mut self,
        all: &T,
        each: &[E],
        human: impl FnOnce(&Look) -> String,
    ) -> io::Result<()> {
        match self.form {
            Form::Human => {
                let text = human(&self.look());
                self.text(&text)
            }
            Form::Json => self.document(all),
            Form::Jsonl => each.iter().try_for_each(|item| self.line(item)),
        }
    }
}
