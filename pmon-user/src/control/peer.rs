//! The kernel's word about who is at the other end of a control connection.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use tokio::net::UnixStream;
use zlink::connection::socket::{FetchPeerCredentials, UnixSocket};

use super::access::Peer;

struct Socket<'a>(&'a UnixStream);

impl AsFd for Socket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl UnixSocket for Socket<'_> {}

/// The credentials the peer had when it connected (`SO_PEERCRED`, `SO_PEERGROUPS`).
/// Of a peer outside of our pid namespace, whose pid the kernel gives as 0, the
/// supplementary groups are not known: it has no rights through them.
///
/// # Errors
///
/// What the kernel said; a peer that is gone already may be such a case.
pub(super) async fn credentials(stream: &UnixStream) -> io::Result<Peer> {
    let peer = stream.peer_cred()?;
    if peer.pid().is_none_or(|pid| pid <= 0) {
        return Ok(Peer {
            uid: peer.uid(),
            gid: peer.gid(),
            groups: Vec::new(),
            pid: None,
        });
    }
    let credentials = Socket(stream).fetch_peer_credentials().await?;
    Ok(Peer {
        uid: credentials.unix_user_id().as_raw(),
        gid: credentials.unix_primary_group_id().as_raw(),
        groups: credentials
            .unix_supplementary_group_ids()
            .iter()
            .map(|gid| gid.as_raw())
            .collect(),
        pid: u32::try_from(credentials.process_id().as_raw_nonzero().get()).ok(),
    })
}
