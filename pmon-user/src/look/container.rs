//! Which container a process belongs to, by the names that container runtimes
//! give to cgroups.

/// Length of a container id: a SHA-256 in hexadecimal digits.
const ID_LENGTH: usize = 64;

/// The container's id in the path of a cgroup, the innermost one when they are
/// nested: `/docker/ID`, `/system.slice/docker-ID.scope`,
/// `/machine.slice/libpod-ID.scope/container`,
/// `/kubepods.slice/…/cri-containerd-ID.scope`, `/kubepods/…/ID`.
#[must_use]
pub fn id_of(cgroup: &str) -> Option<&str> {
    cgroup.rsplit('/').find_map(|component| {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
        // podman's monitor of a container is not in it.
        (is_id(id) && !runtime.ends_with("conmon")).then_some(id)
    })
}

fn is_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == ID_LENGTH && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4b0d7c2b6f0e5a8f9c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f70819";

    #[test]
    fn the_names_of_the_usual_runtimes() {
        let kubernetes = "/kubepods.slice/kubepods-burstable.slice/\
                          kubepods-burstable-pod6c8e_1.slice/cri-containerd-";
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("{kubernetes}{ID}.scope"),
            format!("/kubepods/besteffort/pod0b9c/{ID}"),
            format!("/kubepods/pod1/crio-{ID}"),
        ] {
            assert_eq!(id_of(&path), Some(ID), "{path}");
        }
    }

    #[test]
    fn the_innermost_container_counts() {
        let outer = ID.replace('4', "5");
        let nested = format!("/docker/{outer}/docker/{ID}/init");
        assert_eq!(id_of(&nested), Some(ID));
    }

    #[test]
    fn what_is_no_container() {
        for path in [
            "/".to_owned(),
            "/system.slice/ssh.service".to_owned(),
            "/user.slice/user-1000.slice/session-3.scope".to_owned(),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/docker/{}", &ID[..63]),
            format!("/docker/{}", ID.to_uppercase()),
        ] {
            assert_eq!(id_of(&path), None, "{path}");
        }
    }
}
