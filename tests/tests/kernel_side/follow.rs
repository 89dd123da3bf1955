//! Children of followed processes, registered before they run.

use std::{fs, os::fd::AsFd as _, path::Path};

use pmon_common::{Event, KERNEL_GENERATIONS, Registration, flag, kind};
use pmon_tests::{
    binary,
    daemon::LONG,
    kernel,
    process::{Process, start_ticks},
    wait,
};

use crate::{
    specimen::Specimen,
    world::{World, assert_flags, text},
};

fn is(event: &Event, kind: u32, tgid: u32) -> bool {
    event.kind == kind && event.tgid == tgid
}

#[test]
fn a_fork_and_an_exec_are_told() {
    let Some(mut world) = World::new() else {
        return;
    };
    let service = binary::service();
    let script = format!("'{}' --tag t & echo $!; wait", service.display());
    let mut parent = Specimen::script(&script);
    let generation = world.register(parent.pid(), flag::FOLLOW);
    parent.go();
    let child: u32 = parent.line().parse().unwrap();
    let fork = world.record("the fork", |event| is(event, kind::FORK, child));
    assert_eq!(fork.root_generation, generation);
    assert_eq!(fork.flags, flag::FOLLOW | flag::FOLLOWED);
    assert_eq!(Some(fork.start_time), start_ticks(child));
    assert!(fork.generation >= KERNEL_GENERATIONS);
    assert_eq!(text(&fork.comm), "sh");

    let entry = world.entry(child);
    assert_eq!(entry.generation, fork.generation);
    assert_eq!(entry.root_generation, generation);
    assert_eq!(entry.start_time, fork.start_time);
    assert_flags(&entry, entry.flags, flag::FOLLOW | flag::FOLLOWED);

    let exec = world.record("the exec", |event| is(event, kind::EXEC, child));
    // Fifteen characters of it.
    assert_eq!(text(&exec.comm), "pmon-test-servi");
    assert_eq!(exec.generation, fork.generation);

    Process::open(child).unwrap().kill();
    let exit = world.record("the exit", |event| is(event, kind::EXIT, child));
    assert_eq!(exit.generation, fork.generation);
    assert_eq!(world.death(child).exit_code, 9);
    let stats = world.ebpf.stats();
    assert_eq!((stats.followed, stats.unfollowed), (1, 0));
}

#[test]
fn without_the_flag_nobody_is_followed() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut parent = Specimen::script("sleep 0 & wait; exit 5");
    world.register(parent.pid(), 0);
    parent.go();
    world.death(parent.pid());
    assert_eq!(world.ebpf.entries(), 1);
    let kinds: Vec<u32> = world.records().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [kind::EXIT]);
}

#[test]
fn threads_are_no_children() {
    let Some(mut world) = World::new() else {
        return;
    };
    let service = binary::service();
    let mut parent = Specimen::script(&format!("exec '{}' --tag t", service.display()));
    world.register(parent.pid(), flag::FOLLOW);
    parent.go();
    let tasks = format!("/proc/{}/task", parent.pid());
    wait::until("both threads", LONG, || {
        (fs::read_dir(&tasks).unwrap().count() == 2).then_some(())
    });
    assert_eq!(world.ebpf.entries(), 1);
    assert_eq!(world.ebpf.stats().followed, 0);
}

#[test]
fn a_thousand_forks_in_a_row_are_followed() {
    let Some(mut world) = World::new() else {
        return;
    };
    // Each forks the next and ends, as a daemon does that goes into the background.
    let script = r#"next='[ $1 -gt 1 ] && sh -c "$0" "$0" $(($1-1)) & exit 0'; sh -c "$next" "$next" 1000 & exit 0"#;
    let mut first = Specimen::script(script);
    let root = world.register(first.pid(), flag::FOLLOW);
    first.go();
    wait::until_seen(
        "the last of them",
        LONG * 3,
        || world.ebpf.stats(),
        |stats| stats.followed >= 1001 && stats.deaths == stats.followed + 1,
    );
    let stats = world.ebpf.stats();
    assert_eq!((stats.unfollowed, stats.strangers), (0, 0), "{stats:?}");

    let entries = world.ebpf.registrations().unwrap();
    assert_eq!(entries.len() as u64, stats.followed + 1);
    for (_, entry) in &entries {
        let is_root = entry.generation == root;
        assert_eq!(entry.root_generation, if is_root { 0 } else { root });
    }
    for (_, entry) in &entries {
        assert_flags(entry, entry.flags, flag::DEAD | flag::EXIT_CODE_KNOWN);
    }
}

#[test]
fn a_death_that_nobody_collected_is_not_overwritten() {
    let Some(mut world) = World::new() else {
        return;
    };
    // Some pid that nobody has for now.
    let mut gone = Specimen::script("exit 1");
    let pid = gone.pid();
    gone.go();
    gone.wait();
    let uncollected = Registration {
        start_time: 1,
        generation: 50,
        died_at: 2,
        exit_code: 3,
        flags: flag::DEAD | flag::EXIT_CODE_KNOWN,
        dead_generation: 50,
        ..Default::default()
    };
    world.ebpf.insert(pid, uncollected).unwrap();
    let own = world.register(std::process::id(), flag::FOLLOW);

    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let null = null.as_fd();
    kernel::spawn_with_pid(pid, Path::new("/bin/true"), &["true"], null, null).unwrap();
    kernel::reap(pid).unwrap();
    let fork = world.record("the fork", |event| is(event, kind::FORK, pid));
    assert_eq!(fork.flags & flag::FOLLOWED, 0);
    assert_eq!(fork.root_generation, own);
    assert_ne!(fork.start_time, 1);
    assert_eq!(world.ebpf.stats().unfollowed, 1);
    assert_eq!(world.entry(pid), uncollected);
}
