//! The two capabilities that are enough.

use std::{env, process::Command};

use pmon_tests::{
    kernel::{self, Version},
    privilege, skip_if,
};

#[test]
fn cap_bpf_and_cap_perfmon_are_enough() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_root());
    skip_if!(privilege::no_program("setpriv"));
    let tests = [
        "exit::a_death_has",
        "loaded::every_program",
        "signal::suicide",
        "without_types::every_threads",
    ];
    let only = "-all,+bpf,+perfmon";
    // Until then maps are charged to RLIMIT_MEMLOCK, which they do not raise.
    let memory = if kernel::version() < Version(5, 11) {
        "ulimit -l unlimited &&"
    } else {
        ""
    };
    let output = Command::new("sh")
        .args(["-c", &format!("{memory} exec setpriv \"$@\""), "sh"])
        .args(["--bounding-set", only, "--inh-caps", only, "--"])
        .arg(env::current_exe().unwrap())
        .args(tests)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let all_passed = told.contains(&format!("test result: ok. {} passed", tests.len()));
    assert!(
        all_passed && !told.contains("SKIP"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
