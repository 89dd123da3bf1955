//! A pin directory that another one has: whose it is when.

use std::path::Path;

use pmon_common::{EXIT_PROGRAM, PIDS_MAP};
use pmon_tests::{
    daemon::LONG,
    place::{Place, is_bpffs},
    skip_if, wait,
};
use pmon_user::source::facts::LinkFacts;

use crate::{
    specimen::Specimen,
    world::{World, best},
};

fn pinned(place: &Place) -> Option<World> {
    World::pinned(place.pins(), &best())
}

/// The id of the table.
fn table(world: &World) -> u32 {
    let maps = world.ebpf.maps().iter();
    let mut ids = maps.filter(|map| map.name == PIDS_MAP).map(|map| map.id);
    ids.next().unwrap()
}

fn is_complete(world: &World, base: &Path) -> bool {
    let count = world.ebpf.maps().len() + world.ebpf.programs().len();
    world.ebpf.unpinned().is_none()
        && world.ebpf.pins().is_some_and(|pins| {
            pins.path().starts_with(base) && pins.is_there() && pins.list().len() == count
        })
}

/// A look at pins that are as they should be touches nothing.
#[test]
fn they_are_looked_at_and_left_alone() {
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let Some(mut world) = pinned(&place) else {
        return;
    };
    let links = world.ebpf.links();
    assert!(links.iter().all(|link| link.ids.is_some()), "{links:?}");
    for _ in 0..3 {
        let health = world.ebpf.check_pins();
        assert_eq!(health.repaired, Vec::<String>::new());
        assert_eq!(health.unpinned, None);
    }
    assert_eq!(world.ebpf.links(), links, "the same as before");
    // One that somebody has taken away is made anew, the others are left.
    let pins = world.ebpf.pins().unwrap();
    std::fs::remove_file(pins.pin(EXIT_PROGRAM)).unwrap();
    let health = world.ebpf.check_pins();
    assert_eq!(
        health.repaired,
        [format!("the pin `{EXIT_PROGRAM}` was lost; pinned again")]
    );
    let after = world.ebpf.links();
    assert_ne!(after, links);
    let others = |links: &[LinkFacts]| -> Vec<LinkFacts> {
        let others = links.iter().filter(|it| it.program != EXIT_PROGRAM);
        others.cloned().collect()
    };
    assert_eq!(others(&after), others(&links));
    assert!(is_complete(&world, place.pins()));
    world.ebpf.stop().unwrap();
}

/// Another test's child that has not executed its program yet may still have a
/// descriptor of the lock.
fn when_free(what: &str, mut look: impl FnMut() -> bool) {
    wait::until(what, LONG, || look().then_some(()));
}

#[test]
fn it_is_taken_when_the_other_ends_in_order() {
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let (Some(first), Some(mut second)) = (pinned(&place), pinned(&place)) else {
        return;
    };
    let why = second.ebpf.check_pins().unpinned.unwrap();
    assert!(why.contains("in use by another daemon"), "{why}");
    assert!(second.ebpf.pins().is_none());
    first.ebpf.stop().unwrap();

    // Nothing falls between the links before and those that are pinned.
    let mut specimens: Vec<Specimen> = (0..20).map(|_| Specimen::script("exit 3")).collect();
    for specimen in &specimens {
        second.register(specimen.pid(), 0);
    }
    let pids: Vec<u32> = specimens.iter().map(Specimen::pid).collect();
    let ender = std::thread::spawn(move || {
        for specimen in &mut specimens {
            specimen.go();
            specimen.wait();
        }
    });
    when_free("it takes the directory", || {
        second.ebpf.check_pins().unpinned.is_none()
    });
    assert!(is_complete(&second, place.pins()));
    ender.join().unwrap();
    for pid in &pids {
        assert_eq!(second.death(*pid).exit_code, 3 << 8);
    }
    assert_eq!(second.records().len(), pids.len(), "each once");
    assert_eq!(second.ebpf.check_pins().repaired, Vec::<String>::new());
    second.ebpf.stop().unwrap();
    assert!(!place.pins().exists());
}

#[test]
fn who_was_killed_may_come_back_for_it_until_the_next_look() {
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let (Some(first), Some(mut second)) = (pinned(&place), pinned(&place)) else {
        return;
    };
    let theirs = table(&first);
    drop(first);
    let killed = |world: &mut World| {
        when_free("the other one is seen to be gone", || {
            let unpinned = world.ebpf.check_pins().unpinned.unwrap();
            unpinned.contains("was killed")
        });
    };
    killed(&mut second);
    let mut back = None;
    when_free("it is back", || {
        let world = pinned(&place).unwrap();
        let has_it = world.ebpf.unpinned().is_none();
        back = Some(world);
        has_it
    });
    let first = back.unwrap();
    assert_eq!(table(&first), theirs, "with all that it had noted");
    assert!(is_complete(&first, place.pins()));
    let why = second.ebpf.check_pins().unpinned.unwrap();
    assert!(why.contains("in use by another daemon"), "{why}");

    // This time it does not.
    drop(first);
    killed(&mut second);
    let mut repaired = Vec::new();
    when_free("it takes the directory", || {
        let health = second.ebpf.check_pins();
        repaired = health.repaired;
        health.unpinned.is_none()
    });
    assert!(is_complete(&second, place.pins()));
    assert!(
        repaired.iter().any(|it| it.contains("ours now")),
        "{repaired:?}"
    );
    assert_ne!(table(&second), theirs);
    let why = pinned(&place).unwrap().ebpf.unpinned().map(str::to_owned);
    assert!(why.unwrap().contains("in use"), "it is the second's");
    second.ebpf.stop().unwrap();
    assert!(!place.pins().exists());
}
