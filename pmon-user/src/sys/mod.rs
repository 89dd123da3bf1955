//! The only place for `unsafe` and raw system calls: everything above works
//! with the safe types defined here.

pub mod clock;
pub mod pidfd;
pub mod readable;
