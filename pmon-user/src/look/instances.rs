//! Counting the instances of entities: one walk through `/proc` for any number
//! of them.
//!
//! Must stay true: of most processes only the executed file is looked at (some
//! microseconds each); what is called an instance was verified alive after
//! everything else was read of it; a process that cannot be read is none.
//! Whether it is one is `likeness`'s business, what follows from it the
//! engine's.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
};

use procfs::process::Process;

use super::{
    last_seen, likeness,
    likeness::{Tie, Traits},
    names, status_of,
};
use crate::{
    core::{entity::EntitySpec, identity::Identity},
    sys::pidfd::verify,
};

/// More generations than any process has ancestors.
const GENERATIONS: usize = 64;

/// An entity whose instances are to be counted.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name.
    pub entity: Arc<str>,
    /// The entity.
    pub spec: Arc<EntitySpec>,
    /// Its registered process.
    pub main: Identity,
    /// Processes that had its place before, and were not seen to end.
    pub before: Vec<Identity>,
    /// Whether to tell what it is like.
    pub wants_traits: bool,
}

/// What is to be counted.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Of whom.
    pub subjects: Vec<Subject>,
    /// The registered processes of all entities, which are nobody's duplicates.
    pub registered: Arc<HashSet<u32>>,
}

/// The instances of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whose.
    pub entity: Arc<str>,
    /// The registered one.
    pub main: Identity,
    /// Those beside it, lowest pid first.
    pub others: Vec<Instance>,
    /// What the registered one is like, if that was wanted.
    pub traits: Option<Traits>,
}

/// An instance beside the registered one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Who.
    pub identity: Identity,
    /// How we know that it belongs to the entity.
    pub tie: Tie,
}

/// Counts; leaves out entities whose registered process is gone. Blocks: for a
/// millisecond per some hundred processes, and for as long as some process that
/// runs the same program holds its own memory map locked.
#[must_use]
pub fn count(census: &Census) -> Vec<Counted> {
    let mut parents = Parents::default();
    let mut by_executable: HashMap<(u64, u64), Vec<&Subject>> = HashMap::new();
    let mut counted = Vec::new();
    for subject in &census.subjects {
        if let Some(executable) = executable(subject.main.pid) {
            by_executable.entry(executable).or_default().push(subject);
        }
    }
    let mut found: HashMap<&Arc<str>, Vec<(Instance, u32)>> = HashMap::new();
    for pid in pids() {
        let Some(subjects) = executable(pid).and_then(|it| by_executable.get(&it)) else {
            continue;
        };
        if census.registered.contains(&pid) {
            continue;
        }
        let Some(traits) = traits(pid) else {
            continue;
        };
        for subject in subjects {
            let Some(main) = self::traits(subject.main.pid) else {
                continue;
            };
            let tie = likeness::tie(&subject.spec, &main, &traits, false);
            let identity = Identity {
                pid,
                start_time: traits.start_time,
            };
            if let Some(tie) = tie {
                let instance = Instance { identity, tie };
                found
                    .entry(&subject.entity)
                    .or_default()
                    .push((instance, pid));
            }
        }
    }
    for subject in &census.subjects {
        let mut others = found.remove(&subject.entity).unwrap_or_default();
        for &identity in &subject.before {
            others.retain(|(other, _)| other.identity != identity);
            let tie = Tie::KnownBefore;
            others.push((Instance { identity, tie }, identity.pid));
        }
        let relatives = Relatives {
            census,
            subject,
            candidates: others.iter().map(|(_, pid)| *pid).collect(),
        };
        let mut others: Vec<Instance> = others
            .into_iter()
            .filter(|(_, pid)| relatives.is_apart(*pid, &mut parents))
            .map(|(instance, _)| instance)
            .filter(|instance| lives(instance.identity))
            .collect();
        others.sort_by_key(|other| other.identity.pid);
        let traits = subject
            .wants_traits
            .then(|| traits(subject.main.pid))
            .flatten();
        if lives(subject.main) {
            counted.push(Counted {
                entity: Arc::clone(&subject.entity),
                main: subject.main,
                others,
                traits,
            });
        }
    }
    counted
}

/// A live process that started when the entity had none, runs what the entity's
/// process ran, and belongs to it; the only one, or none.
#[must_use]
pub fn successor(
    spec: &EntitySpec,
    former: &Traits,
    registered: &HashSet<u32>,
) -> Option<Identity> {
    let alike = |pid: u32| {
        if registered.contains(&pid) || executable(pid)? != former.executable {
            return None;
        }
        let traits = traits(pid)?;
        let started_later = traits.start_time > former.start_time;
        (started_later && likeness::tie(spec, former, &traits, false).is_some()).then_some(
            Identity {
                pid,
                start_time: traits.start_time,
            },
        )
    };
    let found: Vec<Identity> = pids().filter_map(alike).collect();
    let mut parents = Parents::default();
    // Workers of the successor are like it.
    let mut masters = found.iter().filter(|one| {
        let ancestors = parents.ancestors(one.pid);
        !found.iter().any(|other| ancestors.contains(&other.pid))
    });
    match (masters.next(), masters.next()) {
        (Some(one), None) => Some(*one),
        (None, _) | (Some(_), Some(_)) => None,
    }
}

/// What can be seen of a process; none where it is gone, a zombie, or not to be
/// read.
#[must_use]
pub fn traits(pid: u32) -> Option<Traits> {
    let inode = |file: &str| {
        let metadata = fs::metadata(directory(pid).join(file)).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let executable = inode("exe")?;
    let command_line = fs::read(directory(pid).join("cmdline")).ok()?;
    let (_, pid_namespace) = inode("ns/pid")?;
    let root = inode("root")?;
    let uid = status_of(pid)?.euid;
    let cgroup = fs::read_to_string(directory(pid).join("cgroup")).ok();
    let names = names::of_process(pid);
    // Last, so that it vouches for what was read before.
    let stat = stat(pid)?;
    (!matches!(stat.state, 'Z' | 'X' | 'x')).then(|| Traits {
        executable,
        program: fs::read_link(directory(pid).join("exe")).ok(),
        command_line,
        uid,
        pid_namespace,
        root,
        cgroup: cgroup.and_then(|groups| last_seen::own_cgroup(&groups)),
        leads_group: stat.pgrp == stat.pid,
        start_time: stat.starttime,
        names,
    })
}

fn lives(identity: Identity) -> bool {
    verify(identity.pid).is_ok_and(|process| process.identity() == identity)
}

fn directory(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn executable(pid: u32) -> Option<(u64, u64)> {
    let metadata = fs::metadata(directory(pid).join("exe")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn stat(pid: u32) -> Option<procfs::process::Stat> {
    let pid = i32::try_from(pid).ok()?;
    Process::new(pid).ok()?.stat().ok()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Who is related to whom, for one entity.
struct Relatives<'a> {
    census: &'a Census,
    subject: &'a Subject,
    candidates: HashSet<u32>,
}

impl Relatives<'_> {
    /// Neither a worker nor a master: of the registered process, of another
    /// entity's, or of another candidate.
    fn is_apart(&self, pid: u32, parents: &mut Parents) -> bool {
        let main = self.subject.main.pid;
        if pid == main || parents.ancestors(main).contains(&pid) {
            return false;
        }
        let ancestors = parents.ancestors(pid);
        !ancestors.iter().any(|ancestor| {
            self.census.registered.contains(ancestor) || self.candidates.contains(ancestor)
        })
    }
}

/// Parents of processes, read once each.
#[derive(Default)]
struct Parents {
    known: HashMap<u32, Option<u32>>,
}

impl Parents {
    fn ancestors(&mut self, pid: u32) -> Vec<u32> {
        let mut ancestors = Vec::new();
        let mut child = pid;
        while ancestors.len() < GENERATIONS {
            let parent = *self
                .known
                .entry(child)
                .or_insert_with(|| u32::try_from(stat(child)?.ppid).ok());
            match parent {
                // Of no process, or of one outside of the pid namespace.
                None | Some(0) => break,
                Some(parent) => ancestors.push(parent),
            }
            child = ancestors.last().copied().unwrap_or_default();
        }
        ancestors
    }
}

#[cfg(test)]
#[path = "instances/tests.rs"]
mod tests;
