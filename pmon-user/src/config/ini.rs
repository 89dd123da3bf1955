//! The lexical layer of the pmon.d dialect: bytes in, section/key/value items out.
//!
//! An inih derivative (with its continuation and BOM options) reads these files
//! in the original pmond, and shipped files depend on its quirks, so every rule
//! here is observable behaviour, not taste:
//!
//! 1. A line is read in pieces of at most [`CHUNK`] bytes; what is left of an
//!    overlong line is taken for the next line.
//! 2. A UTF-8 byte order mark before the first line is skipped. White space at
//!    both ends of a line is stripped, carriage returns with it.
//! 3. First character `;` or `#`: a comment, indented or not.
//! 4. An indented line after some key of the section repeats *that key* with the
//!    whole trimmed line as its value, `;` and all.
//! 5. `[name]` opens a section and forgets the key; without `]` it does nothing.
//! 6. Otherwise `key = value`; without `=` before an inline comment, `key : value`.
//! 7. A `;` after white space ends a value; `#` never does. No quotes, no escapes.
//! 8. An empty value is a value.
//!
//! What keys mean, and that their order matters, belongs to `pmond`.

use super::finding::{Place, saturate};

/// Most bytes of one line, its newline included (a 1000 byte C buffer).
pub const CHUNK: usize = 999;

/// Most bytes of a section name; the rest is cut off.
pub const SECTION_NAME: usize = 49;

/// One `key = value`, or one continuation of it. Borrows from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Name of the section it stands in; empty before the first.
    pub section: &'a [u8],
    /// Key, as written.
    pub key: &'a [u8],
    /// Value, without inline comment; may be empty.
    pub value: &'a [u8],
    /// Where the line's text begins: the key, or the value of a continuation.
    pub place: Place,
    /// Where the value begins.
    pub value_place: Place,
    /// An indented line, delivered as another value of the key before it.
    pub continuation: bool,
}

/// A line that is not what it was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxProblem {
    /// Where.
    pub place: Place,
    /// What.
    pub kind: SyntaxKind,
}

/// Kinds of [`SyntaxProblem`]. None of them rejects a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxKind {
    /// `[name` without `]`: the section before it stays in force.
    UnclosedSection,
    /// Neither `=` nor `:`: the line is ignored.
    NoSeparator,
    /// A line over [`CHUNK`] bytes: its rest, beginning here, is read as a line of its own.
    LineTooLong,
    /// A section name over [`SECTION_NAME`] bytes was cut.
    SectionTooLong,
}

/// All of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document<'a> {
    /// Items in file order.
    pub items: Vec<Item<'a>>,
    /// Section headers in file order, with their places.
    pub sections: Vec<(&'a [u8], Place)>,
    /// Lines that were not understood, in file order.
    pub problems: Vec<SyntaxProblem>,
    /// The last line has no newline, as if the file had been cut.
    pub unterminated: bool,
}

/// C's `isspace` in the C locale: unlike Rust's, with vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| !is_space(*b));
    &bytes[start.unwrap_or(bytes.len())..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| !is_space(*b));
    &bytes[..end.map_or(0, |last| last + 1)]
}

/// Index of the first `wanted` that is not in an inline comment.
fn find_before_comment(text: &[u8], wanted: u8) -> Option<usize> {
    let end = comment_start(text).unwrap_or(text.len());
    text[..end].iter().position(|b| *b == wanted)
}

/// Index of the `;` that begins an inline comment: the first one after white space.
fn comment_start(text: &[u8]) -> Option<usize> {
    text.windows(2)
        .position(|pair| is_space(pair[0]) && pair[1] == b';')
        .map(|at| at + 1)
}

/// One piece of a line, as the line buffer would hold it.
struct Chunk<'a> {
    /// Bytes up to and without the newline or the first NUL.
    text: &'a [u8],
    line: u32,
    /// Offset of `text` in its line, in characters.
    offset: u32,
}

impl Chunk<'_> {
    /// Place of byte `at` of this piece.
    fn place(&self, at: usize) -> Place {
        Place {
            line: self.line,
            column: self.offset + characters(&self.text[..at]) + 1,
        }
    }
}

/// Characters in `bytes`, taking anything but UTF-8 continuation bytes for one.
fn characters(bytes: &[u8]) -> u32 {
    saturate(bytes.iter().filter(|b| (**b & 0xc0) != 0x80).count())
}

/// Reads a whole file.
pub fn parse(bytes: &[u8]) -> Document<'_> {
    let mut document = Document {
        unterminated: bytes.last().is_some_and(|last| *last != b'\n'),
        ..Document::default()
    };
    let mut section: &[u8] = b"";
    let mut previous_key: &[u8] = b"";
    for (index, chunk) in chunks(bytes).enumerate() {
        if chunk.offset > 0 && !chunk.text.is_empty() {
            document.problems.push(SyntaxProblem {
                place: chunk.place(0),
                kind: SyntaxKind::LineTooLong,
            });
        }
        let mut body = chunk.text;
        if index == 0 {
            body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        }
        let text = trim_start(trim_end(body));
        let (Some(first), start) = (text.first(), offset_in(chunk.text, text)) else {
            continue;
        };
        let place = chunk.place(start);
        if matches!(first, b';' | b'#') {
            continue;
        }
        if start > 0 && !previous_key.is_empty() {
            document.items.push(Item {
                section,
                key: previous_key,
                value: text,
                place,
                value_place: place,
                continuation: true,
            });
        } else if *first == b'[' {
            match find_before_comment(&text[1..], b']') {
                Some(end) => {
                    let name = &text[1..=end];
                    if name.len() > SECTION_NAME {
                        document.problems.push(SyntaxProblem {
                            place,
                            kind: SyntaxKind::SectionTooLong,
                        });
                    }
                    section = &name[..name.len().min(SECTION_NAME)];
                    document.sections.push((section, place));
                    previous_key = b"";
                }
                None => document.problems.push(SyntaxProblem {
                    place,
                    kind: SyntaxKind::UnclosedSection,
                }),
            }
        } else if let Some(separator) =
            find_before_comment(text, b'=').or_else(|| find_before_comment(text, b':'))
        {
            let key = trim_end(&text[..separator]);
            let rest = &text[separator + 1..];
            // The blank before a `;` may be the one between separator and value.
            let uncommented = &rest[..comment_start(rest).unwrap_or(rest.len())];
            let value = trim_end(trim_start(uncommented));
            let value_start =
                start + separator + 1 + (uncommented.len() - trim_start(uncommented).len());
            document.items.push(Item {
                section,
                key,
                value,
                place,
                value_place: chunk.place(value_start),
                continuation: false,
            });
            previous_key = key;
        } else {
            document.problems.push(SyntaxProblem {
                place,
                kind: SyntaxKind::NoSeparator,
            });
        }
    }
    document
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The file as the line buffer sees it, piece by piece.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes;
    let mut line = 1u32;
    let mut offset = 0u32;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let limit = rest.len().min(CHUNK);
        let newline = rest[..limit].iter().position(|b| *b == b'\n');
        let taken = newline.map_or(limit, |at| at + 1);
        let (piece, after) = rest.split_at(taken);
        rest = after;
        let text = &piece[..newline.unwrap_or(taken)];
        // A C string ends at its first NUL.
        let text = text.split(|b| *b == 0).next().unwrap_or(text);
        let chunk = Chunk { text, line, offset };
        if newline.is_some() {
            line = line.saturating_add(1);
            offset = 0;
        } else {
            offset = offset.saturating_add(characters(piece));
        }
        Some(chunk)
    })
}

#[cfg(test)]
#[path = "tests/ini.rs"]
mod tests;
