//! The same in pid namespaces: this program runs its own tests again inside
//! one. What they register then goes by the pids that are seen there.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use pmon_common::{Registration, flag};
use pmon_tests::{
    privilege,
    process::{Process, instances, start_ticks},
    skip_if,
};

use crate::{
    specimen::Specimen,
    world::{PROBED, World, text},
};

/// Tells a test that it runs inside, and what else it must know.
const INSIDE: &str = "PMON_TEST_INSIDE";

/// This program in a pid namespace of its own, with its own `/proc`.
fn inside(tests: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--fork", "--kill-child", "--pid", "--mount-proc", "--"])
        .arg(env::current_exe().unwrap())
        .args(tests)
        .args(["--nocapture", "--test-threads=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Whether this is the program inside.
pub(crate) fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

pub(crate) fn no_namespaces() -> Option<String> {
    privilege::no_root().or_else(|| privilege::no_program("unshare"))
}

/// Runs tests of this program inside, and looks that there were as many.
fn run(command: &mut Command, wanted: usize) {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let all_passed = told.contains(&format!("test result: ok. {wanted} passed"));
    assert!(
        all_passed && !told.contains("SKIP"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_death_is_told_inside() {
    skip_if!(no_namespaces());
    // Among them processes in a namespace within this one.
    let tests = [
        "exit::a_death_has",
        "exit::a_leader",
        "signal::a_killer",
        "signal::the_kernels_own",
        "follow::a_fork",
        "follow::a_death_that_nobody",
        "without_types::every_threads",
    ];
    run(&mut inside(&tests), tests.len());
}

#[test]
fn a_death_is_told_inside_of_a_kernel_that_must_be_probed() {
    skip_if!(no_namespaces());
    let tests = [
        "exit::a_death_has",
        "signal::a_killer",
        "signal::the_kernels_own",
        "follow::a_fork",
    ];
    run(inside(&tests).env(PROBED, "yes"), tests.len());
}

/// This program with one test inside, with which the test outside has a dialogue.
pub(crate) struct Inside {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Inside {
    fn new(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Has this test run inside as well, with a word for it.
    pub(crate) fn same_test(name: &str, word: &str) -> Self {
        Self::new(inside(&["--exact", name]).env(INSIDE, word))
    }

    /// Waits until the inside says the word.
    fn says(&mut self, word: &str) {
        let mut heard = String::new();
        while !heard.contains(word) {
            heard.clear();
            let length = self.stdout.read_line(&mut heard).unwrap();
            assert!(length > 0, "ended without saying `{word}`");
        }
    }

    fn go(&mut self) {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
    }

    /// Waits until its test has passed.
    pub(crate) fn succeeds(mut self) {
        self.says("test result: ok. 1 passed");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_sender_outside_has_a_name_but_no_pid_inside() {
    skip_if!(no_namespaces());
    let Ok(tag) = env::var(INSIDE) else {
        let tag = format!("outside-{}", std::process::id());
        let mut other = Inside::same_test(
            "namespaces::a_sender_outside_has_a_name_but_no_pid_inside",
            &tag,
        );
        other.says("registered");
        let [victim] = instances(&tag)[..] else {
            panic!("not one process is called `{tag}`")
        };
        Process::open(victim).unwrap().kill();
        other.succeeds();
        return;
    };
    let mut world = World::new().unwrap();
    let victim = Specimen::service_called(&tag, &[]);
    world.register(victim.pid(), 0);
    println!("registered");
    let death = world.death(victim.pid());
    assert_eq!((death.exit_code, death.signal), (9, 9));
    assert_eq!(death.flags & flag::SIGNAL_KNOWN, flag::SIGNAL_KNOWN);
    assert_eq!((death.sender_tgid, death.sender_uid), (0, 0));
    assert_ne!(text(&death.sender_comm), "");
}

#[test]
fn a_process_outside_is_nobody_inside() {
    skip_if!(no_namespaces());
    let Ok(stranger) = env::var(INSIDE) else {
        let mut stranger = Specimen::script("exit 3");
        let ticks = start_ticks(stranger.pid()).unwrap();
        let mut other = Inside::same_test(
            "namespaces::a_process_outside_is_nobody_inside",
            &format!("{} {ticks}", stranger.pid()),
        );
        other.says("registered");
        stranger.go();
        stranger.wait();
        other.go();
        other.succeeds();
        return;
    };
    let mut world = World::new().unwrap();
    let (pid, ticks) = stranger.split_once(' ').unwrap();
    let pid: u32 = pid.parse().unwrap();
    let entry = Registration {
        start_time: ticks.parse().unwrap(),
        generation: 7,
        ..Default::default()
    };
    world.ebpf.insert(pid, entry).unwrap();
    println!("registered");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    assert_eq!(word, "go\n");
    // The stranger is gone; what is told after this death is told of nobody.
    let mut own = Specimen::script("exit 4");
    world.register(own.pid(), 0);
    own.go();
    let told = world.record("an exit", |_| true);
    assert_eq!(told.tgid, own.pid());
    assert_eq!(world.entry(pid), entry);
}
