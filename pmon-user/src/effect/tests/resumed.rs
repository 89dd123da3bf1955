//! Going on with a start command that another daemon had run.

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use super::*;
use crate::core::entity::StatusSpec;

/// A command in a process group of its own that has started a worker there and
/// ends when its input does.
struct Earlier {
    child: Child,
    command: VerifiedPid,
    worker: VerifiedPid,
}

impl Earlier {
    fn new(fixture: &Fixture) -> Self {
        let worker = fixture.path("worker");
        let text = format!("sleep 1000 & echo $! >{}; read line", worker.display());
        let child = Command::new("sh")
            .args(["-c", &text])
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let command = verify(child.id()).unwrap();
        let worker = fixture.process("worker");
        Self {
            child,
            command,
            worker,
        }
    }

    fn goes_on(&self, fixture: &Fixture, spec: &EntitySpec) {
        fixture.submit(
            "entity",
            Job::ResumeStart {
                spec: Arc::new(spec.clone()),
                command: self.command.identity(),
                run: 7,
            },
        );
    }
}

impl Drop for Earlier {
    fn drop(&mut self) {
        // Dead already is as good.
        self.worker.signal(9).ok();
        self.command.signal(9).ok();
        self.child.wait().ok();
    }
}

fn started_end(fixture: &Fixture) -> (u64, StartEnd) {
    match fixture.report().1 {
        Report::StartEnded {
            run,
            end,
            process: None,
        } => (run, end),
        report => panic!("{report:?}"),
    }
}

#[test]
fn its_end_is_told_and_what_it_left_is_spared() {
    let fixture = Fixture::new();
    let mut earlier = Earlier::new(&fixture);
    let spec = awaited(&["/bin/false"]);
    earlier.goes_on(&fixture, &spec);
    eventually(|| {
        let own = fixture.executor.at_work();
        own.contains(&earlier.command.identity().pid).then_some(())
    });
    fixture.assert_silence();
    drop(earlier.child.stdin.take());
    assert_eq!(started_end(&fixture), (7, StartEnd::Untold));
    assert!(!earlier.worker.is_dead());
    eventually(|| fixture.executor.at_work().is_empty().then_some(()));
    // It has ended before anybody asked.
    earlier.goes_on(&fixture, &spec);
    assert_eq!(started_end(&fixture), (7, StartEnd::Untold));
}

#[test]
fn past_its_deadline_it_is_killed_with_its_group() {
    let fixture = Fixture::new();
    let earlier = Earlier::new(&fixture);
    let spec = EntitySpec {
        start_timeout: Duration::from_millis(100),
        ..awaited(&["/bin/false"])
    };
    earlier.goes_on(&fixture, &spec);
    assert_eq!(started_end(&fixture), (7, StartEnd::TimedOut));
    assert_dies(&earlier.command);
    assert_dies(&earlier.worker);
}

#[test]
fn whoever_cancels_it_or_starts_anew_meets_it_no_more() {
    for anew in [false, true] {
        let fixture = Fixture::new();
        let earlier = Earlier::new(&fixture);
        earlier.goes_on(&fixture, &awaited(&["/bin/false"]));
        if anew {
            let text = format!(
                "grep -q '^State:.*[RSD] ' /proc/{}/status && exit 1; exit 0",
                earlier.command.identity().pid
            );
            let end = fixture.run(&awaited(&["/bin/sh", "-c", &text]));
            assert_eq!(end, exited(0, ""));
        } else {
            fixture.submit("entity", Job::CancelStart);
            assert_dies(&earlier.command);
            fixture.assert_silence();
        }
        assert_dies(&earlier.command);
        assert_dies(&earlier.worker);
    }
}

#[test]
fn a_stranger_with_its_number_is_left_alone() {
    let fixture = Fixture::new();
    let earlier = Earlier::new(&fixture);
    let spec = EntitySpec {
        start_timeout: Duration::ZERO,
        ..awaited(&["/bin/false"])
    };
    let mut identity = earlier.command.identity();
    identity.start_time -= 1;
    fixture.submit(
        "entity",
        Job::ResumeStart {
            spec: Arc::new(spec),
            command: identity,
            run: 7,
        },
    );
    assert_eq!(started_end(&fixture), (7, StartEnd::Untold));
    assert!(!earlier.command.is_dead());
    assert!(!earlier.worker.is_dead());
}

#[test]
fn in_status_mode_it_is_a_script_that_ends() {
    let fixture = Fixture::new();
    let earlier = Earlier::new(&fixture);
    let spec = EntitySpec {
        status: Some(StatusSpec {
            script: "/bin/false".into(),
            status_arg: "status".to_owned(),
            start_arg: "start".to_owned(),
            failure_text: None,
            period: LONG,
            timeout: Duration::from_millis(100),
        }),
        ..awaited(&["/bin/false"])
    };
    earlier.goes_on(&fixture, &spec);
    match fixture.report().1 {
        Report::ScriptEnded {
            run: 7,
            end: StartEnd::TimedOut,
            failure_text: None,
        } => {}
        report => panic!("{report:?}"),
    }
    assert_dies(&earlier.worker);
}
