//! Programs that cannot be executed, for a while or at all.

use std::fs::{File, OpenOptions};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};

use super::*;

fn busy(fixture: &Fixture) -> (EntitySpec, File) {
    let program = fixture.program("program", "#!/bin/sh\nexit 0\n");
    let writer = OpenOptions::new().append(true).open(&program).unwrap();
    (awaited(&[program.to_str().unwrap()]), writer)
}

#[test]
fn a_program_that_stays_busy_is_not_executed() {
    let fixture = Fixture::new();
    let (spec, writer) = busy(&fixture);
    let begun = Instant::now();
    let end = fixture.run(&spec);
    assert_not_executed(&end, &["/program`", "ETXTBSY", "6 tries"]);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    drop(writer);
}

#[test]
fn a_program_that_is_busy_for_a_moment_is_executed() {
    let fixture = Fixture::new();
    let (spec, writer) = busy(&fixture);
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    let closed = inotify::WatchFlags::CLOSE_NOWRITE;
    inotify::add_watch(&watch, fixture.path("program"), closed).unwrap();
    fixture.start("entity", &spec);
    // execve(2) opens the program, sees that it is busy, and closes it.
    let limit = Timespec::try_from(LONG).unwrap();
    let seen = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&limit));
    assert_eq!(seen, Ok(1), "no attempt was made");
    drop(writer);
    assert_eq!(fixture.end().0, exited(0, ""));
}

#[test]
fn the_deadline_covers_the_retries() {
    let fixture = Fixture::new();
    let (spec, writer) = busy(&fixture);
    let end = fixture.run(&EntitySpec {
        start_timeout: Duration::from_millis(150),
        ..spec
    });
    // Said by the last try that fits, or by the deadline on a slow machine.
    let StartEnd::NotExecuted { reason } = &end else {
        panic!("{end:?}");
    };
    assert!(
        reason.contains("ETXTBSY") || reason == "could not be executed within 150ms",
        "{reason}"
    );
    assert!(!reason.contains("6 tries"), "{reason}");
    drop(writer);
}

#[test]
fn a_cancelled_start_is_not_tried_again() {
    let fixture = Fixture::new();
    let (spec, writer) = busy(&fixture);
    fixture.start("entity", &spec);
    fixture.submit("entity", Job::CancelStart);
    drop(writer);
    fixture.assert_silence();
}

#[test]
fn what_is_no_program_is_refused_at_once_by_name() {
    let fixture = Fixture::new();
    let plain = fixture.path("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let garbage = fixture.program("garbage", "neither ELF nor a script\n");
    let orphan = fixture.program("orphan", "#!/no/such/interpreter\n");
    let missing = fixture.path("missing");
    for (path, words) in [
        (&missing, ["/missing`: execve", "ENOENT"]),
        (&plain, ["/plain`: execve", "EACCES"]),
        (&garbage, ["/garbage`: execve", "ENOEXEC"]),
        (&orphan, ["/orphan`: execve", "its interpreter is not"]),
    ] {
        let end = fixture.run(&awaited(&[path.to_str().unwrap(), "argument"]));
        assert_not_executed(&end, &words);
        assert!(!format!("{end:?}").contains("tries"));
    }
}

#[test]
fn what_a_program_needs_and_is_missing_is_named() {
    let fixture = Fixture::new();
    let with = |change: fn(&mut CommandSpec)| {
        let mut command = command(&["/bin/true"]);
        change(&mut command);
        fixture.run(&spec(StartMethod::Command(command)))
    };
    let end = with(|command| command.directory = "/no/such/place".into());
    assert_not_executed(&end, &["`/no/such/place`: chdir", "ENOENT"]);
    let end = with(|command| command.user = Some("no-such-user".to_owned()));
    assert_not_executed(&end, &["there is no user `no-such-user`"]);
    let end = with(|command| command.argv.push("a\0b".to_owned()));
    assert_not_executed(&end, &["NUL"]);
    let end = fixture.run(&spec(StartMethod::None {
        reason: "no systemd here".to_owned(),
    }));
    assert_not_executed(&end, &["no systemd here"]);
}
