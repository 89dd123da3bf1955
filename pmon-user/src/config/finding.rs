//! What is to be said about a configuration: one remark with its place.
//!
//! Findings are data; the log, `pmon status` and `pmon config check` print
//! them. What follows from one (refusing a file, not monitoring an entity) is
//! decided where it is found, never by reading findings back.

use std::{fmt, path::PathBuf};

use serde::{Serialize, Serializer};

/// How bad a finding is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something asked for is not in force, or pmon had to assume a value.
    Error,
    /// In force, but probably not what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// A place in a file; both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line number.
    pub line: u32,
    /// Column number, in characters (bytes where the file is not UTF-8).
    pub column: u32,
}

impl Place {
    /// The place of byte `offset` in `text`; past the end means the end.
    pub fn of_offset(text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: saturate(before.matches('\n').count() + 1),
            column: saturate(before[start..].chars().count() + 1),
        }
    }
}

/// `n` as `u32`, or the largest one.
pub(crate) fn saturate(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// One remark about a configuration.
///
/// Displayed as `FILE:LINE:COLUMN: error: MESSAGE (HINT)`; line and column are
/// left out where the finding is about the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Level,
    /// The file, or directory, it is about.
    #[serde(serialize_with = "path_text")]
    pub file: PathBuf,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column in characters, from 1; only with `line`.
    pub column: Option<u32>,
    /// What is wrong and what was assumed.
    pub message: String,
    /// How to put it right.
    pub hint: Option<String>,
}

/// Paths need not be UTF-8; JSON must be.
fn path_text<S: Serializer>(path: &std::path::Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl Finding {
    /// A finding about `file` as a whole.
    pub fn new(severity: Level, file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            severity,
            file: file.into(),
            line: None,
            column: None,
            message: message.into(),
            hint: None,
        }
    }

    /// The same, at `place`.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.line = Some(place.line);
        self.column = Some(place.column);
        self
    }

    /// The same, with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with advice if there is any.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            file,
            line,
            column,
            message,
            hint,
        } = self;
        write!(f, "{}:", file.display())?;
        if let Some(line) = line {
            write!(f, "{line}:")?;
            if let Some(column) = column {
                write!(f, "{column}:")?;
            }
        }
        write!(f, " {severity}: {message}")?;
        if let Some(hint) = hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// The one of `valid` that `written` was probably meant to be: equal but for
/// case, or at most two edits away (one for words of up to four letters) and
/// nearer than any other.
pub fn nearest<'a>(written: &str, valid: &[&'a str]) -> Option<&'a str> {
    if let Some(same) = valid.iter().find(|word| word.eq_ignore_ascii_case(written)) {
        return Some(same);
    }
    let written = written.to_ascii_lowercase();
    let allowed = if written.chars().count() <= 4 { 1 } else { 2 };
    let mut best: Option<(usize, &str)> = None;
    let mut tied = false;
    for word in valid {
        let distance = strsim::osa_distance(&written, &word.to_ascii_lowercase());
        match best {
            Some((least, _)) if distance > least => {}
            Some((least, _)) if distance == least => tied = true,
            Some(_) | None => {
                best = Some((distance, word));
                tied = false;
            }
        }
    }
    best.filter(|(distance, _)| !tied && *distance <= allowed)
        .map(|(_, word)| word)
}

/// "did you mean …?", when there is a near spelling.
pub fn did_you_mean(written: &str, valid: &[&str]) -> Option<String> {
    nearest(written, valid).map(|word| format!("did you mean `{word}`?"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn display_has_file_line_column_level_message_hint() {
        let finding = Finding::new(Level::Error, "/etc/pmon.d/sshd.conf", "bad `severity`")
            .at(Place {
                line: 3,
                column: 12,
            })
            .hint("did you mean `major`?");
        assert_eq!(
            finding.to_string(),
            "/etc/pmon.d/sshd.conf:3:12: error: bad `severity` (did you mean `major`?)"
        );
        assert_eq!(
            Finding::new(Level::Note, "x", "y").to_string(),
            "x: note: y"
        );
    }

    #[test]
    fn json_has_every_field_and_null_for_absent() {
        let json = serde_json::to_value(Finding::new(Level::Warning, "/x", "m")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"severity": "warning", "file": "/x", "line": null,
                "column": null, "message": "m", "hint": null})
        );
    }

    #[test]
    fn places_count_characters_from_one() {
        let text = "a\nb\u{e4}c\n";
        assert_eq!(Place::of_offset(text, 0), Place { line: 1, column: 1 });
        assert_eq!(Place::of_offset(text, 5), Place { line: 2, column: 3 });
        assert_eq!(Place::of_offset(text, 99), Place { line: 3, column: 1 });
        // In the middle of a character: the character's own place.
        assert_eq!(Place::of_offset(text, 4), Place { line: 2, column: 2 });
    }

    #[test]
    fn nearest_needs_one_clear_winner() {
        let modes = ["passive", "active", "status", "ignore"];
        assert_eq!(nearest("Passive", &modes), Some("passive"));
        assert_eq!(nearest("ignroe", &modes), Some("ignore"));
        assert_eq!(nearest("activ", &modes), Some("active"));
        assert_eq!(nearest("off", &modes), None);
        assert_eq!(nearest("", &modes), None);
        assert_eq!(nearest("ac", &["ab", "ad"]), None);
    }
}
