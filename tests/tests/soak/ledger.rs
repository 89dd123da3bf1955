//! Kills by the testers on one side, deaths in the history on the other: each
//! kill must be there exactly once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// A process of an entity, by its identity (`PID@START`).
type Victim = (String, String);

#[derive(Default)]
struct Books {
    killed: BTreeSet<Victim>,
    /// How often each incident tells it.
    told: BTreeMap<Victim, BTreeMap<u64, usize>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Books>);

/// What does not match.
pub(crate) struct Verdict {
    /// Killed and not told.
    pub(crate) lost: Vec<Victim>,
    /// Told more than once.
    pub(crate) twice: Vec<Victim>,
}

impl Ledger {
    pub(crate) fn killed(&self, entity: &str, identity: &str) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = books
            .killed
            .insert((entity.to_owned(), identity.to_owned()));
        assert!(first, "{identity} of `{entity}` was killed before");
    }

    /// Takes the deaths of all incidents in it.
    pub(crate) fn told(&self, history: &Value) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for incident in history["incidents"].as_array().into_iter().flatten() {
            let (Some(entity), Some(number)) =
                (incident["entity"].as_str(), incident["incident"].as_u64())
            else {
                continue;
            };
            let mut deaths: BTreeMap<&str, usize> = BTreeMap::new();
            for death in incident["deaths"].as_array().into_iter().flatten() {
                if let Some(identity) = death["identity"].as_str() {
                    *deaths.entry(identity).or_default() += 1;
                }
            }
            for (identity, times) in deaths {
                let victim = (entity.to_owned(), identity.to_owned());
                books.told.entry(victim).or_default().insert(number, times);
            }
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = Vec::new();
        let mut twice = Vec::new();
        for victim in &books.killed {
            let told: usize = books
                .told
                .get(victim)
                .into_iter()
                .flat_map(BTreeMap::values)
                .sum();
            match told {
                0 => lost.push(victim.clone()),
                1 => {}
                _ => twice.push(victim.clone()),
            }
        }
        Verdict { lost, twice }
    }
}
