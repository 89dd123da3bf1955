//! The parser vectors of the pmon.d dialect, one test each, and its edges.

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
