//! What the host is: `/etc/platform/platform.conf` (spec/pmond.md §1.7).
//!
//! Plain `key=value` lines, written by the installer and still growing while a
//! host comes up. Reading is here; what waits for it is `gates`.

use std::io;

use super::root::Root;

/// The file.
pub const PLATFORM_CONF: &str = "/etc/platform/platform.conf";

/// Node type masks of mtcAgent (spec/pmond.md §1.7).
const FUNCTIONS: [(&str, u32); 3] = [("controller", 0x1), ("worker", 0x2), ("storage", 0x4)];

/// The host's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemType {
    /// Controllers, workers and storage nodes are hosts of their own.
    Standard,
    /// All-in-one: controller and worker on one host.
    AllInOne(SystemMode),
}

/// How many all-in-one hosts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemMode {
    /// One.
    Simplex,
    /// Two.
    Duplex,
    /// Two, cabled together.
    DuplexDirect,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Its kind.
    pub system_type: SystemType,
    /// Mask of its functions; 0 while they are not known.
    pub functions: u32,
    /// Interface of the management network, once that is known.
    pub management_interface: Option<String>,
}

impl Platform {
    /// From the file's text. What is missing counts as an all-in-one simplex, as
    /// in pmond.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            Some(value.trim()).filter(|value| !value.is_empty())
        };
        let is = |key, wanted: &str| value(key).is_some_and(|it| it.eq_ignore_ascii_case(wanted));
        let system_type = if is("system_type", "standard") {
            SystemType::Standard
        } else if is("system_mode", "duplex-direct") {
            SystemType::AllInOne(SystemMode::DuplexDirect)
        } else if is("system_mode", "duplex") {
            SystemType::AllInOne(SystemMode::Duplex)
        } else {
            SystemType::AllInOne(SystemMode::Simplex)
        };
        Self {
            system_type,
            functions: value("subfunction").map_or(0, functions),
            management_interface: value("management_interface").map(str::to_owned),
        }
    }

    /// Reads the file. Blocking, on a file system that no network can hang.
    ///
    /// # Errors
    ///
    /// When it cannot be read; it is not there on a host that was never
    /// configured.
    pub fn read(root: &Root) -> io::Result<Self> {
        let bytes = std::fs::read(root.path(PLATFORM_CONF))?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Everything that pmond waits for is there (spec/pmond.md §0, step 2).
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.functions != 0 && self.management_interface.is_some()
    }

    /// `subfunction` is honoured (spec/pmond.md §1.6).
    #[must_use]
    pub const fn has_several_functions(&self) -> bool {
        matches!(self.system_type, SystemType::AllInOne(_))
    }

    /// Mask of what a controller is beside that; 0 elsewhere.
    #[must_use]
    pub const fn subfunctions(&self) -> u32 {
        if self.functions & 0x1 == 0 {
            0
        } else {
            self.functions & !0x1
        }
    }

    /// `parm[0]` of an event about a process with this `subfunction`
    /// (spec/pmond.md §7.2).
    #[must_use]
    pub fn event_mask(&self, subfunction: Option<&str>) -> u32 {
        match subfunction {
            Some(subfunction) if self.subfunctions() != 0 => functions(subfunction),
            Some(_) | None => self.functions,
        }
    }

    /// The flag that says that the host is fully initialised (spec/pmond.md §4.3).
    #[must_use]
    pub const fn initialised_flag(&self) -> &'static str {
        if self.subfunctions() & 0x2 == 0 {
            "/var/run/goenabled"
        } else {
            "/var/run/goenabled_subf"
        }
    }
}

/// Mask of the functions whose names occur in `text`.
fn functions(text: &str) -> u32 {
    FUNCTIONS
        .iter()
        .filter(|(name, _)| text.contains(name))
        .fold(0, |mask, (_, bit)| mask | bit)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const AIO: &str = "nodetype=controller\nsubfunction=controller,worker\nsystem_type=All-in-one\n\
         system_mode=duplex\nmanagement_interface=vlan101\n";

    #[test]
    fn the_type_and_mode_are_words_in_any_case() {
        use SystemMode::{Duplex, DuplexDirect, Simplex};
        for (text, wanted) in [
            ("system_type=Standard\n", SystemType::Standard),
            (
                "system_type=STANDARD\nsystem_mode=duplex\n",
                SystemType::Standard,
            ),
            (AIO, SystemType::AllInOne(Duplex)),
            (
                "system_mode=duplex-direct\n",
                SystemType::AllInOne(DuplexDirect),
            ),
            ("system_mode=simplex\n", SystemType::AllInOne(Simplex)),
            ("", SystemType::AllInOne(Simplex)),
            (" system_type=standard\n", SystemType::AllInOne(Simplex)),
        ] {
            assert_eq!(Platform::parse(text).system_type, wanted, "{text}");
        }
    }

    #[test]
    fn functions_are_masks() {
        for (line, functions, subfunctions) in [
            ("subfunction=controller", 1, 0),
            ("subfunction=controller,worker", 3, 2),
            ("subfunction=controller,worker,lowlatency", 3, 2),
            ("subfunction=controller,storage,worker", 7, 6),
            ("subfunction=worker", 2, 0),
            ("subfunction=storage", 4, 0),
            ("subfunction=", 0, 0),
        ] {
            let platform = Platform::parse(line);
            assert_eq!(platform.functions, functions, "{line}");
            assert_eq!(platform.subfunctions(), subfunctions, "{line}");
        }
    }

    #[test]
    fn an_event_carries_the_processs_own_function_on_a_combined_host_only() {
        let aio = Platform::parse(AIO);
        assert_eq!(aio.event_mask(None), 3);
        assert_eq!(aio.event_mask(Some("worker")), 2);
        assert_eq!(aio.event_mask(Some("storage")), 4);
        assert_eq!(aio.event_mask(Some("last-config")), 0);
        let worker = Platform::parse("subfunction=worker\n");
        assert_eq!(worker.event_mask(Some("last-config")), 2);
    }

    #[test]
    fn it_is_complete_once_interface_and_functions_are_there() {
        assert!(Platform::parse(AIO).is_complete());
        assert!(!Platform::parse("subfunction=controller\n").is_complete());
        assert!(!Platform::parse("management_interface=lo\n").is_complete());
        assert!(!Platform::parse("subfunction=controller\nmanagement_interface=\n").is_complete());
        assert_eq!(
            Platform::parse(AIO).initialised_flag(),
            "/var/run/goenabled_subf"
        );
        let controller = Platform::parse("subfunction=controller\n");
        assert_eq!(controller.initialised_flag(), "/var/run/goenabled");
    }

    #[test]
    fn the_file_is_below_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path().to_path_buf());
        assert!(Platform::read(&root).is_err());
        std::fs::create_dir_all(directory.path().join("etc/platform")).unwrap();
        std::fs::write(root.path(PLATFORM_CONF), AIO).unwrap();
        assert_eq!(Platform::read(&root).unwrap(), Platform::parse(AIO));
    }
}
