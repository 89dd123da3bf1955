//! Aims, and whether they are reached; where figures are written down.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// On which side of its limit a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    AtMost,
    AtLeast,
}

/// A figure that was aimed at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Aim {
    what: String,
    side: Side,
    limit: f64,
    got: f64,
    reached: bool,
}

impl Aim {
    /// The figure should not be above its limit.
    pub(crate) fn at_most(what: impl Into<String>, limit: f64, got: f64) -> Self {
        Self {
            what: what.into(),
            side: Side::AtMost,
            limit,
            got,
            reached: got <= limit,
        }
    }

    /// The figure should not be below its limit.
    pub(crate) fn at_least(what: impl Into<String>, limit: f64, got: f64) -> Self {
        Self {
            what: what.into(),
            side: Side::AtLeast,
            limit,
            got,
            reached: got >= limit,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            side,
            limit,
            got,
            reached,
        } = self;
        let side = match side {
            Side::AtMost => '≤',
            Side::AtLeast => '≥',
        };
        let verdict = if *reached { "reached" } else { "MISSED" };
        write!(f, "aim: {what} {side} {limit:.3}: {got:.3}, {verdict}")
    }
}

/// Writes figures as JSON.
pub(crate) fn write_json(figures: &impl Serialize, path: &Path) -> Result<()> {
    let write = || -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut json = serde_json::to_vec_pretty(figures)?;
        json.push(b'\n');
        Ok(fs::write(path, json)?)
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_belongs_to_what_is_reached() {
        let told = [
            Aim::at_most("a", 1.0, 1.0),
            Aim::at_most("b", 1.0, 1.01),
            Aim::at_least("c", 100.0, 100.0),
            Aim::at_least("d", 100.0, f64::NAN),
        ]
        .map(|aim| aim.to_string());
        let expected = [
            "aim: a ≤ 1.000: 1.000, reached",
            "aim: b ≤ 1.000: 1.010, MISSED",
            "aim: c ≥ 100.000: 100.000, reached",
            "aim: d ≥ 100.000: NaN, MISSED",
        ];
        assert_eq!(told, expected);
    }
}
