use crate::{
    config::settings::SourceChoice,
    core::death::SourceName,
    doctor::{
        canary::{Trial, check, try_sources},
        outcome::{
            degraded,
            expect::{is_degraded, is_failed, is_ok},
            ok,
        },
    },
    source::canary::Verdict,
    view::diagnosis::CheckView,
};

/// What the connector's reasons mean is somebody else's to know.
fn by_reason(reason: &str) -> String {
    format!("remedy of `{reason}`")
}

#[test]
fn every_source_that_runs_here_hears_a_canary() {
    let trials = try_sources(SourceChoice::Auto);
    let names: Vec<SourceName> = trials.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            SourceName::Ebpf,
            SourceName::ProcConnector,
            SourceName::Pidfd
        ]
    );
    for (name, trial) in trials {
        match trial {
            Trial::Tried(verdict) => assert_eq!(verdict, Verdict::Passed, "{name:?}"),
            Trial::Off(why) => {
                println!("SKIP: {}: {why}", name.as_str());
                assert!(!rustix::process::geteuid().is_root(), "{why}");
            }
            Trial::Unwanted(why) => panic!("{why}"),
        }
    }
}

#[test]
fn only_what_is_wanted_is_tried() {
    assert_eq!(
        try_sources(SourceChoice::Pidfd),
        [
            (SourceName::Ebpf, Trial::Unwanted("`source = pidfd`")),
            (
                SourceName::ProcConnector,
                Trial::Unwanted("`source = pidfd`")
            ),
            (SourceName::Pidfd, Trial::Tried(Verdict::Passed)),
        ]
    );
}

#[test]
fn what_is_wanted_alone() {
    for (choice, why, unwanted) in [
        (
            SourceChoice::Ebpf,
            "`source = ebpf`",
            SourceName::ProcConnector,
        ),
        (
            SourceChoice::ProcConnector,
            "`source = proc-connector`",
            SourceName::Ebpf,
        ),
    ] {
        let trials = try_sources(choice);
        assert!(
            trials.contains(&(unwanted, Trial::Unwanted(why))),
            "{trials:?}"
        );
        let others = trials.iter().filter(|(name, _)| *name != unwanted);
        for (_, trial) in others {
            assert!(!matches!(trial, Trial::Unwanted(_)), "{trial:?}");
        }
    }
}

#[test]
fn what_a_trial_showed() {
    let kernel = ok("kernel", "Linux 6.1");
    let btf = degraded("btf", "no BTF", "another kernel");
    let one = |source, trial: Trial, prerequisites: &[CheckView]| {
        check(&vec![(source, trial)], prerequisites, by_reason).remove(0)
    };
    let passed = || Trial::Tried(Verdict::Passed);
    let missed = || Trial::Tried(Verdict::Missed("no word".to_owned()));
    let all_met = std::slice::from_ref(&kernel);
    is_ok(
        &one(SourceName::Ebpf, passed(), all_met),
        "works: a canary came through",
    );
    is_ok(
        &one(
            SourceName::Ebpf,
            Trial::Unwanted("`source = pidfd`"),
            all_met,
        ),
        "would not be used: `source = pidfd`",
    );
    is_degraded(
        &one(
            SourceName::Ebpf,
            Trial::Off("cannot".to_owned()),
            &[kernel.clone(), btf],
        ),
        "off: cannot",
        "see `btf`: another kernel",
    );
    is_degraded(
        &one(SourceName::Ebpf, missed(), all_met),
        "silent: no word",
        "see the kernel's reason: `dmesg | tail`; pmon does without it meanwhile",
    );
    is_degraded(
        &one(
            SourceName::ProcConnector,
            Trial::Off("EPERM".to_owned()),
            all_met,
        ),
        "off: EPERM",
        "remedy of `EPERM`",
    );
    is_failed(
        &one(SourceName::Pidfd, missed(), all_met),
        "silent: no word",
        "see the kernel's reason: `dmesg | tail`; pmon does without it meanwhile",
    );
    is_degraded(
        &one(
            SourceName::Pidfd,
            Trial::Tried(Verdict::Unclear("no canary: EAGAIN".to_owned())),
            all_met,
        ),
        "not proven: no canary: EAGAIN",
        "`pmon doctor` again",
    );
}
