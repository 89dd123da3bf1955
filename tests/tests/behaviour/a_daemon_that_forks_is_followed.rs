//! `follow = true`: a program that goes into the background without a pidfile is
//! the entity's process wherever it goes; that is no death and no restart. Killed
//! there, it is recovered as any other.

use std::{fs, path::PathBuf, process::Command};

use pmon_tests::{
    binary,
    daemon::{self, Daemon, LONG},
    pins,
    place::{Place, is_bpffs},
    privilege,
    process::{self, Process},
    script, skip_if, wait,
};
use serde_json::Value;

/// An entity that goes into the background.
struct Background {
    name: String,
    here: PathBuf,
    when: PathBuf,
    command: Vec<String>,
}

impl Background {
    fn new(place: &Place, how: &str, times: u32) -> Self {
        let name = place.name(how);
        let here = place.path(&format!("{how}.here"));
        let program = binary::background();
        let words = [program.to_str().unwrap(), "--tag", &name, "--how", how];
        let command = words.iter().map(|word| (*word).to_owned());
        let times = ["--times".to_owned(), times.to_string()];
        let here_option = ["--here".to_owned(), here.to_str().unwrap().to_owned()];
        Self {
            command: command.chain(times).chain(here_option).collect(),
            when: place.path(&format!("{how}.when")),
            name,
            here,
        }
    }

    /// It does not go before it is told to.
    fn waiting(mut self) -> Self {
        let when = self.when.to_str().unwrap().to_owned();
        self.command.extend(["--when".to_owned(), when]);
        self
    }

    fn entity(&self) -> String {
        let command = format!("{:?}", self.command);
        let settings = [("command", command.as_str()), ("follow", "true")];
        script::entity(&self.name, &settings)
    }

    /// Tells it to go.
    fn goes(&self) {
        fs::write(&self.when, "").unwrap();
    }

    /// The one that stays.
    fn stays(&self, not: Option<u32>) -> u32 {
        wait::until("it is in the background", LONG, || {
            let pid = fs::read_to_string(&self.here).ok()?.parse().ok()?;
            (Some(pid) != not).then_some(pid)
        })
    }

    /// Waits until the entity is healthy as this process.
    fn is(&self, daemon: &Daemon, pid: u32) -> Value {
        daemon.entity_when(&self.name, "it is followed", LONG, |entity| {
            entity["pid"] == pid && entity["state"] == "up" && entity["registered"] == true
        })
    }

    /// Its death is one, and the successor is followed as well.
    fn dies_and_is_recovered(&self, daemon: &Daemon, pid: u32) {
        let before = daemon.entity(&self.name);
        let identity = process::identity(pid).unwrap();
        Process::open(pid).unwrap().kill();
        let successor = self.stays(Some(pid));
        let after = self.is(daemon, successor);
        assert_eq!(
            after["restarts"]["auto"].as_u64(),
            before["restarts"]["auto"].as_u64().map(|count| count + 1)
        );
        let death = &after["last_death"];
        assert_eq!(death["pid"], pid);
        assert_eq!(death["signal"], 9, "{death:#}");
        let told: Vec<_> = pins::deaths(daemon, &self.name);
        let same = told.iter().filter(|(who, _)| *who == identity).count();
        assert_eq!(same, 1, "{told:?}");
    }
}

fn deaths_and_starts(entity: &Value) -> (u64, u64, u64) {
    let restarts = &entity["restarts"];
    (
        entity["deaths_24h"].as_u64().unwrap(),
        restarts["auto"].as_u64().unwrap(),
        restarts["external"].as_u64().unwrap(),
    )
}

#[test]
fn in_whichever_way_it_goes() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let all = ["daemon", "fork-twice", "execute"].map(|how| Background::new(&place, how, 1));
    place.configure(&all.each_ref().map(Background::entity).concat());
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    for one in &all {
        let pid = one.stays(None);
        let entity = one.is(&daemon, pid);
        assert_eq!(deaths_and_starts(&entity), (0, 1, 0), "{entity:#}");
        assert_eq!(process::instances(&one.name), [pid]);
        assert!(events.count(&one.name, "followed") >= 1);
        assert_eq!(events.count(&one.name, "died"), 0);
        one.dies_and_is_recovered(&daemon, pid);
    }
    assert!(daemon.terminate().success());
}

#[test]
fn a_thousand_times_in_a_row() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let one = Background::new(&place, "daemon", 1000).waiting();
    place.configure(&one.entity());
    let daemon = Daemon::start(&place);
    let first = daemon.up(&one.name);
    one.goes();
    let last = one.stays(None);
    assert_ne!(last, first);
    let entity = one.is(&daemon, last);
    assert_eq!(deaths_and_starts(&entity), (0, 1, 0), "{entity:#}");
    assert_eq!(process::instances(&one.name), [last]);
    let status = daemon.status();
    println!(
        "followed {} times",
        daemon.events().count(&one.name, "followed")
    );
    assert_eq!(status["degraded"], serde_json::json!([]), "{status:#}");
    one.dies_and_is_recovered(&daemon, last);
    wait::until("only who lives is in the table", LONG, || {
        let entries = daemon.json(&["bpf", "show"])["maps"][0]["entries"].clone();
        (entries == 1).then_some(())
    });
}

#[test]
fn and_is_dead_when_it_is_killed_before() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let one = Background::new(&place, "not-at-all", 3);
    place.configure(&one.entity());
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let master = one.stays(None);
    let entity = one.is(&daemon, master);
    assert_eq!(deaths_and_starts(&entity), (0, 1, 0));
    let workers: Vec<u32> = process::instances(&one.name)
        .into_iter()
        .filter(|pid| *pid != master)
        .collect();
    assert_eq!(workers.len(), 3);
    // Of workers nobody hears.
    Process::open(workers[0]).unwrap().kill();
    one.dies_and_is_recovered(&daemon, master);
    assert_eq!(events.count(&one.name, "followed"), 0);
    assert_eq!(events.count(&one.name, "died"), 1);
}

#[test]
fn while_there_is_no_daemon() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let [goes, dies, follows] =
        [("daemon", 50), ("fork-twice", 5), ("execute", 1)].map(|(how, times)| {
            let one = Background::new(&place, how, times);
            if how == "execute" { one } else { one.waiting() }
        });
    place.configure(&[goes.entity(), dies.entity(), follows.entity()].concat());
    let daemon = Daemon::start(&place);
    let _waiting = [&goes, &dies].map(|one| daemon.up(&one.name));
    let followed = follows.stays(None);
    let before = follows.is(&daemon, followed);
    daemon.kill();
    for one in [&goes, &dies] {
        one.goes();
        one.stays(None);
    }
    let dead = dies.stays(None);
    let identity = process::identity(dead).unwrap();
    let process = Process::open(dead).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));

    let daemon = Daemon::start(&place);
    // One has gone, and nothing else has happened to it.
    let pid = goes.stays(None);
    let entity = goes.is(&daemon, pid);
    assert_eq!(deaths_and_starts(&entity), (0, 0, 0), "{entity:#}");
    assert_eq!(process::instances(&goes.name), [pid]);
    assert_eq!(daemon.events().count(&goes.name, "followed"), 1);
    // One has gone and was killed then.
    let successor = dies.stays(Some(dead));
    let entity = dies.is(&daemon, successor);
    assert_eq!(entity["last_death"]["pid"], dead, "{entity:#}");
    assert_eq!(entity["last_death"]["signal"], 9);
    let told = pins::deaths(&daemon, &dies.name);
    let same = told.iter().filter(|(who, _)| *who == identity).count();
    assert_eq!((same, told.len()), (1, 1), "{told:?}");
    // One had gone before, and is known under the same name.
    let entity = follows.is(&daemon, followed);
    assert_eq!(entity["generation"], before["generation"]);
    assert_eq!(deaths_and_starts(&entity), (0, 0, 0));
    follows.dies_and_is_recovered(&daemon, followed);
    goes.dies_and_is_recovered(&daemon, pid);
}

#[test]
fn while_one_daemon_takes_over_from_the_other() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let one = Background::new(&place, "daemon", 2000).waiting();
    place.configure(&one.entity());
    let mut daemon = Daemon::start(&place);
    let first = daemon.up(&one.name);
    one.goes();
    for _ in 0..3 {
        let mut command: Command = daemon::command(&place);
        command.arg("--handoff");
        let next = Daemon::launch_beside(&place, command);
        assert_eq!(daemon.end().code(), Some(0));
        next.answers();
        daemon = next;
    }
    let last = one.stays(None);
    assert_ne!(last, first);
    let entity = one.is(&daemon, last);
    assert_eq!(deaths_and_starts(&entity), (0, 0, 0), "{entity:#}");
    assert_eq!(process::instances(&one.name), [last]);
    one.dies_and_is_recovered(&daemon, last);
}

#[test]
fn at_whatever_moment_the_daemon_is_killed() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let one = Background::new(&place, "fork-twice", 3000).waiting();
    place.configure(&one.entity());
    let mut daemon = Daemon::start(&place);
    let first = daemon.up(&one.name);
    one.goes();
    let mut killed_on_the_way = 0;
    for _ in 0..10 {
        daemon.kill();
        killed_on_the_way += u32::from(!one.here.exists());
        daemon = Daemon::start(&place);
    }
    let last = one.stays(None);
    println!("killed {killed_on_the_way} times on the way");
    assert!(killed_on_the_way > 0);
    assert_ne!(last, first);
    let entity = one.is(&daemon, last);
    assert_eq!(deaths_and_starts(&entity), (0, 0, 0), "{entity:#}");
    assert_eq!(process::instances(&one.name), [last]);
    one.dies_and_is_recovered(&daemon, last);
}

#[test]
fn when_it_was_registered_by_hand() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let one = Background::new(&place, "fork-twice", 1).waiting();
    place.configure("");
    let daemon = Daemon::start(&place);
    let mut child = Command::new(&one.command[0])
        .args(&one.command[1..])
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let answer = daemon.ask(&["register", &one.name, "--pid", &pid, "--follow"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(daemon.up(&one.name), child.id());
    one.goes();
    assert!(child.wait().unwrap().success());
    let stays = one.stays(None);
    one.is(&daemon, stays);
    Process::open(stays).unwrap().kill();
    let dead = daemon.entity_when(&one.name, "its death is known", LONG, |entity| {
        entity["deaths_24h"] == 1
    });
    assert_eq!(dead["last_death"]["pid"], stays);
}

#[test]
fn only_where_the_kernel_side_can_do_it() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let one = Background::new(&place, "not-at-all", 0);
    place.configure(&format!("[daemon]\nsource = \"pidfd\"\n{}", one.entity()));
    let daemon = Daemon::start(&place);
    one.is(&daemon, one.stays(None));
    let degraded = daemon.status()["degraded"].to_string();
    assert!(
        degraded.contains("not followed into the background"),
        "{degraded}"
    );
    assert!(degraded.contains(&one.name), "{degraded}");
}
