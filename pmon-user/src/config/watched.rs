//! Reading the configuration so that no change of it is missed: what it is read from
//! is watched before.
//!
//! Where that is, the configuration says in part (the directory of pmon.d files). Must stay
//! true: what is returned was read while everything that it came from was watched.

use std::path::Path;

use super::{
    Loaded, Sources,
    host::Host,
    load,
    settings::Settings,
    watch::{ConfigWatch, Places},
};

/// Readings until a configuration that keeps naming other directories is taken as it
/// is; it will be read again when it changes.
const ROUNDS: u32 = 4;

/// What a configuration with this directory of pmon.d files is read from.
#[must_use]
pub fn places(sources: &Sources, pmon_d: Option<&Path>) -> Places {
    let directories = [sources.conf_d()].into_iter();
    Places {
        directories: directories.chain(pmon_d.map(Path::to_path_buf)).collect(),
        files: vec![sources.pmon_toml.clone()],
    }
}

/// A configuration, and the watch on what it was read from.
#[derive(Debug)]
pub struct Watched {
    /// What was read.
    pub loaded: Loaded,
    /// Who tells of changes since; or why nobody can.
    pub watch: Result<ConfigWatch, String>,
}

/// Watches, then reads. Blocking, as [`load`] is.
#[must_use]
pub fn load_watched(sources: &Sources, host: &dyn Host) -> Watched {
    let mut watch = match ConfigWatch::new() {
        Ok(watch) => watch,
        Err(errno) => {
            return Watched {
                loaded: load(sources, host),
                watch: Err(format!("no inotify: {errno}")),
            };
        }
    };
    let mut watched = places(sources, sources.pmon_d(&Settings::default()));
    let mut round = 1;
    loop {
        if let Err((path, errno)) = watch.establish(&watched) {
            tracing::warn!(%errno, path = %path.display(), "changes of the configuration are not seen here");
        }
        let loaded = load(sources, host);
        let read = places(sources, sources.pmon_d(&loaded.settings));
        if read == watched || round == ROUNDS {
            return Watched {
                loaded,
                watch: Ok(watch),
            };
        }
        watched = read;
        round += 1;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{fs, io};

    use super::*;
    use crate::config::LocalHost;

    fn sources(directory: &Path) -> Sources {
        Sources {
            pmon_toml: directory.join("pmon.toml"),
            pmon_d: None,
            explicit: true,
        }
    }

    #[test]
    fn what_it_was_read_from_is_watched_also_where_it_says_that_itself() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        let sources = sources(directory.path());
        let text = format!("[pmon_d]\ndirectory = {:?}\n", other.to_str().unwrap());
        fs::write(&sources.pmon_toml, text).unwrap();
        let Watched { loaded, watch } = load_watched(&sources, &LocalHost::detect());
        assert_eq!(sources.pmon_d(&loaded.settings), Some(&*other));
        let watch = watch.unwrap();
        let changed = || {
            let mut changed = false;
            loop {
                match watch.read() {
                    Ok(news) => changed |= news.changed,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        return changed;
                    }
                }
            }
        };
        assert!(!changed(), "nothing has since it was read");
        fs::write(other.join("web.conf"), "").unwrap();
        assert!(changed());
    }
}
