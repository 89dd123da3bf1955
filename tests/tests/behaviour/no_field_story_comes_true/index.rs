//! The table of stories is complete and true: read from the sources, so that it
//! cannot rot. The same for the ten lines of the drop-in checklist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Stories of spec/pmond.md §11.2.
const STORIES: u32 = 22;
/// Lines of spec/pmond.md §13.
const LINES: usize = 10;

/// A test function: its name, and the lines of documentation before it.
type Tests = BTreeMap<String, String>;

/// Those of a file of this repository, by its path from the top.
fn tests_of(path: &Path) -> Tests {
    let text = fs::read_to_string(path).unwrap_or_else(|error| {
        panic!("`{}`: {error}", path.display());
    });
    let mut tests = Tests::new();
    let (mut documentation, mut is_test) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        let function = line
            .strip_prefix("fn ")
            .and_then(|rest| rest.split('(').next());
        if let Some(said) = line.strip_prefix("///") {
            documentation += said;
            documentation += "\n";
        } else if line == "#[test]" {
            is_test = true;
        } else if line.starts_with("#[") {
            // Another attribute of the same function.
        } else {
            if let Some(name) = function.filter(|_| is_test) {
                tests.insert(name.to_owned(), std::mem::take(&mut documentation));
            }
            documentation.clear();
            is_test = false;
        }
    }
    tests
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Whether the word is among those of a name or a text, in any case and with or
/// without a zero before the number.
fn names(text: &str, story: u32) -> bool {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let number = |word: &str| -> Option<u32> {
        let digits = word.strip_prefix(['s', 'S'])?;
        let plain = digits.chars().all(|digit| digit.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    words.filter_map(number).any(|found| found == story)
}

/// Story and test of each row of the table.
fn rows() -> Vec<(u32, String, String)> {
    let rows = include_str!("mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | S"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [story, test, what] = cells[..] else {
            panic!("three cells: {row}");
        };
        assert!(what.len() > 10, "it says what is asserted: {row}");
        let (path, function) = test.trim_matches('`').split_once("::").unwrap();
        let story = story.parse().unwrap_or_else(|_| panic!("a number: {row}"));
        (story, path.to_owned(), function.to_owned())
    })
    .collect()
}

#[test]
fn each_story_has_a_test_that_names_it() {
    let mut told = BTreeSet::new();
    for (story, path, function) in rows() {
        let tests = tests_of(&top().join(&path));
        let Some(documentation) = tests.get(&function) else {
            panic!("S{story}: no test `{function}` in `{path}`");
        };
        assert!(
            names(&function, story) || names(documentation, story),
            "`{function}` in `{path}` does not say that it is S{story}"
        );
        told.insert(story);
    }
    let all: BTreeSet<u32> = (1..=STORIES).collect();
    assert_eq!(told, all);
}

#[test]
fn each_line_of_the_checklist_has_one_test() {
    let directory = top().join("tests/tests/behaviour/the_drop_in_checklist_holds");
    let files = fs::read_dir(&directory).unwrap();
    let tests = files.flat_map(|file| tests_of(&file.unwrap().path()).into_keys());
    let mut numbers: Vec<String> = tests
        .filter_map(|name| Some(name.strip_prefix("line_")?.get(..2)?.to_owned()))
        .collect();
    numbers.sort();
    let all: Vec<String> = (1..=LINES).map(|line| format!("{line:02}")).collect();
    assert_eq!(numbers, all);
}

#[test]
fn names_and_texts_are_read_as_people_read_them() {
    for (text, story) in [
        ("s01 a process", 1),
        ("S7: the text", 7),
        ("and s16 a directory", 16),
        ("s9 s11 a start", 11),
    ] {
        assert!(names(text, story), "{text}");
    }
    for (text, story) in [("s16", 1), ("S1x", 1), ("files 1", 1), ("v14", 4), ("", 1)] {
        assert!(!names(text, story), "{text}");
    }
    let here = top().join("tests/tests/behaviour/no_field_story_comes_true/index.rs");
    let tests = tests_of(&here);
    assert_eq!(tests.len(), 3, "{tests:?}");
    assert!(!tests.contains_key("names"));
}
