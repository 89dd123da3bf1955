//! A configuration on its way into force: planned first, then put into force as
//! a whole, or not at all.
//!
//! Must stay true: nothing can fail once the plan is accepted; only what the
//! plan names is touched, and what is touched keeps its process, counters,
//! alarm, hold and recovery under way.

use std::sync::Arc;

use super::{engine::Engine, message::Work};
use crate::{
    config::{
        Loaded,
        plan::{self, Change, KeyChange, Plan, Wanted},
    },
    state::record::EntityRecord,
    table::EntityName,
    view::diagnosis::{EntityChangeView, KeyChangeView, ReloadView},
};

impl Engine {
    /// Says what a configuration would change, and puts it into force unless
    /// that was only to be planned.
    pub(super) fn reload(&mut self, loaded: Loaded, wanted: Wanted) -> ReloadView {
        let mut view = ReloadView {
            applied: false,
            plan: wanted == Wanted::Plan,
            refused: None,
            config_generation: self.facts.config_generation,
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            changes: Vec::new(),
            daemon_restart: Vec::new(),
            findings: loaded.findings.iter().map(ToString::to_string).collect(),
        };
        let current = self.entities.values().map(|entity| &*entity.spec);
        let plan = match plan::plan(current, &loaded, wanted) {
            Ok(plan) => plan,
            Err(why) => {
                if wanted != Wanted::Plan {
                    self.facts.refused_configuration = Some(why.clone());
                }
                view.refused = Some(why);
                return view;
            }
        };
        let Plan {
            added,
            changed,
            removed,
        } = plan;
        view.added = added;
        view.changed = changed.iter().map(|change| change.name.clone()).collect();
        view.changes = changed.into_iter().map(change_view).collect();
        view.removed = removed;
        if wanted != Wanted::Plan {
            self.put_into_force(loaded, &view.removed);
            view.applied = true;
            view.config_generation = self.facts.config_generation;
        }
        view
    }

    fn put_into_force(&mut self, loaded: Loaded, removed: &[String]) {
        for name in removed {
            self.remove(&EntityName::from(name.as_str()));
        }
        self.limit(loaded.settings.daemon.recovery_budget);
        let mut watched = Vec::new();
        self.facts.findings = loaded.findings.iter().map(ToString::to_string).collect();
        for spec in loaded.entities {
            match self.entities.get_mut(spec.name.as_str()) {
                None => self.add(Arc::new(spec), EntityRecord::default()),
                Some(entity) if *entity.spec == spec => {}
                Some(entity) => {
                    let mode_changed = entity.spec.mode != spec.mode;
                    let had_sockets = !entity.spec.sockets().is_empty();
                    entity.spec = Arc::new(spec);
                    let name = EntityName::from(entity.spec.name.as_str());
                    if mode_changed {
                        let (spec, record) = (Arc::clone(&entity.spec), entity.memory());
                        self.abandon(&name);
                        self.add(spec, record);
                    } else {
                        let kept = had_sockets.then(|| entity.spec.sockets().to_vec());
                        watched.push((name, Arc::clone(&entity.spec), kept));
                    }
                }
            }
        }
        for (name, spec, sockets) in watched {
            self.reconfigure_alarm(&name);
            self.follow(&name);
            if let Some(sockets) = sockets {
                self.keep_sockets(&name, sockets);
            }
            self.hand_out(Work::Unit(Arc::clone(&name), spec.start.clone(), None));
            self.hand_out(Work::Watch(name, spec.watched_pidfile().cloned()));
        }
        self.relate();
        self.facts.unmonitored = loaded.unmonitored;
        self.facts.refused_configuration = None;
        self.facts.config_generation += 1;
    }
}

fn change_view(change: Change) -> EntityChangeView {
    let Change { name, keys } = change;
    let key_view = |key: KeyChange| {
        let KeyChange {
            key,
            from,
            to,
            at_next_start,
        } = key;
        KeyChangeView {
            key: key.to_owned(),
            from,
            to,
            at_next_start,
        }
    };
    EntityChangeView {
        name,
        keys: keys.into_iter().map(key_view).collect(),
    }
}
