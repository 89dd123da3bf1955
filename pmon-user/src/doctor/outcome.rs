//! How a check is put into words: a result, what was found, and the fix.
//!
//! Must stay true: what is not `ok` has a fix that can be carried out as it
//! stands.

use crate::view::diagnosis::{CheckResult, CheckView};

/// As it should be.
pub(super) fn ok(name: &str, found: impl Into<String>) -> CheckView {
    CheckView {
        name: name.to_owned(),
        result: CheckResult::Ok,
        found: found.into(),
        fix: None,
    }
}

/// pmon works, with less.
pub(super) fn degraded(name: &str, found: impl Into<String>, fix: impl Into<String>) -> CheckView {
    CheckView {
        name: name.to_owned(),
        result: CheckResult::Degraded,
        found: found.into(),
        fix: Some(fix.into()),
    }
}

/// pmon cannot do its job.
pub(super) fn failed(name: &str, found: impl Into<String>, fix: impl Into<String>) -> CheckView {
    CheckView {
        result: CheckResult::Failed,
        ..degraded(name, found, fix)
    }
}

/// `1 entity`, `3 entities`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// What the kernel calls an error number.
pub(super) fn errno(number: i32) -> String {
    std::io::Error::from_raw_os_error(number).to_string()
}

#[cfg(test)]
pub(super) mod expect {
    //! Checks, word for word.

    use super::*;

    #[track_caller]
    pub(in crate::doctor) fn is_ok(check: &CheckView, found: &str) {
        assert_eq!(check.found, found);
        assert_eq!(
            (check.result, check.fix.as_deref()),
            (CheckResult::Ok, None)
        );
    }

    #[track_caller]
    pub(in crate::doctor) fn is_degraded(check: &CheckView, found: &str, fix: &str) {
        assert_eq!(
            (check.found.as_str(), check.fix.as_deref()),
            (found, Some(fix))
        );
        assert_eq!(check.result, CheckResult::Degraded);
    }

    #[track_caller]
    pub(in crate::doctor) fn is_failed(check: &CheckView, found: &str, fix: &str) {
        assert_eq!(
            (check.found.as_str(), check.fix.as_deref()),
            (found, Some(fix))
        );
        assert_eq!(check.result, CheckResult::Failed);
    }
}
