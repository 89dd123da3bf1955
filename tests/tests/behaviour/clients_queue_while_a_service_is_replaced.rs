//! Sockets that pmon holds: nobody is refused while there is no process, whether
//! its successor is started early or when everything is released, and whatever
//! becomes of pmon.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pmon_tests::{
    daemon::{Daemon, LONG},
    events::{Event, Events},
    place::Place,
    privilege,
    process::{self, Process},
    script::{entity, foreground},
    skip_if, wait,
};
use serde_json::Value;

/// Takes the kernel tens of milliseconds to release.
const RESIDENT_MIB: &str = "256";

/// An address that nobody else uses: pids fit into 22 bits.
fn address() -> SocketAddr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let listener = TcpListener::bind(SocketAddr::from(([127, 64 | a, b, c], 0)));
    listener.unwrap().local_addr().unwrap()
}

/// A service with a socket, and what is on its way to it.
struct Scene {
    place: Place,
    name: String,
    address: SocketAddr,
}

impl Scene {
    fn new(start: &str) -> Self {
        let place = Place::new();
        let name = place.name("serves");
        let scene = Self {
            address: address(),
            place,
            name,
        };
        scene.configure(start, "5s");
        scene
    }

    fn configure(&self, start: &str, interval: &str) {
        let command = foreground(&self.name, &["--answer", "--resident", RESIDENT_MIB]);
        let (start, interval) = (format!("{start:?}"), format!("{interval:?}"));
        let settings = [
            ("command", command.as_str()),
            ("start", &start),
            ("interval", &interval),
            ("startuptime", "\"1s\""),
        ];
        let unix = self.place.path("s");
        self.place.configure(&format!(
            "{}[[entity.socket]]\nlisten = \"tcp:{}\"\nname = \"web\"\n\
             [[entity.socket]]\nlisten = \"unix:{}\"\nname = \"admin\"\n",
            entity(&self.name, &settings),
            self.address,
            unix.display(),
        ));
    }

    /// The pid of whoever answers.
    fn asked(&self) -> u32 {
        first_word(TcpStream::connect(self.address).unwrap()).unwrap()
    }

    fn incidents(&self, daemon: &Daemon) -> Vec<Value> {
        let history = daemon.json(&["history", &self.name]);
        history["incidents"].as_array().unwrap().clone()
    }
}

/// The pid that a connection tells; none if who had accepted it died.
fn first_word(connection: impl Read) -> Option<u32> {
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).ok()?;
    let (pid, names) = line.trim().split_once(' ')?;
    assert_eq!(names, "web:admin");
    Some(pid.parse().unwrap())
}

/// A client that connects in a loop, until it is asked what it has seen.
struct Client {
    over: Arc<AtomicBool>,
    answers: Arc<Mutex<BTreeMap<u32, u32>>>,
    thread: JoinHandle<()>,
}

impl Client {
    fn of(address: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let (ends, counts) = (Arc::clone(&over), Arc::clone(&answers));
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let connection = TcpStream::connect(address).unwrap();
                if let Some(pid) = first_word(connection) {
                    *counts.lock().unwrap().entry(pid).or_default() += 1;
                }
                // Each leaves a port in TIME_WAIT.
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            over,
            answers,
            thread,
        }
    }

    fn answered_by(&self, pid: u32) {
        wait::until("a client is answered", LONG, || {
            assert!(!self.thread.is_finished(), "the client was refused");
            self.answers
                .lock()
                .unwrap()
                .contains_key(&pid)
                .then_some(())
        });
    }

    /// Who has answered.
    fn end(self) -> Vec<u32> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.answers.lock().unwrap().keys().copied().collect()
    }
}

/// Kills the process under a client; the events of that.
fn replaced(scene: &Scene, daemon: &Daemon, events: &Events) -> Vec<Event> {
    let old = daemon.up(&scene.name);
    let client = Client::of(scene.address);
    client.answered_by(old);
    let mark = events.mark();
    Process::open(old).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&scene.name, "recovered")
    });
    let new = daemon.up(&scene.name);
    client.answered_by(new);
    let answered = client.end();
    assert_eq!(answered.len(), 2, "{old}, {new}: {answered:?}");
    assert_eq!(process::instances(&scene.name), [new]);
    let unix = UnixStream::connect(scene.place.path("s")).unwrap();
    assert_eq!(first_word(unix), Some(new));
    let told = events.matching(|event| event.entity.as_deref() == Some(&scene.name));
    told.into_iter()
        .filter(|event| event.incident.is_some())
        .collect()
}

fn is_one_death(scene: &Scene, daemon: &Daemon, told: &[Event], order: &[&str]) {
    let kinds: Vec<&str> = told
        .iter()
        .map(|event| event.kind.as_str())
        .filter(|kind| order.contains(kind))
        .collect();
    assert_eq!(kinds, order, "{told:#?}");
    let incidents = scene.incidents(daemon);
    let closed: Vec<&Value> = incidents
        .iter()
        .filter(|incident| !incident["death"].is_null())
        .collect();
    let [incident] = closed[..] else {
        panic!("one incident: {incidents:#?}");
    };
    assert_eq!(incident["result"], "recovered");
    assert_eq!(incident["attempts"], 1, "{incident:#}");
    assert_eq!(incident["deaths"].as_array().unwrap().len(), 1);
    let death = &incident["death"];
    assert_eq!(death["signal"], 9, "{death:#}");
    assert_eq!(death["detected_by"], "ebpf");
    let microseconds = |key: &str| death[key].as_u64().unwrap();
    println!(
        "released after {} us, recovered after {} us",
        microseconds("resources_released_us"),
        microseconds("recovery_latency_us"),
    );
}

#[test]
fn by_one_that_is_started_early() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new("early");
    let daemon = Daemon::start(&scene.place);
    let events = daemon.events();
    let told = replaced(&scene, &daemon, &events);
    let order = ["hint", "spawned", "died", "recovered"];
    let without_first_start: Vec<Event> = from_the_hint(told);
    is_one_death(&scene, &daemon, &without_first_start, &order);
    let entity = daemon.entity(&scene.name);
    assert_eq!(
        entity["restarts"]["auto"], 2,
        "the first start is one: {entity:#}"
    );
    let shown = daemon.json(&["show", &scene.name]);
    assert_eq!(shown["spec"]["early"], true);
}

/// The first start of all has an incident of its own.
fn from_the_hint(told: Vec<Event>) -> Vec<Event> {
    let hint = told.iter().position(|event| event.kind == "hint").unwrap();
    told.into_iter().skip(hint).collect()
}

#[test]
fn by_one_that_is_started_when_all_is_released() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new("released");
    let daemon = Daemon::start(&scene.place);
    let events = daemon.events();
    let told = from_the_hint(replaced(&scene, &daemon, &events));
    let order = ["hint", "died", "spawned", "recovered"];
    is_one_death(&scene, &daemon, &told, &order);
}

#[test]
fn also_after_pmon_was_killed_or_told_to_reload() {
    let scene = Scene::new("early");
    let first = Daemon::start(&scene.place);
    let old = first.up(&scene.name);
    let client = Client::of(scene.address);
    client.answered_by(old);
    first.kill();
    let second = Daemon::start(&scene.place);
    assert_eq!(second.up(&scene.name), old);
    scene.configure("released", "100ms");
    let reloaded = second.json(&["reload"]);
    assert_eq!(reloaded["changed"][0], scene.name, "{reloaded:#}");
    // Whatever was handed out before the reload is done when this is answered.
    let process = Process::open(old).unwrap();
    wait::until("the sockets are taken back", LONG, || {
        let pid = second.pid();
        sockets_at(pid, scene.address).then_some(())
    });
    process.kill();
    let successor = second.entity_when(&scene.name, "there is a successor", LONG, |entity| {
        entity["pid"] != old && entity["state"] == "up"
    });
    let new = pmon_tests::daemon::pid_of(&successor);
    client.answered_by(new);
    assert_eq!(
        client.end(),
        if old < new { [old, new] } else { [new, old] }
    );
    assert_eq!(scene.asked(), new);
}

/// Whether a process has a socket that listens at this address.
fn sockets_at(pid: u32, address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else {
        return false;
    };
    // proc(5), /proc/net/tcp: the address in the host's byte order, the state (0A
    // is TCP_LISTEN) as the fourth field and the inode as the tenth.
    let local = format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(address.ip().octets()),
        address.port()
    );
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1) == Some(&&*local) && fields.get(3) == Some(&"0A");
        listens.then(|| format!("socket:[{}]", fields[9]))
    });
    let Some(inode) = inode else { return false };
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.flatten().any(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy() == inode)
    })
}

#[test]
fn an_address_that_somebody_else_has_is_told_and_tried_again() {
    let scene = Scene::new("early");
    scene.configure("early", "100ms");
    let other = TcpListener::bind(scene.address).unwrap();
    let daemon = Daemon::start(&scene.place);
    let entity = daemon.entity_when(&scene.name, "a failed attempt", LONG, |entity| {
        !entity["problem"].is_null() && entity["problem"].to_string().contains("EADDRINUSE")
    });
    let problem = entity["problem"].as_str().unwrap();
    assert!(
        problem.contains(&format!("tcp:{}", scene.address)),
        "{problem}"
    );
    assert!(process::instances(&scene.name).is_empty());
    drop(other);
    let pid = daemon.up(&scene.name);
    assert_eq!(scene.asked(), pid);
}
