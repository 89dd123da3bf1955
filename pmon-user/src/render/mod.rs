//! The views as text for people.
//!
//! Pure functions from a view and a [`Look`] to a string. Must stay true: whatever
//! is in a name, a `comm` or a reason, no control character reaches the terminal;
//! colour is only ever added to what the words already say.

pub mod death;
pub mod diagnosis;
pub mod entity;
pub mod event;
pub mod heartbeat;
pub mod incident;
pub mod kernel;
pub mod script;
pub mod span;
pub mod status;
pub mod table;
pub mod text;

use clap::builder::styling::{AnsiColor, Style};
use jiff::Timestamp;

/// How and when something is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether the terminal shows colour.
    pub colour: bool,
    /// Columns of the terminal; without one, lines are as long as they need to be.
    pub width: Option<usize>,
    /// The present, for ages.
    pub now: Timestamp,
}

/// What colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way, or less than it could be.
    Uneasy,
    /// Broken.
    Bad,
    /// Of lesser interest.
    Quiet,
    /// A heading.
    Strong,
}

impl Look {
    /// The text in that tone, where colour is shown.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Uneasy => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Quiet => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        if self.colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}
