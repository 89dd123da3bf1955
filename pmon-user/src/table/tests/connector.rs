//! The proc connector in the table: alone, beside the other sources, and when it
//! fails. A daemon that has nothing but the connector is tested as a whole, too.

use std::{collections::BTreeMap, io::Write as _, process::Stdio, time::Instant};

use rustix::io::Errno;

use super::*;
use crate::{
    source::connector::tests::{connector_or_skip, storm, with_buffer_or_skip},
    sys::exchange::exchange,
};

const CONNECTOR: u64 = 2;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

impl World {
    fn with_connector(mut self, connector: Connector) -> Self {
        self.epoll.add(connector.fd(), CONNECTOR).unwrap();
        assert!(self.table.set_connector(Some(connector)).is_none());
        self
    }

    /// What is told without the connector, which may never be silent.
    fn told_without_connector(&mut self) -> (Vec<Hint>, Vec<Ended>) {
        let connector = self.table.set_connector(None).unwrap();
        self.epoll.remove(connector.fd());
        connector.stop().unwrap();
        self.told()
    }

    /// What the connector says by now; how often it has overrun.
    fn hear_connector(&mut self, hints: &mut Vec<Hint>) -> usize {
        let mut overruns = 0;
        while let Some(said) = self.table.next_from_connector() {
            match said {
                FromConnector::Exit(told) => hints.extend(told.into_iter().map(|(_, hint)| hint)),
                FromConnector::Overrun => overruns += 1,
                FromConnector::Broken(errno) => panic!("{errno}"),
            }
        }
        overruns
    }

    /// Until this many deaths are told; as the engine does it.
    fn deaths(&mut self, count: usize, hints: &mut Vec<Hint>) -> Vec<Death> {
        let mut deaths = Vec::new();
        let deadline = Instant::now() + LONG;
        while deaths.len() < count {
            assert!(Instant::now() < deadline, "{} of {count}", deaths.len());
            let mut tokens = Vec::new();
            self.epoll
                .wait(Some(Duration::from_millis(300)), &mut tokens)
                .unwrap();
            while let Some((_, hint)) = self.table.next_hint() {
                hints.push(hint);
            }
            self.hear_connector(hints);
            for generation in tokens {
                if generation < FIRST_GENERATION {
                    continue;
                }
                match self.table.ended(generation, &self.epoll) {
                    Some(Ended::Died(_, death)) => deaths.push(death),
                    Some(other) => panic!("{other:?}"),
                    None => {}
                }
            }
        }
        deaths
    }
}

/// A shell that ends with this code when its standard input does.
fn shell(code: u8) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read line; exit {code}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Half of them by a signal.
fn is_killed(number: usize) -> bool {
    number % 2 == 1
}

#[test]
fn two_hundred_deaths_in_a_storm_of_strangers_are_each_told_once() {
    let Some(connector) = connector_or_skip() else {
        return;
    };
    let mut world = World::without_kernel().with_connector(connector);
    let mut expected = BTreeMap::new();
    let children: Vec<Child> = (0..200_u8)
        .map(|number| {
            let child = shell(number);
            world.register(&format!("e{number}"), child.id());
            let status = if is_killed(usize::from(number)) {
                9
            } else {
                u32::from(number) << 8
            };
            expected.insert(child.id(), WaitStatus(status));
            child
        })
        .collect();
    let storm = storm();
    let ends = std::thread::spawn(move || {
        for (number, mut child) in children.into_iter().enumerate() {
            if is_killed(number) {
                child.kill().unwrap();
            } else {
                child.stdin.take().unwrap().write_all(b"\n").unwrap();
            }
            // Reaped at once: nothing is left to be looked at.
            child.wait().unwrap();
        }
    });
    let mut hints = Vec::new();
    let deaths = world.deaths(200, &mut hints);
    ends.join().unwrap();
    storm.join().unwrap();
    world.hear_connector(&mut hints);

    assert_eq!(world.table.registered(), 0);
    let told: BTreeMap<u32, &Death> = deaths
        .iter()
        .map(|death| (death.identity.pid, death))
        .collect();
    assert_eq!(told.len(), 200, "each once");
    let mut first = 0;
    for (pid, status) in expected {
        let death = told[&pid];
        // What nobody told is unknown, never wrong.
        match death.detected_by {
            SourceName::ProcConnector => {
                first += 1;
                assert_eq!(death.status, Some(status), "{death:?}");
                let died_at = death.died_at.unwrap();
                assert!(died_at <= death.detected_at, "{death:?}");
                assert!(death.detected_at <= death.confirmed_at, "{death:?}");
            }
            SourceName::Pidfd => assert!(death.status.is_none_or(|known| known == status)),
            SourceName::Ebpf => panic!("{death:?}"),
        }
    }
    println!("the connector was first {first} times");
    assert!(first > 0);
    assert_eq!(hints.len(), first);
    assert_eq!(
        world.table.connector_events(),
        u64::try_from(first).unwrap()
    );
    let stats = world.table.connector().unwrap().stats();
    println!("{stats:?}");
    assert_eq!((stats.overruns, stats.malformed), (0, 0));
    assert!(stats.exits > 20_000);
}

#[test]
fn a_threads_exit_is_no_death() {
    let Some(connector) = connector_or_skip() else {
        return;
    };
    let mut world = World::without_kernel().with_connector(connector);
    // This process: its threads end, it lives.
    let myself = verify(std::process::id()).unwrap();
    let (identity, entity) = (myself.identity(), EntityName::from("myself"));
    world
        .table
        .register(&entity, myself, LastSeen::default(), &world.epoll)
        .unwrap();
    for _ in 0..20 {
        std::thread::spawn(|| ()).join().unwrap();
    }
    // What comes after them has been heard when they have.
    let mut child = Sleeper::spawn();
    world.register("child", child.pid());
    child.end();
    let mut hints = Vec::new();
    let deaths = world.deaths(1, &mut hints);
    assert_ne!(deaths[0].identity, identity);
    assert!(hints.iter().all(|hint| hint.identity != identity));
    assert_eq!(world.table.registered(), 1);
}

/// One death, told by whoever came first, with the best that anybody knows.
#[test]
fn a_death_that_three_sources_see_is_one_death() {
    for connector_first in [false, true] {
        let (Some(world), Some(connector)) = (World::with_kernel(1024), connector_or_skip()) else {
            return;
        };
        let mut world = world.with_connector(connector);
        let mut children: Vec<Sleeper> = (0..30).map(|_| Sleeper::spawn()).collect();
        for (number, child) in children.iter().enumerate() {
            let (_, registered) = world.register(&format!("e{number}"), child.pid());
            assert_eq!(registered.pidfd_only, None);
        }
        for child in &mut children {
            child.end();
        }
        let mut hints = Vec::new();
        if connector_first {
            let deadline = Instant::now() + LONG;
            // Reaped is not yet told.
            while hints.len() < children.len() {
                assert!(Instant::now() < deadline, "{hints:?}");
                world.hear_connector(&mut hints);
            }
        }
        let deaths = world.deaths(children.len(), &mut hints);
        let expected = if connector_first {
            SourceName::ProcConnector
        } else {
            SourceName::Ebpf
        };
        for death in &deaths {
            assert_eq!(death.detected_by, expected);
            assert_eq!(death.status, Some(WaitStatus(9)));
            // The kernel program's: a moment before the connector's.
            let died_at = death.died_at.unwrap();
            assert!(died_at <= death.detected_at, "{death:?}");
        }
        hints.clear();
        world.hear_connector(&mut hints);
        let (more, ended) = world.told_without_connector();
        assert!(hints.is_empty() && more.is_empty() && ended.is_empty());
        let generations: std::collections::BTreeSet<u64> =
            deaths.iter().map(|death| death.generation).collect();
        assert_eq!(generations.len(), children.len());
        assert_eq!(world.table.registered(), 0);
        assert_eq!(world.table.pidfd_events(), 0);
    }
}

#[test]
fn both_entities_that_watch_a_process_are_told() {
    let Some(connector) = connector_or_skip() else {
        return;
    };
    let mut world = World::without_kernel().with_connector(connector);
    let mut child = Sleeper::spawn();
    world.register("a", child.pid());
    world.register("b", child.pid());
    child.end();
    assert_eq!(world.deaths(2, &mut Vec::new()).len(), 2);
}

/// Nobody reads while more happens than the smallest buffer holds.
#[test]
fn deaths_behind_an_overrun_are_found_by_looking() {
    let Some(connector) = with_buffer_or_skip(1) else {
        return;
    };
    let mut world = World::without_kernel().with_connector(connector);
    let mut children: Vec<Sleeper> = (0..100).map(|_| Sleeper::spawn()).collect();
    for (number, child) in children.iter().enumerate() {
        world.register(&format!("e{number}"), child.pid());
    }
    for child in &mut children {
        child.end();
    }
    let mut hints = Vec::new();
    let overruns = world.hear_connector(&mut hints);
    assert!(overruns >= 2, "when it is known and when all is read");
    assert!(hints.len() < 100, "most were lost: {}", hints.len());
    let stats = world.table.connector().unwrap().stats();
    assert!(stats.overruns >= 1, "{stats:?}");
    let ended = world.table.resync(&world.epoll);
    assert_eq!(ended.len(), 100);
    assert!(world.table.resync(&world.epoll).is_empty());
    // There is no kernel's table to look at, and no reason to wake up for it.
    assert!(world.table.hints_behind_drops().is_empty());
    assert_eq!(world.table.next_due(), None);
    let (_, ended) = world.told_without_connector();
    assert!(ended.is_empty(), "told once");
}

#[test]
fn when_the_socket_breaks_the_pidfds_go_on() {
    let Some(connector) = connector_or_skip() else {
        return;
    };
    let mut world = World::without_kernel().with_connector(connector);
    let mut child = Sleeper::spawn();
    let (identity, _) = world.register("a", child.pid());
    let (pipe, _end) = rustix::pipe::pipe().unwrap();
    world.table.connector.as_mut().unwrap().ignore().unwrap();
    let fd = world.table.connector().unwrap().fd();
    world.epoll.remove(fd);
    exchange(fd, &pipe).unwrap();
    let said = world.table.next_from_connector();
    assert!(
        matches!(said, Some(FromConnector::Broken(Errno::NOTSOCK))),
        "{said:?}"
    );
    assert!(world.table.next_from_connector().is_none());
    assert!(world.table.set_connector(None).is_some());
    assert!(world.table.next_from_connector().is_none());
    child.end();
    let (_, ended) = world.told();
    let death = death(&ended);
    assert_eq!(death.identity, identity);
    assert_eq!(death.detected_by, SourceName::Pidfd);
}
