//! The table on the real kernel: real processes, real pidfds and, as root, the
//! real BPF program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    process::{Child, Command},
    time::Duration,
};

use super::*;
use crate::{source::ebpf::MapSizes, sys::pidfd::verify};

struct World {
    table: Table,
    epoll: Epoll,
}

/// Token of the ring in these tests.
const RING: u64 = 0;

impl World {
    /// With pidfds only.
    fn without_kernel() -> Self {
        Self {
            table: Table::new(None),
            epoll: Epoll::new().unwrap(),
        }
    }

    /// With the BPF program, where this user may load it.
    fn with_kernel(max_pids: u32) -> Option<Self> {
        let sizes = MapSizes {
            max_pids,
            ring_bytes: 4096,
        };
        let kernel = match Ebpf::start(sizes, None) {
            Ok(kernel) => kernel,
            Err(error) => {
                println!("SKIP: {}", crate::causes::in_full(&error));
                return None;
            }
        };
        let epoll = Epoll::new().unwrap();
        epoll.add(kernel.ring_fd(), RING).unwrap();
        Some(Self {
            table: Table::new(Some(kernel)),
            epoll,
        })
    }

    fn register(&mut self, entity: &str, child: &Child) -> (Identity, Registered) {
        let process = verify(child.id()).unwrap();
        let identity = process.identity();
        let registered = self
            .table
            .register(
                &EntityName::from(entity),
                process,
                LastSeen::default(),
                &self.epoll,
            )
            .unwrap();
        (identity, registered)
    }

    /// Everything that is told until nothing more comes for a while.
    fn told(&mut self) -> (Vec<Hint>, Vec<Ended>) {
        let (mut hints, mut ended) = (Vec::new(), Vec::new());
        loop {
            let mut tokens = Vec::new();
            self.epoll
                .wait(Some(Duration::from_millis(300)), &mut tokens)
                .unwrap();
            while let Some((_, hint)) = self.table.next_hint() {
                hints.push(hint);
            }
            if tokens.is_empty() {
                return (hints, ended);
            }
            for generation in tokens {
                ended.extend(self.table.ended(generation, &self.epoll));
            }
        }
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn death(ended: &[Ended]) -> &Death {
    match ended {
        [Ended::Died(_, death)] => death,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_death_is_told_once_with_its_kernel_time_and_status() {
    let Some(mut world) = World::with_kernel(16) else {
        return;
    };
    let child = sleeper();
    let (identity, registered) = world.register("a", &child);
    assert_eq!(registered.pidfd_only, None);
    let before = clock::now();
    end(child);
    let (hints, ended) = world.told();
    assert_eq!(hints.len(), 1);
    assert_eq!(hints[0].generation, registered.generation);
    let death = death(&ended);
    assert_eq!(death.identity, identity);
    assert_eq!(death.detected_by, SourceName::Ebpf);
    assert_eq!(death.status, Some(WaitStatus(9)));
    assert!(death.died_at.unwrap() > before);
    assert!(death.died_at.unwrap() <= death.detected_at);
    assert!(death.detected_at <= death.confirmed_at);
    let (hints, ended) = world.told();
    assert!(hints.is_empty() && ended.is_empty());
    assert_eq!(world.table.registered(), 0);
    // The kernel knows it until it is on record.
    assert_eq!(world.table.kernel().unwrap().entries(), 1);
    world.table.settle(registered.generation);
    assert_eq!(world.table.kernel().unwrap().entries(), 0);
}

#[test]
fn pidfds_alone_tell_a_death_once_too() {
    let mut world = World::without_kernel();
    let child = sleeper();
    let (identity, registered) = world.register("a", &child);
    assert!(registered.pidfd_only.is_some());
    end(child);
    let (hints, ended) = world.told();
    assert!(hints.is_empty());
    let death = death(&ended);
    assert_eq!(death.identity, identity);
    assert_eq!(death.detected_by, SourceName::Pidfd);
    assert_eq!(death.died_at, None);
    assert_eq!(world.table.pidfd_events(), 1);
}

#[test]
fn a_zombies_status_is_read_where_no_kernel_source_told_it() {
    let mut world = World::without_kernel();
    let mut child = Command::new("sh")
        .args(["-c", "sleep 0.1; exit 7"])
        .spawn()
        .unwrap();
    world.register("a", &child);
    let (_, ended) = world.told();
    assert_eq!(
        death(&ended).status.and_then(WaitStatus::exit_code),
        Some(7)
    );
    child.wait().unwrap();
}

#[test]
fn a_process_that_dies_between_the_look_and_the_registration_is_reported_once() {
    let worlds = [Some(World::without_kernel()), World::with_kernel(16)];
    for mut world in worlds.into_iter().flatten() {
        let child = sleeper();
        let process = verify(child.id()).unwrap();
        let identity = process.identity();
        end(child);
        world
            .table
            .register(
                &EntityName::from("a"),
                process,
                LastSeen::default(),
                &world.epoll,
            )
            .unwrap();
        let (_, ended) = world.told();
        let death = death(&ended);
        assert_eq!(death.identity, identity);
        assert_eq!(world.table.registered(), 0);
        world.table.settle(death.generation);
        if let Some(kernel) = world.table.kernel() {
            assert_eq!(kernel.entries(), 0, "the kernel's entry is gone as well");
        }
    }
}

#[test]
fn a_record_in_flight_when_its_registration_ends_is_dropped() {
    let Some(mut world) = World::with_kernel(16) else {
        return;
    };
    let child = sleeper();
    let (identity, _) = world.register("a", &child);
    end(child);
    // The record is in the ring by now; nobody has read it.
    let entity = EntityName::from("a");
    world.table.unregister(&entity, identity);
    let (hints, ended) = world.told();
    assert!(hints.is_empty());
    assert!(matches!(&ended[..], [Ended::Gone(_, gone)] if *gone == identity));
}

#[test]
fn what_was_unregistered_and_released_is_told_no_more() {
    let mut world = World::without_kernel();
    let child = sleeper();
    let (identity, _) = world.register("a", &child);
    let entity = EntityName::from("a");
    world.table.unregister(&entity, identity);
    assert!(
        world.table.process(identity).is_some(),
        "it can still be signalled"
    );
    world.table.release(&entity, identity, &world.epoll);
    assert!(world.table.process(identity).is_none());
    end(child);
    let (hints, ended) = world.told();
    assert!(hints.is_empty() && ended.is_empty());
}

#[test]
fn two_entities_may_watch_one_process() {
    let Some(mut world) = World::with_kernel(16) else {
        return;
    };
    let child = sleeper();
    let (_, first) = world.register("a", &child);
    let (_, second) = world.register("b", &child);
    assert_eq!(first.pidfd_only, None);
    assert!(second.pidfd_only.unwrap().contains("another entity"));
    end(child);
    let (hints, ended) = world.told();
    assert_eq!(hints.len(), 1);
    assert_eq!(ended.len(), 2);
}

#[test]
fn a_full_kernel_table_is_told_and_the_pidfd_takes_over() {
    let Some(mut world) = World::with_kernel(1) else {
        return;
    };
    // The kernel rounds nothing up here: preallocated hash maps hold exactly
    // their size, give or take the per-CPU spares; fill it until it says so.
    let children: Vec<Child> = (0..16).map(|_| sleeper()).collect();
    let refused = children
        .iter()
        .filter(|child| world.register("a", child).1.pidfd_only.is_some())
        .count();
    assert!(refused > 0);
    for child in children {
        end(child);
    }
    let (_, ended) = world.told();
    assert_eq!(ended.len(), 16);
}

#[test]
fn deaths_behind_a_full_ring_are_found_in_the_table() {
    let Some(mut world) = World::with_kernel(1024) else {
        return;
    };
    // 4096 bytes hold some 60 records of 64 bytes.
    let children: Vec<Child> = (0..200).map(|_| sleeper()).collect();
    for (number, child) in children.iter().enumerate() {
        world.register(&format!("e{number}"), child);
    }
    for child in children {
        end(child);
    }
    let drops = world.table.kernel().unwrap().stats().drops;
    assert!(drops > 0, "the ring was meant to overflow");
    let mut hints = 0;
    while world.table.next_hint().is_some() {
        hints += 1;
    }
    hints += world.table.hints_behind_drops().len();
    assert_eq!(hints, 200);
    assert!(world.table.hints_behind_drops().is_empty(), "told once");
    let (_, ended) = world.told();
    assert_eq!(ended.len(), 200);
    for ended in &ended {
        assert!(
            matches!(ended, Ended::Died(_, death) if death.status == Some(WaitStatus(9))
                && death.died_at.is_some())
        );
    }
}
