//! Another set of the same programs in place of the one that is attached, on
//! the same maps: to switch the kernel side's own log on and off.
//!
//! Must stay true: the new set is attached before the old one goes, so that no
//! death falls between them. While both are there no death and no fork is told
//! twice: the second finds a death written already, and a child in the table
//! under the generation that it would give it. An exec may be.

use aya::{Btf, EbpfLoader};
use aya_log::EbpfLogger;
use pmon_common::{EVENTS_MAP, FILTER_MAP, PIDS_MAP, STATS_MAP};
use thiserror::Error;

use super::{Ebpf, OBJECT, SourceError, layout_in_use};
use crate::source::{
    facts, pinning,
    programs::{self, Attached, Selection},
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
        let (Some(pins), None) = (self.pins(), self.unpinned()) else {
            return Err(ReloadError::Unpinned);
        };
        let btf = Btf::from_sys_fs().ok();
        let globals = selection.globals();
        let mut loader = EbpfLoader::new();
        loader.btf(btf.as_ref());
        for name in [PIDS_MAP, EVENTS_MAP, STATS_MAP, FILTER_MAP] {
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
        let names: Vec<&str> = links.iter().map(|link| link.program).collect();
        let links = pinning::stage_links(pins, links).map_err(ReloadError::Pin)?;
        for name in names {
            pins.put_into_force(name)
                .map_err(|error| ReloadError::Pin(error.to_string()))?;
        }
        self.links = links;
        self.object = object;
        self.programs = programs;
        self.layout = layout;
        self.missing = missing;
        self.log = log;
        Ok(())
    }
}
