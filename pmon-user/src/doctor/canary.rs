//! Every source tried by a canary of the doctor's own, where no daemon runs
//! that does it.
//!
//! A source is started for one canary and stopped again. Must stay true:
//! nothing is pinned, and nothing of it is left.

use std::sync::Arc;

use super::outcome::{degraded, failed, ok};
use crate::{
    causes::in_full,
    config::settings::SourceChoice,
    core::death::{LastSeen, SourceName, WaitStatus},
    source::{
        canary::{Verdict, Watch},
        connector::Connector,
        ebpf::{Ebpf, MapSizes},
    },
    sys::{
        canary::{Canary, EXIT_CODE},
        clock,
        epoll::Epoll,
    },
    table::Table,
    view::diagnosis::{CheckResult, CheckView},
};

/// As small as the kernel allows; one registration is made.
const SIZES: MapSizes = MapSizes {
    max_pids: 16,
    ring_bytes: 4096,
};
/// Any below the table's own will do.
const TOKEN: u64 = 0;

/// What became of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The configuration does not want it.
    Unwanted(&'static str),
    /// It could not be started.
    Off(String),
    /// What its canary showed.
    Tried(Verdict),
}

/// The sources, the better one first.
pub(super) type Trials = Vec<(SourceName, Trial)>;

/// Tries those that a daemon would use.
pub(super) fn try_sources(choice: SourceChoice) -> Trials {
    let mut trials = Vec::new();
    let mut table = Table::new(None);
    let (ebpf, connector) = match choice {
        SourceChoice::Auto => (Ok(()), Ok(())),
        SourceChoice::Ebpf => (Ok(()), Err("`source = ebpf`")),
        SourceChoice::ProcConnector => (Err("`source = proc-connector`"), Ok(())),
        SourceChoice::Pidfd => (Err("`source = pidfd`"), Err("`source = pidfd`")),
    };
    let mut running = vec![SourceName::Pidfd];
    match ebpf.map(|()| Ebpf::start(SIZES, None)) {
        Err(why) => trials.push((SourceName::Ebpf, Trial::Unwanted(why))),
        Ok(Err(error)) => trials.push((SourceName::Ebpf, Trial::Off(in_full(&error)))),
        Ok(Ok(kernel)) => {
            table.set_kernel(kernel);
            running.push(SourceName::Ebpf);
        }
    }
    match connector.map(|()| Connector::start()) {
        Err(why) => trials.push((SourceName::ProcConnector, Trial::Unwanted(why))),
        Ok(Err(error)) => trials.push((SourceName::ProcConnector, Trial::Off(in_full(&error)))),
        Ok(Ok(connector)) => {
            table.set_connector(Some(connector));
            running.push(SourceName::ProcConnector);
        }
    }
    match fly(&mut table, &running) {
        Ok(verdicts) => trials.extend(
            verdicts
                .into_iter()
                .map(|(source, verdict)| (source, Trial::Tried(verdict))),
        ),
        Err(why) => trials.extend(running.into_iter().map(|source| {
            let unclear = Verdict::Unclear(format!("no canary: {why}"));
            (source, Trial::Tried(unclear))
        })),
    }
    trials.sort_by_key(|(source, _)| *source);
    trials
}

/// One canary, from its registration to the verdicts.
fn fly(table: &mut Table, running: &[SourceName]) -> Result<Vec<(SourceName, Verdict)>, String> {
    let text = |errno: rustix::io::Errno| std::io::Error::from(errno).to_string();
    let epoll = Epoll::new().map_err(text)?;
    if let Some(kernel) = table.kernel() {
        epoll.add(kernel.ring_fd(), TOKEN).map_err(text)?;
    }
    if let Some(connector) = table.connector() {
        epoll.add(connector.fd(), TOKEN).map_err(text)?;
    }
    let mut canary = Canary::hatch().map_err(|error| in_full(&error))?;
    let process = canary.process().clone();
    let identity = process.identity();
    let registered = table
        .register(&Arc::from("/canary"), process, LastSeen::default(), &epoll)
        .map_err(|error| in_full(&error))?;
    let mut watch = Watch::new(
        identity,
        registered.generation,
        WaitStatus(u32::from(EXIT_CODE) << 8),
        running,
        table.ring_drops(),
        clock::now(),
    );
    if let (Some(why), true) = (registered.pidfd_only, table.kernel().is_some()) {
        let why = format!("nothing can be registered: {why}");
        watch.settle(SourceName::Ebpf, Verdict::Missed(why));
    }
    table.watch_canary(watch);
    drop(canary.take_release());
    loop {
        let due = table.canary_due().unwrap_or_default();
        let mut tokens = Vec::new();
        epoll
            .wait(Some(due.since(clock::now())), &mut tokens)
            .map_err(text)?;
        while table.next_hint().is_some() {}
        while table.next_from_connector().is_some() {}
        for generation in tokens.into_iter().filter(|token| *token != TOKEN) {
            table.ended(generation, &epoll);
        }
        if let Some(verdicts) = table.canary_verdicts(clock::now()) {
            return Ok(verdicts);
        }
    }
}

/// `source-…`, one for each. `prerequisites` are the checks that a kernel source
/// depends on, done; `fix_of_connector` knows what the connector's reasons mean.
pub(super) fn check(
    trials: &Trials,
    prerequisites: &[CheckView],
    fix_of_connector: fn(&str) -> String,
) -> Vec<CheckView> {
    let unmet = prerequisites
        .iter()
        .find(|check| check.result != CheckResult::Ok);
    let fix = |source: SourceName, why: &str| match (source, unmet) {
        (SourceName::ProcConnector, _) => fix_of_connector(why),
        (SourceName::Ebpf | SourceName::Pidfd, Some(unmet)) => format!(
            "see `{}`: {}",
            unmet.name,
            unmet.fix.as_deref().unwrap_or_default()
        ),
        (SourceName::Ebpf | SourceName::Pidfd, None) => {
            "see the kernel's reason: `dmesg | tail`; pmon does without it meanwhile".to_owned()
        }
    };
    let one = |source: SourceName, trial: &Trial| {
        let name = format!("source-{}", source.as_str());
        let bad = |found: String, fix: String| match source {
            SourceName::Pidfd => failed(&name, found, fix),
            SourceName::Ebpf | SourceName::ProcConnector => degraded(&name, found, fix),
        };
        match trial {
            Trial::Unwanted(why) => ok(&name, format!("would not be used: {why}")),
            Trial::Off(why) => bad(format!("off: {why}"), fix(source, why)),
            Trial::Tried(Verdict::Passed) => ok(&name, "works: a canary came through"),
            Trial::Tried(Verdict::Missed(why)) => bad(format!("silent: {why}"), fix(source, why)),
            Trial::Tried(Verdict::Unclear(why)) => {
                degraded(&name, format!("not proven: {why}"), "`pmon doctor` again")
            }
        }
    };
    trials
        .iter()
        .map(|(source, trial)| one(*source, trial))
        .collect()
}
