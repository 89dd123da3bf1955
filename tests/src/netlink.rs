//! Another process's socket of the proc connector, and how to disturb it. It falls
//! silent when the kernel is asked, through that very socket, to send nothing
//! more; what it hears is cut off by a filter.

use std::{fs, os::fd::OwnedFd};

use rustix::{
    net::{SendFlags, send},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use socket2::{SockFilter, SockRef};

/// `NETLINK_CONNECTOR` of `include/uapi/linux/netlink.h`.
const CONNECTOR: &str = "11";

/// The socket through which this process hears of process events.
///
/// # Panics
///
/// When it has none, or it cannot be had (PTRACE_MODE_ATTACH, pidfd_getfd(2)).
#[must_use]
pub fn connector_of(pid: u32) -> OwnedFd {
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/netlink")).unwrap();
    let inodes: Vec<&str> = sockets
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            // sk, protocol, port, groups, ..., inode.
            (columns.get(1) == Some(&CONNECTOR)).then(|| columns.last().copied())?
        })
        .collect();
    let number = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let target = target.to_str()?;
            let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
            inodes.contains(&inode).then(|| entry.file_name())
        })
        .and_then(|name| name.to_str()?.parse().ok())
        .unwrap_or_else(|| panic!("{pid} listens to no process events:\n{sockets}"));
    let raw = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).unwrap();
    pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).unwrap()
}

/// Cuts off what the kernel sends to this socket from now on: a filter's result
/// is how much of the message is kept (packet(7)).
///
/// # Panics
///
/// When no filter can be attached.
pub fn truncate(socket: &OwnedFd, kept: u32) {
    /// `BPF_RET | BPF_K` of `linux/bpf_common.h`.
    const RETURN: u16 = 0x06;
    let filter = [SockFilter::new(RETURN, 0, 0, kept)];
    SockRef::from(socket).attach_filter(&filter).unwrap();
}

/// No more of that.
///
/// # Panics
///
/// When there is no filter.
pub fn leave_whole(socket: &OwnedFd) {
    SockRef::from(socket).detach_filter().unwrap();
}

/// Has the kernel send no more process events to this socket.
///
/// # Panics
///
/// When the request cannot be sent.
pub fn ignore(socket: &OwnedFd) {
    /// `NLMSG_DONE` and the length of `struct nlmsghdr` (`linux/netlink.h`).
    const DONE: u16 = 3;
    const HEADER: u32 = 16;
    /// `CN_IDX_PROC`, `CN_VAL_PROC` and the length of `struct cn_msg`
    /// (`linux/connector.h`).
    const PROC: u32 = 1;
    const MESSAGE: u32 = 20;
    /// `PROC_CN_MCAST_IGNORE` of `linux/cn_proc.h`.
    const IGNORE: u32 = 2;
    let mut bytes = Vec::new();
    bytes.extend((HEADER + MESSAGE + 4).to_ne_bytes());
    bytes.extend(DONE.to_ne_bytes());
    // No flags, sequence 0, port of the sender left to the kernel.
    bytes.extend([0; 2 + 4 + 4]);
    bytes.extend(PROC.to_ne_bytes());
    bytes.extend(PROC.to_ne_bytes());
    bytes.extend([0; 4 + 4]);
    bytes.extend(4_u16.to_ne_bytes());
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(IGNORE.to_ne_bytes());
    let sent = send(socket, &bytes, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}
