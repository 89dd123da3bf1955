use super::*;
use crate::doctor::{
    outcome::expect::{is_degraded, is_ok},
    scheduling::Scheduling,
};

fn permitted() -> Scheduling {
    Scheduling {
        priority: 10,
        attempt: Ok(()),
        rt_runtime_us: Some(950_000),
        rtprio: Some(0),
    }
}

fn refused() -> Scheduling {
    Scheduling {
        attempt: Err(libc::EPERM),
        ..permitted()
    }
}

#[test]
fn before_the_daemon_runs() {
    is_ok(
        &permitted().check(&root_user(), None),
        "`fifo:10` is permitted",
    );
    let unwanted = Scheduling {
        priority: 0,
        ..permitted()
    };
    is_ok(
        &unwanted.check(&root_user(), None),
        "normal priority, as configured (`receiver_priority = 0`)",
    );
}

#[test]
fn as_the_daemon_runs() {
    is_ok(&refused().check(&root_user(), Some("fifo:10")), "`fifo:10`");
    is_ok(
        &permitted().check(&root_user(), Some("other: `receiver_priority = 0`")),
        "normal priority, as configured (`receiver_priority = 0`)",
    );
    is_degraded(
        &permitted().check(&root_user(), Some("other: SCHED_FIFO is refused: EPERM")),
        "`other: SCHED_FIFO is refused: EPERM`; it would be permitted now",
        "`systemctl restart pmon`, or end `pmon daemon` and start it again",
    );
}

#[test]
fn refused_for_lack_of_privilege() {
    const FOUND: &str = "`fifo:10` is refused: Operation not permitted (os error 1); \
         CAP_SYS_NICE is missing: deaths are seen later under load";
    const FIX: &str = "in `pmon.service`: `LimitRTPRIO=10`; in a container: `--cap-add=SYS_NICE`; \
         or accept it: `receiver_priority = 0` in `[daemon]`";
    is_degraded(&refused().check(&nobody(), None), FOUND, FIX);
    is_degraded(
        &refused().check(&nobody(), Some("other: SCHED_FIFO is refused")),
        FOUND,
        FIX,
    );
}

#[test]
fn refused_for_lack_of_a_budget() {
    const FOUND: &str = "`fifo:10` is refused: Operation not permitted (os error 1); \
         the cgroup has no real-time budget";
    const FIX: &str = "`sysctl -w kernel.sched_rt_runtime_us=-1`; \
         or a budget for the container: `--cpu-rt-runtime=95000`";
    is_degraded(&refused().check(&root_user(), None), FOUND, FIX);
    for rtprio in [Some(10), None] {
        let limit = Scheduling {
            rtprio,
            ..refused()
        };
        is_degraded(&limit.check(&nobody(), None), FOUND, FIX);
    }
}

#[test]
fn no_time_for_real_time() {
    let throttled = Scheduling {
        rt_runtime_us: Some(0),
        ..permitted()
    };
    for running in [None, Some("fifo:10")] {
        is_degraded(
            &throttled.check(&root_user(), running),
            "`kernel.sched_rt_runtime_us = 0`: real-time threads get no time",
            "`sysctl -w kernel.sched_rt_runtime_us=950000`",
        );
    }
}

#[test]
fn facts_come_from_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let read = || Scheduling::read(directory.path(), 0).rt_runtime_us;
    assert_eq!(read(), None);
    write(
        directory.path(),
        "proc/sys/kernel/sched_rt_runtime_us",
        "-1\n",
    );
    assert_eq!(read(), Some(-1));
}
