//! pmon in a container: with the host's pids, with pids of its own, and with
//! no more than the capabilities it needs.
//!
//! The image is the one that `cargo xtask image` builds, with the binary under
//! test in it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Child, Command, Stdio};

use pmon_tests::{
    container::Container,
    daemon::{LONG, answer, client, pid_of, source},
    place::Place,
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if, wait,
};
use serde_json::Value;

/// The host's pids, network and BTF, and everything else a container can have.
const WITH_HOST_PIDS: [&str; 2] = ["--privileged", "--pid=host"];

/// What the README promises to be enough; podman's default seccomp profile
/// refuses bpf(2) whatever the capabilities are.
const CAPABILITIES_ONLY: [&str; 9] = [
    "--pid=host",
    "--security-opt=seccomp=unconfined",
    "--cap-drop=all",
    "--cap-add=BPF",
    "--cap-add=PERFMON",
    "--cap-add=KILL",
    "--cap-add=SYS_PTRACE",
    "--cap-add=SYS_NICE",
    "--pids-limit=1000",
];

/// A daemon in a container.
struct Daemon<'a> {
    place: &'a Place,
    container: Container,
}

impl<'a> Daemon<'a> {
    fn start(place: &'a Place, options: &[&str]) -> Self {
        let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        let (config, pmon_d) = (path(place.config()), path(place.pmon_d()));
        let (run, state) = (path(place.run()), path(place.state()));
        let command = [
            "daemon",
            "--config",
            &config,
            "--pmon-d",
            &pmon_d,
            "--run-dir",
            &run,
            "--state-dir",
            &state,
            "--pin-dir",
            &path(place.pins().to_owned()),
        ];
        let container = Container::run(place, options, &command);
        let daemon = Self { place, container };
        wait::until("the daemon answers", LONG, || {
            (daemon.ask(&["list", "-o", "json"]).0 == Some(0)).then_some(())
        });
        daemon
    }

    /// What a client on the host is told.
    fn ask(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let answer = answer(&mut client(&self.place.socket(), arguments));
        (answer.code, answer.stdout)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, text) = self.ask(&[arguments, &["-o", "json"]].concat());
        assert!(
            matches!(code, Some(0 | 3 | 8)),
            "{arguments:?}: {code:?}: {text}"
        );
        serde_json::from_str(&text).unwrap()
    }

    /// `pmon status` once the kernel program's canary has come through.
    fn proven(&self) -> Value {
        let status = || self.json(&["status"]);
        wait::until_seen("the kernel program is proven", LONG, status, |status| {
            source(status, "ebpf")["state"] == "healthy"
        })
    }

    fn entity(&self, name: &str) -> Value {
        self.json(&["list", name])["entities"][0].clone()
    }

    fn when(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait::until_seen(what, LONG, || self.entity(name), wanted)
    }

    fn up(&self, name: &str) -> u32 {
        let up = |entity: &Value| entity["state"] == "up" && entity["registered"] == true;
        pid_of(&self.when(name, "it is up", up))
    }
}

/// A process of the host that is nobody's service.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        let sleep = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn();
        Self(sleep.unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn no_containers() -> Option<String> {
    privilege::no_bpf().or_else(|| {
        ["podman", "runc"]
            .into_iter()
            .find_map(privilege::no_program)
    })
}

/// Killed as the host sees it; the daemon brings it back.
fn is_recovered(daemon: &Daemon<'_>, name: &str) -> Value {
    daemon.up(name);
    let [first] = process::instances(name)[..] else {
        panic!("one instance: {:?}", process::instances(name));
    };
    Process::open(first).unwrap().kill();
    let recovered = daemon.when(name, "it is recovered", |entity| {
        entity["state"] == "up" && entity["last_death"]["signal"] == 9
    });
    let [second] = process::instances(name)[..] else {
        panic!("one instance: {:?}", process::instances(name));
    };
    assert_ne!(first, second);
    let death = recovered["last_death"].clone();
    assert_eq!(death["detected_by"], "ebpf", "{death:#}");
    assert_eq!(death["signal"], 9, "{death:#}");
    death
}

#[test]
fn with_the_hosts_pids_it_watches_the_host_and_names_containers() {
    skip_if!(no_containers());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place, &WITH_HOST_PIDS);
    let death = is_recovered(&daemon, &name);
    // Its service lives in pmon's own container.
    assert_eq!(death["container"], daemon.container.id(), "{death:#}");

    // A process of the host, which no container knows.
    let mut bystander = Bystander::new();
    let host = place.name("host");
    let pid = bystander.0.id().to_string();
    daemon.json(&["register", &host, "--pid", &pid]);
    daemon.up(&host);
    bystander.kill();
    let dead = daemon.when(&host, "its death is known", |entity| {
        !entity["last_death"].is_null()
    });
    let death = &dead["last_death"];
    assert_eq!(death["pid"].to_string(), pid, "{death:#}");
    assert_eq!(death["detected_by"], "ebpf", "{death:#}");
    assert_eq!(death["container"], Value::Null, "{death:#}");

    // A process of another container.
    let other = Container::run(&place, &["--entrypoint", "/bin/sleep"], &["1000"]);
    let foreign = place.name("foreign");
    let pid = other.pid();
    daemon.json(&["register", &foreign, "--pid", &pid.to_string()]);
    daemon.up(&foreign);
    Process::open(pid).unwrap().kill();
    let dead = daemon.when(&foreign, "its death is known", |entity| {
        !entity["last_death"].is_null()
    });
    let death = &dead["last_death"];
    assert_eq!(death["container"], other.id(), "{death:#}");
    assert_eq!(daemon.container.stop(), 0);
}

#[test]
fn with_pids_of_its_own_it_watches_its_container() {
    skip_if!(no_containers());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place, &["--privileged"]);
    let death = is_recovered(&daemon, &name);
    // A small number: the container's own.
    assert!(
        death["pid"].as_u64().is_some_and(|pid| pid < 1000),
        "{death:#}"
    );
    daemon.proven();
    assert_eq!(daemon.container.stop(), 0);
}

/// As process 1 of its container pmon inherits every orphan there.
#[test]
fn as_process_1_it_reaps_orphans() {
    skip_if!(no_containers());
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--privileged"]);
    let orphans = "for i in 1 2 3 4 5; do (sleep 0.1 & ) ; done; sleep 1; cat /proc/[0-9]*/stat";
    let stats = answer(&mut daemon.container.exec(&["sh", "-c", orphans]));
    assert_eq!(stats.code, Some(0), "{stats:?}");
    let sleeps = |stat: &&str| stat.contains("(sleep)");
    assert_eq!(stats.stdout.lines().filter(sleeps).count(), 0, "{stats:?}");
    let one = stats.stdout.lines().find(|stat| stat.starts_with("1 "));
    assert!(one.is_some_and(|one| one.contains("(pmon)")), "{stats:?}");
    assert_eq!(daemon.container.stop(), 0);
}

#[test]
fn with_a_handful_of_capabilities_it_detects_and_recovers() {
    skip_if!(no_containers());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place, &CAPABILITIES_ONLY);
    is_recovered(&daemon, &name);
    let status = daemon.proven();
    // A kernel with CONFIG_RT_GROUP_SCHED gives a new cgroup no real-time budget.
    let scheduling = status["daemon"]["receiver_scheduling"].as_str();
    if !scheduling.is_some_and(|scheduling| scheduling.starts_with("fifo:")) {
        let doctor = daemon.json(&["doctor"]).to_string();
        assert!(doctor.contains("--cpu-rt-runtime"), "{doctor}");
    }
    assert_eq!(daemon.container.stop(), 0);
}

#[test]
fn the_default_seccomp_profile_is_named() {
    skip_if!(no_containers());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let options: Vec<&str> = CAPABILITIES_ONLY
        .into_iter()
        .filter(|option| !option.contains("seccomp"))
        .collect();
    let daemon = Daemon::start(&place, &options);
    daemon.up(&name);
    let status = daemon.json(&["status"]);
    assert_eq!(source(&status, "ebpf")["state"], "off", "{status:#}");
    let doctor = daemon.json(&["doctor"]).to_string();
    assert!(doctor.contains("seccomp"), "{doctor}");
    assert!(doctor.contains("--security-opt"), "{doctor}");
    // Watched all the same.
    let [first] = process::instances(&name)[..] else {
        panic!("one instance: {:?}", process::instances(&name));
    };
    Process::open(first).unwrap().kill();
    daemon.when(&name, "it is recovered", |entity| {
        entity["state"] == "up" && entity["deaths_1h"] == 1
    });
    assert_eq!(daemon.container.stop(), 0);
}
