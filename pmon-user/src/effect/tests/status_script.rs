//! Scripts of status mode: their one argument, their deadline, what they leave
//! behind, and the text that explains a failure.

use super::*;
use crate::core::{effect::ScriptTask, entity::StatusSpec};

impl Fixture {
    fn status(&self, text: &str, timeout: Duration) -> EntitySpec {
        let path = self.program("asked", &format!("#!/bin/sh\n{text}\n"));
        EntitySpec {
            mode: Mode::Status,
            status: Some(StatusSpec {
                script: path.clone(),
                start_arg: "start mds".to_owned(),
                status_arg: "status  of 'mds' $HOME;*".to_owned(),
                period: Duration::from_secs(30),
                timeout,
                failure_text: Some(self.path("failure")),
            }),
            ..spec(StartMethod::Script { path })
        }
    }

    fn ask(&self, spec: &EntitySpec, task: ScriptTask, run: u64, failure_text: bool) {
        self.submit(
            "entity",
            Job::RunScript {
                spec: Arc::new(spec.clone()),
                task,
                run,
                failure_text,
            },
        );
    }

    fn answer(&self) -> (u64, StartEnd, Option<String>) {
        match self.report().1 {
            Report::ScriptEnded {
                run,
                end,
                failure_text,
            } => (run, end, failure_text),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_argument_is_one_element_whatever_is_in_it() {
    let fixture = Fixture::new();
    let asked = fixture.status(
        r#"tr '\0' '\n' </proc/$$/cmdline; echo "$#:$1"; exit 3"#,
        LONG,
    );
    fixture.ask(&asked, ScriptTask::Status, 4, false);
    let told = "1:status  of 'mds' $HOME;*";
    assert_eq!(fixture.answer(), (4, exited(3, told), None));
    fixture.ask(&asked, ScriptTask::Start, 5, false);
    assert_eq!(fixture.answer(), (5, exited(3, "1:start mds"), None));
    // Questions leave no log behind, starts do.
    let log = fixture.read("log/entity.log");
    assert!(
        log.ends_with("1:start mds\n") && !log.contains("1:status"),
        "{log}"
    );
}

#[test]
fn the_first_word_is_the_programs_name_without_its_directory() {
    let fixture = Fixture::new();
    // Not a script: the kernel puts its path there.
    let mut asked = fixture.status("", LONG);
    let program = fixture.path("asked");
    fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink("/bin/cat", &program).unwrap();
    asked.status.as_mut().unwrap().status_arg = "/proc/self/cmdline".to_owned();
    fixture.ask(&asked, ScriptTask::Status, 1, false);
    let (_, end, _) = fixture.answer();
    // Control characters are not passed on.
    assert_eq!(end, exited(0, "asked/proc/self/cmdline"));
}

#[test]
fn past_its_deadline_the_whole_group_is_killed_and_nothing_of_the_daemons() {
    let fixture = Fixture::new();
    let asked = fixture.status(
        "(setsid sh -c 'echo $$ >DIR/daemon; exec sleep 1000' </dev/null &)\n\
         (trap '' TERM; echo $(exec sh -c 'echo $PPID') >DIR/stubborn; \
         while :; do sleep 1000; done) &\n\
         while ! [ -s DIR/daemon ] || ! [ -s DIR/stubborn ]; do sleep 0.01; done\n\
         echo $$ >DIR/leader; wait",
        Duration::from_secs(5),
    );
    fixture.ask(&asked, ScriptTask::Status, 1, false);
    let [daemon, stubborn, leader] =
        ["daemon", "stubborn", "leader"].map(|name| fixture.process(name));
    assert_eq!(fixture.answer(), (1, StartEnd::TimedOut, None));
    assert_dies(&leader);
    assert_dies(&stubborn);
    assert!(!daemon.is_dead(), "it has a session of its own");
    daemon.signal(9).unwrap();
}

/// S19: questions use up nothing of what pmon's own cgroup may use.
#[test]
fn a_question_runs_in_cgroups_of_its_own() {
    let fixture = Fixture::with(|settings| {
        let name = settings
            .cgroup_parent
            .as_ref()
            .and_then(|it| it.file_name());
        settings.cpu_cgroup_parent =
            name.and_then(|name| Some(cgroup::cpu_mount_point()?.join(name)));
    });
    let Some(parent) = fixture.settings.cgroup_parent.clone() else {
        assert!(!is_root("a cgroup of one's own") || cgroup::mount_point().is_none());
        return;
    };
    let name = parent.file_name().unwrap().to_str().unwrap();
    let own = |controllers: &str| {
        let line = format!("^[0-9]*:{controllers}:");
        let asked = fixture.status(&format!("grep '{line}' /proc/self/cgroup"), LONG);
        fixture.ask(&asked, ScriptTask::Status, 1, false);
        let (_, StartEnd::Exited { last_line, .. }, _) = fixture.answer() else {
            panic!("it runs");
        };
        last_line.unwrap()
    };
    assert_eq!(own(""), format!("0::/{name}/entity"));
    let cpu_parent = fixture.settings.cpu_cgroup_parent.clone();
    if cpu_parent.is_some() {
        let line = own("[^:]*\\bcpu\\b[^:]*");
        assert!(line.ends_with(&format!(":/{name}/entity")), "{line}");
    }
    fixture.shutdown();
    for parent in cpu_parent.iter().chain([&parent]) {
        assert!(!parent.exists(), "{}", parent.display());
    }
}

#[test]
fn what_a_script_leaves_behind_in_its_own_group_lives_on() {
    let fixture = Fixture::new();
    let asked = fixture.status("sleep 1000 & echo $! >DIR/left; exit 0", LONG);
    fixture.ask(&asked, ScriptTask::Start, 1, false);
    assert_eq!(fixture.answer(), (1, exited(0, ""), None));
    let left = fixture.process("left");
    // The next run, and its cancellation, are no concern of it.
    fixture.ask(&asked, ScriptTask::Status, 2, false);
    assert_eq!(fixture.answer().0, 2);
    fixture.submit("entity", Job::CancelStart);
    fixture.assert_silence();
    assert!(!left.is_dead());
    left.signal(9).unwrap();
}

#[test]
fn a_script_that_is_gone_is_a_failure_with_a_reason() {
    let fixture = Fixture::new();
    let asked = fixture.status("", LONG);
    fs::remove_file(fixture.path("asked")).unwrap();
    fixture.ask(&asked, ScriptTask::Status, 1, false);
    let (1, StartEnd::NotExecuted { reason }, None) = fixture.answer() else {
        panic!("it is not there");
    };
    assert!(
        reason.contains("asked") && reason.contains("ENOENT"),
        "{reason}"
    );
}

#[test]
fn the_text_is_read_when_it_is_wanted_and_only_then() {
    let fixture = Fixture::new();
    let asked = fixture.status("echo 'no quorum' >DIR/failure; exit 1", LONG);
    fixture.ask(&asked, ScriptTask::Start, 1, false);
    assert_eq!(fixture.answer().2, None);
    fixture.ask(&asked, ScriptTask::Start, 2, true);
    assert_eq!(fixture.answer().2.as_deref(), Some("no quorum"));
    let silent = fixture.status("rm -f DIR/failure; exit 1", LONG);
    fixture.ask(&silent, ScriptTask::Start, 3, true);
    let what = fixture.failure();
    assert!(
        what.contains("failure") && what.contains("No such file"),
        "{what}"
    );
    assert_eq!(fixture.answer(), (3, exited(1, ""), None));
}

#[test]
fn a_cancelled_script_dies_and_says_nothing() {
    let fixture = Fixture::new();
    let asked = fixture.status("echo $$ >DIR/leader; sleep 1000", LONG);
    fixture.ask(&asked, ScriptTask::Status, 1, false);
    let leader = fixture.process("leader");
    fixture.submit("entity", Job::CancelStart);
    assert_dies(&leader);
    fixture.assert_silence();
    fixture.ask(
        &fixture.status("exit 0", LONG),
        ScriptTask::Status,
        2,
        false,
    );
    assert_eq!(fixture.answer(), (2, exited(0, ""), None));
}
