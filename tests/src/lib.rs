//! What the black-box tests need: a daemon with its own directories, the events
//! it tells, processes to monitor, and ways to look at them that do not go
//! through pmon.
//!
//! Nothing here knows pmon's insides: only its command line, its JSON, its
//! files and the kernel. Everything fails loudly: an error while arranging a
//! test is a failed test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what cannot be arranged fails the test that wanted it"
)]

pub mod active;
pub mod binary;
pub mod container;
pub mod daemon;
pub mod events;
pub mod kernel;
pub mod killing;
pub mod netlink;
pub mod nursery;
pub mod order;
pub mod pins;
pub mod place;
pub mod privilege;
pub mod process;
pub mod script;
pub mod starlingx;
pub mod systemd;
pub mod wait;
