//! Waiting for something to come true, with a deadline and an account of what
//! was seen last.
//!
//! Every deadline of the tests is for the machine they are written on, and is
//! multiplied by [`patience`].

use std::{
    env,
    fmt::Debug,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// How often is looked: on a slow machine less often, as looking takes longer, too.
const EVERY: Duration = Duration::from_millis(10);

/// How many times slower than usual this machine is: `PMON_TEST_PATIENCE`, or 1.
///
/// # Panics
///
/// When it is not a number above 0.
#[must_use]
pub fn patience() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| {
        let Ok(given) = env::var("PMON_TEST_PATIENCE") else {
            return 1;
        };
        let number = given.parse().ok().filter(|&number| number > 0);
        number.unwrap_or_else(|| panic!("PMON_TEST_PATIENCE=`{given}` is not a number above 0"))
    })
}

/// Looks until `look` gives something.
///
/// # Panics
///
/// With `what` when nothing was found within `limit`.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = limit * patience();
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain: {what}"
        );
        thread::sleep(EVERY * patience());
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
    let limit = limit * patience();
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
        thread::sleep(EVERY * patience());
    }
}
