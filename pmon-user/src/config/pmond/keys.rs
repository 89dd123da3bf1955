//! Which value of which key counts in a pmon.d file, before anything is made of it.
//!
//! Order matters here: the last value of a key wins, `quorum` and
//! `full_init_reqd` only ever turn on, and the keys of active and status
//! monitoring count only on lines after the `mode` line that wants them.
//! Everything that is dropped on the way is said.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use crate::{
    config::{
        finding::{Finding, Level, Place, did_you_mean, nearest},
        ini::{Document, Item, SyntaxKind, SyntaxProblem},
        number,
    },
    core::entity::{Mode, Severity},
};

/// The one section that counts.
pub(super) const SECTION: &str = "process";

/// Keys of every mode.
const COMMON: [&str; 14] = [
    "process",
    "service",
    "script",
    "style",
    "pidfile",
    "severity",
    "restarts",
    "interval",
    "debounce",
    "startuptime",
    "mode",
    "subfunction",
    "quorum",
    "full_init_reqd",
];
/// Keys that count only after `mode = active`.
const ACTIVE: [&str; 4] = ["port", "period", "timeout", "threshold"];
/// Keys that count only after `mode = status`.
const STATUS: [&str; 5] = [
    "period",
    "timeout",
    "start_arg",
    "status_arg",
    "status_failure_text",
];

const MODES: [&str; 4] = ["passive", "active", "status", "ignore"];
const SEVERITIES: [&str; 3] = ["minor", "major", "critical"];

/// One value of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) value: &'a [u8],
    pub(super) place: Place,
    pub(super) value_place: Place,
}

impl<'a> Given<'a> {
    pub(super) fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.value)
    }
}

/// What a file says, key by key.
pub(super) struct Keys<'a> {
    path: &'a Path,
    /// Last value of each key that counts.
    given: BTreeMap<&'static str, Given<'a>>,
    /// First place of each key of active or status mode that came too early.
    dropped: BTreeMap<&'static str, Place>,
    /// Last valid `mode`.
    pub(super) mode: Option<Mode>,
    /// Last valid `severity`, and whether there was any at all.
    pub(super) severity: Option<Severity>,
    pub(super) quorum: bool,
    pub(super) full_init: bool,
    /// A `process` key of another section, for naming what is not monitored.
    pub(super) name_elsewhere: Option<Given<'a>>,
    /// Keys were found in the section that counts.
    pub(super) any: bool,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Keys<'a> {
    /// Goes through a whole file in order.
    pub(super) fn collect(path: &'a Path, document: &Document<'a>) -> Self {
        let mut keys = Self {
            path,
            given: BTreeMap::new(),
            dropped: BTreeMap::new(),
            mode: None,
            severity: None,
            quorum: false,
            full_init: false,
            name_elsewhere: None,
            any: false,
            findings: Vec::new(),
        };
        for problem in &document.problems {
            keys.syntax(problem);
        }
        keys.sections(document);
        for item in &document.items {
            if item.section == SECTION.as_bytes() {
                keys.any = true;
                keys.item(item);
            } else if item.key == b"process" && keys.name_elsewhere.is_none() {
                keys.name_elsewhere = Some(given(item));
            }
        }
        if document.unterminated {
            keys.findings.push(
                Finding::new(
                    Level::Warning,
                    path,
                    "last line does not end with a newline",
                )
                .hint("the file may be truncated; end it with a newline"),
            );
        }
        keys
    }

    /// The value of `key` that counts; an empty one does not.
    pub(super) fn get(&self, key: &str) -> Option<Given<'a>> {
        self.given
            .get(key)
            .filter(|given| !given.value.is_empty())
            .copied()
    }

    /// The key is there, even if empty.
    pub(super) fn has(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Where `key` stood too early to count, if it did.
    pub(super) fn dropped(&self, key: &str) -> Option<Place> {
        self.dropped.get(key).copied()
    }

    /// Keys that stood too early, or in a file of another mode, in file order.
    pub(super) fn all_dropped(&self) -> Vec<(&'static str, Place)> {
        let mut all: Vec<_> = self.dropped.iter().map(|(key, at)| (*key, *at)).collect();
        all.sort_by_key(|(_, at)| *at);
        all
    }

    /// Adds a finding at a place of this file.
    pub(super) fn say(&mut self, level: Level, place: Place, message: impl Into<String>) {
        self.say_with(level, place, message, None);
    }

    /// The same with advice.
    pub(super) fn say_with(
        &mut self,
        level: Level,
        place: Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.findings.push(
            Finding::new(level, self.path, message)
                .at(place)
                .maybe_hint(hint),
        );
    }

    fn syntax(&mut self, problem: &SyntaxProblem) {
        let (level, message, hint) = match problem.kind {
            SyntaxKind::UnclosedSection => (
                Level::Error,
                "section header without `]` is ignored",
                "expected `[process]`",
            ),
            SyntaxKind::NoSeparator => (
                Level::Warning,
                "line is neither `key = value` nor a comment and is ignored",
                "begin comments with `;`",
            ),
            SyntaxKind::LineTooLong => (
                Level::Warning,
                "line is longer than 999 bytes; from here on it is read as a line of its own",
                "shorten the line",
            ),
            SyntaxKind::SectionTooLong => (
                Level::Warning,
                "section name is longer than 49 bytes and was cut",
                "expected `[process]`",
            ),
        };
        self.say_with(level, problem.place, message, Some(hint.to_owned()));
    }

    fn sections(&mut self, document: &Document<'a>) {
        let mut known = Vec::new();
        for (name, place) in &document.sections {
            if *name == SECTION.as_bytes() || known.contains(name) {
                continue;
            }
            known.push(name);
            let shown = String::from_utf8_lossy(name);
            let near = did_you_mean(shown.trim(), &[SECTION]);
            let level = if near.is_some() {
                Level::Error
            } else {
                Level::Note
            };
            self.say_with(
                level,
                *place,
                format!("keys of section `[{shown}]` have no effect; only `[process]` counts"),
                near.map(|_| "did you mean `[process]`?".to_owned()),
            );
        }
        if let Some(item) = document.items.iter().find(|item| item.section.is_empty()) {
            self.say_with(
                Level::Warning,
                item.place,
                "keys before the first section header have no effect",
                Some("put `[process]` above them".to_owned()),
            );
        }
    }

    fn item(&mut self, item: &Item<'a>) {
        let shown = String::from_utf8_lossy(item.key);
        let every = COMMON.iter().chain(&ACTIVE).chain(&STATUS);
        let Some(key) = every.copied().find(|key| key.as_bytes() == item.key) else {
            if !item.continuation {
                let valid: Vec<&str> = COMMON
                    .iter()
                    .chain(&ACTIVE)
                    .chain(&STATUS)
                    .copied()
                    .collect();
                self.say_with(
                    Level::Warning,
                    item.place,
                    format!("unknown key `{shown}` is ignored"),
                    unique_hint(&shown, valid),
                );
            }
            return;
        };
        if item.continuation {
            self.say_with(
                Level::Warning,
                item.place,
                format!("indented line counts as another value of `{key}`"),
                Some("begin it with `;` if it is a comment, unindent it if it is a key".to_owned()),
            );
        }
        if std::str::from_utf8(item.value).is_err() {
            self.say(
                Level::Warning,
                item.value_place,
                format!("value of `{key}` is not valid UTF-8"),
            );
        }
        if !COMMON.contains(&key) && !self.counts_now(key) {
            self.dropped.entry(key).or_insert(item.place);
            return;
        }
        let given = given(item);
        if let (false, Some(first)) = (item.continuation, self.given.get(key)) {
            let line = first.place.line;
            let level = if key == "process" {
                Level::Error
            } else {
                Level::Warning
            };
            self.say_with(
                level,
                item.place,
                format!("`{key}` was already given on line {line}; the last value counts"),
                (key == "process").then(|| "a pmon.d file describes one process".to_owned()),
            );
        }
        match key {
            "mode" => self.mode_line(given),
            "severity" => self.severity_line(given),
            "quorum" => self.quorum = self.turn_on(key, item, self.quorum),
            "full_init_reqd" => self.full_init = self.turn_on(key, item, self.full_init),
            _ => {}
        }
        self.given.insert(key, given);
    }

    /// The mode in force at this line wants `key`.
    fn counts_now(&self, key: &str) -> bool {
        match self.mode {
            Some(Mode::Active) => ACTIVE.contains(&key),
            Some(Mode::Status) => STATUS.contains(&key),
            Some(Mode::Passive | Mode::Ignore) | None => false,
        }
    }

    fn mode_line(&mut self, given: Given<'a>) {
        let text = given.text();
        let found = nearest(&text, &MODES);
        let mode = match found {
            Some("passive") => Mode::Passive,
            Some("active") => Mode::Active,
            Some("status") => Mode::Status,
            Some("ignore") => Mode::Ignore,
            Some(_) | None => self.mode.unwrap_or(Mode::Passive),
        };
        if found != Some(&*text) {
            self.say_with(
                Level::Error,
                given.value_place,
                format!(
                    "`{text}` is not a mode; `{}` assumed",
                    super::mode_name(mode)
                ),
                Some(spelling(found, &MODES)),
            );
        }
        self.mode = Some(mode);
    }

    fn severity_line(&mut self, given: Given<'a>) {
        let text = given.text();
        let found = nearest(&text, &SEVERITIES);
        let severity = match found {
            Some("minor") => Severity::Minor,
            Some("major") => Severity::Major,
            Some("critical") => Severity::Critical,
            Some(_) | None => self.severity.unwrap_or(super::DEFAULT_SEVERITY),
        };
        if found != Some(&*text) {
            self.say_with(
                Level::Error,
                given.value_place,
                format!("`{text}` is not a severity; `{severity}` assumed"),
                Some(spelling(found, &SEVERITIES)),
            );
        }
        self.severity = Some(severity);
    }

    /// A switch that can be turned on and never off again.
    fn turn_on(&mut self, key: &str, item: &Item<'a>, before: bool) -> bool {
        let judged = number::judge(item.value, 0, u32::MAX, "");
        if item.continuation && judged.value == 0 {
            return before;
        }
        if let Some((level, message)) = judged.remark {
            self.say(level, item.value_place, format!("{key}: {message}"));
        }
        if before && judged.value == 0 {
            self.say(
                Level::Warning,
                item.value_place,
                format!("`{key}` was turned on above and cannot be turned off again"),
            );
        }
        before || judged.value > 0
    }
}

fn given<'a>(item: &Item<'a>) -> Given<'a> {
    Given {
        value: item.value,
        place: item.place,
        value_place: item.value_place,
    }
}

/// Advice for a value out of a closed list.
fn spelling(found: Option<&str>, valid: &[&str]) -> String {
    match found {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let list: Vec<_> = valid.iter().map(|word| format!("`{word}`")).collect();
            format!("expected {}", list.join(", "))
        }
    }
}

/// [`did_you_mean`] over a list that names some words twice.
fn unique_hint(written: &str, mut valid: Vec<&str>) -> Option<String> {
    valid.sort_unstable();
    valid.dedup();
    did_you_mean(written, &valid)
}
