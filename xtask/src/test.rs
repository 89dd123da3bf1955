//! `cargo xtask test`: everything CI runs, and nothing else is run by CI.
//!
//! Must stay true: a step that fails doesn't keep the later ones from running;
//! what couldn't be tested is said in the summary, and fails when `CI=true`.

use std::{
    env, fmt,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{cargo, path_with, run, workspace},
    ebpf, packages,
    vm::{self, Document},
};

const CARGO_DENY: &str = "0.20.2";
/// Real daemons for the tests, and tools: the program, its Debian package.
const PROGRAMS: [(&str, &str); 8] = [
    ("bpftool", "bpftool"),
    ("sshd", "openssh-server"),
    ("cron", "cron"),
    ("nginx", "nginx"),
    ("ip", "iproute2"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("mmdebstrap", "mmdebstrap"),
];
/// Built for the BPF target only, by `cargo xtask ebpf`; for the host it is an
/// empty program of the same name as the real one.
const NOT_FOR_HOST: [&str; 3] = ["--workspace", "--exclude", "pmon-ebpf"];
/// Every black-box test runs a daemon and kills processes; more at once than
/// the smallest test machine has CPUs measure each other.
const BLACK_BOX_THREADS: &str = "--test-threads=2";
/// How a test says that it couldn't run, and why.
const SKIP: &str = "SKIP:";

/// The outcome of a step that didn't fail.
#[derive(Default)]
struct Done {
    /// In a few words.
    note: String,
    /// One line per test that couldn't run.
    skipped: Vec<String>,
}

type Step<'a> = (&'static str, Box<dyn Fn() -> Result<Done> + 'a>);

/// Runs all steps and prints a summary.
///
/// # Errors
///
/// When a step failed, or with `CI=true` when a test was skipped.
pub(crate) fn test() -> Result<()> {
    let root = workspace()?;
    let steps: Vec<Step<'_>> = vec![
        ("install", Box::new(install)),
        (
            "fmt",
            Box::new(|| passed(cargo().args(["fmt", "--all", "--check"]))),
        ),
        ("clippy", Box::new(clippy)),
        ("doc", Box::new(documentation)),
        ("deny", Box::new(|| deny(&root))),
        ("ebpf", Box::new(object)),
        ("unit", Box::new(|| unit_tests(&root))),
        ("black-box", Box::new(|| black_box_tests(&root))),
        ("vm", Box::new(|| kernels(&root, Document::Check))),
    ];
    let mut results = Vec::new();
    for (name, step) in steps {
        eprintln!("\n== {name}");
        let began = Instant::now();
        let outcome = step();
        if let Err(error) = &outcome {
            let text = format!("{error:#}");
            eprintln!("error: {name}: {}", text.lines().next().unwrap_or_default());
        }
        results.push((name, outcome, began.elapsed()));
    }
    summarise(&results)
}

/// The step `vm` alone; with `write` its result goes into the documentation.
///
/// # Errors
///
/// When it failed.
pub(crate) fn virtual_machines(write: bool) -> Result<()> {
    let document = if write {
        Document::Write
    } else {
        Document::Check
    };
    let Done { note, skipped: _ } = kernels(&workspace()?, document)?;
    println!("{note}");
    Ok(())
}

/// Prints the outcome of every step, and last of all what failed, as only the end
/// of a log may be kept; fails if a step did.
fn summarise(results: &[(&str, Result<Done>, Duration)]) -> Result<()> {
    eprintln!("\n== summary");
    let mut failed = 0;
    let mut skipped = Vec::new();
    let mut details = String::new();
    for (name, outcome, took) in results {
        let (word, note) = match outcome {
            Ok(done) => {
                skipped.extend(&done.skipped);
                ("ok", done.note.clone())
            }
            Err(error) => {
                failed += 1;
                let text = format!("{error:#}");
                let (note, more) = text.split_once('\n').unwrap_or((&text, ""));
                details.push_str(more);
                ("FAILED", note.to_owned())
            }
        };
        eprintln!("{word:<7} {name:<10} {:>6.1} s  {note}", took.as_secs_f64());
    }
    for line in &skipped {
        eprintln!("skipped {line}");
    }
    eprint!("{details}");
    ensure!(failed == 0, "{failed} of {} steps failed", results.len());
    ensure!(
        skipped.is_empty() || env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{} tests were skipped, which CI doesn't accept",
        skipped.len()
    );
    Ok(())
}

/// What the other steps need. Missing test daemons make tests skip, so they
/// are no error here.
fn install() -> Result<Done> {
    packages::rustup_component("rustfmt", &["fmt", "--version"])?;
    packages::rustup_component("clippy", &["clippy", "--version"])?;
    let missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|(program, _)| !has_program(program))
        .map(|(_, package)| package)
        .collect();
    let note = match packages::debian(&missing) {
        Ok(()) => String::new(),
        Err(error) => format!("{error:#}"),
    };
    Ok(Done {
        note,
        skipped: Vec::new(),
    })
}

/// Looks beyond an ordinary user's `PATH`: daemons live in `sbin`.
fn has_program(name: &str) -> bool {
    [
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
        "/usr/local/sbin",
        "/usr/local/bin",
    ]
    .iter()
    .any(|directory| Path::new(directory).join(name).exists())
}

fn clippy() -> Result<Done> {
    passed(
        cargo()
            .args(["clippy", "--quiet", "--locked", "--all-targets"])
            .args(NOT_FOR_HOST)
            .args(["--", "-D", "warnings"]),
    )
}

fn documentation() -> Result<Done> {
    passed(
        cargo()
            .args(["doc", "--quiet", "--locked", "--no-deps"])
            .args(NOT_FOR_HOST)
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Licences, bans and sources need the lock file only. Advisories need their
/// database from the network.
fn deny(root: &Path) -> Result<Done> {
    let directory = packages::cargo_tool(root, "cargo-deny", CARGO_DENY)?;
    let path = path_with(&directory)?;
    let deny = |arguments: &[&str]| {
        run(Command::new(directory.join("cargo-deny"))
            .args(["--log-level", "error"])
            .args(arguments)
            .env("PATH", &path)
            .current_dir(root))
    };
    deny(&["--offline", "check", "licenses", "bans", "sources"])?;
    if deny(&["fetch", "db"]).is_err() {
        return Ok(Done {
            note: "advisories not checked: their database can't be fetched".to_owned(),
            skipped: Vec::new(),
        });
    }
    deny(&["--offline", "check", "advisories"])?;
    Ok(Done::default())
}

/// The BPF object comes from its sources.
fn object() -> Result<Done> {
    Ok(Done {
        note: ebpf::check()?,
        skipped: Vec::new(),
    })
}

fn unit_tests(root: &Path) -> Result<Done> {
    tests(
        cargo()
            .args(["test", "--locked", "--no-fail-fast"])
            .args(NOT_FOR_HOST)
            .args(["--exclude", "pmon-tests", "--", "--show-output"])
            .current_dir(root),
    )
}

/// The tests of the real binary, which must be built before they look for it.
fn black_box_tests(root: &Path) -> Result<Done> {
    run(cargo()
        .args(["build", "--quiet", "--locked"])
        .args(["--package", "pmon-user", "--package", "pmon-examples"])
        .current_dir(root))?;
    tests(
        cargo()
            .args([
                "test",
                "--locked",
                "--no-fail-fast",
                "--package",
                "pmon-tests",
            ])
            .args(["--", "--show-output", BLACK_BOX_THREADS])
            .current_dir(root),
    )
}

/// Kernel-facing tests on other kernels.
fn kernels(root: &Path, document: Document) -> Result<Done> {
    Ok(Done {
        note: vm::run(root, document)?,
        skipped: Vec::new(),
    })
}

/// Runs tests, passes their output on and counts.
fn tests(command: &mut Command) -> Result<Done> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("can't start cargo")?;
    let stdout = child.stdout.take().context("no pipe to cargo")?;
    let mut counts = Counts::default();
    let mut failures = Failures::default();
    for line in BufReader::new(stdout).split(b'\n') {
        // A test may print anything.
        let line = String::from_utf8_lossy(&line?).into_owned();
        counts.take(&line);
        failures.take(&line);
        let mut out = std::io::stdout();
        writeln!(out, "{line}")?;
    }
    let status = child.wait()?;
    let Counts {
        passed,
        failed,
        ignored,
        skipped,
    } = counts;
    if !status.success() {
        bail!("{failed} failed, {passed} passed\n{failures}");
    }
    ensure!(
        ignored == 0,
        "{ignored} tests are ignored; they should say SKIP and why"
    );
    ensure!(passed > 0, "no test ran");
    Ok(Done {
        note: format!("{} passed, {} skipped", passed, skipped.len()),
        skipped,
    })
}

/// What libtest reported.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
    skipped: Vec<String>,
}

impl Counts {
    fn take(&mut self, line: &str) {
        if let Some((_, reason)) = line.split_once(SKIP) {
            self.skipped.push(reason.trim().to_owned());
        }
        // "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; …"
        let Some(summary) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in summary.split([';', '.']) {
            let mut words = part.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse::<usize>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                Some(_) | None => {}
            }
        }
    }
}

/// Which tests failed and what they said.
#[derive(Default)]
struct Failures {
    /// Each with the lines of its panics.
    tests: Vec<(String, Vec<String>)>,
    /// Between the heading "failures:" and the result.
    listed: bool,
    /// Between a panic's first line and its backtrace.
    in_panic: bool,
}

impl Failures {
    /// Longest part of what one test said that is repeated, in lines.
    const LINES: usize = 40;

    fn take(&mut self, line: &str) {
        if line == "failures:" {
            self.listed = true;
            self.in_panic = false;
        } else if line == "successes:" || line.starts_with("test result: ") {
            self.listed = false;
        }
        let heading = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = heading.filter(|_| self.listed) {
            self.tests.push((test.to_owned(), Vec::new()));
        }
        if heading.is_some() || line == "stack backtrace:" || line.starts_with("note: run with") {
            self.in_panic = false;
        }
        if line.starts_with("thread '") && line.contains(" panicked at ")
            || line.starts_with("Error: ")
        {
            self.in_panic = true;
        }
        if let Some((_, said)) = self.tests.last_mut()
            && self.listed
            && self.in_panic
            && said.len() < Self::LINES
        {
            said.push(line.to_owned());
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (test, said) in &self.tests {
            writeln!(f, "FAILED  {test}")?;
            for line in said.iter().filter(|line| !line.is_empty()) {
                writeln!(f, "        {line}")?;
            }
        }
        Ok(())
    }
}

fn passed(command: &mut Command) -> Result<Done> {
    run(command).map(|()| Done::default())
}

#[cfg(test)]
mod tests {
    use super::{Counts, Failures};

    #[test]
    fn what_failed_is_told_with_its_panics() {
        const OUTPUT: &str = "\
successes:

---- a::fine stdout ----
thread 'helper' (7) panicked at src/a.rs:1:2:
as it should

failures:

---- a::bad stdout ----
a word before
thread 'a::bad' (8) panicked at src/a.rs:3:4:
assertion `left == right` failed
  left: 1
 right: 2
stack backtrace:
   0: somewhere
---- a::returns stdout ----
Error: no such thing

failures:
    a::bad
    a::returns

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
thread 'later' panicked at nobody's business";
        let mut failures = Failures::default();
        for line in OUTPUT.lines() {
            failures.take(line);
        }
        assert_eq!(
            failures.to_string(),
            "\
FAILED  a::bad
        thread 'a::bad' (8) panicked at src/a.rs:3:4:
        assertion `left == right` failed
          left: 1
         right: 2
FAILED  a::returns
        Error: no such thing
"
        );
    }

    #[test]
    fn counts_results_and_skips() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "SKIP: needs root",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            counts.take(line);
        }
        assert_eq!((counts.passed, counts.failed, counts.ignored), (4, 2, 1));
        assert_eq!(counts.skipped, ["needs root"]);
    }
}
