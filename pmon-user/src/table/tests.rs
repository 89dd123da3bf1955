//! The table on the real kernel: real processes, real pidfds and, as root, the
//! real BPF program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod connector;
mod failover;
mod following;
mod on_demand;
mod rewritten;

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::*;
use crate::{
    core::{
        death::{Death, Hint, SourceName, WaitStatus},
        identity::Identity,
    },
    source::ebpf::MapSizes,
    specimen::Sleeper,
    sys::{
        clock,
        epoll::Epoll,
        pidfd::{VerifiedPid, verify},
        pidfd_info::{ExitInfo, exit_info},
    },
};

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

    fn register(&mut self, entity: &str, pid: u32) -> (Identity, Registered) {
        let process = verify(pid).unwrap();
        let identity = process.identity();
        (identity, self.try_register(entity, process).unwrap())
    }

    fn try_register(
        &mut self,
        entity: &str,
        process: VerifiedPid,
    ) -> Result<Registered, RegisterError> {
        self.table.register(
            &EntityName::from(entity),
            process,
            LastSeen::default(),
            &self.epoll,
        )
    }

    /// What was told is in the journal, and the kernel knows of nobody.
    fn all_on_record(&mut self, ended: &[Ended]) {
        let deaths = ended.iter().filter_map(|ended| match ended {
            Ended::Died(_, death) => Some(death.identity),
            Ended::Followed(_) | Ended::Gone(..) | Ended::StatusKnown { .. } => None,
        });
        for dead in deaths {
            self.table.on_record(dead);
        }
        assert_eq!(self.table.kernel().unwrap().entries(), 0);
    }

    /// Answers what the table asks, until it asks no more.
    fn answer(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        loop {
            let inquiries = self.table.take_inquiries();
            if inquiries.is_empty() {
                return ended;
            }
            for inquiry in inquiries {
                ended.extend(self.table.answered(inquiry.answer(), &self.epoll));
            }
        }
    }

    /// Everything that is told until nothing more comes for a while.
    fn told(&mut self) -> (Vec<Hint>, Vec<Ended>) {
        self.told_within(Duration::from_millis(300))
    }

    /// Everything that was to be told by now.
    fn told_at_once(&mut self) -> (Vec<Hint>, Vec<Ended>) {
        self.told_within(Duration::ZERO)
    }

    fn told_within(&mut self, pause: Duration) -> (Vec<Hint>, Vec<Ended>) {
        let (mut hints, mut ended) = (Vec::new(), Vec::new());
        loop {
            let mut tokens = Vec::new();
            self.epoll.wait(Some(pause), &mut tokens).unwrap();
            let before = hints.len();
            while let Some((_, hint)) = self.table.next_hint() {
                hints.push(hint);
            }
            hints.extend(
                self.table
                    .hints_behind_drops()
                    .into_iter()
                    .map(|(_, hint)| hint),
            );
            for hint in &hints[before..] {
                if self.table.is_on_demand(hint.generation) {
                    ended.extend(self.table.ended(hint.generation, &self.epoll));
                }
            }
            for generation in &tokens {
                ended.extend(self.table.ended(*generation, &self.epoll));
            }
            ended.extend(self.table.tick(clock::now(), &self.epoll));
            ended.extend(self.answer());
            if tokens.is_empty() && self.table.next_due().is_none() {
                return (hints, ended);
            }
        }
    }
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
    let mut child = Sleeper::spawn();
    let (identity, registered) = world.register("a", child.pid());
    assert_eq!(registered.pidfd_only, None);
    let before = clock::now();
    child.end();
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
    world.table.on_record(identity);
    assert_eq!(world.table.kernel().unwrap().entries(), 0);
}

#[test]
fn pidfds_alone_tell_a_death_once_too() {
    let mut world = World::without_kernel();
    let mut child = Sleeper::spawn();
    let (identity, registered) = world.register("a", child.pid());
    assert!(registered.pidfd_only.is_some());
    child.end();
    let (hints, ended) = world.told();
    assert!(hints.is_empty());
    let death = death(&ended);
    assert_eq!(death.identity, identity);
    assert_eq!(death.detected_by, SourceName::Pidfd);
    assert_eq!(death.died_at, None);
    assert_eq!(world.table.pidfd_events(), 1);
}

#[test]
fn a_status_known_to_who_reaped_is_told_with_the_death() {
    let mut world = World::without_kernel();
    let mut child = Sleeper::spawn();
    let (identity, _) = world.register("a", child.pid());
    child.end();
    // Not the true one, which newer kernels tell us as well.
    world.table.reaped(identity, WaitStatus(7 << 8));
    let (_, ended) = world.told();
    assert_eq!(death(&ended).status, Some(WaitStatus(7 << 8)));
}

#[test]
fn a_zombies_status_is_read_where_no_kernel_source_told_it() {
    let mut world = World::without_kernel();
    let mut child = Command::new("sh")
        .args(["-c", "read line; exit 7"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    world.register("a", child.id());
    drop(child.stdin.take());
    wait_for_zombie(&child);
    let (_, ended) = world.told();
    assert_eq!(
        death(&ended).status.and_then(WaitStatus::exit_code),
        Some(7)
    );
    child.wait().unwrap();
}

/// A shell that runs `script` once its input is closed.
fn waiting(script: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read _; {script}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Whether this kernel tells the status of processes that are not our children.
fn tells_statuses() -> bool {
    let mut child = Sleeper::spawn();
    let process = verify(child.pid()).unwrap();
    child.end();
    matches!(exit_info(process.pidfd()), ExitInfo::Known(_))
}

#[test]
fn a_status_that_comes_late_is_told_once_and_apart_from_the_death() {
    if !tells_statuses() {
        println!("SKIP: this kernel has no PIDFD_INFO_EXIT");
        return;
    }
    for (script, expected) in [("exit 7", 7 << 8), ("exit 0", 0), ("kill -9 $$", 9)] {
        let mut world = World::without_kernel();
        // What `ended` does for a zombie whose status may not be read.
        let mut child = waiting(script);
        let (identity, registered) = world.register("a", child.id());
        drop(child.stdin.take());
        wait_for_zombie(&child);
        let entry = world
            .table
            .remove(registered.generation, &world.epoll)
            .unwrap();
        world.table.unreaped.wait_for(
            registered.generation,
            &entry.entity,
            entry.held().unwrap(),
            &world.epoll,
        );
        drop(entry);
        let (_, before) = world.told();
        assert!(before.is_empty(), "a zombie wakes nobody: {before:?}");
        child.wait().unwrap();
        let (_, after) = world.told();
        match &after[..] {
            [
                Ended::StatusKnown {
                    identity: who,
                    generation,
                    status,
                    ..
                },
            ] => {
                assert_eq!((*who, *generation), (identity, registered.generation));
                assert_eq!(*status, WaitStatus(expected), "{script}");
            }
            other => panic!("{other:?}"),
        }
        assert!(world.told().1.is_empty(), "told once");
    }
}

#[test]
fn those_who_are_never_reaped_cost_a_bounded_number_of_descriptors() {
    let mut world = World::without_kernel();
    let mut children: Vec<Child> = (0..unreaped::MOST + 10)
        .map(|_| waiting("exit 3"))
        .collect();
    for child in &mut children {
        let (_, registered) = world.register("a", child.id());
        drop(child.stdin.take());
        wait_for_zombie(child);
        let entry = world
            .table
            .remove(registered.generation, &world.epoll)
            .unwrap();
        world.table.unreaped.wait_for(
            registered.generation,
            &entry.entity,
            entry.held().unwrap(),
            &world.epoll,
        );
    }
    assert_eq!(world.table.unreaped.len(), unreaped::MOST);
    for child in &mut children {
        child.wait().unwrap();
    }
    world.told();
    assert_eq!(world.table.unreaped.len(), 0);
}

/// Waits until our child is dead and not reaped.
fn wait_for_zombie(child: &Child) {
    let dead = WaitId::Pid(Pid::from_child(child));
    waitid(dead, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
}

#[test]
fn a_process_that_dies_between_the_look_and_the_registration_is_reported_once() {
    let worlds = [Some(World::without_kernel()), World::with_kernel(16)];
    for mut world in worlds.into_iter().flatten() {
        let mut child = Sleeper::spawn();
        let process = child.verified();
        let identity = process.identity();
        child.end();
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
        world.table.on_record(identity);
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
    let mut child = Sleeper::spawn();
    let (identity, _) = world.register("a", child.pid());
    child.end();
    // The record is in the ring by now; nobody has read it.
    let entity = EntityName::from("a");
    world.table.unregister(&entity, identity, &world.epoll);
    let (hints, ended) = world.told();
    assert!(hints.is_empty());
    assert!(matches!(&ended[..], [Ended::Gone(_, gone)] if *gone == identity));
}

#[test]
fn what_was_unregistered_and_released_is_told_no_more() {
    let mut world = World::without_kernel();
    let mut child = Sleeper::spawn();
    let (identity, _) = world.register("a", child.pid());
    let entity = EntityName::from("a");
    world.table.unregister(&entity, identity, &world.epoll);
    assert!(
        matches!(
            world.table.process(identity, &world.epoll),
            Reach::Process(_)
        ),
        "it can still be signalled"
    );
    world.table.release(&entity, identity, &world.epoll);
    assert!(matches!(
        world.table.process(identity, &world.epoll),
        Reach::Gone
    ));
    child.end();
    let (hints, ended) = world.told();
    assert!(hints.is_empty() && ended.is_empty());
}

#[test]
fn two_entities_may_watch_one_process() {
    let Some(mut world) = World::with_kernel(16) else {
        return;
    };
    let mut child = Sleeper::spawn();
    let (_, first) = world.register("a", child.pid());
    let (_, second) = world.register("b", child.pid());
    assert_eq!(first.pidfd_only, None);
    assert!(second.pidfd_only.unwrap().contains("another entity"));
    child.end();
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
    let children: Vec<_> = (0..16).map(|_| Sleeper::spawn()).collect();
    let refused = children
        .iter()
        .filter(|child| world.register("a", child.pid()).1.pidfd_only.is_some())
        .count();
    assert!(refused > 0);
    for mut child in children {
        child.end();
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
    let children: Vec<_> = (0..200).map(|_| Sleeper::spawn()).collect();
    for (number, child) in children.iter().enumerate() {
        world.register(&format!("e{number}"), child.pid());
    }
    for mut child in children {
        child.end();
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
