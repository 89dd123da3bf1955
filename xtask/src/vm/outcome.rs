//! What a machine's console says of the tests: which passed, which failed and
//! how, and the facts of its kernel.
//!
//! Must stay true: a test that was to run and didn't is a failure, so is a
//! machine that never came to the end.

use std::collections::BTreeMap;

use super::{machine::End, selection::Scope};

/// `init.sh` says so.
const RELEASE: &str = "vm: release: ";
const END: &str = "vm: end: ";
/// How a test tells what the kernel offers: `FACT: NAME: VALUE`.
const FACT: &str = "FACT: ";
/// How a test says that it couldn't run, and why.
const SKIP: &str = "SKIP:";

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    scope: Scope,
    release: Option<String>,
    /// Whether each test that reported a result passed.
    results: BTreeMap<String, bool>,
    facts: Vec<(String, String)>,
    skipped: Vec<String>,
    /// libtest's own account of the failures.
    failures: Vec<String>,
    /// What the tests' program exited with, and when.
    end: Option<String>,
    /// The last lines, for a machine that said nothing else.
    last: Vec<String>,
}

impl Outcome {
    /// From the lines of the console.
    pub(super) fn read(scope: Scope, lines: &[String]) -> Self {
        const LAST: usize = 30;
        let mut outcome = Self {
            scope,
            ..Self::default()
        };
        let mut in_failures = false;
        for line in lines {
            if let Some(release) = line.strip_prefix(RELEASE) {
                outcome.release = Some(release.to_owned());
            } else if let Some(end) = line.strip_prefix(END) {
                outcome.end = Some(end.to_owned());
                in_failures = false;
            } else if let Some((name, passed)) = result(line) {
                outcome.results.insert(name.to_owned(), passed);
            } else if let Some((name, value)) = line
                .strip_prefix(FACT)
                .and_then(|fact| fact.split_once(": "))
            {
                outcome.facts.push((name.to_owned(), value.to_owned()));
            } else if line.contains(SKIP) {
                outcome.skipped.push(line.clone());
            }
            if line == "failures:" {
                in_failures = true;
            }
            if in_failures {
                outcome.failures.push(line.clone());
            }
        }
        outcome.last = lines[lines.len().saturating_sub(LAST)..].to_vec();
        outcome
    }

    /// The kernel's release.
    pub(super) fn release(&self) -> &str {
        self.release.as_deref().unwrap_or("never came up")
    }

    /// How many tests passed.
    pub(super) fn passed(&self) -> usize {
        self.results.values().filter(|passed| **passed).count()
    }

    /// How many tests failed or didn't run.
    pub(super) fn failed(&self) -> usize {
        let tests = self.scope.tests();
        tests.len() - self.passed_of(&tests)
    }

    /// How many of these passed.
    pub(super) fn passed_of(&self, tests: &[&str]) -> usize {
        tests
            .iter()
            .filter(|test| self.results.get(**test) == Some(&true))
            .count()
    }

    /// Which of these were to run.
    pub(super) fn selected(&self, tests: &[&'static str]) -> Vec<&'static str> {
        self.scope.of(tests)
    }

    /// The facts, in the order they were told.
    pub(super) fn facts(&self) -> &[(String, String)] {
        &self.facts
    }

    /// Whether the machine ended, or hung, before its tests did, and none of them
    /// had failed: software emulation of a CPU is not free of faults (a double
    /// fault on `cmpxchg16b` and a hanging boot have been seen), and says nothing
    /// of pmon.
    pub(super) fn broke_down(&self) -> bool {
        self.end.is_none() && self.results.values().all(|passed| *passed)
    }

    /// What is wrong, for people; `None` when all is well.
    pub(super) fn trouble(&self, end: End) -> Option<String> {
        let mut trouble = Vec::new();
        match (end, &self.end) {
            (End::Deadline, _) => trouble.push("it was ended at the deadline".to_owned()),
            (End::Itself, None) => trouble.push("it ended before the tests did".to_owned()),
            (End::Itself, Some(_)) => {}
        }
        let missing = self
            .scope
            .tests()
            .into_iter()
            .filter(|test| !self.results.contains_key(*test));
        trouble.extend(missing.map(|test| format!("did not run: {test}")));
        trouble.extend(self.skipped.iter().cloned());
        let failed = self.results.iter().filter(|(_, passed)| !**passed);
        trouble.extend(failed.map(|(test, _)| format!("failed: {test}")));
        if trouble.is_empty() {
            // Whatever else the program's exit code may mean.
            return match &self.end {
                Some(end) if end.starts_with("0 ") => None,
                Some(end) => Some(format!("the tests ended with {end}")),
                None => None,
            };
        }
        if self.failures.is_empty() {
            trouble.push("its last words:".to_owned());
            trouble.extend(self.last.iter().cloned());
        } else {
            trouble.extend(self.failures.iter().cloned());
        }
        Some(trouble.join("\n"))
    }
}

/// `test NAME ... ok`.
fn result(line: &str) -> Option<(&str, bool)> {
    let (name, word) = line.strip_prefix("test ")?.split_once(" ... ")?;
    match word.trim() {
        "ok" => Some((name, true)),
        "FAILED" => Some((name, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn all_well() -> String {
        let mut text = "vm: release: 5.10.0-1-cloud-amd64\n".to_owned();
        for test in Scope::All.tests() {
            text += &format!("test {test} ... ok\n");
        }
        text + "FACT: a thing: there: or not\nvm: end: 0 after 12.3 s\n"
    }

    #[test]
    fn a_good_run_has_no_trouble() {
        let outcome = Outcome::read(Scope::All, &lines(&all_well()));
        assert_eq!(outcome.trouble(End::Itself), None);
        assert_eq!(outcome.failed(), 0);
        assert_eq!(outcome.passed(), Scope::All.tests().len());
        assert_eq!(
            outcome.facts(),
            [("a thing".to_owned(), "there: or not".to_owned())]
        );
        assert_eq!(outcome.release(), "5.10.0-1-cloud-amd64");
    }

    #[test]
    fn whatever_is_missing_is_trouble() {
        let first = Scope::All.tests()[0];
        let good = format!("test {first} ... ok");
        let cases = [
            (
                "failed",
                all_well().replace(&good, &format!("test {first} ... FAILED")),
            ),
            ("did not run", all_well().replace(&good, "")),
            ("SKIP: needs", all_well() + "SKIP: needs root\n"),
            ("before the tests did", all_well().replace("vm: end:", "")),
            ("ended with 1", all_well().replace("end: 0", "end: 1")),
            ("did not run", "Kernel panic".to_owned()),
        ];
        for (expected, text) in cases {
            let trouble = Outcome::read(Scope::All, &lines(&text)).trouble(End::Itself);
            assert!(
                trouble
                    .as_ref()
                    .is_some_and(|trouble| trouble.contains(expected)),
                "{expected}: {trouble:?}"
            );
        }
        let late = Outcome::read(Scope::All, &lines(&all_well())).trouble(End::Deadline);
        assert!(late.is_some_and(|trouble| trouble.contains("deadline")));
    }

    #[test]
    fn a_machine_that_breaks_down_is_told_from_a_test_that_fails() {
        let broke_down = |text: &str| Outcome::read(Scope::All, &lines(text)).broke_down();
        assert!(broke_down("Kernel panic"));
        assert!(broke_down("test a ... ok\nKernel panic"));
        assert!(!broke_down("test a ... FAILED\nKernel panic"));
        assert!(!broke_down(&all_well()));
    }

    #[test]
    fn what_failed_is_told_as_the_tests_tell_it() {
        let text = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nassertion failed\nvm: end: 101 after 5 s\n";
        let trouble = Outcome::read(Scope::All, &lines(text)).trouble(End::Itself);
        assert!(trouble.is_some_and(|trouble| trouble.contains("assertion failed")));
    }
}
