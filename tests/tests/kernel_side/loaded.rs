//! What is loaded, and what the kernel says of it.

use pmon_common::{SIGNAL_RAW_PROGRAM, flag};

use crate::{specimen::Specimen, world::World};

/// The programs with their tracepoints, in the order of attachment.
const ALL: [(&str, &str); 5] = [
    ("pmon_exit", "tp_btf/sched_process_exit"),
    ("pmon_signal", "tp_btf/signal_generate"),
    ("pmon_oom", "tp_btf/mark_victim"),
    ("pmon_fork", "tp_btf/sched_process_fork"),
    ("pmon_exec", "tp_btf/sched_process_exec"),
];

#[test]
fn every_program_is_attached() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.ebpf.missing(), []);
    let programs = world.ebpf.programs();
    let names: Vec<_> = programs
        .iter()
        .map(|program| (program.name, program.tracepoint))
        .collect();
    let mut all = ALL;
    if names.contains(&(SIGNAL_RAW_PROGRAM, all[1].1)) {
        // The kernel refused the other.
        all[1].0 = SIGNAL_RAW_PROGRAM;
    }
    assert_eq!(names, all);
    for program in &programs {
        assert!(program.id != 0 && program.tag != 0, "{program:?}");
    }
}

#[test]
fn all_entries_are_read_at_once() {
    let Some(mut world) = World::new() else {
        return;
    };
    let live = Specimen::script("read more");
    let mut dead = Specimen::script("exit 3");
    world.register(live.pid(), 0);
    world.register(dead.pid(), 0);
    let strangers = 5000;
    for number in 0..strangers {
        // Above every pid there is.
        let pid = 5_000_000 + number;
        let entry = pmon_common::Registration {
            start_time: u64::from(number),
            generation: u64::from(pid),
            ..Default::default()
        };
        world.ebpf.insert(pid, entry).unwrap();
    }
    dead.go();
    world.death(dead.pid());
    let mut all = world.ebpf.registrations().unwrap();
    assert_eq!(world.ebpf.entries(), u64::from(strangers) + 2);
    all.sort_unstable_by_key(|(tgid, _)| *tgid);
    all.dedup_by_key(|(tgid, _)| *tgid);
    assert_eq!(all.len(), strangers as usize + 2);
    for (tgid, entry) in all {
        assert_eq!(entry, world.entry(tgid));
        assert_eq!(entry.flags & flag::DEAD != 0, tgid == dead.pid());
        if tgid >= 5_000_000 {
            assert_eq!(entry.generation, u64::from(tgid));
        }
    }
}

#[test]
fn what_an_earlier_owner_of_an_entry_left_is_not_the_next_ones() {
    let Some(mut world) = World::new() else {
        return;
    };
    // As the programs would have left it, had the entry changed hands meanwhile.
    let of_another = pmon_common::Registration {
        start_time: 7,
        generation: 8,
        flags: flag::DEAD | flag::EXIT_CODE_KNOWN | flag::SIGNAL_KNOWN | flag::FOLLOW,
        dead_generation: 7,
        signal_generation: 7,
        ..Default::default()
    };
    world.ebpf.insert(5_000_000, of_another).unwrap();
    assert_eq!(world.entry(5_000_000).flags, flag::FOLLOW);
    let all = world.ebpf.registrations().unwrap();
    assert_eq!(all[0].1.flags, flag::FOLLOW);

    // And the next one's own death is written all the same.
    let mut specimen = Specimen::script("exit 3");
    let entry = pmon_common::Registration {
        start_time: pmon_tests::process::start_ticks(specimen.pid()).unwrap(),
        ..of_another
    };
    world.ebpf.insert(specimen.pid(), entry).unwrap();
    specimen.go();
    let death = world.death(specimen.pid());
    assert_eq!(death.exit_code, 3 << 8);
    assert_eq!(world.exits(specimen.pid()).len(), 1);
}
