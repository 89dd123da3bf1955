//! Which black-box tests run on every kernel, and why these: they are the ones
//! whose outcome depends on what the kernel does, not on what pmon decides.
//!
//! The whole of the black-box tests runs on the host's kernel.

/// Tests of one promise that a kernel may break.
pub(super) struct Promise {
    /// Stands in the table of `docs/kernel-support.md`.
    pub(super) what: &'static str,
    /// Full names in the program `behaviour`.
    pub(super) tests: &'static [&'static str],
}

/// All of them, in the table's order.
pub(super) const PROMISES: &[Promise] = &[
    // The facts of the table.
    Promise {
        what: "pmon takes the kernel for what it is",
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
        tests: &["a_killed_process_is_recovered::and_its_death_certificate_tells_how_it_died"],
    },
    // Decided by the tracepoint's argument or by `signal_struct.live`, and the
    // wait status read from `signal_struct` or `task_struct`.
    Promise {
        what: "Only the last thread's exit is a death, told with its exit code or signal",
        tests: &[
            "a_leaders_exit_is_not_a_death::and_a_later_kill_is",
            "a_leaders_exit_is_not_a_death::and_the_last_threads_exit_is",
            "a_leaders_exit_is_not_a_death::and_neither_is_an_exec_by_the_leader",
            "a_leaders_exit_is_not_a_death::and_neither_is_an_exec_by_another_thread",
            "a_leaders_exit_is_not_a_death::and_a_process_registered_without_its_leader_is_alive",
        ],
    },
    // When a kernel releases pids, and what its pidfds still say then.
    Promise {
        what: "Whoever gets a dead process's pid is left alone",
        tests: &[
            "a_reused_pid_is_a_stranger::that_is_not_mistaken_after_a_restart_of_pmon",
            "a_reused_pid_is_a_stranger::that_is_left_alone_while_the_service_is_recovered",
        ],
    },
    Promise {
        what: "Lives of a few milliseconds are reported once",
        tests: &["a_short_life_is_reported_once::of_a_process_registered_by_pid"],
    },
    // Pins, links and what becomes of them with their daemon.
    Promise {
        what: "A killed daemon's successor takes over",
        tests: &[
            "a_daemons_restart_forgets_nothing::of_a_process_that_lived_on",
            "a_daemons_restart_forgets_nothing::of_a_process_that_died_meanwhile",
            "the_kernel_side_can_be_inspected::and_nothing_is_left_of_it",
        ],
    },
    // What bpf(2) demands of the caller differs, and so does what is charged
    // to a limit.
    Promise {
        what: "Without BTF, bpffs, capabilities or root pmon does with what is left",
        tests: &[
            "a_missing_privilege_degrades::without_btf",
            "a_missing_privilege_degrades::without_bpffs",
            "a_missing_privilege_degrades::without_cap_bpf",
            "a_missing_privilege_degrades::without_any_other_capability",
            "a_missing_privilege_degrades::without_locked_memory",
            "a_missing_privilege_degrades::without_root",
            "a_missing_privilege_degrades::when_told_to_use_pidfds_alone",
        ],
    },
    // Both read what the kernel tells of its own objects.
    Promise {
        what: "`bpftool` and `pmon bpf show` read like a report",
        tests: &[
            "the_kernel_side_can_be_inspected::by_bpftool_with_field_names",
            "the_kernel_side_can_be_inspected::by_pmon_itself",
        ],
    },
];

/// The names of all tests.
pub(super) fn tests() -> Vec<&'static str> {
    PROMISES
        .iter()
        .flat_map(|promise| promise.tests)
        .copied()
        .collect()
}
