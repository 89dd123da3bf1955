//! A death as the kernel writes it into the table.

use std::{fs, os::unix::process::ExitStatusExt as _};

use pmon_common::{START_TICK_NS, flag, group_dead, kind};
use pmon_tests::{daemon::LONG, wait};
use pmon_user::source::programs::Selection;
use rustix::process::Signal;

use crate::{
    specimen::Specimen,
    world::{World, assert_flags, best, text},
};

/// Every way in which the programs can learn that a thread was the last.
fn ways() -> Vec<Selection> {
    let best = best();
    let mut by_live_threads = best.clone();
    by_live_threads.layout.group_dead = group_dead::SIGNAL_LIVE;
    vec![best, by_live_threads]
}

#[test]
fn a_death_has_a_time_a_status_and_a_name() {
    for way in ways() {
        let Some(mut world) = World::with(&way) else {
            return;
        };
        let mut specimen = Specimen::script("exit 7");
        let (pid, generation) = (specimen.pid(), world.register(specimen.pid(), 0));
        let start = world.entry(pid).start_time;
        assert_eq!(world.entry(pid).flags, 0);
        specimen.go();
        let status = specimen.wait();
        let death = world.death(pid);
        assert_flags(
            &death,
            death.flags,
            flag::GROUP_DEAD | flag::EXIT_CODE_KNOWN | flag::IDENTITY_CHECKED | flag::USAGE_KNOWN,
        );
        assert_eq!(death.exit_code, status.into_raw().cast_unsigned());
        assert_eq!(text(&death.comm), "sh");
        assert_eq!((death.generation, death.start_time), (generation, start));
        assert!(death.died_at / START_TICK_NS >= start);

        let told = world.record("the exit", |event| event.tgid == pid);
        assert_eq!(told.kind, kind::EXIT);
        assert_eq!((told.generation, told.start_time), (generation, start));
        assert_eq!((told.at, told.exit_code), (death.died_at, death.exit_code));
        assert_eq!(told.comm, death.comm);
        assert_eq!(world.exits(pid), []);
        let stats = world.ebpf.stats();
        assert_eq!((stats.deaths, stats.repeats, stats.drops), (1, 0, 0));
    }
}

#[test]
fn a_leader_that_ends_first_is_no_death() {
    for way in ways() {
        let Some(mut world) = World::with(&way) else {
            return;
        };
        let mut service = Specimen::service(&["--on-usr1", "leader-exits"]);
        let pid = service.pid();
        world.register(pid, 0);
        service.signal(Signal::USR1);
        wait::until("the leader's end", LONG, || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.contains(") Z ").then_some(())
        });
        assert_eq!(world.entry(pid).flags & flag::DEAD, 0);
        assert_eq!(world.exits(pid), []);

        service.signal(Signal::USR2);
        let status = service.wait();
        // The leader's before Linux 5.18, the last thread's since.
        assert!(matches!(status.code(), Some(3 | 5)), "{status}");
        let death = world.death(pid);
        assert_eq!(death.exit_code, status.into_raw().cast_unsigned());
        assert_eq!(world.exits(pid).len(), 1);
        assert_eq!(world.ebpf.stats().deaths, 1);
    }
}

#[test]
fn threads_that_are_killed_together_die_once() {
    for way in ways() {
        let Some(mut world) = World::with(&way) else {
            return;
        };
        for _ in 0..50 {
            let mut service = Specimen::service(&[]);
            let pid = service.pid();
            let missed = world.ebpf.missed_runs();
            world.register(pid, 0);
            service.signal(Signal::KILL);
            let status = service.wait();
            // Both threads are past the tracepoint.
            let death = world.entry(pid);
            if death.flags & flag::DEAD == 0 {
                // Where a program can be preempted, the kernel leaves it out for the
                // other thread, and counts that; the daemon has the pidfd.
                let left_out = world.ebpf.missed_runs();
                assert!(left_out > missed, "not told: {death:?}, {left_out:?}");
                assert_eq!(world.exits(pid), []);
                world.ebpf.remove(pid);
                continue;
            }
            assert_eq!(death.exit_code, status.into_raw().cast_unsigned());
            assert_flags(&death, death.flags, flag::EXIT_CODE_KNOWN);
            // Where `signal->live` decides, both threads may have found it zero
            // at the very same moment; what they told is the same.
            let exits = world.exits(pid);
            assert!(!exits.is_empty() && exits.iter().all(|exit| exit.exit_code == 9));
            world.ebpf.remove(pid);
        }
    }
}

#[test]
fn a_stranger_with_the_pid_is_counted_and_left_out() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut specimen = Specimen::script("exit 7");
    let pid = specimen.pid();
    let entry = pmon_common::Registration {
        start_time: 1,
        generation: 9,
        ..Default::default()
    };
    world.ebpf.insert(pid, entry).unwrap();
    specimen.go();
    specimen.wait();
    wait::until("the count", LONG, || {
        (world.ebpf.stats().strangers == 1).then_some(())
    });
    assert_eq!(world.entry(pid), entry);
    assert_eq!(world.exits(pid), []);
}

#[test]
fn usage_is_what_the_process_used() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut busy = Specimen::script("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
    world.register(busy.pid(), 0);
    busy.go();
    let death = world.death(busy.pid());
    assert_flags(&death, death.flags, flag::USAGE_KNOWN);
    // Not reaped yet: its zombie has the same sum in ticks, user and system
    // each rounded down, and what was not accounted at the record.
    let stat = wait::until("a zombie", LONG, || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", busy.pid())).unwrap();
        stat.contains(") Z ").then_some(stat)
    });
    let after_name: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 =
        after_name[14 - 3].parse::<u64>().unwrap() + after_name[15 - 3].parse::<u64>().unwrap();
    let counted = death.cpu_ns / START_TICK_NS;
    assert!(counted > 2, "not busy: {death:?}");
    assert!(counted.abs_diff(ticks) <= 3, "{counted} of {ticks} ticks");
}

#[test]
fn threads_that_ended_before_count() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut service = Specimen::service(&["--on-usr1", "leader-exits"]);
    let pid = service.pid();
    world.register(pid, 0);
    service.signal(Signal::USR2);
    wait::until("the worker's end", LONG, || {
        (fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() == 1).then_some(())
    });
    // The kernel's own sum, over threads that are gone too.
    let sum = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let of_leader: u64 = sum.split(' ').next().unwrap().parse().unwrap();
    service.signal(Signal::KILL);
    service.wait();
    let death = world.death(pid);
    assert!(death.cpu_ns > of_leader, "{} {of_leader}", death.cpu_ns);
}

#[test]
fn the_peak_of_memory_is_told() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut specimen = Specimen::script("exec dd if=/dev/zero of=/dev/null bs=64M count=1");
    world.register(specimen.pid(), 0);
    specimen.go();
    let death = world.death(specimen.pid());
    let peak = death.peak_rss_pages * rustix::param::page_size() as u64;
    // As getrusage(2) has it: a child made by vfork(2) begins with its parent's.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let own: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    let most = (96 << 20).max((own << 10) + (16 << 20));
    assert!((64 << 20..most).contains(&peak), "{peak} of {most}");
    assert_eq!(text(&death.comm), "dd");
}
