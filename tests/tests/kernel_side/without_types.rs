//! The exit program that needs nothing of the kernel's types.

use std::{os::unix::process::ExitStatusExt as _, time::Duration};

use pmon_common::{EXIT_PROGRAM, EXIT_RAW_PROGRAM, flag, kind};
use pmon_tests::{daemon::LONG, process, wait};
use pmon_user::{
    core::death::{LastSeen, SourceName, WaitStatus},
    source::programs::Selection,
    sys::{epoll::Epoll, pidfd::verify},
    table::{Ended, Table},
};
use rustix::process::Signal;

use crate::{
    specimen::Specimen,
    world::{World, best},
};

fn nothing_known() -> Selection {
    Selection::without_types("a test".to_owned())
}

#[test]
fn every_threads_exit_is_a_hint() {
    let Some(mut world) = World::with(&nothing_known()) else {
        return;
    };
    let programs = world.ebpf.programs();
    assert_eq!(programs.len(), 1);
    assert_eq!(programs[0].name, "pmon_exit_raw");
    assert_eq!(programs[0].tracepoint, "raw_tp/sched_process_exit");
    let missing: Vec<&str> = world
        .ebpf
        .missing()
        .iter()
        .map(|missing| missing.program)
        .collect();
    let expected = [
        "pmon_exit",
        "pmon_signal",
        "pmon_oom",
        "pmon_fork",
        "pmon_exec",
    ];
    assert_eq!(missing, expected);
    for missing in world.ebpf.missing() {
        assert_eq!(missing.reason, "a test");
    }

    let mut service = Specimen::service(&["--on-usr1", "leader-exits"]);
    let pid = service.pid();
    world.register(pid, 0);
    let entry = world.entry(pid);
    service.signal(Signal::USR1);
    let of_leader = world.record("the leader's exit", |event| event.tgid == pid);
    assert_eq!(of_leader.flags, 0);
    assert_eq!(of_leader.generation, entry.generation);
    service.signal(Signal::USR2);
    let of_worker = world.record("the worker's exit", |event| event.tgid == pid);
    assert_eq!(of_worker.flags, 0);
    assert!(of_worker.at > of_leader.at);
    assert_eq!(world.entry(pid), entry, "nothing is written");
    service.wait();
}

#[test]
fn it_replaces_an_exit_program_that_is_refused() {
    let mut refused = best();
    refused.passed_over.push(EXIT_PROGRAM);
    let Some(mut world) = World::with(&refused) else {
        return;
    };
    assert_eq!(world.ebpf.programs()[0].name, EXIT_RAW_PROGRAM);
    let missing: Vec<&str> = world
        .ebpf
        .missing()
        .iter()
        .map(|missing| missing.program)
        .collect();
    assert_eq!(missing, [EXIT_PROGRAM]);
    assert!(!world.ebpf.tells_deaths_apart());
    // The others are there.
    let mut specimen = Specimen::script("read more");
    world.register(specimen.pid(), 0);
    specimen.signal(Signal::KILL);
    let told = world.record("the exit", |event| event.tgid == specimen.pid());
    assert_eq!((told.flags, told.kind), (0, kind::EXIT));
    specimen.wait();
    let entry = world.entry(specimen.pid());
    assert_eq!((entry.flags, entry.signal), (flag::SIGNAL_KNOWN, 9));
}

#[test]
fn the_table_makes_one_death_of_the_hints() {
    let Some(world) = World::with(&nothing_known()) else {
        return;
    };
    let epoll = Epoll::new().unwrap();
    let mut table = Table::new(Some(world.ebpf));
    let mut service = Specimen::service(&["--on-usr1", "leader-exits"]);
    let process = verify(service.pid()).unwrap();
    let identity = process.identity();
    table
        .register(&"web".into(), process, LastSeen::default(), &epoll)
        .unwrap();
    service.signal(Signal::USR1);
    wait::until("the leader's end", LONG, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", identity.pid)).unwrap();
        stat.contains(") Z ").then_some(())
    });
    assert!(table.next_hint().is_none(), "one thread of two");

    service.signal(Signal::USR2);
    assert!(
        process::Process::open(identity.pid)
            .unwrap()
            .ends_within(LONG)
    );
    let hint = table.next_hint().map(|(_, hint)| hint);
    // The record of the last thread; by now its pidfd says what it means.
    let hint = hint.unwrap();
    assert_eq!(hint.identity, identity);
    assert_eq!((hint.died_at, hint.status), (None, None), "not for sure");
    assert!(table.next_hint().is_none());
    let mut tokens = Vec::new();
    epoll.wait(Some(Duration::ZERO), &mut tokens).unwrap();
    let ended: Vec<Ended> = tokens
        .into_iter()
        .filter_map(|generation| table.ended(generation, &epoll))
        .collect();
    let status = service.wait().into_raw().cast_unsigned();
    match &ended[..] {
        [Ended::Died(name, death)] => {
            assert_eq!(&**name, "web");
            assert_eq!(death.identity, identity);
            assert_eq!(death.detected_by, SourceName::Ebpf);
            assert_eq!(death.status, Some(WaitStatus(status)), "the zombie's");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(table.registered(), 0);
}

#[test]
fn a_thread_that_ends_does_not_end_its_process() {
    let Some(mut world) = World::with(&nothing_known()) else {
        return;
    };
    let service = Specimen::service(&[]);
    world.register(service.pid(), 0);
    service.signal(Signal::USR2);
    let hint = world.record("the worker's exit", |event| event.tgid == service.pid());
    assert_eq!(hint.flags & flag::GROUP_DEAD, 0);
    assert_eq!(world.entry(service.pid()).flags, 0);
}
