//! The table in `docs/kernel-support.md`, made from what the machines said.
//!
//! The text around the table is written by hand. A run that isn't told to write
//! compares: everything but the kernel's release must be as the document says,
//! because Debian publishes new releases whenever it likes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{Document, outcome::Outcome, selection::PROMISES};

const PATH: &str = "docs/kernel-support.md";
const BEGIN: &str = "<!-- written by `cargo xtask test --vm --write` -->\n";
const END: &str = "<!-- end -->\n";
/// The row that may differ.
const RELEASE: &str = "kernel";

/// What one kernel said.
#[derive(Clone)]
pub(super) struct Column {
    /// Debian's suite, and what the kernel was told.
    pub(super) name: String,
    /// The rest.
    pub(super) outcome: Outcome,
    /// What is wrong with it.
    pub(super) trouble: Option<String>,
}

/// The table.
pub(super) fn table(columns: &[Column]) -> String {
    let mut rows = vec![row("Debian suite", columns, |column| column.name.clone())];
    rows.push(format!("|---|{}", "---|".repeat(columns.len())));
    rows.push(row(RELEASE, columns, |column| {
        column.outcome.release().to_owned()
    }));
    for name in facts(columns) {
        rows.push(row(name, columns, |column| {
            let told = column.outcome.facts().iter();
            let mut values = told.filter(|(fact, _)| fact == name);
            values
                .next()
                .map_or_else(|| "not told".to_owned(), |(_, value)| value.clone())
        }));
    }
    for promise in PROMISES {
        rows.push(row(promise.what, columns, |column| {
            let selected = column.outcome.selected(promise.tests);
            let passed = column.outcome.passed_of(&selected);
            match selected.len() {
                0 => "no: the kernel refuses".to_owned(),
                all => format!("{passed} of {all} passed"),
            }
        }));
    }
    rows.join("\n") + "\n"
}

/// Every fact that any kernel told, once, in order.
fn facts(columns: &[Column]) -> Vec<&str> {
    let mut names: Vec<&str> = columns
        .iter()
        .flat_map(|column| column.outcome.facts())
        .map(|(name, _)| &**name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn row(name: &str, columns: &[Column], value: impl Fn(&Column) -> String) -> String {
    let values: String = columns
        .iter()
        .map(|column| format!(" {} |", value(column)))
        .collect();
    format!("| {name} |{values}")
}

/// Writes the table, or compares.
///
/// # Errors
///
/// When the document can't be read or written, or says otherwise.
pub(super) fn keep(root: &Path, document: Document, columns: &[Column]) -> Result<()> {
    let path = root.join(PATH);
    let text = fs::read_to_string(&path).with_context(|| format!("can't read `{PATH}`"))?;
    let table = table(columns);
    let (before, old, after) = split(&text)?;
    match document {
        Document::Write => fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))
            .with_context(|| format!("can't write `{PATH}`")),
        Document::Check => {
            let different = difference(old, &table);
            ensure!(
                different.is_empty(),
                "`{PATH}` says otherwise; `cargo xtask test --vm --write` updates it:\n{}",
                different.join("\n")
            );
            Ok(())
        }
    }
}

/// The text before, inside and after the marks.
fn split(text: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("no line `{}` in `{PATH}`", BEGIN.trim()))?;
    let (table, after) = rest
        .split_once(END)
        .with_context(|| format!("no line `{}` in `{PATH}`", END.trim()))?;
    Ok((before, table, after))
}

/// Rows that are only in one of the two, marked as diff(1) does.
fn difference(old: &str, new: &str) -> Vec<String> {
    let rows = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with(&format!("| {RELEASE} |")))
            .map(str::to_owned)
            .collect()
    };
    let (old, new) = (rows(old), rows(new));
    let gone = old.iter().filter(|row| !new.contains(row));
    let come = new.iter().filter(|row| !old.contains(row));
    gone.map(|row| format!("- {row}"))
        .chain(come.map(|row| format!("+ {row}")))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{super::selection::Scope, *};

    fn column(name: &str, text: &str) -> Column {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Column {
            name: name.to_owned(),
            outcome: Outcome::read(Scope::All, &lines),
            trouble: None,
        }
    }

    #[test]
    fn a_new_release_is_no_difference_but_a_fact_is() {
        let old = table(&[column("a", "vm: release: 1.0\nFACT: thing: yes\n")]);
        let newer = table(&[column("a", "vm: release: 1.1\nFACT: thing: yes\n")]);
        let other = table(&[column("a", "vm: release: 1.0\nFACT: thing: no\n")]);
        assert_ne!(old, newer);
        assert!(difference(&old, &newer).is_empty());
        assert_eq!(
            difference(&old, &other),
            ["- | thing | yes |", "+ | thing | no |"]
        );
    }

    #[test]
    fn a_fact_that_one_kernel_does_not_tell_is_seen() {
        let table = table(&[column("a", "FACT: x: 1\n"), column("b", "")]);
        assert!(table.contains("| x | 1 | not told |"), "{table}");
    }

    #[test]
    fn the_text_around_the_table_stays() {
        let text = format!("above\n{BEGIN}| old |\n{END}below\n");
        assert_eq!(split(&text).unwrap(), ("above\n", "| old |\n", "below\n"));
        split("nothing").unwrap_err();
    }
}
