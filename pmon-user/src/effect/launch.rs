//! From an invocation to a running process, with the retries that are worth it.
//!
//! Must stay true: a process that nobody claims, because the deadline passed or
//! the start was cancelled while execve(2) was still hanging, is killed with
//! its group as soon as there is one. A start command that nobody claims
//! because pmon is ending goes on, as all that pmon has started does; a
//! foreground program does not. Neither executes anything before its identity is
//! on record, so that the next daemon knows it.

use std::{path::Path, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::{
    Role,
    command::{Invocation, Prepared, no_cgroup, prepare},
    lane::Voice,
    log::Tail,
    passage::Passage,
};
use crate::sys::{
    pidfd::{VerifiedPid, verify},
    spawn::{
        Launch, SpawnError, Spawned, Step,
        gate::{Gate, gate},
        spawn,
    },
};

/// ETXTBSY: an upgrade is writing the program just now. 5 retries.
const BUSY: [Duration; 5] = [Duration::from_millis(100); 5];

/// EAGAIN and ENOMEM: no process or no memory for one just now. 2 s in all.
const EXHAUSTED: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(600),
    Duration::from_millis(650),
];

/// How long a start waits until it is on record. A start that is recorded too
/// late is better than none.
const RECORD: Duration = Duration::from_secs(5);

/// A running program.
#[derive(Debug)]
pub(super) struct Launched {
    /// The process.
    pub(super) spawned: Spawned,
    /// The same as it was when it waited to be executed, where it did.
    pub(super) process: Option<VerifiedPid>,
    /// For the last line.
    pub(super) tail: Tail,
}

/// Starts the program; to be given up at `deadline` by dropping it.
///
/// # Errors
///
/// Why there is no process, for people.
pub(super) async fn launch(
    invocation: Invocation,
    voice: &Arc<Voice>,
    deadline: Instant,
) -> Result<Launched, String> {
    let foreground = invocation.is_foreground();
    let role = invocation.role();
    let mut invocation = Some(invocation);
    let mut ready: Option<Prepared> = None;
    let mut retries = 0;
    loop {
        let role = role.filter(|_| voice.shared.record.is_some());
        let (gate, barrier) = match role.map(|role| gate().map(|gate| (role, gate))) {
            Some(Ok((role, (gate, barrier)))) => (Some((role, gate)), Some(barrier)),
            Some(Err(error)) => {
                tracing::debug!(%error, "a start goes unrecorded");
                (None, None)
            }
            None => (None, None),
        };
        let mut attempt = {
            let voice = Arc::clone(voice);
            let (ready, invocation) = (ready.take(), invocation.take());
            spawn_blocking(move || {
                let prepared = match (ready, invocation) {
                    (Some(prepared), _) => prepared,
                    (None, Some(invocation)) => prepare(&invocation, &voice)?,
                    (None, None) => return Err("nothing is to be executed".to_owned()),
                };
                if voice.is_cancelled() || Instant::now() >= deadline {
                    return Err("it was given up while it was prepared".to_owned());
                }
                let spawned = spawn(&prepared.launch, barrier).map(|spawned| Unclaimed {
                    spawned: Some(spawned),
                    foreground,
                    voice,
                    deadline,
                });
                Ok((prepared, spawned))
            })
        };
        let mut process = None;
        let spawned = match gate {
            None => attempt.await,
            Some((role, gate)) => tokio::select! {
                biased;
                // It failed before it came to the gate.
                spawned = &mut attempt => spawned,
                passed = pass(voice, role, gate) => {
                    process = passed;
                    attempt.await
                }
            },
        };
        let (prepared, spawned) = spawned.map_err(|error| error.to_string())??;
        let error = match spawned {
            Ok(unclaimed) => {
                let spawned = unclaimed.claim().ok_or("the process was lost")?;
                if let Some(errno) = spawned.cgroup_error {
                    no_cgroup(voice, &errno);
                }
                return Ok(Launched {
                    spawned,
                    process,
                    tail: prepared.tail,
                });
            }
            Err(error) => error,
        };
        match pause(error, retries).filter(|pause| Instant::now() + *pause < deadline) {
            Some(pause) => sleep(pause).await,
            None => return Err(describe(&prepared.launch, error, retries).await),
        }
        ready = Some(prepared);
        retries += 1;
    }
}

/// Records the child at the gate, then lets it through. Where nobody records any
/// more, because pmon is ending, it does not get through.
async fn pass(voice: &Voice, role: Role, gate: Gate) -> Option<VerifiedPid> {
    let pid = gate.child().await.ok()?;
    // A child that waits at the gate has next to no memory of its own.
    let process = verify(pid).ok();
    if let (Some(record), Some(process)) = (&voice.shared.record, &process) {
        let (passage, recorded) = Passage::new(gate.key());
        record(Arc::clone(voice.entity()), process.clone(), role, passage);
        match timeout(RECORD, recorded).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => tracing::warn!(pid, "a start could not be recorded within {RECORD:?}"),
        }
    }
    gate.open();
    process
}

/// How long to wait before the next try, if there is to be one.
fn pause(error: SpawnError, retries: usize) -> Option<Duration> {
    let SpawnError { step, errno } = error;
    let pauses = match (step, errno) {
        (Step::Execute, Errno::TXTBSY) => BUSY.as_slice(),
        (_, Errno::AGAIN) | (Step::Fork, Errno::NOMEM) => EXHAUSTED.as_slice(),
        _ => &[],
    };
    pauses.get(retries).copied()
}

async fn describe(launch: &Launch, error: SpawnError, retries: usize) -> String {
    let subject = match error.step {
        Step::Directory => &launch.directory,
        Step::Fork
        | Step::Session
        | Step::SupplementaryGroups
        | Step::Group
        | Step::User
        | Step::Descriptors
        | Step::Passing
        | Step::Gate
        | Step::Execute => &launch.program,
    };
    let path = subject.to_string_lossy().into_owned();
    let mut text = format!("`{path}`: {error}");
    if retries > 0 {
        text.push_str(&format!(", {} tries", retries + 1));
    }
    if error.step == Step::Execute && error.errno == Errno::NOENT {
        let there = spawn_blocking(move || Path::new(&path).exists()).await;
        if there.is_ok_and(|there| there) {
            text.push_str("; it is there, but its interpreter is not");
        }
    }
    text
}

/// A process between its start and somebody who waits for it.
struct Unclaimed {
    /// Until it is claimed.
    spawned: Option<Spawned>,
    foreground: bool,
    voice: Arc<Voice>,
    deadline: Instant,
}

impl Unclaimed {
    fn claim(mut self) -> Option<Spawned> {
        self.spawned.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let unwanted =
            self.foreground || self.voice.is_cancelled() || Instant::now() >= self.deadline;
        if let Some(spawned) = self.spawned.as_ref().filter(|_| unwanted) {
            spawned.kill_group();
            // tokio reaps it: a dropped child goes to its queue of orphans.
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{fs::File, thread};

    use super::*;

    fn unclaimed(
        voice: &Arc<Voice>,
        foreground: bool,
        limit: Duration,
    ) -> (Unclaimed, VerifiedPid) {
        let launch = Launch {
            program: c"/bin/sleep".into(),
            arguments: vec![c"sleep".into(), c"1000".into()],
            environment: Vec::new(),
            directory: c"/".into(),
            credentials: None,
            output: File::create("/dev/null").unwrap().into(),
            cgroup: None,
            passed: Vec::new(),
        };
        let spawned = spawn(&launch, None).unwrap();
        let process = verify(spawned.pid()).unwrap();
        let unclaimed = Unclaimed {
            spawned: Some(spawned),
            foreground,
            voice: Arc::clone(voice),
            deadline: Instant::now() + limit,
        };
        (unclaimed, process)
    }

    /// As when the runtime ends between execve and the claim.
    #[tokio::test]
    async fn who_is_unclaimed_lives_on_unless_unwanted() {
        const LONG: Duration = Duration::from_secs(60);
        let voice = Voice::of_nobody();
        let (start_command, process) = unclaimed(&voice, false, LONG);
        drop(start_command);
        // Long enough to die of a signal that should not have been sent.
        thread::sleep(Duration::from_millis(100));
        assert!(!process.is_dead());
        process.signal(9).unwrap();

        let past_its_deadline = unclaimed(&voice, false, Duration::ZERO);
        let foreground = unclaimed(&voice, true, LONG);
        let cancelled = unclaimed(&voice, false, LONG);
        voice.cancel();
        for (unclaimed, process) in [past_its_deadline, foreground, cancelled] {
            drop(unclaimed);
            let begun = Instant::now();
            while !process.is_dead() {
                assert!(begun.elapsed() < LONG);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn only_passing_conditions_are_retried() {
        let error = |step, errno| SpawnError { step, errno };
        let total = |error| {
            (0..)
                .map_while(|retries| pause(error, retries))
                .sum::<Duration>()
        };
        assert_eq!(
            total(error(Step::Execute, Errno::TXTBSY)),
            Duration::from_millis(500)
        );
        for step in [Step::Fork, Step::User, Step::Execute] {
            assert_eq!(total(error(step, Errno::AGAIN)), Duration::from_secs(2));
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOEXEC, Errno::NOMEM] {
            assert_eq!(pause(error(Step::Execute, errno), 0), None);
        }
    }
}
