//! Line 10: what must be detected, each item where it is quickest to show.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    events::Events,
    kernel,
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, entity},
    skip_if,
    systemd::{self, Host, starts},
    wait,
};
use rustix::process::Signal;

/// A daemon, and processes that are registered with it by hand.
struct Scene {
    events: Events,
    daemon: Daemon,
    place: Place,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let daemon = Daemon::start(&place);
        let events = daemon.events();
        Self {
            events,
            daemon,
            place,
        }
    }

    /// The service, at work and registered.
    fn service(&self, name: &str, options: &[&str]) -> Child {
        let child = Command::new(binary::service())
            .args(["--tag", name])
            .args(options)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        catches_usr1(child.id());
        self.register(name, child.id());
        assert_eq!(self.daemon.up(name), child.id());
        child
    }

    fn register(&self, name: &str, pid: u32) {
        self.daemon
            .json(&["register", name, "--pid", &pid.to_string()]);
    }

    /// Its one death is told, as that of this process.
    fn dies(&self, name: &str, mut child: Child) -> serde_json::Value {
        let died = self
            .events
            .after(0, "died", LONG, |event| event.is(name, "died"));
        assert_eq!(died.pid, Some(child.id()));
        child.wait().unwrap();
        let entity = self
            .daemon
            .entity_when(name, "its death is known", LONG, |entity| {
                entity["last_death"]["pid"] == child.id()
            });
        assert_eq!(self.events.count(name, "died"), 1);
        entity["last_death"].clone()
    }
}

fn catches_usr1(pid: u32) {
    let status = format!("/proc/{pid}/status");
    wait::until("it catches SIGUSR1", LONG, || {
        let status = fs::read_to_string(&status).ok()?;
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        (mask >> (Signal::USR1.as_raw() - 1) & 1 == 1).then_some(())
    });
}

fn usr1(pid: u32) {
    Process::open(pid).unwrap().signal(Signal::USR1).unwrap();
}

#[test]
fn line_10_it_sees_what_pmond_missed() {
    skip_if!(privilege::no_bpf());
    let scene = Scene::new();
    a_fault(&scene);
    a_thread_group(&scene);
    a_zombie_at_registration(&scene);
    an_exec_from_a_thread(&scene);
    a_pid_namespace(&scene);
    drop(scene);
    a_pidfile_with_a_new_pid_and_one_with_a_reused_one();
    what_is_done_through_systemd();
}

/// A crash that leaves a core is a death like any other; pmond had not asked to
/// be told of it.
fn a_fault(scene: &Scene) {
    let name = scene.place.name("core");
    let child = scene.service(&name, &["--on-usr1", "faults"]);
    usr1(child.id());
    let death = scene.dies(&name, child);
    assert_eq!(death["signal"], 11, "{death:#}");
}

/// The leader's exit is none, the last thread's is.
fn a_thread_group(scene: &Scene) {
    let name = scene.place.name("group");
    let child = scene.service(&name, &["--on-usr1", "leader-exits"]);
    usr1(child.id());
    let stat = format!("/proc/{}/stat", child.id());
    wait::until("the leader is gone", LONG, || {
        let stat = fs::read_to_string(&stat).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.starts_with('Z').then_some(())
    });
    assert_eq!(scene.daemon.up(&name), child.id());
    assert_eq!(scene.events.count(&name, "died"), 0);
    Process::open(child.id())
        .unwrap()
        .signal(Signal::USR2)
        .unwrap();
    let death = scene.dies(&name, child);
    assert_eq!(death["exit_code"], 5, "{death:#}");
}

/// The kernel patch took its registration and never told of it.
fn a_zombie_at_registration(scene: &Scene) {
    let name = scene.place.name("zombie");
    let mut child = Command::new("true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    wait::until("a zombie", LONG, || {
        fs::read_to_string(&stat)
            .unwrap()
            .contains(") Z ")
            .then_some(())
    });
    let pid = child.id().to_string();
    let answer = scene.daemon.ask(&["register", &name, "--pid", &pid]);
    // Refused, or taken and told dead: never taken for something that lives.
    if answer.code == Some(0) {
        scene.events.after(0, "its end", LONG, |event| {
            event.entity.as_ref() == Some(&name)
        });
        scene
            .daemon
            .entity_when(&name, "it is not up", LONG, |entity| {
                entity["registered"] == false && entity["state"] != "up"
            });
    } else {
        println!("refused: {}", answer.stderr.trim());
        assert!(!answer.stderr.is_empty());
    }
    child.wait().unwrap();
}

/// The registration of the kernel patch was gone with the old leader.
fn an_exec_from_a_thread(scene: &Scene) {
    let name = scene.place.name("exec");
    let mut child = scene.service(&name, &["--on-usr1", "thread-execs"]);
    usr1(child.id());
    let cmdline = format!("/proc/{}/cmdline", child.id());
    wait::until("another image", LONG, || {
        let cmdline = fs::read(&cmdline).unwrap();
        let text = String::from_utf8_lossy(&cmdline);
        (text.contains("--tag") && !text.contains("--on-usr1")).then_some(())
    });
    assert_eq!(scene.daemon.up(&name), child.id());
    child.kill().unwrap();
    let death = scene.dies(&name, child);
    assert_eq!(death["signal"], 9, "{death:#}");
}

/// Pid 1 of a namespace has another number outside; the patch told the wrong one.
fn a_pid_namespace(scene: &Scene) {
    let name = scene.place.name("contained");
    let service = binary::service();
    let mut unshare = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .arg(&service)
        .args(["--tag", &name])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // unshare has the words on its command line as well.
    let inner = wait::until("it runs", LONG, || {
        let all = process::instances(&name);
        all.into_iter().find(|pid| {
            let exe = fs::read_link(format!("/proc/{pid}/exe"));
            exe.is_ok_and(|exe| exe == service)
        })
    });
    let status = fs::read_to_string(format!("/proc/{inner}/status")).unwrap();
    let pids = status.lines().find(|line| line.starts_with("NSpid:"));
    assert!(pids.unwrap().ends_with("\t1"), "{pids:?}");
    scene.register(&name, inner);
    assert_eq!(scene.daemon.up(&name), inner);
    Process::open(inner).unwrap().kill();
    let died = scene
        .events
        .after(0, "died", LONG, |event| event.is(&name, "died"));
    assert_eq!(died.pid, Some(inner), "as it is called out here");
    unshare.wait().unwrap();
}

/// pmond compared numbers: it missed the one and took the other for its process.
fn a_pidfile_with_a_new_pid_and_one_with_a_reused_one() {
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    place.configure(&lsb.entity(&[]));
    let daemon = Daemon::start(&place);
    let old = daemon.up(&lsb.name);
    let mut new = Command::new(binary::service())
        .args(["--tag", &lsb.name])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    replace(&lsb.pidfile, new.id());
    daemon.entity_when(&lsb.name, "the new one is registered", LONG, |entity| {
        entity["pid"] == new.id() && entity["registered"] == true
    });
    Process::open(old).unwrap().kill();
    assert_eq!(daemon.entity(&lsb.name)["restarts"]["auto"], 1);
    assert!(daemon.terminate().success());

    // While nobody looks it dies, and somebody else gets its number.
    let pid = new.id();
    new.kill().unwrap();
    new.wait().unwrap();
    let (stdin, hold) = std::io::pipe().unwrap();
    let report = place.path("report");
    let out = fs::File::create(&report).unwrap();
    wait::until("the pid is free", LONG, || {
        use std::os::fd::AsFd as _;
        let program = binary::bystander();
        kernel::spawn_with_pid(pid, &program, &["bystander"], stdin.as_fd(), out.as_fd()).ok()
    });
    assert_eq!(lsb.pid(), Some(pid));
    let daemon = Daemon::start(&place);
    let recovered = daemon.up(&lsb.name);
    assert_ne!(recovered, pid);
    assert_eq!(process::instances(&lsb.name), [recovered]);
    drop(hold);
    kernel::reap(pid).unwrap();
    let told = fs::read_to_string(report).unwrap();
    assert_eq!(told.trim(), format!("{pid} 0"), "no signal reached it");
}

fn replace(pidfile: &Path, pid: u32) {
    let beside = pidfile.with_extension("new");
    fs::write(&beside, format!("{pid}\n")).unwrap();
    fs::rename(&beside, pidfile).unwrap();
}

/// pmond took a stop by systemd for a crash, and fought it.
fn what_is_done_through_systemd() {
    let place = Place::new();
    let pidfile = format!("{:?}", place.path("web.pid").to_str().unwrap());
    let settings = [("service", "\"web\""), ("pidfile", pidfile.as_str())];
    place.configure(&entity("web", &settings));
    let host = Host::boot(&place, &[systemd::service(&place, "web", "")]);
    host.systemctl(&["start", "web.service"]);
    host.start_pmon();
    host.up("web");
    host.systemctl(&["restart", "web.service"]);
    host.up("web");
    assert_eq!(starts(&place, "web"), 2);
    host.systemctl(&["stop", "web.service"]);
    let web = host.entity_when("web", "it is stopped", |web| web["stage"] == "stopped");
    assert_eq!(starts(&place, "web"), 2);
    assert_eq!(web["restarts"]["auto"], 0, "{web:#}");
    assert!(web["alarm"].is_null(), "{web:#}");
}
