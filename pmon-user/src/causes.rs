//! An error with its causes, in one line.

use std::{error::Error, iter};

/// `what: why: why that`.
#[must_use]
pub fn in_full(error: &(dyn Error + 'static)) -> String {
    let causes: Vec<String> = iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect();
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_cause_is_told_once_and_in_order() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("no room"));
        assert_eq!(in_full(&error), "cannot start: no room");
    }
}
