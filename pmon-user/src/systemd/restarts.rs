//! Who restarts a unit: systemd (`Restart=`) or pmon, never both (spec/pmond.md,
//! field stories S12 and S21).
//!
//! A unit with `Restart=` is *left* to systemd, which is the default: pmon watches,
//! tells, and starts it only when systemd has given it up. Or it is *taken over*: a
//! drop-in in /run says `Restart=no`, for as long as pmon monitors the unit. Either
//! way people are told. Our drop-ins are known by their name; one whose unit
//! nobody monitors any more is removed, also one that an earlier daemon left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{Shared, bus::Bus, unit::UnitState};
use crate::{causes::in_full, core::entity::UnitPolicy};

/// Where drop-ins live that do not outlive the host's run (systemd.unit(5)).
const DIRECTORY: &str = "/run/systemd/system";
/// Ours.
const DROP_IN: &str = "50-pmon.conf";
/// What is in them.
const TEXT: &str = "# Written by pmon, which restarts this unit itself; removed when it does not.\n\
     [Service]\nRestart=no\n";

/// What is known of units' `Restart=`.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// By main name: `Restart=` as the unit says, ours set aside.
    units: BTreeMap<String, Restart>,
    /// All units that are to be monitored have been told of.
    complete: bool,
}

#[derive(Debug, Default)]
struct Restart {
    /// systemd's word, when it was last asked.
    word: String,
    /// pmon restarts it, by a drop-in of ours.
    taken: bool,
    /// What went wrong with that.
    problem: Option<String>,
    /// It has to be asked anew.
    stale: bool,
}

impl Restarts {
    pub(super) fn found(&mut self, state: &UnitState) {
        let unit = self.units.entry(state.id.clone()).or_default();
        unit.word.clone_from(&state.restart);
        unit.stale = false;
    }

    pub(super) fn known(&self) -> Vec<String> {
        self.units.keys().cloned().collect()
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.units.remove(id);
    }

    /// All units that are to be monitored have been told of.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// systemd has read its units anew: they may say something else now.
    pub(super) fn reloaded(&mut self) {
        for unit in self.units.values_mut() {
            unit.stale = true;
        }
    }

    /// What people should know, by unit.
    pub(super) fn findings(&self) -> BTreeMap<String, String> {
        let finding = |(id, unit): (&String, &Restart)| {
            let Restart {
                word,
                taken,
                problem,
                stale: _,
            } = unit;
            let text = match (problem, taken, word.as_str()) {
                (Some(problem), _, _) => format!("unit `{id}`: {problem}"),
                (None, true, _) => format!(
                    "unit `{id}`: its `Restart=` is set aside while pmon monitors it (systemd = \"take-over\")"
                ),
                (None, false, "no" | "") => return None,
                (None, false, word) => format!(
                    "unit `{id}` has `Restart={word}`: it is left to systemd, and pmon starts it only \
                     when systemd has given it up (systemd = \"take-over\" lets pmon restart it)"
                ),
            };
            Some((id.clone(), text))
        };
        self.units.iter().filter_map(finding).collect()
    }
}

/// Writes and removes drop-ins until every unit is as configured.
pub(super) async fn settle(shared: &Shared, bus: &Bus) {
    let stale: Vec<String> = {
        let state = shared.lock();
        let stale = state.restarts.units.iter().filter(|(_, unit)| unit.stale);
        stale.map(|(id, _)| id.clone()).collect()
    };
    for id in stale {
        if let Ok(found) = bus.unit(&id).await {
            shared.lock().restarts.found(&found);
        }
    }
    let wanted: BTreeSet<String> = {
        let state = shared.lock();
        let taken = state.watched.values().filter_map(|watched| {
            let id = watched.id.clone()?;
            let unit = state.restarts.units.get(&id)?;
            let restarts = unit.taken || (unit.word != "no" && !unit.word.is_empty());
            (watched.policy == UnitPolicy::TakeOver && restarts).then_some(id)
        });
        taken.collect()
    };
    let complete = {
        let state = shared.lock();
        let known = state.watched.values().all(|watched| watched.id.is_some());
        known && state.restarts.complete
    };
    let changes = tokio::task::spawn_blocking({
        let wanted = wanted.clone();
        move || write(Path::new(DIRECTORY), &wanted, complete)
    });
    let Ok(Changes { problems, changed }) = changes.await else {
        return;
    };
    {
        let mut state = shared.lock();
        for (id, unit) in &mut state.restarts.units {
            unit.taken = wanted.contains(id);
            unit.problem = problems.get(id).cloned();
        }
    }
    if changed && let Err(error) = bus.reload().await {
        tracing::warn!(
            error = in_full(&error),
            "systemd does not read its units anew"
        );
    }
    shared.tell_facts();
}

#[derive(Debug, Default)]
struct Changes {
    changed: bool,
    problems: BTreeMap<String, String>,
}

/// Has exactly these units a drop-in of ours; others lose theirs if `complete`.
fn write(directory: &Path, wanted: &BTreeSet<String>, complete: bool) -> Changes {
    let mut changes = Changes::default();
    for id in wanted {
        match write_one(&drop_in(directory, id)) {
            Ok(written) => changes.changed |= written,
            Err(error) => {
                let problem = format!(
                    "its `Restart=` cannot be set aside, so that systemd may restart it as well: {error}"
                );
                changes.problems.insert(id.clone(), problem);
            }
        }
    }
    if !complete {
        return changes;
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".d"));
        if let Some(id) = id
            && !wanted.contains(id)
        {
            let path = entry.path().join(DROP_IN);
            if fs::remove_file(&path).is_ok() {
                changes.changed = true;
                // Somebody else's drop-ins may be in there.
                let _not_empty: io::Result<()> = fs::remove_dir(entry.path());
            }
        }
    }
    changes
}

fn drop_in(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.d")).join(DROP_IN)
}

/// Whether it had to be written.
fn write_one(path: &Path) -> io::Result<bool> {
    if fs::read_to_string(path).is_ok_and(|text| text == TEXT) {
        return Ok(false);
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, TEXT)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{super::unit::tests::unit, *};

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn exactly_the_wanted_units_have_our_drop_in() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let changes = write(root, &set(&["a.service", "b.service"]), true);
        assert!(changes.changed && changes.problems.is_empty());
        let text = fs::read_to_string(root.join("a.service.d/50-pmon.conf")).unwrap();
        assert!(text.ends_with("[Service]\nRestart=no\n"), "{text}");
        assert!(!write(root, &set(&["a.service", "b.service"]), true).changed);

        // Somebody else's stay.
        fs::write(root.join("b.service.d/10-other.conf"), "").unwrap();
        assert!(write(root, &set(&["a.service"]), true).changed);
        assert!(root.join("a.service.d").exists());
        assert!(!root.join("b.service.d/50-pmon.conf").exists());
        assert!(root.join("b.service.d/10-other.conf").exists());

        assert!(write(root, &set(&[]), true).changed);
        assert!(!root.join("a.service.d").exists());
    }

    #[test]
    fn nothing_is_given_back_before_all_units_are_known() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, &set(&["a.service"]), true);
        assert!(!write(root, &set(&[]), false).changed);
        assert!(root.join("a.service.d/50-pmon.conf").exists());
    }

    #[test]
    fn a_drop_in_that_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("a.service.d"), "").unwrap();
        let changes = write(root, &set(&["a.service"]), true);
        assert!(!changes.changed);
        assert!(changes.problems["a.service"].contains("systemd may restart it as well"));
    }

    #[test]
    fn people_are_told_who_restarts_a_unit() {
        let mut restarts = Restarts::default();
        let mut state = unit("active", "running");
        restarts.found(&state);
        assert!(restarts.findings().is_empty());
        state.restart = "always".to_owned();
        restarts.found(&state);
        let told = &restarts.findings()["web.service"];
        assert!(
            told.contains("`Restart=always`: it is left to systemd"),
            "{told}"
        );
    }
}
