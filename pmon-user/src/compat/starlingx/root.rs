//! Where StarlingX's files are: below `/`, or below a directory of their own.

use std::path::{Path, PathBuf};

/// The directory under which all of StarlingX's absolute paths are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    /// Below this directory.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Where an absolute path of StarlingX is.
    #[must_use]
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_stay_below_the_root() {
        let path = "/var/run/.goenabled";
        assert_eq!(Root::default().path(path), Path::new(path));
        let root = Root::new(PathBuf::from("/tmp/x"));
        assert_eq!(root.path(path), Path::new("/tmp/x/var/run/.goenabled"));
    }
}
