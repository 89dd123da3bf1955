//! Columns that line up, and that give way when the terminal is narrow.

use super::{
    Look, Tone,
    text::{columns, cut, printable},
};

/// Space between columns.
const GAP: usize = 2;

/// Narrowest a column that gives way becomes.
const NARROWEST: usize = 8;

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading.
    pub title: &'static str,
    /// Whether it is cut when there is too little room.
    pub gives_way: bool,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell; control characters are made harmless here.
    #[must_use]
    pub fn new(text: &str, tone: Tone) -> Self {
        Self {
            text: printable(text),
            tone,
        }
    }

    /// A cell for something that may be absent.
    #[must_use]
    pub fn maybe(text: Option<&str>, tone: Tone) -> Self {
        text.map_or_else(|| Self::new("-", Tone::Quiet), |text| Self::new(text, tone))
    }
}

/// The table, headings first, each line ended.
#[must_use]
pub fn table(head: &[Column], rows: &[Vec<Cell>], look: &Look) -> String {
    let mut widths: Vec<usize> = head.iter().map(|column| columns(column.title)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(&cell.text));
        }
    }
    if let Some(room) = look.width {
        shrink(head, &mut widths, room);
    }
    let titles: Vec<_> = head
        .iter()
        .map(|column| Cell::new(column.title, Tone::Strong))
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        // What is behind the last cell with anything in it is left out.
        let end = row
            .iter()
            .rposition(|cell| !cell.text.is_empty())
            .map_or(0, |last| last + 1);
        for (index, (cell, width)) in row.iter().zip(&widths).take(end).enumerate() {
            let shown = cut(&cell.text, *width);
            text.push_str(&look.paint(cell.tone, &shown));
            if index + 1 < end {
                let padding = width - columns(&shown) + GAP;
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
    }
    text
}

/// Takes columns from the widest of those that give way until all fit.
fn shrink(head: &[Column], widths: &mut [usize], room: usize) {
    let gaps = GAP * head.len().saturating_sub(1);
    let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
    while excess > 0 {
        let widest = head
            .iter()
            .zip(widths.iter_mut())
            .filter(|(column, width)| column.gives_way && **width > NARROWEST)
            .map(|(_, width)| width)
            .max_by_key(|width| **width);
        let Some(width) = widest else { return };
        *width -= 1;
        excess -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::view::samples::noon;

    const HEAD: [Column; 3] = [
        Column {
            title: "NAME",
            gives_way: false,
        },
        Column {
            title: "WHY",
            gives_way: true,
        },
        Column {
            title: "NEXT",
            gives_way: true,
        },
    ];

    fn rows() -> Vec<Vec<Cell>> {
        let row = |cells: [&str; 3]| cells.map(|cell| Cell::new(cell, Tone::Plain)).to_vec();
        vec![
            row(["a", "because of this and that", "nothing"]),
            row(["long-name", "b\u{1b}c", ""]),
        ]
    }

    fn look(width: Option<usize>) -> Look {
        Look {
            colour: false,
            width,
            now: noon(),
        }
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(
            table(&HEAD, &rows(), &look(None)),
            "\
NAME       WHY                       NEXT
a          because of this and that  nothing
long-name  b\\u{1b}c
"
        );
    }

    #[test]
    fn narrow_terminals_cut_what_gives_way() {
        let narrow = table(&HEAD, &rows(), &look(Some(32)));
        assert_eq!(
            narrow,
            "\
NAME       WHY           NEXT
a          because of …  nothing
long-name  b\\u{1b}c
"
        );
        assert!(narrow.lines().all(|line| columns(line) <= 32));
        // Where nothing more can give way, lines are longer than the terminal.
        let first = table(&HEAD, &rows(), &look(Some(3)));
        assert_eq!(
            first.lines().nth(1).unwrap(),
            "a          because…  nothing"
        );
    }
}
