//! Names of entities, conditions and actions.
//!
//! They become names of directories and files where the tree is shown, so what
//! could not be one is refused (`ham.md` §1.1, D01).

use std::{borrow::Borrow, fmt};

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// The longest name and the longest `entity/condition/action`, in bytes: POSIX'
/// `_POSIX_PATH_MAX`, which HAM's pages give.
pub const LONGEST: usize = 256;
/// What the generated description of a directory is called.
pub const INFO: &str = ".info";
/// Where the tree shows the conditions of the global entity.
pub const GLOBAL: &str = ".global";

/// A name that may be given to an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// # Errors
    ///
    /// [`Refusal::TooLong`] beyond [`LONGEST`] bytes; [`Refusal::Invalid`] when it
    /// is empty, `.`, `..`, [`INFO`] or [`GLOBAL`], or has a slash or control
    /// characters.
    pub fn new(name: &str) -> Result<Self, Refusal> {
        if name.len() > LONGEST {
            return Err(Refusal::TooLong);
        }
        let reserved = matches!(name, "" | "." | ".." | INFO | GLOBAL);
        if reserved || name.contains('/') || name.chars().any(char::is_control) {
            return Err(Refusal::Invalid("name"));
        }
        Ok(Self(name.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = Refusal;

    fn try_from(name: String) -> Result<Self, Refusal> {
        Self::new(&name)
    }
}

impl From<Name> for String {
    fn from(Name(name): Name) -> Self {
        name
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refuses a path of objects that is longer than [`LONGEST`] as a whole.
///
/// # Errors
///
/// [`Refusal::TooLong`].
pub fn fits(parts: &[&str]) -> Result<(), Refusal> {
    let slashes = parts.len().saturating_sub(1);
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + slashes;
    if length > LONGEST {
        Err(Refusal::TooLong)
    } else {
        Ok(())
    }
}
