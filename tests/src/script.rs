//! Configurations and init scripts for the little services, as a distribution
//! would bring them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{binary, place::Place};

/// `[[entity]]` with short times, unless `settings` (key, TOML value) say
/// otherwise.
#[must_use]
pub fn entity(name: &str, settings: &[(&str, &str)]) -> String {
    let mut table = BTreeMap::from([
        ("startuptime", "\"100ms\""),
        ("debounce", "\"100ms\""),
        ("interval", "\"100ms\""),
    ]);
    table.extend(settings.iter().copied());
    let lines: String = table
        .iter()
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect();
    format!("[[entity]]\nname = {name:?}\n{lines}\n")
}

/// The TOML list of a command that runs the service in the foreground, found
/// by its tag `name`.
#[must_use]
pub fn foreground(name: &str, options: &[&str]) -> String {
    let service = binary::service();
    let words = [&*service.to_string_lossy(), "--tag", name]
        .iter()
        .chain(options)
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>();
    format!("[{}]", words.join(", "))
}

/// An entity that is the service in the foreground.
#[must_use]
pub fn foreground_entity(name: &str, settings: &[(&str, &str)]) -> String {
    let command = foreground(name, &[]);
    let mut all = vec![("command", command.as_str())];
    all.extend(settings);
    entity(name, &all)
}

/// A daemon with its pidfile and its LSB init script.
#[derive(Clone, Debug)]
pub struct Lsb {
    /// Name of the entity, and the tag of the daemon.
    pub name: String,
    /// The pidfile.
    pub pidfile: PathBuf,
    /// The init script.
    pub script: PathBuf,
}

impl Lsb {
    /// Writes the init script; `options` go to the service.
    #[must_use]
    pub fn new(place: &Place, name: &str, options: &[&str]) -> Self {
        let pidfile = place.path(&format!("{name}.pid"));
        let script = place.path(&format!("{name}.init"));
        let text = init_script(name, &pidfile, options);
        executable(&script, &text);
        Self {
            name: name.to_owned(),
            pidfile,
            script,
        }
    }

    /// Its `[[entity]]`.
    #[must_use]
    pub fn entity(&self, settings: &[(&str, &str)]) -> String {
        let (pidfile, script) = (quoted(&self.pidfile), quoted(&self.script));
        let mut all = vec![("pidfile", pidfile.as_str()), ("script", script.as_str())];
        all.extend(settings);
        entity(&self.name, &all)
    }

    /// Its pmon.d file, with the given times in whole seconds.
    #[must_use]
    pub fn pmon_d(&self, startuptime: u32, debounce: u32, interval: u32) -> String {
        let Self {
            name,
            pidfile,
            script,
        } = self;
        format!(
            "[process]\nprocess  = {name}\nscript   = {}\nstyle    = lsb\npidfile  = {}\n\
             severity = major\nrestarts = 3\ninterval = {interval}\ndebounce = {debounce}\n\
             startuptime = {startuptime}\nmode     = passive\n",
            script.display(),
            pidfile.display(),
        )
    }

    /// Runs the script by hand, as an operator does.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn by_hand(&self, verb: &str) {
        let status = Command::new(&self.script)
            .arg(verb)
            .stdin(Stdio::null())
            .status()
            .expect("the script runs");
        assert!(status.success(), "`{verb}` by hand: {status}");
    }

    /// What stands in the pidfile.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(&self.pidfile).ok()?.trim().parse().ok()
    }
}

fn init_script(name: &str, pidfile: &Path, options: &[&str]) -> String {
    let service = binary::service();
    let (service, pidfile) = (service.display(), pidfile.display());
    let options = options.join(" ");
    format!(
        r#"#!/bin/sh
### BEGIN INIT INFO
# Provides: {name}
### END INIT INFO
PIDFILE='{pidfile}'
# A zombie may wait long for its parent.
alive() {{ grep -q '^State:[[:space:]]*[DIRSTt]' "/proc/$1/status" 2>/dev/null; }}
running() {{ [ -s "$PIDFILE" ] && alive "$(cat "$PIDFILE")"; }}
case "$1" in
start)
    # A real daemon has a port or a lock of its own: of two starts at the same
    # time one finds the other's.
    exec 9>"$PIDFILE.lock"
    flock 9
    running && exit 0
    '{service}' --tag '{name}' --pidfile "$PIDFILE" --background {options} 9>&-
    ;;
stop)
    running || exit 0
    pid=$(cat "$PIDFILE")
    kill "$pid"
    while alive "$pid"; do sleep 0.02; done
    rm -f "$PIDFILE"
    ;;
restart) "$0" stop; "$0" start ;;
status) running || exit 3 ;;
*) exit 2 ;;
esac
"#
    )
}

/// Writes an executable file, or replaces it, which may be running.
///
/// Not by this process: while it has a descriptor to write with, any other
/// thread may fork, and until that child executes something it has the
/// descriptor too, which makes the program `ETXTBSY`.
///
/// # Panics
///
/// When it cannot be written.
pub fn executable(path: &Path, text: &str) {
    executable_bytes(path, text.as_bytes());
}

/// The same for a program.
///
/// # Panics
///
/// When it cannot be written.
pub fn executable_bytes(path: &Path, content: &[u8]) {
    let mut writer = Command::new("/bin/sh")
        .args([
            "-c",
            r#"cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#,
        ])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = writer.stdin.take().expect("piped");
    stdin.write_all(content).unwrap();
    drop(stdin);
    let status = writer.wait().unwrap();
    assert!(status.success(), "`{}`: {status}", path.display());
}

/// A path as a TOML string.
#[must_use]
pub fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().expect("plain paths in tests"))
}
