//! Another set of the same programs in place of the one that is attached, on
//! the same maps: to switch the kernel side's own log on and off.
//!
//! Three steps, because loading takes the verifier's time and dropping a link
//! may wait for the kernel, while whoever owns the [`Ebpf`] must not block:
//! [`Ebpf::plan`], [`Plan::load`] anywhere, [`Ebpf::replace`]; what that gives
//! back is dropped anywhere.
//!
//! Must stay true: the new set is attached before the old one goes, so that no
//! death falls between them; both write into the same maps. While both are
//! there no death and no fork is told twice: the second finds a death written
//! already, and a child in the table under the generation that it would give
//! it. An exec may be.

use std::path::PathBuf;

use aya::{Btf, EbpfLoader};
use pmon_common::{EVENTS_MAP, FILTER_MAP, PIDS_MAP, STATS_MAP};
use thiserror::Error;

use super::{Ebpf, OBJECT, SourceError, layout_in_use};
use crate::{
    causes::in_full,
    source::{
        btf::KernelLayout,
        facts::{self, MapFacts, ProgramFacts},
        pinning,
        programs::{self, Attached, MissingProgram, ProgramLink, Selection},
    },
};

/// Why the programs could not be replaced. Those that were there still are.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// Two sets can only meet on maps that have a name.
    #[error("the maps are not pinned, so a second set of programs cannot share them{}", because(why.as_deref()))]
    Unpinned {
        /// Why they are not, although it was asked for.
        why: Option<String>,
    },
    /// Somebody has put other maps in the place of ours.
    #[error("the pinned map `{name}` is not the one in use")]
    OtherMap {
        /// Which.
        name: &'static str,
    },
    /// The new set.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its pins.
    #[error("cannot pin the new programs: {0}")]
    Pin(String),
}

fn because(why: Option<&str>) -> String {
    why.map_or_else(String::new, |why| format!(": {why}"))
}

/// What a second set of programs has to be loaded against.
#[derive(Clone, Debug)]
pub struct Plan {
    pins: Vec<(&'static str, PathBuf)>,
}

/// A second set of programs, attached beside the first until it is dropped.
pub struct Replacement {
    object: aya::Ebpf,
    links: Vec<ProgramLink>,
    maps: Vec<MapFacts>,
    programs: Vec<ProgramFacts>,
    layout: KernelLayout,
    missing: Vec<MissingProgram>,
    logs: bool,
}

/// The set before; it is detached when this is dropped, which may wait for the
/// kernel.
#[must_use]
pub struct Replaced {
    _links: Vec<ProgramLink>,
    _object: aya::Ebpf,
}

impl Plan {
    /// Loads and attaches the programs of another selection. Takes its time.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`].
    pub fn load(&self, selection: &Selection) -> Result<Replacement, ReloadError> {
        let btf = Btf::from_sys_fs().ok();
        let globals = selection.globals();
        let mut loader = EbpfLoader::new();
        loader.btf(btf.as_ref());
        for (name, pin) in &self.pins {
            loader.map_pin_path(name, pin);
        }
        selection.configure(&mut loader, &globals);
        let mut object = loader.load(OBJECT).map_err(SourceError::Load)?;
        let maps = facts::of_maps(&object)?;
        let Attached { links, missing } =
            programs::attach_all(&mut object, btf.as_ref(), selection)?;
        let programs = facts::of_programs(&object, &links)?;
        let layout = layout_in_use(selection, &links);
        Ok(Replacement {
            object,
            links,
            maps,
            programs,
            layout,
            missing,
            logs: selection.log,
        })
    }
}

impl Ebpf {
    /// What another set of programs has to be loaded against.
    ///
    /// # Errors
    ///
    /// [`ReloadError::Unpinned`].
    pub fn plan(&self) -> Result<Plan, ReloadError> {
        let (Some(pins), None) = (self.pins(), self.unpinned()) else {
            let why = self.unpinned().map(str::to_owned);
            return Err(ReloadError::Unpinned { why });
        };
        let pins = [PIDS_MAP, EVENTS_MAP, STATS_MAP, FILTER_MAP]
            .map(|name| (name, pins.pin(name)))
            .to_vec();
        Ok(Plan { pins })
    }

    /// Has another set of programs take the place of the one in force. With its
    /// log on, [`Ebpf::take_log`] has a new log afterwards.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; then everything is as it was.
    pub fn replace(&mut self, replacement: Replacement) -> Result<Replaced, ReloadError> {
        let Replacement {
            object,
            links,
            maps,
            programs,
            layout,
            missing,
            logs,
        } = replacement;
        // The source may have been started anew since, or a pin been exchanged.
        for (ours, other) in self.maps.iter().zip(&maps) {
            if ours.id != other.id {
                return Err(ReloadError::OtherMap { name: ours.name });
            }
        }
        let (Some(pins), None) = (self.pins(), self.unpinned()) else {
            let why = self.unpinned().map(str::to_owned);
            return Err(ReloadError::Unpinned { why });
        };
        let names: Vec<&str> = links.iter().map(|link| link.program).collect();
        let links = pinning::stage_links(pins, links).map_err(ReloadError::Pin)?;
        for name in names {
            pins.put_into_force(name)
                .map_err(|error| ReloadError::Pin(in_full(&error)))?;
        }
        let replaced = Replaced {
            _links: std::mem::replace(&mut self.links, links),
            _object: std::mem::replace(&mut self.object, object),
        };
        self.programs = programs;
        self.layout = layout;
        self.missing = missing;
        self.logs = logs;
        Ok(replaced)
    }

    /// All three steps, for whoever may block.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; then everything is as it was.
    pub fn reload(&mut self, selection: &Selection) -> Result<(), ReloadError> {
        let replacement = self.plan()?.load(selection)?;
        self.replace(replacement).map(drop)
    }
}
