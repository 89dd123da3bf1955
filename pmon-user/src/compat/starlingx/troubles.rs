//! What does not work at present, told by the threads of `compat::starlingx`
//! and shown by `pmon status`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Who has troubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// The messages to the host watchdog.
    Watchdog,
    /// The pulse to hbsClient.
    Pulse,
    /// The core, which the petting asks.
    Core,
    /// Events to mtcAgent.
    Events,
    /// pmond's own files.
    Files,
    /// The state of the service manager.
    SystemState,
}

impl Concern {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Watchdog => "StarlingX: the host watchdog is not told",
            Self::Pulse => "StarlingX: hbsClient is not told",
            Self::Core => "StarlingX: hostwd and hbsClient are not told",
            Self::Events => "StarlingX: mtcAgent is not told",
            Self::Files => "StarlingX: a file of pmond cannot be written",
            Self::SystemState => "StarlingX: nothing is recovered",
        }
    }
}

/// The list, shared; the lock is held for a moment, never across a system call.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<Concern, String>>>);

impl Troubles {
    /// How it stands with one of them; logged when that changes.
    pub fn report(&self, concern: Concern, trouble: Option<String>) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &trouble {
            Some(trouble) => troubles.insert(concern, trouble.clone()),
            None => troubles.remove(&concern),
        };
        drop(troubles);
        match (known, trouble) {
            (known, Some(trouble)) if known.as_ref() != Some(&trouble) => {
                tracing::warn!("{}: {trouble}", concern.as_str());
            }
            (Some(_), None) => tracing::info!("no longer true: {}", concern.as_str()),
            (Some(_) | None, _) => {}
        }
    }

    /// All of them, for people.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told =
            |(concern, trouble): (&Concern, &String)| format!("{}: {trouble}", concern.as_str());
        troubles.iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_listed_until_it_is_over() {
        let troubles = Troubles::default();
        troubles.report(Concern::Watchdog, Some("nobody listens".to_owned()));
        troubles.report(Concern::Pulse, None);
        let listed = "StarlingX: the host watchdog is not told: nobody listens";
        assert_eq!(troubles.list(), [listed]);
        troubles.report(Concern::Watchdog, None);
        assert_eq!(troubles.list(), [""; 0]);
    }
}
