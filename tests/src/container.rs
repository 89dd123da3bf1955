//! Containers, run by podman with storage of its own: nothing of the machine's
//! containers is touched.
//!
//! A [`Container`] is removed when it is dropped, and the storage with the
//! process that made it. `fuse`, `netavark` and registries are not needed: the
//! image is an archive, the network the host's.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Once, OnceLock},
    thread,
};

use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;

use crate::{binary, kernel, place::Place};

/// Storages of tests: this, the test's pid, and something unique.
const PREFIX: &str = "pmon-test-store-";
/// podman lowers `nproc` to the smallest `pid_max` first, and may not raise it
/// again without CAP_SYS_RESOURCE.
const PROCESSES: u64 = 30_000;

/// podman's storage for this process's tests, with pmon's image in it.
#[derive(Debug)]
pub struct Store {
    directory: TempDir,
    image: String,
}

impl Store {
    /// The one of this process; made when it is first asked for.
    ///
    /// # Panics
    ///
    /// When the image cannot be built or loaded.
    #[must_use]
    pub fn get() -> &'static Self {
        static STORE: OnceLock<Store> = OnceLock::new();
        STORE.get_or_init(Self::new)
    }

    fn new() -> Self {
        let directory = storage();
        kernel::at_exit(remove);
        let archive = directory.path().join("pmon.tar");
        build_image(&archive);
        let mut store = Self {
            directory,
            image: String::new(),
        };
        let loaded = store.output([
            "load".as_ref(),
            "--quiet".as_ref(),
            "--input".as_ref(),
            archive.as_os_str(),
        ]);
        let name = loaded.trim().rsplit(' ').next().unwrap_or_default();
        assert!(!name.is_empty(), "{loaded}");
        store.image = name.to_owned();
        store
    }

    /// podman, with this storage.
    #[must_use]
    pub fn podman(&self) -> Command {
        podman(self.directory.path())
    }

    fn output<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>) -> String {
        succeeded(self.podman().args(arguments))
    }
}

/// A directory for podman's storage, with its configuration, and no image.
pub(crate) fn storage() -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let directory = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .tempdir()
        .unwrap();
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(1024);
    let configuration = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:{files}\", \"nproc=4096:{PROCESSES}\"]\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n"
    );
    fs::write(directory.path().join("containers.conf"), configuration).unwrap();
    directory
}

/// Statics are not dropped; this is what is called instead.
extern "C" fn remove() {
    fs::remove_dir_all(Store::get().directory.path()).ok();
}

/// Removes what test runs left behind that were killed themselves.
fn sweep() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if let Some(pid) = pid
            && !Path::new("/proc").join(pid).exists()
        {
            let mut podman = podman(&entry.path());
            let removed = podman
                .args(["rm", "--all", "--force", "--time", "1"])
                .output();
            removed.ok();
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// podman with its storage in this directory.
pub(crate) fn podman(directory: &Path) -> Command {
    let mut podman = Command::new("podman");
    podman
        .env("CONTAINERS_CONF", directory.join("containers.conf"))
        .arg("--root")
        .arg(directory.join("store"))
        .arg("--runroot")
        .arg(directory.join("run"))
        .args(["--storage-driver", "vfs"])
        .stdin(Stdio::null());
    podman
}

/// pmon's image, with the binary under test in it.
fn build_image(archive: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--locked", "--package", "xtask", "--"])
        .arg("image")
        .arg("--binary")
        .arg(binary::pmon())
        .arg("--archive")
        .arg(archive)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::null())
        .status();
    let status = status.expect("cargo runs");
    assert!(status.success(), "the image cannot be built: {status}");
}

pub(crate) fn succeeded(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}: {stderr}");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// A running container.
#[derive(Debug)]
pub struct Container {
    id: String,
}

impl Container {
    /// `podman run --detach` of pmon's image. The place's directory, bpffs, the
    /// kernel's BTF and the tests' programs are where they are outside.
    #[must_use]
    pub fn run(place: &Place, options: &[&str], command: &[&str]) -> Self {
        let store = Store::get();
        let mut podman = store.podman();
        podman.args(["run", "--detach", "--network", "host"]);
        let service = binary::service();
        let programs = service.parent().expect("an absolute path");
        for path in [place.path("").as_path(), Path::new("/sys/fs/bpf"), programs] {
            podman.arg("--volume");
            podman.arg(format!("{0}:{0}", path.display()));
        }
        let id = succeeded(podman.args(options).arg(&store.image).args(command));
        Self {
            id: id.trim().to_owned(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The pid of its first process, as the host sees it.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let format = "--format={{.State.Pid}}";
        let pid = succeeded(Store::get().podman().args(["inspect", format, &self.id]));
        pid.trim().parse().unwrap()
    }

    /// Runs a command in it.
    #[must_use]
    pub fn exec(&self, command: &[&str]) -> Command {
        let mut podman = Store::get().podman();
        podman.args(["exec", &self.id]).args(command);
        podman
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        let output = Store::get().podman().args(["logs", &self.id]).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Ends it as an operator does, and returns the exit code.
    ///
    /// # Panics
    ///
    /// When podman fails.
    #[must_use]
    pub fn stop(&self) -> i32 {
        succeeded(
            Store::get()
                .podman()
                .args(["stop", "--time", "20", &self.id]),
        );
        let format = "--format={{.State.ExitCode}}";
        let code = succeeded(Store::get().podman().args(["inspect", format, &self.id]));
        code.trim().parse().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- log of the container\n{}---", self.log());
        }
        Store::get()
            .podman()
            .args(["rm", "--force", "--time", "1", &self.id])
            .output()
            .ok();
    }
}
