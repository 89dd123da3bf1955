//! Whether the host is fully initialised, which active monitoring with
//! `full_init_required` waits for: pmond's goenabled flag (spec/pmond.md §4.3).

use std::path::{Path, PathBuf};

/// Written by StarlingX when the host's tests have passed.
const GOENABLED: &str = "/var/run/goenabled";
/// The same for the worker part of a host that is controller and worker.
const GOENABLED_SUBFUNCTION: &str = "/var/run/goenabled_subf";
/// Says what the host is.
const PLATFORM: &str = "/etc/platform/platform.conf";

/// Whether the flag exists; `flag` in place of the platform's own.
pub(super) async fn is_it(flag: Option<&Path>) -> bool {
    let flag = match flag {
        Some(flag) => flag.to_path_buf(),
        // Both live on file systems that no network can hang.
        None => flag_of(
            &tokio::fs::read_to_string(PLATFORM)
                .await
                .unwrap_or_default(),
        ),
    };
    tokio::fs::try_exists(flag).await.unwrap_or(false)
}

/// The flag of a host with this `platform.conf`.
fn flag_of(platform: &str) -> PathBuf {
    let functions = platform
        .lines()
        .find_map(|line| line.strip_prefix("subfunction="))
        .unwrap_or_default();
    let is = |function| functions.contains(function);
    let flag = if is("controller") && is("worker") {
        GOENABLED_SUBFUNCTION
    } else {
        GOENABLED
    };
    PathBuf::from(flag)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_combined_host_waits_for_its_worker_part() {
        for (platform, flag) in [
            ("", GOENABLED),
            ("nodetype=worker\nsubfunction=worker\n", GOENABLED),
            ("subfunction=controller\n", GOENABLED),
            (
                "a=b\nsubfunction=controller,worker\n",
                GOENABLED_SUBFUNCTION,
            ),
        ] {
            assert_eq!(flag_of(platform), Path::new(flag), "{platform}");
        }
    }

    #[tokio::test]
    async fn the_flag_is_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let flag = directory.path().join("goenabled");
        assert!(!is_it(Some(&flag)).await);
        std::fs::write(&flag, "").unwrap();
        assert!(is_it(Some(&flag)).await);
    }
}
