//! Policies of the host that are asked beside the capabilities: security
//! modules, and the paranoia about performance events.

use std::{fs, path::Path};

use super::{
    bpf::BpfProbes,
    outcome::{degraded, ok},
    privileges::{Capability, Privileges},
};
use crate::view::diagnosis::CheckView;

/// What is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policies {
    /// `/sys/kernel/security/lsm`, by name; `None` where securityfs is not mounted.
    pub(super) modules: Option<Vec<String>>,
    /// `kernel.perf_event_paranoid`.
    pub(super) perf_event_paranoid: Option<i32>,
}

impl Policies {
    /// Reads below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let line = |path: &str| fs::read_to_string(root.join(path)).ok();
        Self {
            modules: line("sys/kernel/security/lsm").map(|names| {
                let names = names.trim().split(',').filter(|name| !name.is_empty());
                names.map(str::to_owned).collect()
            }),
            perf_event_paranoid: line("proc/sys/kernel/perf_event_paranoid")
                .and_then(|value| value.trim().parse().ok()),
        }
    }

    /// `security-modules`: those that could refuse bpf(), when nothing else
    /// explains that it is refused.
    pub(super) fn check_modules(&self, probes: BpfProbes, privileges: &Privileges) -> CheckView {
        const NAME: &str = "security-modules";
        const FIXES: [(&str, &str); 2] = [
            (
                "selinux",
                "`ausearch -m avc -c pmon | audit2allow -M pmon && semodule -i pmon.pp`; \
                 in a container: `--security-opt label=disable`",
            ),
            (
                "apparmor",
                "`aa-complain $(command -v pmon)`; in a container: `--security-opt apparmor=unconfined`",
            ),
        ];
        let Some(modules) = &self.modules else {
            return ok(NAME, "not known: securityfs is not mounted");
        };
        let unexplained = !probes.work()
            && [Capability::Bpf, Capability::Perfmon]
                .into_iter()
                .all(|capability| privileges.has(capability))
            && !privileges.seccomp
            && privileges.initial_user_namespace;
        let suspect = FIXES
            .iter()
            .find(|(name, _)| modules.iter().any(|module| module == name));
        match suspect {
            Some((name, fix)) if unexplained => degraded(
                NAME,
                format!(
                    "`{name}` is in force, and bpf() is refused although the capabilities are there"
                ),
                *fix,
            ),
            Some(_) | None => ok(NAME, modules.join(", ")),
        }
    }

    /// `perf-event-paranoid`: a note, never an obstacle.
    pub(super) fn check_paranoid(&self) -> CheckView {
        let found = match self.perf_event_paranoid {
            None => "not known: no `kernel.perf_event_paranoid`".to_owned(),
            Some(value) => format!(
                "`kernel.perf_event_paranoid = {value}`: no obstacle, pmon opens no performance events"
            ),
        };
        ok("perf-event-paranoid", found)
    }
}
