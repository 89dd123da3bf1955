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
mod tests {
    use super::*;

    /// `(section, key, value)` of every item.
    fn triples(text: &str) -> Vec<(String, String, String)> {
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        parse(text.as_bytes())
            .items
            .iter()
            .map(|item| (string(item.section), string(item.key), string(item.value)))
            .collect()
    }

    /// `(key, value)` of every item in a `[process]` section of these lines.
    fn pairs(lines: &str) -> Vec<(String, String)> {
        triples(&format!("[process]\n{lines}"))
            .into_iter()
            .map(|(section, key, value)| {
                assert_eq!(section, "process");
                (key, value)
            })
            .collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    fn kinds(text: &[u8]) -> Vec<(u32, u32, SyntaxKind)> {
        parse(text)
            .problems
            .iter()
            .map(|p| (p.place.line, p.place.column, p.kind))
            .collect()
    }

    #[test]
    fn vector_inline_comment_after_a_blank_is_dropped() {
        assert_eq!(pairs("process=a ;c\n"), [pair("process", "a")]);
    }

    #[test]
    fn vector_semicolon_inside_a_word_is_kept() {
        assert_eq!(pairs("style = lsb;x\n"), [pair("style", "lsb;x")]);
    }

    #[test]
    fn vector_colon_separates_and_hash_is_no_inline_comment() {
        assert_eq!(
            pairs("severity: major # n\n"),
            [pair("severity", "major # n")]
        );
    }

    #[test]
    fn vector_an_indented_assignment_continues_the_key_before_it() {
        assert_eq!(
            pairs("severity: major # n\n  interval = 5\n"),
            [
                pair("severity", "major # n"),
                pair("severity", "interval = 5")
            ]
        );
    }

    #[test]
    fn vector_a_tab_before_a_comment_is_stripped() {
        assert_eq!(pairs("restarts = 3\t; c\n"), [pair("restarts", "3")]);
    }

    #[test]
    fn vector_an_indented_comment_delivers_nothing() {
        assert_eq!(
            pairs("restarts = 3\n  ; indented\n"),
            [pair("restarts", "3")]
        );
        assert_eq!(
            pairs("restarts = 3\n\t# indented\n"),
            [pair("restarts", "3")]
        );
    }

    #[test]
    fn vector_a_section_header_may_carry_a_comment() {
        assert_eq!(
            triples("[process]\na=1\n[Other] ; hi\nb=2\n"),
            [
                ("process".into(), "a".into(), "1".into()),
                ("Other".into(), "b".into(), "2".into())
            ]
        );
    }

    #[test]
    fn vector_a_bare_word_is_ignored() {
        assert_eq!(pairs("foo\n"), []);
        assert_eq!(
            kinds(b"[process]\nfoo\n"),
            [(2, 1, SyntaxKind::NoSeparator)]
        );
    }

    #[test]
    fn vector_an_unterminated_section_leaves_the_old_one_in_force() {
        let text = "[Other] ; hi\nfoo\n[process\nname with space = v = w ; z\n";
        assert_eq!(
            triples(text),
            [("Other".into(), "name with space".into(), "v = w".into())]
        );
        assert_eq!(
            kinds(text.as_bytes()),
            [
                (2, 1, SyntaxKind::NoSeparator),
                (3, 1, SyntaxKind::UnclosedSection)
            ]
        );
    }

    #[test]
    fn vector_keys_may_hold_blanks_and_values_equal_signs() {
        assert_eq!(
            pairs("name with space = v = w ; z\n"),
            [pair("name with space", "v = w")]
        );
    }

    #[test]
    fn vector_an_empty_value_is_delivered() {
        assert_eq!(pairs("empty =\n"), [pair("empty", "")]);
        assert_eq!(pairs("empty = ; comment\n"), [pair("empty", "")]);
    }

    #[test]
    fn vector_an_equal_sign_goes_before_a_colon() {
        assert_eq!(pairs("colon:eq=1\n"), [pair("colon:eq", "1")]);
        // ... unless it stands in the comment.
        assert_eq!(pairs("a : b ; c=d\n"), [pair("a", "b")]);
    }

    #[test]
    fn a_section_header_forgets_the_key() {
        assert_eq!(
            triples("[process]\na=1\n[process]\n  b=2\n"),
            [
                ("process".into(), "a".into(), "1".into()),
                ("process".into(), "b".into(), "2".into())
            ]
        );
    }

    #[test]
    fn an_indented_header_continues_too() {
        assert_eq!(
            pairs("a=1\n [x]\nb=2\n"),
            [pair("a", "1"), pair("a", "[x]"), pair("b", "2")]
        );
    }

    #[test]
    fn a_continuation_keeps_its_inline_comment() {
        assert_eq!(
            pairs("a=1\n  x ; y\n"),
            [pair("a", "1"), pair("a", "x ; y")]
        );
    }

    #[test]
    fn carriage_returns_and_the_byte_order_mark_vanish() {
        assert_eq!(
            triples("\u{feff}[process]\r\na = 1\r\n"),
            [("process".into(), "a".into(), "1".into())]
        );
        // Only on line 1.
        assert_eq!(kinds("\n\u{feff}[a]\n".as_bytes()).len(), 1);
    }

    #[test]
    fn a_line_of_999_bytes_is_split_before_its_newline() {
        // "k=" and 997 value bytes fill the buffer; the newline alone is the next piece.
        let text = format!("k={}\n  z\n", "v".repeat(997));
        assert_eq!(
            triples(&text),
            [
                (String::new(), "k".into(), "v".repeat(997)),
                (String::new(), "k".into(), "z".into())
            ]
        );
        assert_eq!(kinds(text.as_bytes()), []);
    }

    #[test]
    fn the_rest_of_an_overlong_line_is_a_line_of_its_own() {
        let text = format!("k={}x=1\nnext=2\n", "v".repeat(997));
        assert_eq!(
            triples(&text),
            [
                (String::new(), "k".into(), "v".repeat(997)),
                (String::new(), "x".into(), "1".into()),
                (String::new(), "next".into(), "2".into())
            ]
        );
        assert_eq!(kinds(text.as_bytes()), [(1, 1000, SyntaxKind::LineTooLong)]);
        assert_eq!(parse(text.as_bytes()).items[2].place.line, 2);
    }

    #[test]
    fn a_piece_beginning_with_a_blank_continues() {
        let text = format!("k={} x=1\n", "v".repeat(997));
        assert_eq!(triples(&text)[1], (String::new(), "k".into(), "x=1".into()));
    }

    #[test]
    fn long_section_names_are_cut() {
        let text = format!("[{}]\na=1\n", "s".repeat(60));
        assert_eq!(triples(&text)[0].0, "s".repeat(49));
        assert_eq!(kinds(text.as_bytes()), [(1, 1, SyntaxKind::SectionTooLong)]);
    }

    #[test]
    fn places_count_characters() {
        let document = parse("[s]\n\u{e4}b =  \u{f6}x\n   y\n".as_bytes());
        let places: Vec<_> = document
            .items
            .iter()
            .map(|i| (i.place.line, i.place.column, i.value_place.column))
            .collect();
        assert_eq!(places, [(2, 1, 7), (3, 4, 4)]);
    }

    #[test]
    fn a_missing_last_newline_is_noticed() {
        assert!(parse(b"[process]\na=1").unterminated);
        assert!(!parse(b"[process]\na=1\n").unterminated);
        assert!(!parse(b"").unterminated);
    }

    #[test]
    fn any_bytes_are_survived() {
        // A small linear congruential generator: same bytes every run.
        let mut state = 1u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b"=:;#[] \t\n\r\0\xefab"[(state >> 33) as usize % 14]
        })
        .take(200_000)
        .collect();
        for item in parse(&bytes).items {
            assert!(item.value.is_empty() || !is_space(item.value[0]));
            assert!(!item.key.contains(&b'\n') && !item.value.contains(&b'\n'));
        }
    }
}
