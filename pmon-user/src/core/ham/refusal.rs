//! Why a request about the tree is refused, in HAM's errors (`ham.md` §2).

/// Each is one `errno` of the C interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `EINVAL`: what is named is not valid.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// `ENAMETOOLONG`.
    #[error("the name or path is longer than 256 bytes")]
    TooLong,
    /// `EEXIST`.
    #[error("there is one already")]
    Exists,
    /// `ENOENT`.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// `ENOMEM`: more than its owner may have.
    #[error("no more than {0} may be had")]
    Quota(usize),
}

impl Refusal {
    /// The name of its `errno`.
    #[must_use]
    pub const fn errno(self) -> &'static str {
        match self {
            Self::Invalid(_) => "EINVAL",
            Self::TooLong => "ENAMETOOLONG",
            Self::Exists => "EEXIST",
            Self::Missing(_) => "ENOENT",
            Self::Quota(_) => "ENOMEM",
        }
    }
}
