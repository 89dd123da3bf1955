//! Counting real processes.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;
use crate::core::entity::{Mode, Origin, Severity, StartMethod, StopPolicy};

/// A process that ends with the test. Its words name the entity.
struct Sleeper(Child);

impl Sleeper {
    /// `sh` that waits for its input to end, run with these words after `-c`.
    fn run(name: &str, script: &str) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", script, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let sleeper = Self(child);
        sleeper.awaited();
        sleeper
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Until it has executed its program.
    fn awaited(&self) {
        let own = executable(std::process::id());
        let deadline = Instant::now() + Duration::from_secs(60);
        // The kernel shows no words for a moment during exec.
        let is_ready = || traits(self.pid()).is_some_and(|it| !it.command_line.is_empty());
        while executable(self.pid()) == own || !is_ready() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    fn identity(&self) -> Identity {
        verify(self.pid()).unwrap().identity()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const WAITS: &str = "read line";

fn subject(name: &str, main: Identity) -> Subject {
    let spec = EntitySpec {
        name: name.to_owned(),
        mode: Mode::Passive,
        severity: Severity::Major,
        restarts: 3,
        interval: Duration::ZERO,
        debounce: Duration::ZERO,
        startuptime: Duration::ZERO,
        start_timeout: Duration::ZERO,
        adoption_window: Duration::ZERO,
        pidfile: None,
        start: StartMethod::None {
            reason: "test".to_owned(),
        },
        stop: StopPolicy::KillFirst,
        follow: false,
        quorum: false,
        subfunction: None,
        active: None,
        status: None,
        storm: crate::core::storm::StormPolicy::PMOND,
        dependencies: crate::core::dependency::Dependencies::default(),
        origin: Origin::Operator,
    };
    Subject {
        entity: Arc::from(name),
        spec: Arc::new(spec),
        main,
        before: Vec::new(),
        wants_traits: true,
    }
}

fn census(subjects: Vec<Subject>) -> Census {
    let registered = subjects.iter().map(|it| it.main.pid).collect();
    Census {
        subjects,
        registered: Arc::new(registered),
    }
}

#[test]
fn a_second_one_is_found_and_goes() {
    let name = format!("pmon-instances-second-{}", std::process::id());
    let main = Sleeper::run(&name, WAITS);
    let census = census(vec![subject(&name, main.identity())]);
    let alone = count(&census);
    assert_eq!(alone.len(), 1);
    assert_eq!((alone[0].main, alone[0].others.len()), (main.identity(), 0));
    assert!(alone[0].traits.is_some());

    let second = Sleeper::run(&name, WAITS);
    let expected = Instance {
        identity: second.identity(),
        tie: Tie::CommandLine,
    };
    assert_eq!(count(&census)[0].others, [expected]);
    drop(second);
    assert_eq!(count(&census)[0].others, []);
    drop(main);
    assert_eq!(count(&census), [], "of nobody nothing is said");
}

#[test]
fn workers_other_entities_and_other_words_are_none() {
    let name = format!("pmon-instances-none-{}", std::process::id());
    // A subshell has its parent's words.
    let main = Sleeper::run(&name, "exec 3<&0; (read line <&3; true) & wait");
    let deadline = Instant::now() + Duration::from_secs(60);
    let has_worker = || {
        let path = format!("/proc/{0}/task/{0}/children", main.pid());
        fs::read_to_string(path)
            .unwrap()
            .trim()
            .parse::<u32>()
            .is_ok()
    };
    while !has_worker() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let same = Sleeper::run(&name, "exec 3<&0; (read line <&3; true) & wait");
    let _another = Sleeper::run(&name, WAITS);
    let both = census(vec![
        subject(&name, main.identity()),
        subject("other", same.identity()),
    ]);
    let counted = count(&both);
    assert_eq!(counted.len(), 2);
    for Counted { others, .. } in counted {
        assert_eq!(others, []);
    }
}

#[test]
fn a_former_process_counts_as_long_as_it_lives() {
    let name = format!("pmon-instances-former-{}", std::process::id());
    let old = Sleeper::run("anything", "read a; read b");
    let main = Sleeper::run(&name, WAITS);
    let mut asked = subject(&name, main.identity());
    asked.before.push(old.identity());
    let census = census(vec![asked]);
    let expected = Instance {
        identity: old.identity(),
        tie: Tie::KnownBefore,
    };
    assert_eq!(count(&census)[0].others, [expected]);
    drop(old);
    assert_eq!(count(&census)[0].others, []);
}

#[test]
fn a_successor_is_known_by_its_likeness_if_it_is_the_only_one() {
    let name = format!("pmon-instances-successor-{}", std::process::id());
    let main = Sleeper::run(&name, WAITS);
    let spec = subject(&name, main.identity()).spec;
    let former = traits(main.pid()).unwrap();
    // Start times are told in hundredths of a second.
    std::thread::sleep(Duration::from_millis(30));
    drop(main);
    let nobody = HashSet::new();
    assert_eq!(successor(&spec, &former, &nobody), None);
    let next = Sleeper::run(&name, WAITS);
    assert_eq!(successor(&spec, &former, &nobody), Some(next.identity()));
    let others = HashSet::from([next.pid()]);
    assert_eq!(successor(&spec, &former, &others), None);
    let _beside = Sleeper::run(&name, WAITS);
    assert_eq!(successor(&spec, &former, &nobody), None, "which of them?");
}
