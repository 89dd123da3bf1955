//! Canaries through every source, and one source after another.

use super::*;
use crate::{
    source::canary::{Verdict, Watch},
    sys::canary::{Canary, EXIT_CODE},
};

/// A canary in this table, registered and released; what it proves in the end.
fn canary(world: &mut World, meanwhile: impl FnOnce(&mut World)) -> Vec<(SourceName, Verdict)> {
    let mut canary = Canary::hatch().unwrap();
    let process = canary.process().clone();
    let identity = process.identity();
    let registered = world
        .table
        .register(
            &EntityName::from("/canary"),
            process,
            LastSeen::default(),
            &world.epoll,
        )
        .unwrap();
    let mut sources = vec![SourceName::Pidfd];
    if world.table.kernel().is_some() {
        sources.push(SourceName::Ebpf);
    }
    let watch = Watch::new(
        identity,
        registered.generation,
        WaitStatus(u32::from(EXIT_CODE) << 8),
        &sources,
        world.table.ring_drops(),
        clock::now(),
    );
    world.table.watch_canary(watch);
    meanwhile(world);
    drop(canary.take_release());
    loop {
        let due = world.table.canary_due().unwrap();
        let mut tokens = Vec::new();
        world
            .epoll
            .wait(Some(due.since(clock::now())), &mut tokens)
            .unwrap();
        while world.table.next_hint().is_some() {}
        for generation in tokens {
            world.table.ended(generation, &world.epoll);
        }
        if let Some(verdicts) = world.table.canary_verdicts(clock::now()) {
            return verdicts;
        }
    }
}

#[test]
fn a_canary_comes_through_every_source() {
    let passed = |source| (source, Verdict::Passed);
    let mut world = World::without_kernel();
    assert_eq!(canary(&mut world, |_| ()), [passed(SourceName::Pidfd)]);
    let Some(mut world) = World::with_kernel(16) else {
        return;
    };
    for _ in 0..3 {
        assert_eq!(
            canary(&mut world, |_| ()),
            [passed(SourceName::Pidfd), passed(SourceName::Ebpf)]
        );
    }
}

#[test]
fn a_detached_program_misses_its_canary() {
    let Some(mut world) = World::with_kernel(16) else {
        return;
    };
    let verdicts = canary(&mut world, |world| {
        world.table.kernel.as_mut().unwrap().go_silent();
    });
    assert_eq!(verdicts[0], (SourceName::Pidfd, Verdict::Passed));
    let (SourceName::Ebpf, Verdict::Missed(why)) = &verdicts[1] else {
        panic!("{verdicts:?}");
    };
    assert!(why.contains("it did not tell within 5s"), "{why}");
}

/// The ring has no room for the canary's record; the kernel's table has it.
#[test]
fn a_full_ring_is_no_silence() {
    let Some(mut world) = World::with_kernel(128) else {
        return;
    };
    let mut children = Vec::new();
    let verdicts = canary(&mut world, |world| {
        children = (0..100).map(|_| Sleeper::spawn()).collect();
        for child in &children {
            world.register("many", child.pid());
        }
        children.iter_mut().for_each(Sleeper::end);
        assert!(world.table.ring_drops() > 0, "the ring holds 4096 bytes");
    });
    let passed = |(_, verdict): &(_, Verdict)| *verdict == Verdict::Passed;
    assert!(verdicts.iter().all(passed), "{verdicts:?}");
}

/// One source is taken away and another put under the table, while processes
/// die before, in between and afterwards: each is told once, and the new source
/// knows all that live.
#[test]
fn a_table_survives_its_kernel_source() {
    let (Some(mut world), Some(mut spare)) = (World::with_kernel(16), World::with_kernel(16))
    else {
        return;
    };
    let [mut before, mut between, mut after] = [(); 3].map(|()| Sleeper::spawn());
    let (identity, _) = world.register("before", before.pid());
    world.register("between", between.pid());
    world.register("after", after.pid());
    before.end();
    let (old, hints) = world.table.remove_kernel().unwrap();
    world.epoll.remove(old.ring_fd());
    drop(old);
    let [(entity, hint)] = hints.as_slice() else {
        panic!("{hints:?}");
    };
    assert_eq!((&**entity, hint.identity), ("before", identity));
    assert_eq!(hint.status, Some(WaitStatus(9)));
    between.end();
    let kernel = spare.table.take_kernel().unwrap();
    spare.epoll.remove(kernel.ring_fd());
    world.epoll.add(kernel.ring_fd(), RING).unwrap();
    let moved = world.table.set_kernel(kernel);
    assert_eq!(moved.len(), 3);
    assert!(moved.iter().all(|moved| moved.pidfd_only.is_none()));
    after.end();
    let (_, ended) = world.told();
    let mut told: Vec<_> = ended
        .iter()
        .filter_map(|ended| match ended {
            Ended::Died(entity, death) => {
                Some((&**entity, death.detected_by, death.died_at.is_some()))
            }
            Ended::Followed(_) | Ended::Gone(..) => panic!("{ended:?}"),
            // Of what no source told how it ended.
            Ended::StatusKnown { .. } => None,
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("after", SourceName::Ebpf, true),
            ("before", SourceName::Ebpf, true),
            ("between", SourceName::Pidfd, false),
        ]
    );
    world.all_on_record(&ended);
}

/// Without a kernel source nothing is due that nobody can do.
#[test]
fn a_table_without_a_kernel_source_rests() {
    let Some(mut world) = World::with_kernel(16) else {
        return;
    };
    let sleeper = Sleeper::spawn();
    world.register("a", sleeper.pid());
    let (kernel, hints) = world.table.remove_kernel().unwrap();
    world.epoll.remove(kernel.ring_fd());
    assert!(hints.is_empty());
    assert!(world.table.resync(&world.epoll).is_empty());
    assert!(world.table.hints_behind_drops().is_empty());
    assert!(world.table.tick(clock::now(), &world.epoll).is_empty());
    assert_eq!(world.table.next_due(), None);
}
