//! Does a process look like the entity it is said to be?
//!
//! A clue and never an identity: names only tip the scales where the times
//! speak against a pidfile (see `stranger`). They are compared whole, never by
//! substring.

use std::{fs, path::Path};

use crate::core::entity::{EntitySpec, StartMethod};

/// Length of a `comm` without its NUL (`TASK_COMM_LEN` − 1, proc_pid_comm(5)).
const COMM_LENGTH: usize = 15;

/// The names an entity's process may go by: its own, and those of its unit,
/// script, command and pidfile, as base names.
#[must_use]
pub fn of_entity(spec: &EntitySpec) -> Vec<String> {
    let mut names = particular(spec);
    // An interpreter's argument, as in `python3 /opt/x.py`, counts as well.
    if let StartMethod::Command(command) = &spec.start {
        names.extend(command.argv.iter().take(2).filter_map(|word| base(word)));
    }
    names
}

/// Those that were given to the entity, and not to the program that it runs,
/// which others may run as well.
#[must_use]
pub fn particular(spec: &EntitySpec) -> Vec<String> {
    let mut names = vec![spec.name.clone()];
    match &spec.start {
        StartMethod::Unit { unit, policy: _ } => {
            let stem = unit
                .rsplit_once('.')
                .map_or(unit.as_str(), |(stem, _)| stem);
            names.push(stem.split('@').next().unwrap_or(stem).to_owned());
        }
        StartMethod::Script { path } => names.extend(base(&path.to_string_lossy())),
        StartMethod::Command(_) | StartMethod::None { .. } => {}
    }
    if let Some(pidfile) = &spec.pidfile
        && let Some(stem) = pidfile.file_stem()
    {
        names.push(stem.to_string_lossy().into_owned());
    }
    names
}

/// The names a process goes by: `comm`, its executable, its first two
/// arguments, as base names. Empty when nothing can be read.
#[must_use]
pub fn of_process(pid: u32) -> Vec<String> {
    let directory = Path::new("/proc").join(pid.to_string());
    let mut names = Vec::new();
    if let Ok(comm) = fs::read(directory.join("comm")) {
        names.push(String::from_utf8_lossy(&comm).trim_end().to_owned());
    }
    if let Ok(exe) = fs::read_link(directory.join("exe")) {
        let exe = exe.to_string_lossy();
        names.extend(base(exe.strip_suffix(" (deleted)").unwrap_or(&exe)));
    }
    if let Ok(cmdline) = fs::read(directory.join("cmdline")) {
        names.extend(of_command_line(&cmdline));
    }
    names
}

fn of_command_line(cmdline: &[u8]) -> Vec<String> {
    cmdline
        .split(|&byte| byte == 0)
        .take(2)
        .filter_map(|word| {
            let word = String::from_utf8_lossy(word);
            // A title as set by setproctitle(3): `nginx: master process …`.
            let word = word.split([' ', ':']).next().unwrap_or_default();
            // A login shell's `-bash`.
            base(word.strip_prefix('-').unwrap_or(word))
        })
        .collect()
}

/// Whether one of a process's names is one of an entity's; a `comm` of full
/// length also stands for the longer name it may have been cut from, and
/// `NAME.EXTENSION` for `NAME`.
#[must_use]
pub fn agree(entity: &[String], process: &[String]) -> bool {
    process.iter().filter(|name| !name.is_empty()).any(|found| {
        let stem = found.rsplit_once('.').map_or("", |(stem, _)| stem);
        entity.iter().any(|expected| {
            found == expected
                || stem == expected
                || (found.len() == COMM_LENGTH && expected.starts_with(found.as_str()))
        })
    })
}

fn base(path: &str) -> Option<String> {
    Path::new(path)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn names_agree_whole_or_cut_to_a_comm() {
        for (entity, process, expected) in [
            (&["sshd"][..], &["sshd"][..], true),
            (&["ssh"], &["sshd"], false),
            (&["sshd"], &["ssh"], false),
            (&["sm-watchdog-daemon"], &["sm-watchdog-dae"], true),
            (&["sm-watchdog-daemon"], &["sm-watchdog"], false),
            (&["collector"], &["python3", "collector.py"], true),
            (&["collector"], &["python3", "other.py"], false),
            (&["a", "b"], &["c", "b"], true),
            (&["a"], &[], false),
            (&["a"], &[""], false),
        ] {
            assert_eq!(
                agree(&owned(entity), &owned(process)),
                expected,
                "{entity:?} {process:?}"
            );
        }
    }

    #[test]
    fn command_lines_and_titles_are_understood() {
        for (line, expected) in [
            (&b"/usr/sbin/nginx\0-g\0x\0"[..], &["nginx", "g"][..]),
            (b"nginx: master process /usr/sbin/nginx\0", &["nginx"]),
            (
                b"/usr/bin/python3\0/opt/x.py\0--fast\0",
                &["python3", "x.py"],
            ),
            (b"-bash\0", &["bash"]),
            (b"", &[]),
        ] {
            assert_eq!(of_command_line(line), owned(expected));
        }
    }

    #[test]
    fn a_process_shows_its_names() {
        let names = of_process(std::process::id());
        let exe = std::env::current_exe().ok();
        let exe = exe.as_deref().and_then(Path::file_name);
        assert!(
            names
                .iter()
                .any(|name| Some(std::ffi::OsStr::new(name)) == exe),
            "{names:?}"
        );
        assert_eq!(of_process(u32::MAX), Vec::<String>::new());
    }
}
