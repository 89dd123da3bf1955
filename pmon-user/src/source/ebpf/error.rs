//! Why the source cannot be used.

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

/// Why the source cannot be used; each message names the remedy where there is one.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The maps could not be made.
    #[error(
        "cannot create the maps; needs Linux 5.8, CAP_BPF and CAP_PERFMON (or root), \
         and before Linux 5.11 `LimitMEMLOCK=infinity`"
    )]
    Load(#[source] EbpfError),
    /// The verifier or the kernel's configuration refused.
    #[error("cannot {what} the program `{name}`")]
    Program {
        /// Which.
        name: &'static str,
        /// `load` or `attach`.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// It was not to be tried.
    #[error("the program `{name}` was passed over")]
    PassedOver {
        /// Which.
        name: &'static str,
    },
    /// A map is not what it should be.
    #[error("cannot use the map `{name}`")]
    Map {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: MapError,
    },
    /// The embedded object lacks something.
    #[error("the embedded object has no `{name}`; rebuild it with `cargo xtask ebpf`")]
    Missing {
        /// What.
        name: &'static str,
    },
}
