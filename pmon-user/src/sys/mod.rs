//! The only place for `unsafe` and raw system calls: everything above works
//! with the safe types defined here.

pub mod bpf;
pub mod canary;
pub mod clock;
pub mod epoll;
#[cfg(test)]
pub mod exchange;
pub mod inotify;
pub mod limits;
pub mod map_batch;
pub mod memory;
#[cfg(test)]
pub(crate) mod nursery;
pub mod pidfd;
pub mod pidfd_info;
pub mod readable;
pub mod record;
pub mod sched;
pub mod shared_array;
pub mod spawn;
pub mod user;
pub mod wake;
