//! Followed processes: who descends from them, and who goes on in their place.

use std::io::{BufRead as _, BufReader, Write as _};

use pmon_common::{KERNEL_GENERATIONS, flag};

use super::*;

/// A shell that does what it is told on its input, followed as `a`.
struct Leader {
    shell: Child,
    generation: u64,
    identity: Identity,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    children: Vec<u32>,
}

fn a() -> EntityName {
    EntityName::from("a")
}

/// Longer than any test; its children are killed when they are done with.
const SLEEP: &str = "sleep 1000 </dev/null >/dev/null & echo $!";

impl World {
    fn lead(&mut self) -> Leader {
        self.table.follow(&a(), true, &self.epoll);
        let mut shell = Command::new("sh")
            .args(["-c", "while read line; do eval \"$line\"; done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (identity, registered) = self.register("a", shell.id());
        assert_eq!(registered.pidfd_only, None);
        Leader {
            identity,
            generation: registered.generation,
            lines: BufReader::new(shell.stdout.take().unwrap()).lines(),
            shell,
            children: Vec::new(),
        }
    }

    /// As the engine does with what is told.
    fn go_on(&mut self, ended: Vec<Ended>) -> (Followed, Option<Registered>) {
        let [Ended::Followed(_)] = &ended[..] else {
            panic!("{ended:?}");
        };
        let Some(Ended::Followed(followed)) = ended.into_iter().next() else {
            unreachable!()
        };
        let registered = match followed.process.clone() {
            Some(process) => self.try_register("a", process).ok(),
            None => self.table.adopt(&a(), followed.child),
        };
        self.table.followed(&a(), followed.child);
        (*followed, registered)
    }

    fn entries(&self) -> u64 {
        self.table.kernel().unwrap().entries()
    }

    /// What is asked about the followers, after everything is heard.
    fn asked(&mut self) -> Vec<Inquiry> {
        loop {
            let mut tokens = Vec::new();
            self.epoll
                .wait(Some(Duration::from_secs(60)), &mut tokens)
                .unwrap();
            while self.table.next_hint().is_some() {}
            self.table.hints_behind_drops();
            for generation in tokens {
                assert!(self.table.ended(generation, &self.epoll).is_none());
            }
            self.table.hints_behind_drops();
            assert!(self.table.tick(clock::now(), &self.epoll).is_empty());
            let asked = self.table.take_inquiries();
            if !asked.is_empty() {
                return asked;
            }
        }
    }
}

impl Leader {
    fn does(&mut self, what: &str) {
        writeln!(self.shell.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    fn line(&mut self) -> u32 {
        self.lines.next().unwrap().unwrap().parse().unwrap()
    }

    /// Has it fork so many.
    fn forks(&mut self, count: usize) -> Vec<u32> {
        for _ in 0..count {
            self.does(SLEEP);
            let child = self.line();
            self.children.push(child);
        }
        self.children.clone()
    }

    fn exits(&mut self, code: u8) {
        self.does(&format!("exit {code}"));
        self.shell.wait().unwrap();
    }
}

/// Kills somebody who is not our child, and waits until he is dead.
fn kill(pid: u32) {
    let process = verify(pid).unwrap();
    process.signal(9).unwrap();
    while !process.is_dead() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.shell.kill().ok();
        self.shell.wait().ok();
        for child in &self.children {
            if let Ok(process) = verify(*child) {
                process.signal(9).ok();
            }
        }
    }
}

#[test]
fn the_eldest_living_descendant_goes_on_under_the_kernels_name() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    let children = leader.forks(3);
    kill(children[0]);
    leader.exits(0);
    let (_, ended) = world.told();
    let (followed, registered) = world.go_on(ended);
    let registered = registered.unwrap();
    assert_eq!(followed.death.identity, leader.identity);
    assert_eq!(followed.death.generation, leader.generation);
    assert_eq!(followed.child.pid, children[1]);
    assert!(followed.last_seen.cgroup.is_some() || followed.last_seen.comm.is_some());
    assert!(registered.generation >= KERNEL_GENERATIONS);
    assert_eq!(registered.pidfd_only, None);
    world.table.on_record(leader.identity);
    world.told();
    assert_eq!(world.entries(), 2);
    // Its elder sister is left, for when it exits as well.
    assert_eq!(world.table.followers.len(), 1);
    kill(children[1]);
    let (hints, ended) = world.told();
    assert_eq!(hints.len(), 1);
    let death = death(&ended);
    assert_eq!(death.identity, followed.child);
    assert_eq!(death.generation, registered.generation);
    assert_eq!(death.status, Some(WaitStatus(9)));
    assert_eq!(death.detected_by, SourceName::Ebpf);
    assert_eq!(death.killer().unwrap().pid, Some(std::process::id()));
    world.all_on_record(&ended);
    assert_eq!(world.table.followers.len(), 0);
}

#[test]
fn a_thousand_workers_of_a_healthy_process_leave_nothing() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    for _ in 0..50 {
        leader.does(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (:); done; echo 0",
        );
        leader.line();
        let (hints, ended) = world.told_at_once();
        assert!(hints.is_empty() && ended.is_empty(), "{hints:?} {ended:?}");
    }
    let stats = world.table.kernel().unwrap().stats();
    assert_eq!((stats.followed, stats.unfollowed), (1000, 0));
    world.table.hints_behind_drops();
    assert_eq!(world.table.followers.len(), 0);
    assert_eq!(world.entries(), 1);
}

#[test]
fn any_other_end_is_a_death_whoever_is_left() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    for status in [9, 3 << 8] {
        let mut leader = world.lead();
        leader.forks(2);
        match status {
            9 => leader.shell.kill().unwrap(),
            _ => leader.exits(3),
        }
        let (_, ended) = world.told();
        let death = death(&ended);
        assert_eq!(death.identity, leader.identity);
        assert_eq!(death.status, Some(WaitStatus(status)));
        world.all_on_record(&ended);
        assert_eq!(world.table.followers.len(), 0);
    }
}

#[test]
fn an_exit_that_leaves_nobody_is_a_death() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    leader.does("(:); (:); exit 0");
    leader.shell.wait().unwrap();
    let (_, ended) = world.told();
    assert_eq!(death(&ended).status, Some(WaitStatus(0)));
    world.all_on_record(&ended);
}

#[test]
fn the_next_is_taken_when_the_chosen_one_dies_before_it_is_verified() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    let children = leader.forks(2);
    leader.exits(0);
    let asked = world.asked();
    assert!(world.table.hands_over(leader.generation));
    kill(children[0]);
    for inquiry in asked {
        let told = world.table.answered(inquiry.answer(), &world.epoll);
        assert!(told.is_none(), "{told:?}");
    }
    let (_, ended) = world.told();
    let (followed, registered) = world.go_on(ended);
    assert_eq!(followed.child.pid, children[1]);
    assert!(registered.is_some());
    assert!(!world.table.hands_over(leader.generation));
}

#[test]
fn the_last_ones_death_is_told_when_nobody_is_left() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    let children = leader.forks(2);
    leader.exits(0);
    let asked = world.asked();
    kill(children[1]);
    kill(children[0]);
    for inquiry in asked {
        let told = world.table.answered(inquiry.answer(), &world.epoll);
        assert!(told.is_none(), "{told:?}");
    }
    let (_, ended) = world.told();
    let (followed, registered) = world.go_on(ended);
    assert_eq!(followed.child.pid, children[0]);
    assert!(followed.process.is_none());
    let (_, ended) = world.told();
    let death = death(&ended);
    assert_eq!(death.identity, followed.child);
    assert_eq!(death.generation, registered.unwrap().generation);
    assert_eq!(death.status, Some(WaitStatus(9)));
    assert_eq!(death.killer().unwrap().pid, Some(std::process::id()));
    world.table.on_record(leader.identity);
    world.all_on_record(&ended);
}

#[test]
fn followers_behind_a_full_ring_are_found_in_the_table() {
    let Some(mut world) = World::with_kernel(1024) else {
        return;
    };
    let mut leader = world.lead();
    let children = leader.forks(200);
    let stats = world.table.kernel().unwrap().stats();
    assert!(stats.drops > 0, "the ring was meant to overflow");
    // The eldest one's record was not dropped, the last one's was.
    for child in &children[..199] {
        kill(*child);
    }
    leader.exits(0);
    let (_, ended) = world.told();
    let (followed, _) = world.go_on(ended);
    assert_eq!(followed.child.pid, children[199]);
    world.table.on_record(leader.identity);
    world.told();
    assert_eq!(world.entries(), 1);
    assert_eq!(world.table.followers.len(), 0);
}

#[test]
fn who_is_ended_hands_over_as_well() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    let children = leader.forks(1);
    world.told();
    world.table.unregister(&a(), leader.identity, &world.epoll);
    leader.exits(0);
    let (_, ended) = world.told();
    let (followed, _) = world.go_on(ended);
    assert_eq!(followed.child.pid, children[0]);
    world.table.unregister(&a(), followed.child, &world.epoll);
    kill(children[0]);
    let (_, ended) = world.told();
    assert!(
        matches!(&ended[..], [Ended::Gone(_, gone)] if *gone == followed.child),
        "{ended:?}"
    );
    assert_eq!(world.entries(), 0);
}

#[test]
fn who_is_expected_is_followed_before_it_is_registered() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    world.table.follow(&a(), true, &world.epoll);
    let mut shell = waiting("sleep 1000 </dev/null & exit 0");
    let process = verify(shell.id()).unwrap();
    world.table.expect(&a(), process.clone());
    assert_eq!((world.table.registered(), world.entries()), (0, 1));
    drop(shell.stdin.take());
    shell.wait().unwrap();
    let (_, ended) = world.told();
    assert!(ended.is_empty(), "{ended:?}");
    let registered = world.try_register("a", process).unwrap();
    assert_eq!(registered.pidfd_only, None);
    let (_, ended) = world.told();
    let (followed, _) = world.go_on(ended);
    assert_eq!(followed.death.generation, registered.generation);
    kill(followed.child.pid);
    let (_, ended) = world.told();
    assert_eq!(death(&ended).status, Some(WaitStatus(9)));

    // What is not registered after all leaves nothing.
    world.table.on_record(followed.death.identity);
    world.all_on_record(&ended);
    let other = waiting("exit 0");
    world.table.expect(&a(), verify(other.id()).unwrap());
    world.table.expect_no_more(&a());
    assert_eq!((world.table.held(), world.entries()), (0, 0));
    end(other);
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_descendant_may_be_somebody_elses_process() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    let children = leader.forks(1);
    world.told();
    let (identity, registered) = world.register("b", children[0]);
    assert_eq!(registered.pidfd_only, None);
    let entry = world.table.kernel().unwrap().get(identity.pid).unwrap();
    assert_eq!(entry.flags & (flag::FOLLOW | flag::FOLLOWED), 0);
    leader.exits(0);
    let (_, ended) = world.told();
    assert_eq!(death(&ended).identity, leader.identity);
    kill(children[0]);
    let (_, more) = world.told();
    assert_eq!(death(&more).identity, identity);
}

#[test]
fn what_is_put_into_force_later_counts_from_then_on() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    world.table.follow(&a(), false, &world.epoll);
    leader.forks(1);
    world.told();
    assert_eq!((world.entries(), world.table.followers.len()), (1, 0));
    world.table.follow(&a(), true, &world.epoll);
    leader.forks(1);
    world.told();
    assert_eq!((world.entries(), world.table.followers.len()), (2, 1));
    world.table.follow(&a(), false, &world.epoll);
    assert_eq!((world.entries(), world.table.followers.len()), (1, 0));
}

#[test]
fn followers_are_neither_orphans_nor_lost_to_who_removes_them() {
    let Some(mut world) = World::with_kernel(64) else {
        return;
    };
    let mut leader = world.lead();
    let children = leader.forks(2);
    world.told();
    world.table.kernel_mut().unwrap().remove(children[0]);
    world.table.begin_comparison();
    let mut wrong = Reconciled::default();
    while let Some(reconciled) = world.table.compare_some(&world.epoll) {
        wrong.orphans.extend(reconciled.orphans);
        wrong.altered.extend(reconciled.altered);
    }
    assert_eq!(wrong, Reconciled::default());
    assert_eq!(world.entries(), 3);
    leader.exits(0);
    let (_, ended) = world.told();
    let (followed, _) = world.go_on(ended);
    assert_eq!(followed.child.pid, children[0]);
}
