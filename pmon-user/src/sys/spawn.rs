//! Starting a program that has nothing of pmon but its ancestry.
//!
//! Must stay true: the program gets its own session and process group, default
//! signal dispositions and an empty mask, umask 022, normal scheduling, exactly
//! the environment given, and no descriptor but 0 to 2; between fork and
//! execve the child makes system calls only (signal-safety(7)). Neither the
//! parent's death nor dropping [`Spawned`] ends it. What to start and what its
//! end means belongs to `effect`.

mod child;
pub mod gate;

use std::{
    ffi::CString,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{ExitStatus, Stdio},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use thiserror::Error;
use tokio::process::Child;

use self::{
    child::{Ids, Image, Join, Pointers},
    gate::Barrier,
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
}

/// The cgroups to live in, by their open `cgroup.procs`.
#[derive(Debug)]
pub struct Cgroup {
    /// Of version 2.
    pub procs: OwnedFd,
    /// Of the CPU controller of version 1, beside it. Not being let in is no
    /// error.
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
    /// Waiting for the go-ahead.
    Gate,
    /// execve(2).
    Execute,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Fork,
        Self::Session,
        Self::SupplementaryGroups,
        Self::Group,
        Self::User,
        Self::Directory,
        Self::Descriptors,
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

/// How far a [`Step`] is shifted to share the one integer with the errno that
/// std's `Command` carries from the child to the parent. Errnos stay below
/// 4096 (`MAX_ERRNO`, include/linux/err.h).
const STEP_SHIFT: u32 = 16;

impl SpawnError {
    fn encode(self) -> io::Error {
        let step = Step::ALL
            .iter()
            .position(|step| *step == self.step)
            .and_then(|index| i32::try_from(index).ok())
            .unwrap_or(0);
        io::Error::from_raw_os_error((step << STEP_SHIFT) | self.errno.raw_os_error())
    }

    fn decode(error: &io::Error) -> Self {
        let raw = error.raw_os_error().unwrap_or(libc::EINVAL);
        Self {
            step: usize::try_from(raw >> STEP_SHIFT)
                .ok()
                .and_then(|index| Step::ALL.get(index).copied())
                .unwrap_or(Step::Fork),
            errno: Errno::from_raw_os_error(raw & ((1 << STEP_SHIFT) - 1)),
        }
    }
}

/// A started program, leader of its own session and process group. Dropping it
/// neither ends nor disturbs it.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    pid: u32,
    /// Why it is not in the cgroup asked for, when it is not.
    pub cgroup_error: Option<Errno>,
}

impl Spawned {
    /// Pid of the program and number of its process group.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the program's end and reaps it. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// Those of waitid(2); `ECHILD` when somebody else reaped it.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// SIGKILL to the whole process group, as long as its leader is not reaped:
    /// until then the kernel cannot give the number to another group.
    /// Does nothing afterwards.
    pub fn kill_group(&self) {
        let group = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        if let Some(group) = group {
            // ESRCH and EPERM: everybody left is dead, or has become somebody
            // we may not signal; neither can be helped.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Starts a program and returns once execve(2) has succeeded. Blocks for as
/// long as the kernel takes to load it, and until the gate is opened, where
/// there is one; needs a tokio runtime's context.
///
/// # Errors
///
/// See [`SpawnError`]; not being let into the cgroup is no error but reported
/// in [`Spawned::cgroup_error`].
pub fn spawn(launch: &Launch, barrier: Option<Barrier>) -> Result<Spawned, SpawnError> {
    let fork = |error: io::Error| SpawnError::decode(&error);
    let Launch {
        program,
        arguments,
        environment,
        directory,
        credentials,
        output,
        cgroup,
    } = launch;
    let cgroup = match cgroup {
        Some(Cgroup { procs, cpu }) => Some(Join {
            procs: procs.try_clone().map_err(fork)?,
            cpu: (cpu.as_ref())
                .map(|cpu| cpu.try_clone().map_err(fork))
                .transpose()?,
            refused: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|errno| fork(errno.into()))?,
        }),
        None => None,
    };
    let refused = match &cgroup {
        Some(join) => Some(join.refused.try_clone().map_err(fork)?),
        None => None,
    };
    let image = Image {
        program: program.clone(),
        arguments: Pointers::new(arguments.clone()),
        environment: Pointers::new(environment.clone()),
        directory: directory.clone(),
        credentials: credentials.as_ref().map(Ids::new),
        cgroup,
        barrier,
    };
    // The name given here is never executed: the closure does that itself.
    let mut command = tokio::process::Command::new("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::from(output.try_clone().map_err(fork)?))
        .stderr(Stdio::from(output.try_clone().map_err(fork)?));
    // SAFETY: after fork the closure only makes system calls, on memory
    // prepared before; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(move || Err(image.become_program().encode())) };
    let child = command.spawn().map_err(fork)?;
    Ok(Spawned {
        pid: child.id().unwrap_or(0),
        child,
        cgroup_error: refused.and_then(|refused| read_errno(refused.as_fd())),
    })
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
                assert_eq!(SpawnError::decode(&error.encode()), error);
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
