//! Real users, as the kernel reports them.

use super::*;

/// Runs `work` on a thread that has these credentials, as the kernel sees them;
/// `None` when this test has no right to change them.
async fn as_user<T: Send + 'static>(
    uid: u32,
    gid: u32,
    groups: &[u32],
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    use rustix::{
        fs::{Gid, Uid},
        thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
    };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can act as other users");
        return None;
    }
    let groups: Vec<_> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    // Credentials belong to the thread; a thread of its own keeps them out of the pool.
    let (send, receive) = oneshot::channel();
    std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&groups).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        send.send(work()).ok();
    });
    Some(receive.await.unwrap())
}

fn blocking_ask(path: &Path, name: &str, parameters: &Value) -> std::io::Result<Value> {
    let mut stream = StdStream::connect(path)?;
    let call = json!({"method": method(name), "parameters": parameters});
    stream.write_all(call.to_string().as_bytes())?;
    stream.write_all(&[0])?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte != [0] {
        answer.push(byte[0]);
    }
    Ok(serde_json::from_slice(&answer)?)
}

/// Lets other users reach the socket, so that the daemon's own rules decide.
fn open_up(daemon: &Daemon) {
    use std::{fs, os::unix::fs::PermissionsExt};
    fs::set_permissions(daemon.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.path(), fs::Permissions::from_mode(0o666)).unwrap();
}

#[tokio::test]
async fn real_users_have_the_rights_of_the_rules() {
    let rules = AccessRules {
        own_uid: 0,
        socket_gid: Some(64_300),
        read_uids: BTreeSet::from([64_001]),
        write_gids: BTreeSet::from([64_500]),
        ..AccessRules::default()
    };
    let daemon = Daemon::start(LIMITS, rules);
    open_up(&daemon);
    for (uid, gid, groups, rights) in [
        (65_534, 65_534, vec![], Rights::None),
        (65_534, 0, vec![], Rights::None),
        (64_001, 65_534, vec![], Rights::Read),
        (65_534, 64_300, vec![], Rights::Read),
        // Supplementary groups count.
        (65_534, 65_534, vec![7, 64_300], Rights::Read),
        (65_534, 65_534, vec![7, 64_500], Rights::Write),
    ] {
        let path = daemon.path();
        let Some((read, write)) = as_user(uid, gid, &groups, move || {
            (
                blocking_ask(&path, "Status", &json!({})).unwrap(),
                blocking_ask(&path, "Stop", &json!({"name": "web"})).unwrap(),
            )
        })
        .await
        else {
            return daemon.end().await;
        };
        for (answer, access) in [(read, Access::Read), (write, Access::Write)] {
            let error = answer.get("error").and_then(Value::as_str);
            if rights.allow(access) {
                assert_eq!(error, None, "uid {uid} gid {gid} {groups:?}");
            } else {
                assert_eq!(error, Some(method("PermissionDenied").as_str()));
                let needed = answer["parameters"]["needed"].as_str().unwrap();
                assert!(needed.contains("root"), "{needed}");
            }
        }
    }
    let stops: Vec<_> = daemon.fake.asked();
    assert_eq!(stops.len(), 1, "only the writer got through");
    assert!(stops[0].1.starts_with("uid 65534 (pid "), "{stops:?}");
    daemon.end().await;
}

#[tokio::test]
async fn the_sockets_mode_keeps_strangers_out_altogether() {
    let daemon = Daemon::ordinary();
    open_up(&daemon);
    {
        use std::{fs, os::unix::fs::PermissionsExt};
        fs::set_permissions(daemon.path(), fs::Permissions::from_mode(0o660)).unwrap();
    }
    let path = daemon.path();
    if let Some(error) = as_user(65_534, 65_534, &[], move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(TypedClient::connect(&path)).unwrap_err()
    })
    .await
    {
        assert!(matches!(error, ClientError::Forbidden { .. }), "{error:?}");
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_flood_of_strangers_and_a_greedy_reader_do_not_keep_root_out() {
    let limits = Limits {
        readers_per_uid: 3,
        refused: 2,
        ..LIMITS
    };
    let rules = AccessRules {
        read_uids: BTreeSet::from([64_001]),
        ..AccessRules::default()
    };
    let daemon = Daemon::start(limits, rules);
    open_up(&daemon);
    let path = daemon.path();
    let Some(_strangers) = as_user(65_534, 65_534, &[], {
        let path = path.clone();
        move || -> Vec<_> {
            (0..50)
                .map(|_| StdStream::connect(&path).unwrap())
                .collect()
        }
    })
    .await
    else {
        return daemon.end().await;
    };
    daemon.still_serves().await;
    let (_kept, refused) = as_user(64_001, 65_534, &[], move || {
        let kept: Vec<_> = (0..3).map(|_| StdStream::connect(&path).unwrap()).collect();
        // Nobody is told anything until the strangers' places are free again,
        // after their second.
        let begun = std::time::Instant::now();
        let refused = loop {
            match blocking_ask(&path, "Status", &json!({})) {
                Ok(refused) => break refused,
                Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        (kept, refused)
    })
    .await
    .unwrap();
    assert_eq!(refused["error"], method("Refused"));
    assert_eq!(
        refused["parameters"]["reason"],
        "too many connections: 3 of uid 64001"
    );
    daemon.still_serves().await;
    daemon.end().await;
}
