//! Every file of a pmon.d directory to entities.
//!
//! Every entry counts, whatever its name; symbolic links are followed; there is
//! no limit on their number. One bad file never keeps another from being
//! loaded. Where the original takes files in the order of readdir, and so may
//! monitor another one of two duplicates after every change, we sort by name.
//! What an editor or `sed -i` leaves behind is loaded, as ever, but last: it
//! can never displace the file it is a copy of.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use super::{
    Loaded, ReadDirectory,
    file::{self, ReadError},
    finding::{Finding, Level},
    host::Host,
    pmond::{self, Outcome},
};

/// Loads all of `directory` into `loaded`, whose settings apply. `explicit`:
/// somebody asked for this directory, so that its absence is an error.
pub fn load(loaded: &mut Loaded, directory: &Path, explicit: bool, host: &dyn Host) {
    let listed = list(directory);
    loaded.directories.push(ReadDirectory {
        path: directory.to_path_buf(),
        entries: match &listed {
            Ok(names) => Ok(names.len()),
            Err(error) => Err(error.to_string()),
        },
    });
    let names = match listed {
        Ok(names) => names,
        Err(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let level = if missing && !explicit {
                Level::Note
            } else {
                Level::Error
            };
            loaded.findings.push(Finding::new(
                level,
                directory,
                format!("directory cannot be read: {error}"),
            ));
            return;
        }
    };
    if host.privileged() {
        check_directory(loaded, directory);
    }
    load_entries(loaded, directory, names, host);
}

/// Whoever may write to the directory can remove files and link others there,
/// but not make root obey a file of their own: worth a warning, and not worth
/// losing all monitoring.
fn check_directory(loaded: &mut Loaded, directory: &Path) {
    let Ok(metadata) = std::fs::metadata(directory) else {
        return;
    };
    let problem = match file::check_owner(&metadata) {
        Ok(()) => return,
        Err(problem) => problem.finding(Level::Warning, directory),
    };
    let Finding {
        severity,
        file,
        line: _,
        column: _,
        message: _,
        hint,
    } = problem;
    let message = "others than root may add and remove files here";
    loaded
        .findings
        .push(Finding::new(severity, file, message).maybe_hint(hint));
}

/// Entries of `directory`, sorted by name, leftovers last.
fn list(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(|name| (is_leftover(name), name.clone()));
    Ok(names)
}

/// Loads these entries, in this order. They may be gone by now.
fn load_entries(loaded: &mut Loaded, directory: &Path, names: Vec<OsString>, host: &dyn Host) {
    for name in names {
        let path = directory.join(&name);
        let leftover = is_leftover(&name);
        match file::read(&path, host.privileged()) {
            Ok(bytes) => load_file(loaded, &path, &bytes, leftover, host),
            Err(ReadError::Vanished) => {
                tracing::debug!(path = %path.display(), "file vanished while the directory was read");
            }
            Err(error) => {
                let level = if leftover { Level::Note } else { Level::Error };
                loaded.findings.push(error.finding(level, &path));
            }
        }
    }
}

fn load_file(loaded: &mut Loaded, path: &Path, bytes: &[u8], leftover: bool, host: &dyn Host) {
    let (outcome, findings) = pmond::load(path, bytes, &loaded.settings, host);
    if leftover {
        loaded.findings.push(
            Finding::new(
                Level::Warning,
                path,
                "looks like something an editor or package tool left behind, but counts all the same",
            )
            .hint("every file in this directory is loaded, whatever its name"),
        );
    }
    loaded.findings.extend(findings);
    match outcome {
        Outcome::Entity(entity) => loaded.add_entity(*entity, path),
        Outcome::Unmonitored(entity) => loaded.unmonitored.push(entity),
        Outcome::Nothing => {}
    }
}

/// Names that nobody gives to a configuration file on purpose.
fn is_leftover(name: &OsStr) -> bool {
    const SUFFIXES: [&[u8]; 14] = [
        b"~",
        b".swp",
        b".swx",
        b".swo",
        b".bak",
        b".orig",
        b".rej",
        b".tmp",
        b".rpmsave",
        b".rpmnew",
        b".dpkg-old",
        b".dpkg-dist",
        b".dpkg-new",
        b".dpkg-tmp",
    ];
    let name = name.as_bytes();
    // GNU sed's temporary files: `sed` and six letters or digits.
    let of_sed = name
        .strip_prefix(b"sed")
        .is_some_and(|rest| rest.len() == 6 && rest.iter().all(u8::is_ascii_alphanumeric))
        && name
            .iter()
            .skip(3)
            .any(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    name.starts_with(b".")
        || (name.starts_with(b"#") && name.ends_with(b"#"))
        || of_sed
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
#[path = "tests/directory.rs"]
mod tests;
