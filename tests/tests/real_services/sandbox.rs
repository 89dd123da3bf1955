//! Namespaces of a test's own, so that real daemons touch nothing of the host.
//!
//! A test enters them by running itself once more under unshare(1): a mount
//! namespace, where `/run`, `/var/log` and cron's tables are empty tmpfs, and a
//! network namespace, where every port is free. The pid namespace stays the
//! host's, because the kernel side of pmon reports pids as the host sees them.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Set, to the name of the test, inside the namespaces.
const INSIDE: &str = "PMON_REAL_SERVICES_INSIDE";
/// Where the host keeps what the namespaces hide behind an empty tmpfs.
const HIDDEN: [&str; 4] = ["/run", "/var/log", "/etc/cron.d", "/var/spool/cron"];
/// bpffs for the daemon's pins.
pub(crate) const BPFFS: &str = "/run/bpf";

/// Runs `body` inside; `missing` tells what the host lacks for it. `test` is
/// the name under which the test harness knows the caller.
pub(crate) fn run(test: &str, missing: Option<String>, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        furnish();
        return body();
    }
    if let Some(missing) = missing.or_else(missing_tools) {
        println!("SKIP: {test}: {missing}");
        return;
    }
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "--"])
        .arg(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        // Built out here, if need be.
        .env("PMON_BIN", pmon_tests::binary::pmon())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    // Marked, so that nobody counts the inner summary as another test.
    for line in stdout.lines() {
        println!("inside: {line}");
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        eprintln!("inside: {line}");
    }
    assert!(output.status.success(), "{test} failed inside: see above");
    assert!(
        stdout.contains("test result: ok. 1 passed"),
        "{test} did not run"
    );
}

fn missing_tools() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root, for namespaces and init scripts".to_owned());
    }
    ["unshare", "mount", "ip"]
        .into_iter()
        .find(|tool| command(tool, ["--help"]).output().is_err())
        .map(|tool| format!("needs the program `{tool}`"))
}

/// Makes the namespaces habitable.
fn furnish() {
    for directory in HIDDEN.iter().filter(|path| Path::new(path).is_dir()) {
        mount(["-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory]);
    }
    if Path::new("/etc/crontab").exists() {
        mount(["--bind", "/dev/null", "/etc/crontab"]);
    }
    for directory in ["/run/lock", BPFFS, "/var/log/nginx"] {
        fs::create_dir_all(directory).unwrap();
    }
    mount(["-t", "bpf", "bpf", BPFFS]);
    succeed(&mut command("ip", ["link", "set", "lo", "up"]));
}

fn mount<const N: usize>(arguments: [&str; N]) {
    succeed(&mut command("mount", arguments));
}

fn command(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
