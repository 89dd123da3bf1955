//! Durations and ages, two units at most.

use jiff::Timestamp;

/// A duration given in microseconds: `87 µs`, `41 ms`, `1.20 s`, `3m12s`, `2d04h`.
#[must_use]
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
        _ => seconds(us / 1_000_000),
    }
}

/// A duration given in milliseconds.
#[must_use]
pub fn millis(ms: u64) -> String {
    match ms {
        0 => "0 s".to_owned(),
        // Settings are whole seconds, mostly.
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        _ => micros(ms.saturating_mul(1_000)),
    }
}

/// A duration given in whole seconds: `12s`, `3m12s`, `3h12m`, `2d04h`.
#[must_use]
pub fn seconds(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A duration given in microseconds, for sentences: `87 µs`, `1.20 s`, `3 min 12 s`,
/// `3 h 12 min`, `2 d 4 h`.
#[must_use]
pub fn in_words(us: u64) -> String {
    let s = us / 1_000_000;
    match s {
        0..60 => micros(us),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A duration given in seconds with a fraction, as the views have some.
#[must_use]
pub fn fractional(s: f64) -> String {
    whole_micros(s).map_or_else(|| "?".to_owned(), micros)
}

/// Seconds with a fraction as microseconds; `None` for what is no duration.
#[must_use]
pub fn whole_micros(s: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a cast from float saturates"
    )]
    (s.is_finite() && s >= 0.0).then_some((s * 1e6) as u64)
}

/// Time from `then` to `now`; zero where clocks disagree.
#[must_use]
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let passed = now.duration_since(then).as_secs();
    seconds(u64::try_from(passed).unwrap_or(0))
}

/// Time from `now` to `then`; `None` once it has come.
#[must_use]
pub fn until(then: Timestamp, now: Timestamp) -> Option<String> {
    let left = then.duration_since(now).as_micros();
    u64::try_from(left)
        .ok()
        .filter(|left| *left > 0)
        .map(micros)
}

/// A point in time to the millisecond, in UTC.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (us, text) in [
            (0, "0 µs"),
            (87, "87 µs"),
            (1_200, "1.20 ms"),
            (41_999, "41 ms"),
            (1_234_567, "1.23 s"),
            (59_999_999, "59.99 s"),
            (192_000_000, "3m12s"),
            (11_520_000_000, "3h12m"),
            (187_200_000_000, "2d04h"),
        ] {
            assert_eq!(micros(us), text);
        }
        for (us, text) in [
            (87, "87 µs"),
            (59_999_999, "59.99 s"),
            (192_000_000, "3 min 12 s"),
            (11_520_000_000, "3 h 12 min"),
            (187_200_000_000, "2 d 4 h"),
        ] {
            assert_eq!(in_words(us), text);
        }
        assert_eq!(millis(5_000), "5 s");
        assert_eq!(millis(1_500), "1.50 s");
        assert_eq!(millis(250), "250 ms");
        assert_eq!(millis(90_000), "1m30s");
        assert_eq!(fractional(7_020.0), "1h57m");
        assert_eq!(fractional(1.25), "1.25 s");
        assert_eq!(fractional(f64::NAN), "?");
        assert_eq!(fractional(-1.0), "?");
    }
}
