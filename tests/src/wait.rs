//! Waiting for something to come true, with a deadline and an account of what
//! was seen last.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// How often is looked.
const EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` gives something.
///
/// # Panics
///
/// With `what` when nothing was found within `limit`.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain: {what}"
        );
        thread::sleep(EVERY);
    }
}

/// Looks until `wanted` is true of what `look` sees.
///
/// # Panics
///
/// With what was seen last when it did not come true within `limit`.
pub fn until_seen<T: Debug>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> T,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain: {what}; last seen: {seen:#?}"
        );
        thread::sleep(EVERY);
    }
}
