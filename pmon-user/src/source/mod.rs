//! Kernel sources: from a death in the kernel to a hint in the daemon.
//!
//! A source only says "look"; whether a process is dead is decided on its
//! pidfd, by the pid table.

pub mod btf;
pub mod canary;
pub mod connector;
pub mod ebpf;
pub mod facts;
mod filter;
pub mod namespace;
pub mod pinning;
pub mod pins;
pub mod programs;
pub mod selection;
mod takeover;
