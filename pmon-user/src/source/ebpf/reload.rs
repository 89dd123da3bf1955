//! Another set of the same programs in place of the one that is attached, on
//! the same maps: to switch the kernel side's own log on and off.
//!
//! Must stay true: the new set is attached before the old one goes, so that no
//! death falls between them. While both are there no death and no fork is told
//! twice: the second finds a death written already, and a child in the table
//! under the generation that it would give it. An exec may be.

use std::fs;

use aya::{Btf, EbpfLoader};
use aya_log::EbpfLogger;
use pmon_common::{EVENTS_MAP, PIDS_MAP, STATS_MAP};
use thiserror::Error;

use super::{Ebpf, Links, OBJECT, SourceError, layout_in_use};
use crate::source::{
    facts,
    pins::PinDirectory,
    programs::{self, Attached, ProgramLink, Selection},
};

/// Why the programs could not be replaced. Those that were there still are.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// Two sets can only meet on maps that have a name.
    #[error("the maps are not pinned, so a second set of programs cannot share them")]
    Unpinned,
    /// The new set.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its pins.
    #[error("cannot pin the new programs: {0}")]
    Pin(String),
}

impl Ebpf {
    /// Replaces the programs by those of another selection. With its log on,
    /// [`Ebpf::take_log`] has a new log afterwards.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; then everything is as it was.
    pub fn reload(&mut self, selection: &Selection) -> Result<(), ReloadError> {
        let (Some(pins), Links::Pinned { .. }) = (&self.pins, &self._links) else {
            return Err(ReloadError::Unpinned);
        };
        let btf = Btf::from_sys_fs().ok();
        let globals = selection.globals();
        let mut loader = EbpfLoader::new();
        loader.btf(btf.as_ref());
        for name in [PIDS_MAP, EVENTS_MAP, STATS_MAP] {
            loader.map_pin_path(name, pins.pin(name));
        }
        selection.configure(&mut loader, &globals);
        let mut object = loader.load(OBJECT).map_err(SourceError::Load)?;
        let Attached { links, missing } =
            programs::attach_all(&mut object, btf.as_ref(), selection)?;
        let programs = facts::of_programs(&object, &links)?;
        let layout = layout_in_use(selection, &links);
        let log = selection
            .log
            .then(|| EbpfLogger::init(&mut object).ok())
            .flatten();
        let links = replace_pins(pins, links).map_err(ReloadError::Pin)?;
        self._links = Links::Pinned { _links: links };
        self.object = object;
        self.programs = programs;
        self.layout = layout;
        self.missing = missing;
        self.log = log;
        Ok(())
    }
}

/// Pins links under another name, then gives all of them the names of those
/// they replace, which ends these.
fn replace_pins(
    pins: &PinDirectory,
    links: Vec<ProgramLink>,
) -> Result<Vec<aya::programs::links::PinnedLink>, String> {
    // A bpffs takes no dots in names.
    let beside = |program: &str| pins.pin(&format!("{program}_new"));
    let names: Vec<&str> = links.iter().map(|link| link.program).collect();
    let pinned = links
        .into_iter()
        .map(|ProgramLink { program, link, .. }| link.pin(beside(program)))
        .collect::<Result<_, _>>();
    let pinned = match pinned {
        Ok(pinned) => pinned,
        Err(error) => {
            for name in &names {
                fs::remove_file(beside(name)).ok();
            }
            return Err(crate::causes::in_full(&error));
        }
    };
    for name in names {
        fs::rename(beside(name), pins.pin(name)).map_err(|error| error.to_string())?;
    }
    Ok(pinned)
}
