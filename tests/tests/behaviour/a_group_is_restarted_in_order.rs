//! Entities that belong together: one plan for a burst, order, and who is needed.

use pmon_tests::{
    daemon::{Daemon, LONG},
    events::{Event, Events},
    place::Place,
    privilege,
    process::{self, Process},
    script::{entity, foreground, foreground_entity},
    skip_if,
};
use serde_json::Value;

const MEMBERS: [&str; 3] = ["db", "cache", "web"];

struct Shop {
    daemon: Daemon,
    events: Events,
    names: Vec<String>,
    victims: Vec<Process>,
    _place: Place,
}

impl Shop {
    /// Three services in a group, all up and well.
    fn open(strategy: &str) -> Self {
        let place = Place::new();
        let names: Vec<String> = MEMBERS.iter().map(|name| place.name(name)).collect();
        let mut toml = format!("[group.shop]\nstrategy = {strategy:?}\nmembers = {names:?}\n");
        // Configured in another order than they are started.
        for name in names.iter().rev() {
            toml += &foreground_entity(name, &[("flapping", "\"none\"")]);
        }
        place.configure(&toml);
        let daemon = Daemon::start(&place);
        let events = daemon.events();
        for name in &names {
            events.after(0, "its start", LONG, |event| event.is(name, "recovered"));
        }
        let victims = names
            .iter()
            .map(|name| Process::open(daemon.up(name)).unwrap())
            .collect();
        Self {
            daemon,
            events,
            names,
            victims,
            _place: place,
        }
    }

    /// The members in the order in which something was told of them.
    fn order(&self, mark: usize, kind: &str) -> Vec<String> {
        let all = self.events.all();
        let told = all.iter().skip(mark).filter(|event| event.kind == kind);
        told.filter_map(|event| event.entity.clone()).collect()
    }

    fn position(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        let all = self.events.all();
        all.iter().position(wanted).unwrap()
    }

    /// Waits until all are as they should be after a restart of these.
    fn restarted(&self, mark: usize, names: &[String]) {
        for name in names {
            self.events.after(mark, "its return", LONG, |event| {
                event.is(name, "recovered") || event.is(name, "restarted")
            });
        }
        for name in &self.names {
            let pid = self.daemon.up(name);
            assert_eq!(process::instances(name), [pid]);
        }
    }
}

#[test]
fn members_are_started_in_order() {
    let shop = Shop::open("one");
    assert_eq!(shop.order(0, "spawned"), shop.names);
    // Each when the one before it has survived its start.
    for pair in shop.names.windows(2) {
        let up = shop.position(|event| event.is(&pair[0], "monitoring"));
        let started = shop.position(|event| event.is(&pair[1], "spawned"));
        assert!(up < started, "{pair:?}");
    }
}

#[test]
fn three_that_are_killed_at_once_make_one_plan() {
    skip_if!(privilege::no_bpf());
    let shop = Shop::open("all");
    let mark = shop.events.mark();
    for victim in &shop.victims {
        victim.kill();
    }
    shop.restarted(mark, &shop.names);
    assert_eq!(
        shop.order(mark, "spawned"),
        shop.names,
        "each once, in order"
    );
    assert_eq!(shop.order(mark, "died").len(), 3);
    assert_eq!(shop.order(mark, "cycled"), [""; 0], "nobody else lived");
    for name in &shop.names {
        assert_eq!(shop.daemon.entity(name)["alarm"], Value::Null);
    }
}

#[test]
fn all_are_restarted_when_one_fails() {
    skip_if!(privilege::no_bpf());
    let shop = Shop::open("all");
    let mark = shop.events.mark();
    shop.victims[1].kill();
    shop.restarted(mark, &shop.names);
    let [db, cache, web] = [0, 1, 2].map(|index| shop.names[index].clone());
    // Ended in reverse order, one after the other; started in order.
    assert_eq!(shop.order(mark, "cycled"), [web.clone(), db.clone()]);
    assert_eq!(shop.order(mark, "signalled"), [web.clone(), db.clone()]);
    assert_eq!(
        shop.order(mark, "spawned"),
        [db.clone(), cache.clone(), web]
    );
    assert_eq!(shop.order(mark, "died"), std::slice::from_ref(&cache));
    let restarts = &shop.daemon.entity(&db)["restarts"];
    assert_eq!(
        (&restarts["auto"], &restarts["dependency"]),
        (&1.into(), &1.into())
    );
    let restarts = &shop.daemon.entity(&cache)["restarts"];
    assert_eq!(
        (&restarts["auto"], &restarts["dependency"]),
        (&2.into(), &0.into())
    );
    assert_eq!(shop.order(mark, "first_failure"), [cache]);
}

#[test]
fn the_rest_is_restarted_and_who_comes_before_is_left_alone() {
    skip_if!(privilege::no_bpf());
    let shop = Shop::open("rest");
    let before = shop.daemon.up(&shop.names[0]);
    let mark = shop.events.mark();
    shop.victims[1].kill();
    shop.restarted(mark, &shop.names[1..]);
    assert_eq!(shop.order(mark, "cycled"), [shop.names[2].clone()]);
    assert_eq!(shop.order(mark, "spawned"), shop.names[1..]);
    assert_eq!(shop.daemon.up(&shop.names[0]), before);
}

#[test]
fn one_that_is_required_is_waited_for_and_an_operator_waits_for_nobody() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (db, web) = (place.name("db"), place.name("web"));
    let service = foreground(&web, &[]);
    let needs = format!("[{db:?}]");
    place.configure(
        &(foreground_entity(&db, &[])
            + &entity(&web, &[("command", service.as_str()), ("requires", &needs)])),
    );
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    for name in [&db, &web] {
        events.after(0, "its start", LONG, |event| event.is(name, "recovered"));
    }
    daemon.json(&["stop", &db, "--wait"]);
    let pid = daemon.up(&web);
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    let delayed = events.after(mark, "the wait", LONG, |event| event.is(&web, "delayed"));
    assert!(
        delayed.text.contains(&format!(
            "waits for `{db}`, which it requires and which is down"
        )),
        "{}",
        delayed.text
    );
    let status = daemon.in_stage(&web, "queued");
    assert_eq!(status["state"], "recovering");
    let next = status["next_action"].as_str().unwrap();
    assert!(next.contains(&format!("waits for `{db}`")), "{next}");
    let because = daemon.json(&["explain", &web])["because"].to_string();
    assert!(because.contains("which it requires"), "{because}");
    assert_eq!(status["restarts"]["auto"], 1, "waiting is no attempt");
    // It comes with the one that it requires, and after it.
    daemon.json(&["start", &db]);
    events.after(mark, "its return", LONG, |event| {
        event.is(&web, "recovered")
    });
    let spawned: Vec<String> = events
        .all()
        .iter()
        .skip(mark)
        .filter(|event| event.kind == "spawned")
        .filter_map(|event| event.entity.clone())
        .collect();
    assert_eq!(spawned, [db.clone(), web.clone()]);

    // An operator's start does not wait.
    daemon.json(&["stop", &web, "--wait"]);
    daemon.json(&["stop", &db, "--wait"]);
    daemon.json(&["start", &web]);
    let pid = daemon.up(&web);
    assert_eq!(process::instances(&web), [pid]);
    assert_eq!(daemon.entity(&db)["state"], "down");
}

#[test]
fn a_cycle_refuses_the_configuration_and_is_named() {
    let place = Place::new();
    place.configure(
        &(foreground_entity("a", &[("after", "[\"b\"]")])
            + &foreground_entity("b", &[("requires", "[\"a\"]")])),
    );
    let output = pmon_tests::daemon::command(&place).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("they would wait for one another: `a` after `b` after `a`"),
        "{text}"
    );
}
