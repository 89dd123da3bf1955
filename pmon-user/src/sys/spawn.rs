//! Starting a program that has nothing of pmon but its ancestry.
//!
//! Must stay true: the program gets its own session and process group, default
//! signal dispositions and an empty mask, umask 022, normal scheduling, exactly
//! the environment given, and no descriptor but 0 to 2 and those passed; between fork and
//! execve the child makes system calls only (signal-safety(7)). Neither the
//! parent's death nor dropping [`Spawned`] ends it. What to start and what its
//! end means belongs to `effect`.

mod child;
mod fork;
pub mod gate;
mod passed;
mod share;
mod spawned;

use std::{
    ffi::CString,
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Once,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use thiserror::Error;

use self::{
    child::{Ids, Image, Join, Pointers},
    gate::Barrier,
    passed::Passed,
    spawned::reap_failed,
};
pub use self::{
    passed::{MAX_PASSED, set_descriptors_aside, variables},
    spawned::Spawned,
};
use super::user::Credentials;

/// Everything the kernel needs to know about a program to start.
#[derive(Debug)]
pub struct Launch {
    /// Absolute path; executed by execve(2) as it is, without a search and
    /// without a shell for what is no program.
    pub program: CString,
    /// `argv`, the program's name first.
    pub arguments: Vec<CString>,
    /// The whole environment, each `NAME=VALUE`.
    pub environment: Vec<CString>,
    /// Working directory, entered with the new credentials.
    pub directory: CString,
    /// Whom to become; pmon's own user when absent.
    pub credentials: Option<Credentials>,
    /// Becomes stdout and stderr; stdin is `/dev/null`.
    pub output: OwnedFd,
    /// Where to live.
    pub cgroup: Option<Cgroup>,
    /// Descriptors that the program gets from number 3 on, with `LISTEN_PID`; at
    /// most [`MAX_PASSED`], and only after [`set_descriptors_aside`].
    pub passed: Vec<OwnedFd>,
}

/// The cgroups to live in.
#[derive(Debug)]
pub struct Cgroup {
    /// Of version 2: its directory, open.
    pub directory: OwnedFd,
    /// Of the CPU controller of version 1, beside it: an open `cgroup.procs`. Not
    /// being let in is no error.
    pub cpu: Option<OwnedFd>,
}

/// What was being done when starting a program failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// fork(2), or opening what it needs.
    Fork,
    /// setsid(2).
    Session,
    /// setgroups(2).
    SupplementaryGroups,
    /// setresgid(2).
    Group,
    /// setresuid(2).
    User,
    /// chdir(2).
    Directory,
    /// Marking descriptors close-on-exec.
    Descriptors,
    /// Passing descriptors on.
    Passing,
    /// Waiting for the go-ahead.
    Gate,
    /// execve(2).
    Execute,
}

impl Step {
    const ALL: [Self; 10] = [
        Self::Fork,
        Self::Session,
        Self::SupplementaryGroups,
        Self::Group,
        Self::User,
        Self::Directory,
        Self::Descriptors,
        Self::Passing,
        Self::Gate,
        Self::Execute,
    ];

    /// The system call's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Session => "setsid",
            Self::SupplementaryGroups => "setgroups",
            Self::Group => "setresgid",
            Self::User => "setresuid",
            Self::Directory => "chdir",
            Self::Descriptors => "close_range",
            Self::Passing => "dup2",
            Self::Gate => "go-ahead",
            Self::Execute => "execve",
        }
    }
}

/// Why a program could not be started. No process is left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub struct SpawnError {
    /// What was being done.
    pub step: Step,
    /// What the kernel said.
    pub errno: Errno,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = nix::errno::Errno::from_raw(self.errno.raw_os_error());
        write!(f, "{}: {name:?} ({})", self.step.as_str(), name.desc())
    }
}

/// How far a [`Step`] is shifted to share with the errno the one integer that
/// the child tells its parent. Errnos stay below 4096 (`MAX_ERRNO`,
/// include/linux/err.h).
const STEP_SHIFT: u32 = 16;

impl SpawnError {
    fn code(self) -> i32 {
        let step = Step::ALL
            .iter()
            .position(|step| *step == self.step)
            .and_then(|index| i32::try_from(index).ok())
            .unwrap_or(0);
        (step << STEP_SHIFT) | self.errno.raw_os_error()
    }

    /// Something that had to be there before the child.
    fn decode(error: &io::Error) -> Self {
        Self::of_code(error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    fn of_code(raw: i32) -> Self {
        Self {
            step: usize::try_from(raw >> STEP_SHIFT)
                .ok()
                .and_then(|index| Step::ALL.get(index).copied())
                .unwrap_or(Step::Fork),
            errno: Errno::from_raw_os_error(raw & ((1 << STEP_SHIFT) - 1)),
        }
    }
}

/// Starts a program and returns once execve(2) has succeeded. Blocks for as
/// long as the kernel takes to load it, and until the gate is opened, where
/// there is one, by another thread; needs a tokio runtime's context.
///
/// # Errors
///
/// See [`SpawnError`]; not being let into the cgroup is no error but reported
/// in [`Spawned::cgroup_error`].
pub fn spawn(launch: &Launch, barrier: Option<Barrier>) -> Result<Spawned, SpawnError> {
    let fork = |error: io::Error| SpawnError::decode(&error);
    let refused = |errno: Errno| fork(errno.into());
    let Launch {
        program,
        arguments,
        environment,
        directory,
        credentials,
        output,
        cgroup,
        passed,
    } = launch;
    let null = File::open("/dev/null").map_err(fork)?;
    let eventfd_of = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let join = match cgroup {
        Some(Cgroup { directory, cpu }) => Some(Join {
            directory: directory.try_clone().map_err(fork)?,
            cpu: (cpu.as_ref())
                .map(|cpu| cpu.try_clone().map_err(fork))
                .transpose()?,
            refused: eventfd_of().map_err(refused)?,
        }),
        None => None,
    };
    let passed = Passed::new(passed).map_err(|error| SpawnError {
        step: Step::Passing,
        ..SpawnError::decode(&error)
    })?;
    let mut image = Image {
        program: program.clone(),
        arguments: Pointers::new(arguments.clone()),
        environment: Pointers::new(environment.clone()),
        directory: directory.clone(),
        credentials: credentials.as_ref().map(Ids::new),
        streams: [null.into(), output.try_clone().map_err(fork)?],
        cgroup: join,
        passed,
        barrier,
    };
    // Closed by execve(2); what comes through it is why there was none.
    let (failure, failed) = pipe_with(PipeFlags::CLOEXEC).map_err(refused)?;
    children_can_be_waited_for();
    let (pid, pidfd) = image.start(&failed).map_err(fork)?;
    drop(failed);
    if let Some(error) = why_not(&failure) {
        reap_failed(&pidfd);
        return Err(error);
    }
    let left_out = image
        .cgroup
        .as_ref()
        .and_then(|join| read_errno(join.refused.as_fd()));
    Spawned::new(pid, pidfd, left_out).map_err(fork)
}

/// What the child says about its failure; nothing once it has executed its
/// program.
fn why_not(failure: &OwnedFd) -> Option<SpawnError> {
    let mut code = [0; 4];
    loop {
        return match rustix::io::read(failure, &mut code) {
            // A write of so few bytes is not divided (pipe(7)).
            Ok(4) => Some(SpawnError::of_code(i32::from_ne_bytes(code))),
            Err(Errno::INTR) => continue,
            Ok(_) | Err(_) => None,
        };
    }
}

/// Whoever started this process may have had it disregard SIGCHLD; then the
/// kernel would reap its children itself (sigaction(2)).
fn children_can_be_waited_for() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zero is a valid `sigaction`; the call reads and writes
        // what lives on the stack. An ignored signal has no handler to lose.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut now) == 0
                && now.sa_sigaction == libc::SIG_IGN
            {
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            }
        }
    });
}

/// What the child wrote into the eventfd, if it did.
fn read_errno(eventfd: BorrowedFd<'_>) -> Option<Errno> {
    let mut count = [0; 8];
    rustix::io::read(eventfd, &mut count).ok()?;
    let errno = i32::try_from(u64::from_ne_bytes(count)).ok()?;
    Some(Errno::from_raw_os_error(errno))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs::{self, File};

    use procfs::FromRead as _;

    use super::*;

    #[test]
    fn step_and_errno_survive_the_way_through_one_integer() {
        for step in Step::ALL {
            for errno in [Errno::NOENT, Errno::AGAIN, Errno::TXTBSY, Errno::HWPOISON] {
                let error = SpawnError { step, errno };
                assert_eq!(SpawnError::of_code(error.code()), error);
            }
        }
        assert_eq!(
            SpawnError {
                step: Step::Execute,
                errno: Errno::NOEXEC
            }
            .to_string(),
            "execve: ENOEXEC (Exec format error)"
        );
    }

    /// The thread that spawns has everything a daemon may have and its
    /// programs must not: a blocked and an ignored signal, a real-time
    /// policy, another niceness and OOM score.
    #[test]
    fn nothing_of_the_daemons_scheduling_and_signals_is_left() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let output = File::create(&path).unwrap().into();
        fs::write("/proc/self/oom_score_adj", "300").unwrap();
        let fifo = libc::sched_param { sched_priority: 1 };
        // SAFETY: plain system calls for this thread; the structures live on
        // the stack, and SIGUSR2 is nobody's in this process.
        let real_time = unsafe {
            let mut blocked: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut blocked, libc::SIGUSR1);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
            libc::setpriority(libc::PRIO_PROCESS, 0, 7);
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const fifo) == 0
        };
        let launch = Launch {
            program: c"/bin/cat".into(),
            arguments: [
                c"cat",
                c"/proc/self/status",
                c"/proc/self/oom_score_adj",
                c"/proc/self/stat",
            ]
            .map(CString::from)
            .to_vec(),
            environment: Vec::new(),
            directory: c"/".into(),
            credentials: None,
            output,
            cgroup: None,
            passed: Vec::new(),
        };
        let status = runtime.block_on(async {
            let mut spawned = spawn(&launch, None).unwrap();
            spawned.wait().await.unwrap()
        });
        fs::write("/proc/self/oom_score_adj", "0").unwrap();
        assert!(status.success());
        let text = fs::read_to_string(&path).unwrap();
        for field in ["SigBlk", "SigIgn", "SigCgt"] {
            let line = format!("\n{field}:\t0000000000000000\n");
            assert!(text.contains(&line), "{text}");
        }
        let mut last = text.lines().rev();
        let stat = procfs::process::Stat::from_read(last.next().unwrap().as_bytes()).unwrap();
        assert_eq!(last.next().unwrap(), "0");
        assert_eq!(stat.policy, Some(libc::SCHED_OTHER.unsigned_abs()));
        assert_eq!(stat.rt_priority, Some(0));
        if real_time {
            assert_eq!(stat.nice, 0);
        } else {
            #[expect(clippy::print_stdout, reason = "a skipped test says so")]
            {
                println!("SKIP: undoing real-time policy and niceness needs root");
            }
        }
    }
}
