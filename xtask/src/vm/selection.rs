//! Which tests run on every kernel, and why these: they are the ones whose
//! outcome depends on what the kernel does, not on what pmon decides.
//!
//! All tests run on the host's kernel. Here a start of the daemon takes seconds,
//! so what a test without it proves isn't proved again with it. Must stay true: none of these says SKIP
//! on any of the kernels; what a kernel can't do, the test asserts.

/// A test program of the package `pmon-tests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The daemon, seen from outside.
    Behaviour,
    /// The kernel's sources, without the daemon.
    KernelSide,
}

impl Program {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::KernelSide, Self::Behaviour];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Behaviour => "behaviour",
            Self::KernelSide => "kernel_side",
        }
    }
}

/// Tests of one promise that a kernel may break.
pub(super) struct Promise {
    /// Stands in the table of `docs/kernel-support.md`.
    pub(super) what: &'static str,
    /// Where the tests are.
    pub(super) program: Program,
    /// Their full names. No two programs have the same.
    pub(super) tests: &'static [&'static str],
}

/// All of them, in the table's order.
pub(super) const PROMISES: &[Promise] = &[
    // These tell the facts of the table.
    Promise {
        what: "The kernel is taken for what it is",
        program: Program::Behaviour,
        tests: &[
            "every_kernel_does_what_it_can::to_tell_the_death_of_a_group",
            "every_kernel_does_what_it_can::to_attach_every_program",
            "every_kernel_does_what_it_can::to_identify_a_process",
            "every_kernel_does_what_it_can::to_please_the_doctor",
        ],
    },
    // The verifier, the tracepoint, the ring and the offsets, all at once.
    Promise {
        what: "A killed process is detected by the kernel program and recovered",
        program: Program::Behaviour,
        tests: &["a_killed_process_is_recovered::and_its_death_certificate_tells_how_it_died"],
    },
    // Decided by the tracepoint's argument or by `signal_struct.live`, and the
    // wait status read from `signal_struct` or `task_struct`.
    Promise {
        what: "Only the last thread's exit is a death, told with its status",
        program: Program::KernelSide,
        tests: &[
            "exit::a_death_has_a_time_a_status_and_a_name",
            "exit::a_leader_that_ends_first_is_no_death",
            "exit::threads_that_are_killed_together_die_once",
            "exit::a_stranger_with_the_pid_is_counted_and_left_out",
        ],
    },
    Promise {
        what: "Nor is exec by any thread, which the daemon agrees to",
        program: Program::Behaviour,
        tests: &["a_leaders_exit_is_not_a_death::and_neither_is_an_exec_by_another_thread"],
    },
    Promise {
        what: "CPU time and memory of the dead are told",
        program: Program::KernelSide,
        tests: &[
            "exit::usage_is_what_the_process_used",
            "exit::threads_that_ended_before_count",
            "exit::the_peak_of_memory_is_told",
        ],
    },
    // Arguments of `signal_generate`, and who `current` is in it.
    Promise {
        what: "Who sent the fatal signal is told, and nobody is blamed wrongly",
        program: Program::KernelSide,
        tests: &[
            "signal::a_killer_is_named",
            "signal::a_fault_is_nobodys_doing",
            "signal::suicide_is_the_processs_own_doing",
            "signal::the_last_signal_counts_and_sigkill_stays",
            "signal::a_signal_that_is_ignored_is_not_told",
            "signal::the_kernels_own_kill_is_not_blamed_on_who_runs",
        ],
    },
    // `mark_victim` had a pid before 6.10 and has the task since.
    Promise {
        what: "The OOM killer's victim is known as one",
        program: Program::KernelSide,
        tests: &["oom::an_oom_victim_is_known_as_one"],
    },
    // `sched_process_fork` and `sched_process_exec`. A thousand forks take an
    // emulated CPU minutes and tell nothing of the kernel that one does not.
    Promise {
        what: "Children are followed through fork and exec",
        program: Program::KernelSide,
        tests: &[
            "follow::a_fork_and_an_exec_are_told",
            "follow::without_the_flag_nobody_is_followed",
            "follow::threads_are_no_children",
            "follow::a_death_that_nobody_collected_is_not_overwritten",
        ],
    },
    // Before 6.5 the verifier lets nobody behind the first of `pid.numbers`.
    Promise {
        what: "In a pid namespace keys are the pids seen there",
        program: Program::KernelSide,
        tests: &[
            "namespaces::a_death_is_told_inside",
            "namespaces::a_sender_outside_has_a_name_but_no_pid_inside",
            "namespaces::a_process_outside_is_nobody_inside",
        ],
    },
    // What bpf(2) demands of the caller differs, and what is charged to whom.
    Promise {
        what: "`CAP_BPF` and `CAP_PERFMON` are enough (before 5.11 with locked memory)",
        program: Program::KernelSide,
        tests: &["privileges::cap_bpf_and_cap_perfmon_are_enough"],
    },
    Promise {
        what: "Without BTF every thread's exit is a hint",
        program: Program::KernelSide,
        tests: &[
            "without_types::every_threads_exit_is_a_hint",
            "without_types::the_table_makes_one_death_of_the_hints",
            "without_types::a_thread_that_ends_does_not_end_its_process",
        ],
    },
    // Batched reading (5.6) is another path in every kernel.
    Promise {
        what: "The table and the programs' log can be read",
        program: Program::KernelSide,
        tests: &[
            "loaded::all_entries_are_read_at_once",
            "loaded::what_an_earlier_owner_of_an_entry_left_is_not_the_next_ones",
            "log::it_tells_what_the_programs_do_when_it_is_on",
            "log::it_leaves_no_trace_when_it_is_off",
        ],
    },
    // Nobody listened before on these kernels, and no listener died on them.
    Promise {
        what: "The proc connector is heard, and its silence elsewhere is understood",
        program: Program::KernelSide,
        tests: &[
            "connector::exits_are_heard_and_where_it_can_nothing_else",
            "connector::nobody_answers_in_another_pid_namespace",
        ],
    },
    Promise {
        what: "With the proc connector alone deaths are detected and recovered",
        program: Program::Behaviour,
        tests: &[
            "the_proc_connector_alone_detects_and_recovers::a_killed_service",
            "the_proc_connector_alone_detects_and_recovers::without_the_hosts_pids_it_is_told",
            "the_proc_connector_alone_detects_and_recovers::without_the_hosts_network_the_pidfds_do",
        ],
    },
    // PIDFD_GET_INFO tells it since 6.15.
    Promise {
        what: "Without privilege a status is told as soon as it can be, and never wrongly",
        program: Program::Behaviour,
        tests: &[
            "a_status_needs_no_privilege::when_the_parent_reaps_at_once",
            "a_status_needs_no_privilege::when_the_parent_never_reaps",
        ],
    },
    Promise {
        what: "A death's certificate names the killer",
        program: Program::Behaviour,
        tests: &["a_death_has_a_certificate::that_names_who_killed_it"],
    },
    // When a kernel releases pids, and what its pidfds still say then.
    Promise {
        what: "Whoever gets a dead process's pid is left alone",
        program: Program::Behaviour,
        tests: &["a_reused_pid_is_a_stranger::that_is_not_mistaken_after_a_restart_of_pmon"],
    },
    // Pins, links and what becomes of them with their daemon.
    Promise {
        what: "A killed daemon's successor takes over",
        program: Program::Behaviour,
        tests: &[
            "a_daemons_restart_forgets_nothing::of_an_ad_hoc_registration",
            "the_kernel_side_can_be_inspected::and_nothing_is_left_of_it",
        ],
    },
    Promise {
        what: "Without BTF, locked memory or root pmon does with what is left",
        program: Program::Behaviour,
        tests: &[
            "a_missing_privilege_degrades::without_btf",
            "a_missing_privilege_degrades::without_locked_memory",
            "a_missing_privilege_degrades::without_root",
        ],
    },
    // It reads what the kernel tells of its own objects.
    Promise {
        what: "`bpftool` reads like a report",
        program: Program::Behaviour,
        tests: &["the_kernel_side_can_be_inspected::by_bpftool_with_field_names"],
    },
];

/// What `pmon_signal_raw` tells: it reads with `bpf_probe_read_kernel`, which a
/// kernel under `lockdown=confidentiality` refuses. That pmon then says so, and is
/// whole otherwise, is what `to_attach_every_program` asserts there.
const NOT_LOCKED_DOWN: [&str; 12] = [
    "signal::a_killer_is_named",
    "signal::suicide_is_the_processs_own_doing",
    "signal::the_kernels_own_kill_is_not_blamed_on_who_runs",
    "signal::a_fault_is_nobodys_doing",
    "signal::a_signal_that_is_ignored_is_not_told",
    "signal::the_last_signal_counts_and_sigkill_stays",
    "oom::an_oom_victim_is_known_as_one",
    "namespaces::a_death_is_told_inside",
    "namespaces::a_sender_outside_has_a_name_but_no_pid_inside",
    "privileges::cap_bpf_and_cap_perfmon_are_enough",
    "log::it_tells_what_the_programs_do_when_it_is_on",
    "a_death_has_a_certificate::that_names_who_killed_it",
];

/// How much a kernel lets pmon do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// All there is.
    #[default]
    All,
    /// All but reading kernel memory at will.
    LockedDown,
}

impl Scope {
    /// Every scope.
    pub(super) const ALL: [Self; 2] = [Self::All, Self::LockedDown];

    /// The kernel's parameter that makes it so, if it takes one.
    pub(super) const fn parameter(self) -> &'static str {
        match self {
            Self::All => "",
            Self::LockedDown => "lockdown=confidentiality",
        }
    }

    /// Of the directory below `/selection` in a machine.
    pub(super) const fn directory(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::LockedDown => "locked_down",
        }
    }

    /// Those of `tests` that run.
    pub(super) fn of(self, tests: &[&'static str]) -> Vec<&'static str> {
        let runs = |test: &&'static str| match self {
            Self::All => true,
            Self::LockedDown => !NOT_LOCKED_DOWN.contains(test),
        };
        tests.iter().copied().filter(runs).collect()
    }

    /// The names of all tests that run.
    pub(super) fn tests(self) -> Vec<&'static str> {
        Program::ALL
            .into_iter()
            .flat_map(|program| self.tests_of(program))
            .collect()
    }

    /// The names of a program's tests.
    pub(super) fn tests_of(self, program: Program) -> Vec<&'static str> {
        PROMISES
            .iter()
            .filter(|promise| promise.program == program)
            .flat_map(|promise| self.of(promise.tests))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_test_is_selected_twice() {
        let mut tests = Scope::All.tests();
        let all = tests.len();
        tests.sort_unstable();
        tests.dedup();
        assert_eq!(tests.len(), all);
    }

    #[test]
    fn what_is_left_out_is_there_otherwise() {
        let (all, some) = (Scope::All.tests(), Scope::LockedDown.tests());
        assert_eq!(all.len() - some.len(), NOT_LOCKED_DOWN.len());
    }
}
