//! A host run by systemd: a container whose first process is the real one, with
//! pmon as a unit in it.
//!
//! The root file system is Debian's smallest with systemd, made once by mmdebstrap and
//! kept under `target/systemd`; a container only lays a directory of its own over it.
//! Nothing of the machine's systemd, if it has one, is touched.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary, container,
    daemon::{self, Answer, LONG, client},
    place::Place,
    wait,
};

/// What is in the root file system; part of its name, so that a change makes a new one.
const PACKAGES: &str = "systemd-sysv,dbus";
const SUITE: &str = "bookworm";

/// See the module. Removed when dropped.
#[derive(Debug)]
pub struct Host {
    storage: TempDir,
    id: String,
    socket: PathBuf,
    log: PathBuf,
}

/// A unit file.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Name with its suffix.
    pub name: String,
    /// The file's text.
    pub text: String,
}

/// A unit that runs the test service and writes a line into a file of the place,
/// `NAME.starts`, at each start.
#[must_use]
pub fn service(place: &Place, name: &str, settings: &str) -> Unit {
    let (program, starts, pidfile) = (
        binary::service(),
        place.path(&format!("{name}.starts")),
        place.path(&format!("{name}.pid")),
    );
    Unit {
        name: format!("{name}.service"),
        text: format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\n\
             ExecStartPre=/bin/sh -c 'echo start >>{}'\n\
             ExecStart={} --tag {name} --pidfile {}\n{settings}\n",
            starts.display(),
            program.display(),
            pidfile.display(),
        ),
    }
}

/// How often a unit of [`service`] was started, whoever did it.
#[must_use]
pub fn starts(place: &Place, name: &str) -> usize {
    fs::read_to_string(place.path(&format!("{name}.starts"))).map_or(0, |text| text.lines().count())
}

impl Host {
    /// Boots one with these units; none of them is started.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn boot(place: &Place, units: &[Unit]) -> Self {
        Self::boot_sharing(place, units, &[])
    }

    /// The same; these directories are where they are outside, too.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn boot_sharing(place: &Place, units: &[Unit], directories: &[&Path]) -> Self {
        let storage = container::storage();
        let directory = place.path("units");
        fs::create_dir_all(&directory).unwrap();
        let mut podman = container::podman(storage.path());
        podman.args(["run", "--detach", "--privileged", "--systemd=always"]);
        podman.args(["--network", "none"]);
        let programs = [binary::pmon(), &binary::service()];
        let mut shared = BTreeSet::from(programs.map(|path| path.parent().unwrap().to_owned()));
        shared.insert(place.path(""));
        shared.extend(directories.iter().map(|path| path.to_path_buf()));
        for path in shared {
            podman.arg("--volume");
            podman.arg(format!("{0}:{0}", path.display()));
        }
        for Unit { name, text } in units.iter().chain([&pmon(place)]) {
            let path = directory.join(name);
            fs::write(&path, text).unwrap();
            podman.arg("--volume");
            podman.arg(format!("{}:/etc/systemd/system/{name}:ro", path.display()));
        }
        // Everything that is written goes into a directory of the storage.
        podman
            .arg("--rootfs")
            .arg(format!("{}:O", root().display()));
        let id = container::succeeded(podman.arg("/lib/systemd/systemd"));
        let host = Self {
            storage,
            id: id.trim().to_owned(),
            socket: place.socket(),
            log: place.path("daemon.log"),
        };
        wait::until("systemd is up", LONG, || {
            let state = host.exec(&["systemctl", "is-system-running"]).output();
            let state = String::from_utf8(state.unwrap().stdout).unwrap();
            matches!(state.trim(), "running" | "degraded").then_some(())
        });
        host
    }

    /// Runs a command in it.
    #[must_use]
    pub fn exec(&self, command: &[&str]) -> Command {
        let mut podman = container::podman(self.storage.path());
        podman.args(["exec", &self.id]).args(command);
        podman
    }

    /// systemctl(1), as an operator runs it, to its end.
    ///
    /// # Panics
    ///
    /// When it fails; a job that was cancelled is a failure.
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        container::succeeded(&mut self.exec(&[&["systemctl"], arguments].concat()))
    }

    /// A property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let shown = self.systemctl(&["show", "--value", "--property", name, unit]);
        shown.trim().to_owned()
    }

    /// Kills a process, given by its pid in there.
    pub fn kill(&self, pid: u32) {
        let _ = container::succeeded(&mut self.exec(&["sh", "-c", &format!("kill -KILL {pid}")]));
    }

    /// Starts pmon and waits until it answers.
    pub fn start_pmon(&self) {
        self.systemctl(&["start", "pmon.service"]);
        wait::until("pmon answers", LONG, || {
            let answer = self.ask(&["list", "-o", "json"]);
            (answer.code == Some(0)).then_some(())
        });
    }

    /// What a client says.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Answer {
        daemon::answer(&mut client(&self.socket, arguments))
    }

    /// `pmon status`, whatever its exit code says of the entities.
    ///
    /// # Panics
    ///
    /// When the daemon does not answer.
    #[must_use]
    pub fn status(&self) -> Value {
        let answer = self.ask(&["status", "-o", "json"]);
        assert!(matches!(answer.code, Some(0 | 3)), "{answer:?}");
        answer.json()
    }

    /// Waits until the entity is as wanted.
    pub fn entity_when(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = || {
            let answer = self.ask(&["list", name, "-o", "json"]);
            assert_eq!(answer.code, Some(0), "{answer:?}");
            answer.json()["entities"][0].clone()
        };
        wait::until_seen(what, LONG, look, wanted)
    }

    /// Waits until the entity rests, healthy and registered, as systemd's main
    /// process of the unit; its pid in there.
    pub fn up(&self, name: &str) -> u32 {
        let unit = format!("{name}.service");
        let main = || self.property(&unit, "MainPID").parse::<u32>().unwrap();
        let look = || (self.entity(name), main());
        let (_, main) = wait::until_seen("it is up", LONG, look, |(entity, main)| {
            entity["state"] == "up" && entity["registered"] == true && entity["pid"] == *main
        });
        main
    }

    /// One entity of `pmon list`.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    #[must_use]
    pub fn entity(&self, name: &str) -> Value {
        let answer = self.ask(&["list", name, "-o", "json"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.json()["entities"][0].clone()
    }

    /// What pmon logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Shuts the host down and waits until it is off.
    pub fn power_off(&self) {
        // The client may be gone before it has an answer.
        self.exec(&["systemctl", "poweroff"]).output().ok();
        wait::until("the host is off", LONG, || {
            let format = "--format={{.State.Running}}";
            let mut podman = container::podman(self.storage.path());
            let running = container::succeeded(podman.args(["inspect", format, &self.id]));
            (running.trim() == "false").then_some(())
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- log of pmon\n{}---", self.log());
            if let Ok(Output { stdout, .. }) =
                self.exec(&["systemctl", "status", "*.service"]).output()
            {
                println!("--- units\n{}---", String::from_utf8_lossy(&stdout));
            }
        }
        container::podman(self.storage.path())
            .args(["rm", "--force", "--time", "1", &self.id])
            .output()
            .ok();
    }
}

/// pmon as a unit. At a shutdown it ends after the units that it watches.
fn pmon(place: &Place) -> Unit {
    let command = [
        ("--config", place.config()),
        ("--pmon-d", place.pmon_d()),
        ("--run-dir", place.run()),
        ("--state-dir", place.state()),
    ]
    .map(|(option, path)| format!("{option} {}", path.display()))
    .join(" ");
    Unit {
        name: "pmon.service".to_owned(),
        text: format!(
            "[Unit]\nBefore=web.service\n[Service]\nType=notify\nEnvironment=PMON_LOG=info,pmon_user::systemd=debug\n\
             ExecStart={} daemon {command} --pin-dir none\nStandardError=append:{}\n",
            binary::pmon().display(),
            place.path("daemon.log").display(),
        ),
    }
}

/// The root file system, made when it is first wanted, by whoever is first.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let program = binary::service();
        let target = program.ancestors().nth(2).expect("target/PROFILE/program");
        let directory = target.join("systemd");
        fs::create_dir_all(&directory).unwrap();
        let lock = File::create(directory.join("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        // A comma would end an option of the overlay mount.
        let root = directory.join(format!("{SUITE}-{PACKAGES}").replace(',', "-"));
        if !root.exists() {
            let unfinished = directory.join("unfinished");
            fs::remove_dir_all(&unfinished).ok();
            let mut mmdebstrap = Command::new("mmdebstrap");
            mmdebstrap
                .args(["--quiet", "--variant=minbase", "--mode=root"])
                .arg(format!("--include={PACKAGES}"))
                .arg(SUITE)
                .arg(&unfinished)
                .stdin(Stdio::null());
            let _ = container::succeeded(&mut mmdebstrap);
            fs::rename(&unfinished, &root).unwrap();
        }
        root
    })
}
