//! The order of a kill, read from the trace that the executor itself leaves in
//! the daemon's log: unregister, then the pidfile, then the signal.
//!
//! The harness has every daemon write that trace and checks it when the daemon
//! is gone, so that each test that kills through pmon is a test of this, too.
//! The log of a place may hold the traces of several daemons, one after the
//! other: whoever is killed by one of them is unregistered by that one.

use std::collections::{BTreeMap, btree_map::Entry};

/// Says what the daemon logs.
pub const VARIABLE: &str = "PMON_LOG";
/// What is usual, and the trace.
pub const WANTED: &str = "info,pmon_order=debug";

/// How far a process has come towards its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    unregistered: bool,
    pidfile: bool,
}

/// What a trace has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Registrations and what took them back.
    pub registrations: usize,
    /// Pidfiles that were dealt with.
    pub pidfiles: usize,
    /// Signals sent.
    pub signals: usize,
}

/// Checks every deed in a log; how many there were.
///
/// # Errors
///
/// The first line that comes too early, and why.
pub fn check(log: &str) -> Result<Checked, String> {
    let mut processes: BTreeMap<(String, String), Progress> = BTreeMap::new();
    let mut checked = Checked::default();
    for line in log.lines() {
        let Some((identity, deed, entity)) = deed(line) else {
            continue;
        };
        let progress = match processes.entry((entity.to_owned(), identity.to_owned())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Progress::default()),
        };
        let (word, _) = deed.split_once(' ').unwrap_or((deed, ""));
        match word {
            "registered" => {
                checked.registrations += 1;
                *progress = Progress::default();
            }
            "unregistered" => {
                checked.registrations += 1;
                progress.unregistered = true;
            }
            "pidfile" => {
                checked.pidfiles += 1;
                // Of somebody who never was in the table it may go at any time.
                progress.pidfile = true;
            }
            "signal" | "leftovers" => {
                checked.signals += usize::from(word == "signal");
                if !progress.unregistered {
                    return Err(format!("out of order, still registered: {line}"));
                }
                if !progress.pidfile {
                    return Err(format!("out of order, its pidfile is still there: {line}"));
                }
            }
            _ => return Err(format!("an unknown deed: {line}")),
        }
    }
    Ok(checked)
}

/// `order: PID@START DEED of ENTITY`, after whatever a log puts before it.
fn deed(line: &str) -> Option<(&str, &str, &str)> {
    let (_, said) = line.split_once("DEBUG order: ")?;
    let (rest, entity) = said.rsplit_once(" of ")?;
    let (identity, deed) = rest.split_once(' ')?;
    Some((identity, deed, entity))
}
