//! Commands that are waited for: their ends, deadlines, cancellations, and the
//! daemons they leave behind.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_script_exits_well_and_its_last_line_is_told() {
    let fixture = Fixture::new();
    let script = fixture.script("echo \"got $1 of $#\"; pwd -P; echo out; echo err >&2");
    assert_eq!(fixture.run(&script), exited(0, "err"));
    assert_eq!(
        fixture.read("log/entity.log"),
        "got start of 1\n/\nout\nerr\n"
    );
    fixture.submit(
        "entity",
        Job::Start {
            run: 1,
            spec: Arc::new(script),
            verb: StartVerb::Restart,
        },
    );
    assert_eq!(fixture.end().0, exited(0, "err"));
    assert!(
        fixture
            .read("log/entity.log")
            .contains("got restart of 1\n")
    );
}

#[test]
fn a_script_exits_badly_with_its_own_last_line() {
    let fixture = Fixture::new();
    assert_eq!(fixture.run(&fixture.script("echo fine")), exited(0, "fine"));
    assert_eq!(
        fixture.run(&fixture.script("echo one; printf 'cannot bind' >&2; exit 7")),
        exited(7, "cannot bind")
    );
    assert_eq!(fixture.run(&fixture.script("exit 1")), exited(1, ""));
    assert_eq!(
        fixture.run(&fixture.script("kill -TERM $$")),
        StartEnd::Signalled { signal: 15 }
    );
}

#[test]
fn a_script_past_its_deadline_dies_with_its_whole_group() {
    let fixture = Fixture::new();
    let script = EntitySpec {
        // Time enough to look at them before.
        start_timeout: Duration::from_secs(5),
        ..fixture.script("sleep 1000 & echo $! >DIR/grandchild; echo $$ >DIR/leader; wait")
    };
    let begun = Instant::now();
    fixture.start("entity", &script);
    let leader = fixture.process("leader");
    let grandchild = fixture.process("grandchild");
    assert_eq!(stat(&grandchild).pgrp, stat(&leader).pid);
    assert_eq!(fixture.end().0, StartEnd::TimedOut);
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert_dies(&leader);
    assert_dies(&grandchild);
}

#[test]
fn a_daemon_that_forks_twice_survives_outside_of_pmons_everything() {
    let fixture = Fixture::new();
    let script = fixture
        .script("(setsid sh -c 'echo $$ >DIR/daemon; exec sleep 1000' </dev/null &)\nexit 0");
    assert_eq!(fixture.run(&script), exited(0, ""));
    let daemon = fixture.process("daemon");
    fixture.submit("entity", Job::CancelStart);
    fixture.assert_silence();
    assert!(!daemon.is_dead());
    let stat = stat(&daemon);
    assert_eq!(stat.session, stat.pid);
    assert_eq!(stat.pgrp, stat.pid);
    // Read from `/proc`: in a pid namespace of its own a process may be in the
    // session 0, whose leader is outside, and rustix knows no pid 0.
    let own = procfs::process::Process::myself().unwrap().stat().unwrap();
    assert_ne!((stat.session, stat.pgrp), (own.session, own.pgrp));
    match &fixture.settings.cgroup_parent {
        Some(parent) => {
            let procs = parent.join("entity/cgroup.procs");
            let procs = fs::read_to_string(procs).unwrap();
            assert_eq!(procs, format!("{}\n", stat.pid));
            fixture.shutdown();
            assert!(parent.join("entity").exists(), "something lives in it");
        }
        None => assert!(!is_root("a cgroup of one's own") || cgroup::mount_point().is_none()),
    }
    daemon.signal(9).unwrap();
    assert_dies(&daemon);
    if let Some(parent) = &fixture.settings.cgroup_parent {
        // Dead comes a little before out of the cgroup.
        eventually(|| fs::remove_dir(parent.join("entity")).ok());
        fs::remove_dir(parent).unwrap();
    }
}

#[test]
fn empty_cgroups_go_with_the_entity_and_with_the_daemon() {
    let fixture = Fixture::new();
    let Some(parent) = fixture.settings.cgroup_parent.clone() else {
        assert!(!is_root("a cgroup of one's own") || cgroup::mount_point().is_none());
        return;
    };
    let script = fixture.script("cat /proc/self/cgroup");
    for entity in ["one", "t.w/o"] {
        fixture.start(entity, &script);
        assert!(matches!(fixture.end().0, StartEnd::Exited { code: 0, .. }));
    }
    let name = parent.file_name().unwrap().to_str().unwrap();
    assert!(
        fixture
            .read("log/one.log")
            .contains(&format!("0::/{name}/one\n"))
    );
    assert!(
        fixture
            .read(r"log/t.w\x2fo.log")
            .contains(&format!("0::/{name}/t\\x2ew\\x2fo\n"))
    );
    fixture.executor.forget("one");
    eventually(|| (!parent.join("one").exists()).then_some(()));
    assert!(parent.exists());
    fixture.shutdown();
    assert!(!parent.exists());
}

#[test]
fn a_cgroup_that_cannot_be_had_is_said_once_and_costs_nothing() {
    let fixture = Fixture::with(|settings| {
        settings.cgroup_parent = Some("/proc/no-such-place".into());
    });
    let script = fixture.script("exit 0");
    fixture.start("entity", &script);
    assert!(fixture.failure().contains("/proc/no-such-place"));
    assert_eq!(fixture.end().0, exited(0, ""));
    assert_eq!(fixture.run(&script), exited(0, ""));
}

#[test]
fn a_log_that_cannot_be_opened_costs_the_output_only() {
    let fixture = Fixture::new();
    let log = fixture.path("link.log");
    symlink(fixture.path("target"), &log).unwrap();
    let spec = spec(StartMethod::Command(CommandSpec {
        daemonizes: true,
        log: Some(log),
        ..command(&["/bin/sh", "-c", "echo lost"])
    }));
    fixture.start("entity", &spec);
    assert!(fixture.failure().contains("link.log"));
    assert_eq!(fixture.end().0, exited(0, ""));
    assert!(!fixture.path("target").exists());
}

#[test]
fn a_cancelled_start_dies_unreported() {
    let fixture = Fixture::new();
    fixture.start("entity", &fixture.script("echo $$ >DIR/leader; sleep 1000"));
    let leader = fixture.process("leader");
    fixture.submit("entity", Job::CancelStart);
    assert_dies(&leader);
    fixture.assert_silence();
    // And one that has hardly begun.
    for _ in 0..20 {
        fixture.start(
            "entity",
            &fixture.script("echo late >>DIR/late; sleep 1000"),
        );
        fixture.submit("entity", Job::CancelStart);
    }
    fixture.assert_silence();
}

#[test]
fn a_new_start_cancels_the_old_one_first() {
    let fixture = Fixture::new();
    fixture.start("entity", &fixture.script("echo $$ >DIR/first; sleep 1000"));
    let first = fixture.process("first");
    let second = fixture.program(
        "second",
        "#!/bin/sh\nkill -0 $(cat DIR/first) 2>/dev/null && ps -o stat= -p $(cat DIR/first) | grep -qv Z && exit 9\nexit 0\n",
    );
    assert_eq!(
        fixture.run(&spec(StartMethod::Script { path: second })),
        exited(0, "")
    );
    assert_dies(&first);
    fixture.assert_silence();
}

#[test]
fn a_forgotten_start_goes_on_unreported() {
    let fixture = Fixture::new();
    fixture.start(
        "entity",
        &fixture.script(
            "echo $$ >DIR/leader; until [ -e DIR/go ]; do sleep 0.02; done; echo done >DIR/done",
        ),
    );
    let leader = fixture.process("leader");
    fixture.executor.forget("entity");
    fs::write(fixture.path("go"), "").unwrap();
    assert_eq!(fixture.read("done"), "done\n");
    assert_dies(&leader);
    fixture.assert_silence();
}

#[test]
fn started_processes_survive_the_end_of_the_daemon() {
    let mut fixture = Fixture::new();
    fixture.start(
        "entity",
        &fixture.script("echo $$ >DIR/leader; exec sleep 1000"),
    );
    let leader = fixture.process("leader");
    fixture.shutdown();
    fixture.start("entity", &fixture.script("echo no >DIR/no"));
    fixture.end_runtime();
    assert!(!leader.is_dead());
    assert!(!fixture.path("no").exists());
    leader.signal(9).unwrap();
    assert_dies(&leader);
    if let Some(parent) = &fixture.settings.cgroup_parent {
        eventually(|| fs::remove_dir(parent.join("entity")).ok());
        fs::remove_dir(parent).unwrap();
    }
}

#[test]
fn a_unit_is_restarted_and_stopped_through_systemctl() {
    let fixture = Fixture::new();
    fixture.program(
        "systemctl",
        "#!/bin/sh\necho \"$@\" >>DIR/calls\n[ \"$3\" = stop ] && { echo 'Access denied' >&2; exit 4; }\nexit 0\n",
    );
    let unit = spec(StartMethod::Unit {
        unit: "x.service".to_owned(),
        policy: crate::core::entity::UnitPolicy::Leave,
    });
    assert_eq!(fixture.run(&unit), exited(0, ""));
    fixture.submit(
        "entity",
        Job::StopUnit {
            spec: Arc::new(unit),
        },
    );
    assert_eq!(
        fixture.failure(),
        "cannot stop the unit: exit code 4: Access denied"
    );
    assert_eq!(
        fixture.read("calls"),
        "--no-ask-password --job-mode=fail restart -- x.service\n--no-ask-password --job-mode=replace stop -- x.service\n"
    );
    fixture.submit(
        "entity",
        Job::StopUnit {
            spec: Arc::new(fixture.script("")),
        },
    );
    assert_eq!(
        fixture.failure(),
        "cannot stop the unit: there is no unit to stop"
    );
}
