//! What is counted of an entity: starts by who caused them, and recent deaths.

use std::{collections::VecDeque, time::Duration};

use crate::core::time::Time;

/// Starts by who caused them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Recovery attempts.
    pub auto: u64,
    /// An operator, through pmon.
    pub operator: u64,
    /// Somebody else.
    pub external: u64,
    /// Its group, because another member had failed.
    pub dependency: u64,
}

/// Times of recent deaths. Bounded: beyond its capacity the count saturates.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths(VecDeque<Time>);

impl Deaths {
    /// More deaths a day than anybody needs to see exactly.
    const CAPACITY: usize = 10_000;

    pub(super) fn push(&mut self, at: Time) {
        if self.0.len() == Self::CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(at);
    }

    pub(super) fn within(&self, window: Duration, now: Time) -> u32 {
        let young = |at: &&Time| now.since(**at) < window;
        u32::try_from(self.0.iter().rev().take_while(young).count()).unwrap_or(u32::MAX)
    }
}
