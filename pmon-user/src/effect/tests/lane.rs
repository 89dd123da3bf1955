//! Order within an entity, independence between entities.

use super::*;
use crate::{core::identity::Identity, specimen::Sleeper, sys::clock};

#[test]
fn the_pidfile_is_gone_before_the_signal_arrives() {
    let fixture = Fixture::new();
    for round in 0..20 {
        let name = format!("out.{round}");
        let text = format!(
            "trap '[ -e DIR/pid ] && echo present >DIR/{name} || echo absent >DIR/{name}; exit' TERM
             echo $$ >DIR/pid; while :; do sleep 0.01; done"
        );
        fixture.start("entity", &fixture.script(&text));
        let process = fixture.process("pid");
        let path = fixture.path("pid");
        fixture.submit(
            "entity",
            Job::RemovePidfile {
                path,
                identity: process.identity(),
            },
        );
        fixture.submit(
            "entity",
            Job::Signal {
                process: process.clone(),
                signal: 15,
            },
        );
        assert_eq!(fixture.end().0, exited(0, ""));
        assert_eq!(fixture.read(&name), "absent\n");
        assert!(process.is_dead());
    }
}

#[test]
fn leftovers_are_gone_before_the_start() {
    let fixture = Fixture::new();
    let master = fixture.script(
        "sleep 1000 & echo $! >DIR/worker
         echo $$ >DIR/master; wait",
    );
    fixture.start("entity", &master);
    let (worker, master) = (fixture.process("worker"), fixture.process("master"));
    master.signal(9).unwrap();
    assert_eq!(fixture.end().0, StartEnd::Signalled { signal: 9 });
    assert!(!worker.is_dead());
    let dead = master.identity();
    let job = Job::EndLeftovers {
        identity: dead,
        died: clock::now(),
        stop: spec(StartMethod::None {
            reason: String::new(),
        })
        .stop,
    };
    fixture.submit("entity", job.clone());
    let successor = "exit 0";
    fixture.start("entity", &fixture.script(successor));
    let Report::Leftovers {
        dead: whose,
        left,
        gone,
    } = fixture.report().1
    else {
        panic!("something else came first");
    };
    assert_eq!((whose, left, gone), (dead, vec![worker.identity()], true));
    assert!(worker.is_dead());
    assert!(matches!(fixture.end().0, StartEnd::Exited { .. }));
    // There is nothing to tell a second time.
    fixture.submit("entity", job);
    fixture.assert_silence();
}

#[test]
fn a_hanging_entity_delays_nobody() {
    let fixture = Fixture::new();
    fixture.program(
        "systemctl",
        "#!/bin/sh\necho $$ >DIR/stopping\nexec sleep 1000\n",
    );
    let unit = spec(StartMethod::Unit {
        unit: "x.service".to_owned(),
        policy: crate::core::entity::UnitPolicy::Leave,
    });
    let hanging = fixture.program(
        "hanging",
        "#!/bin/sh\necho $$ >DIR/hanging.pid\nsleep 1000\n",
    );
    fixture.submit(
        "stuck",
        Job::StopUnit {
            spec: Arc::new(unit),
        },
    );
    fixture.start("stuck", &spec(StartMethod::Script { path: hanging }));
    let stopping = fixture.process("stopping");
    let hanging = fixture.process("hanging.pid");
    for entity in ["a", "b", "c"] {
        fixture.start(entity, &fixture.script("exit 0"));
        let (who, report) = fixture.report();
        assert_eq!(&*who, entity);
        assert!(matches!(report, Report::StartEnded { .. }));
    }
    assert!(!hanging.is_dead() && !stopping.is_dead());
    // Nor are the entity's own later jobs stuck behind its commands.
    fixture.submit(
        "stuck",
        Job::Signal {
            process: stopping,
            signal: 9,
        },
    );
    assert_eq!(fixture.failure(), "cannot stop the unit: signal 9");
    fixture.submit("stuck", Job::CancelStart);
    assert_dies(&hanging);
    fixture.assert_silence();
}

#[test]
fn what_cannot_be_removed_or_signalled_is_said() {
    let fixture = Fixture::new();
    let process = verify(std::process::id()).unwrap();
    let folder = fixture.path("folder");
    fs::create_dir(&folder).unwrap();
    fixture.submit(
        "entity",
        Job::RemovePidfile {
            path: folder,
            identity: process.identity(),
        },
    );
    assert!(
        fixture
            .failure()
            .ends_with("is a directory, not a regular file; left alone")
    );
    fixture.submit(
        "entity",
        Job::Signal {
            process: process.clone(),
            signal: 999,
        },
    );
    assert_eq!(
        fixture.failure(),
        format!(
            "cannot send signal 999 to `{}`: EINVAL (Invalid argument)",
            process.identity()
        )
    );
}

#[test]
fn what_is_gone_or_another_process_is_no_failure() {
    let fixture = Fixture::new();
    let mut sleeper = Sleeper::spawn();
    let process = sleeper.verified();
    sleeper.end();
    fixture.submit(
        "entity",
        Job::Signal {
            process,
            signal: 15,
        },
    );
    let path = fixture.path("pid");
    fs::write(&path, "4711\n").unwrap();
    for name in ["pid", "absent"] {
        fixture.submit(
            "entity",
            Job::RemovePidfile {
                path: fixture.path(name),
                identity: Identity {
                    pid: 4712,
                    start_time: 1,
                },
            },
        );
    }
    fixture.submit("entity", Job::CancelStart);
    fixture.assert_silence();
    assert!(path.exists());
}
