//! Registrations beyond the budget of pidfds.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

fn budget(own: usize, on_demand: usize) -> Budget {
    Budget { own, on_demand }
}

impl World {
    fn beyond_budget(max_pids: u32, own: usize, on_demand: usize) -> Option<Self> {
        let Self { table, epoll } = Self::with_kernel(max_pids)?;
        Some(Self {
            table: table.with_budget(budget(own, on_demand)),
            epoll,
        })
    }

    /// As on a kernel where pidfds do not tell processes apart.
    fn forget_inodes(&mut self) {
        for entry in self.table.entries.values_mut() {
            if let Handle::OnDemand(known) = entry.handle {
                entry.handle = Handle::OnDemand(known.without_inode());
            }
        }
    }
}

fn sleepers(count: usize) -> Vec<Sleeper> {
    (0..count).map(|_| Sleeper::spawn()).collect()
}

fn deaths(ended: &[Ended]) -> Vec<&Death> {
    let mut deaths: Vec<_> = ended
        .iter()
        .map(|ended| match ended {
            Ended::Died(_, death) => death,
            Ended::Followed(_) | Ended::Gone(..) | Ended::StatusKnown { .. } => panic!("{ended:?}"),
        })
        .collect();
    deaths.sort_by_key(|death| death.generation);
    deaths
}

#[test]
fn the_kernels_entry_tells_and_a_pidfd_opened_on_demand_verifies() {
    for before_6_9 in [false, true] {
        let Some(mut world) = World::beyond_budget(64, 2, 3) else {
            return;
        };
        let children = sleepers(10);
        let identities: Vec<_> = (children.iter().enumerate())
            .map(|(number, child)| world.register(&format!("e{number}"), child.pid()).0)
            .collect();
        assert_eq!(world.table.held(), 10, "until each was seen running");
        world.answer();
        assert_eq!(world.table.held(), 2);
        assert_eq!(world.table.without_pidfd(), 8);
        if before_6_9 {
            world.forget_inodes();
        }
        for mut child in children {
            child.end();
        }
        let (hints, ended) = world.told();
        assert_eq!(hints.len(), 10);
        let deaths = deaths(&ended);
        assert_eq!(deaths.len(), 10);
        for (death, identity) in deaths.into_iter().zip(identities) {
            assert_eq!(death.identity, identity);
            assert_eq!(death.detected_by, SourceName::Ebpf);
            assert_eq!(death.status, Some(WaitStatus(9)));
            assert!(death.died_at.is_some());
        }
        assert_eq!(world.table.held(), 0);
        assert_eq!(world.table.registered(), 0);
        world.all_on_record(&ended);
    }
}

/// A kernel event alone is no death: the process may be dying for a while.
#[test]
fn a_process_that_is_still_there_is_watched_until_it_is_not() {
    for before_6_9 in [false, true] {
        let Some(mut world) = World::beyond_budget(64, 0, 3) else {
            return;
        };
        let mut child = Sleeper::spawn();
        let (identity, registered) = world.register("a", child.pid());
        world.answer();
        assert!(world.table.is_on_demand(registered.generation));
        if before_6_9 {
            world.forget_inodes();
        }
        // As if the kernel had told its death.
        let entry = world.table.entries.get_mut(&registered.generation).unwrap();
        entry.died_at = Some(clock::now());
        assert!(
            world
                .table
                .ended(registered.generation, &world.epoll)
                .is_none()
        );
        assert!(world.answer().is_empty());
        assert!(!world.table.is_on_demand(registered.generation));
        assert!(world.told().1.is_empty());
        child.end();
        let (_, ended) = world.told();
        assert_eq!(death(&ended).identity, identity);
    }
}

#[test]
fn more_deaths_at_once_than_pidfds_wait_for_each_other() {
    let Some(mut world) = World::beyond_budget(64, 0, 2) else {
        return;
    };
    let children = sleepers(8);
    let registered: Vec<_> = children
        .iter()
        .map(|child| world.register("a", child.pid()).1.generation)
        .collect();
    world.answer();
    // All are asked about while they live: two can be watched.
    for generation in registered {
        world.table.ended(generation, &world.epoll);
    }
    assert_eq!(world.table.held(), 2);
    assert!(world.table.next_due().is_some());
    assert_eq!(
        world.table.obstacle(),
        None,
        "that is no want of descriptors"
    );
    for mut child in children {
        child.end();
    }
    let (_, ended) = world.told();
    assert_eq!(deaths(&ended).len(), 8);
}

#[test]
fn one_that_is_to_be_ended_can_be_signalled_and_its_end_is_told() {
    for before_6_9 in [false, true] {
        let Some(mut world) = World::beyond_budget(64, 0, 2) else {
            return;
        };
        let mut child = Sleeper::spawn();
        let (identity, _) = world.register("a", child.pid());
        world.answer();
        if before_6_9 {
            world.forget_inodes();
        }
        let entity = EntityName::from("a");
        world.table.unregister(&entity, identity, &world.epoll);
        let process = match world.table.process(identity, &world.epoll) {
            Reach::Process(process) => process,
            Reach::Later => {
                assert!(before_6_9);
                assert!(world.answer().is_empty());
                match world.table.process(identity, &world.epoll) {
                    Reach::Process(process) => process,
                    other => panic!("{other:?}"),
                }
            }
            Reach::Gone => panic!("it is alive"),
        };
        process.signal(9).unwrap();
        child.end();
        let (hints, ended) = world.told();
        assert!(hints.is_empty());
        assert!(matches!(&ended[..], [Ended::Gone(_, gone)] if *gone == identity));
    }
}

#[test]
fn one_that_died_unseen_is_found_by_a_resync() {
    let Some(mut world) = World::beyond_budget(64, 1, 2) else {
        return;
    };
    let children = sleepers(5);
    for child in &children {
        world.register("a", child.pid());
    }
    world.answer();
    // The kernel watches nobody any more.
    let pids: Vec<_> = children.iter().map(Sleeper::pid).collect();
    for pid in pids {
        world.table.kernel.as_mut().unwrap().remove(pid);
    }
    for mut child in children {
        child.end();
    }
    let (_, ended) = world.told();
    assert_eq!(deaths(&ended).len(), 1, "the one with a pidfd");
    let mut ended = world.table.resync(&world.epoll);
    ended.extend(world.told().1);
    assert_eq!(deaths(&ended).len(), 4);
}

#[test]
fn what_nothing_would_watch_is_refused() {
    let mut world = World::without_kernel();
    world.table = world.table.with_budget(budget(1, 1));
    let children = sleepers(2);
    world.register("a", children[0].pid());
    let refused = world.try_register("b", verify(children[1].pid()).unwrap());
    let Err(RegisterError::Budget { own: 1, reason, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("kernel source is off"), "{reason}");
    assert_eq!((world.table.registered(), world.table.held()), (1, 1));
    for mut child in children {
        child.end();
    }
    assert_eq!(world.told().1.len(), 1);
    // With room it can be had.
    let mut child = Sleeper::spawn();
    world.register("b", child.pid());
    child.end();
    assert_eq!(world.told().1.len(), 1);
}

/// Runs itself once more, in a process whose limit of open files it may lower.
#[test]
fn without_descriptors_deaths_wait_and_are_told() {
    const INNER: &str = "PMON_TEST_FEW_FILES";
    if std::env::var_os(INNER).is_some() {
        few_descriptors();
        println!("inner test passed");
        return;
    }
    let name = "table::tests::on_demand::without_descriptors_deaths_wait_and_are_told";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env(INNER, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("inner test passed"), "{stdout}");
}

fn few_descriptors() {
    let Some(mut world) = World::beyond_budget(64, 0, 10) else {
        return;
    };
    let children = sleepers(4);
    let (identity, _) = world.register("a", children[0].pid());
    for child in &children[1..] {
        world.register("b", child.pid());
    }
    world.answer();
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..limit
    };
    setrlimit(Resource::Nofile, none).unwrap();
    // A live one cannot be signalled now, and that is not for ever.
    let reach = world.table.process(identity, &world.epoll);
    assert!(matches!(reach, Reach::Later), "{reach:?}");
    let obstacle = world.table.obstacle().unwrap();
    assert!(obstacle.contains("Too many open files"), "{obstacle}");
    assert!(world.table.next_due().is_some());
    // Not reaped: a pidfd is needed to know.
    for child in &children {
        child.leave_zombie();
    }
    let mut told = Vec::new();
    while let Some((_, hint)) = world.table.next_hint() {
        told.extend(world.table.ended(hint.generation, &world.epoll));
    }
    assert!(told.is_empty(), "{told:?}");
    assert!(world.table.obstacle().is_some());
    setrlimit(Resource::Nofile, limit).unwrap();
    let (_, ended) = world.told();
    assert_eq!(deaths(&ended).len(), 4);
    assert_eq!(world.table.obstacle(), None);
}

/// The ring at its smallest, nobody reading it while 50,000 die. In a process of
/// its own: the children share its memory.
#[test]
fn fifty_thousand_deaths_behind_a_full_ring_are_each_told_once() {
    const INNER: &str = "PMON_TEST_FIFTY_THOUSAND";
    if std::env::var_os(INNER).is_some() {
        fifty_thousand();
        println!("inner test passed");
        return;
    }
    let name =
        "table::tests::on_demand::fifty_thousand_deaths_behind_a_full_ring_are_each_told_once";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env(INNER, "1")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("inner test passed"), "{stdout}");
    print!("{stdout}");
}

fn fifty_thousand() {
    const COUNT: usize = 50_000;
    let Some(mut world) = World::beyond_budget(COUNT as u32 + 1000, 500, 100) else {
        return;
    };
    let mut nursery = crate::sys::nursery::Nursery::new(COUNT).unwrap();
    let began = clock::now();
    let mut registered = HashMap::new();
    for &pid in nursery.pids() {
        let process = verify(pid).unwrap();
        let identity = process.identity();
        let answer = world.try_register(&format!("e{pid}"), process).unwrap();
        assert_eq!(answer.pidfd_only, None);
        registered.insert(answer.generation, identity);
        if world.table.held() > 550 {
            assert!(world.answer().is_empty());
        }
    }
    world.answer();
    assert_eq!(world.table.held(), 500);
    let (took, before_kill) = (clock::elapsed(began), clock::now());
    nursery.kill();
    let after_kill = clock::now();
    let began = clock::now();
    let (hints, ended) = world.told();
    let told = clock::elapsed(began);
    let stats = world.table.kernel().unwrap().stats();
    println!(
        "{COUNT}: registered in {took:?}; {} hints, {} dropped records; all told in {told:?}",
        hints.len(),
        stats.drops,
    );
    assert_eq!(stats.deaths, COUNT as u64);
    assert!(stats.drops > COUNT as u64 - 100, "{}", stats.drops);
    assert_eq!(hints.len(), COUNT);
    assert_eq!(ended.len(), COUNT);
    for death in deaths(&ended) {
        assert_eq!(registered.remove(&death.generation), Some(death.identity));
        assert_eq!(death.status, Some(WaitStatus(9)));
        let died_at = death.died_at.unwrap();
        assert!(before_kill <= died_at && died_at <= after_kill);
    }
    assert!(registered.is_empty());
    assert_eq!((world.table.registered(), world.table.held()), (0, 0));
    world.all_on_record(&ended);
}
