//! Every verb, its replies and its refusals, and the client without a daemon.

use super::*;

#[tokio::test]
async fn every_verb_reaches_the_backend_and_comes_back_typed() {
    let daemon = Daemon::ordinary();
    let mut client = daemon.client().await;
    let status = client.status(&[]).await.unwrap();
    assert_eq!(status.host, "host-1");
    assert_eq!(status.entities.len(), 3);
    let one = client.status(&["db".to_owned()]).await.unwrap();
    assert_eq!(one.entities[0].state, StateWord::Failed);
    let list = client.list(&[]).await.unwrap();
    assert_eq!(list.entities, status.entities);
    assert_eq!(client.show("web").await.unwrap().spec, samples::spec());
    let explained = client.explain("web").await.unwrap();
    assert_eq!(explained.if_it_died_now.len(), 2);
    assert_eq!(client.history(None).await.unwrap(), [samples::incident()]);
    client.history(Some("web")).await.unwrap();
    assert_eq!(client.doctor().await.unwrap(), samples::doctor());
    assert_eq!(client.bpf(1).await.unwrap(), samples::bpf());
    assert_eq!(client.reload(false).await.unwrap().added, ["mail"]);
    assert!(client.reload(true).await.unwrap().plan);
    assert!(client.bpf_log(true).await.unwrap().on);
    match client.bpf(MAX_COUNTING + 1).await {
        Err(ClientError::Control(ControlError::InvalidParameter { field, .. })) => {
            assert_eq!(field, "seconds");
        }
        other => panic!("{other:?}"),
    }
    let entity = client
        .operate("log", OperatorAction::Start, Some("needed"))
        .await
        .unwrap();
    assert_eq!(entity.state, StateWord::Starting);
    client
        .operate("web", OperatorAction::Stop, None)
        .await
        .unwrap();
    client
        .operate("web", OperatorAction::Restart, None)
        .await
        .unwrap();
    let lasts = Some(Duration::from_millis(1_800_500));
    let hold = OperatorAction::Hold { lasts };
    let held = client.operate("web", hold, Some("upgrade")).await;
    assert_eq!(held.unwrap().state, StateWord::Held);
    let resumed = client.operate("web", OperatorAction::Resume, None).await;
    assert_eq!(resumed.unwrap().state, StateWord::Up);
    for seconds in [0, MAX_HOLD] {
        let lasts = Some(Duration::from_secs(seconds));
        let hold = OperatorAction::Hold { lasts };
        match client.operate("web", hold, None).await {
            Err(ClientError::Control(ControlError::InvalidParameter { field, .. })) => {
                assert_eq!(field, "seconds");
            }
            other => panic!("{other:?}"),
        }
    }
    let parameters = RegisterParameters {
        name: "new".to_owned(),
        pid: Some(7),
        pidfile: None,
        restart: None,
        follow: None,
    };
    client.register(parameters).await.unwrap();
    client.unregister("new").await.unwrap();
    daemon.fake.say("web", "Killed (4700)");
    assert_eq!(
        client
            .recent_events(EventsParameters::recent(5))
            .await
            .unwrap()
            .len(),
        1
    );

    let by = format!(
        "uid {} (pid {})",
        rustix::process::geteuid().as_raw(),
        std::process::id()
    );
    let asked = [
        "reload",
        "plan",
        "bpf log true",
        "Start log needed",
        "Stop web ",
        "Restart web ",
        "Hold { lasts: Some(1801s) } web upgrade",
        "Resume web ",
        "register new",
        "unregister new",
    ];
    let expected: Vec<_> = asked
        .iter()
        .map(|what| ((*what).to_owned(), by.clone()))
        .collect();
    assert_eq!(daemon.fake.asked(), expected);
    daemon.end().await;
}

#[tokio::test]
async fn refusals_arrive_typed() {
    let daemon = Daemon::ordinary();
    let mut client = daemon.client().await;
    match client.show("wob").await {
        Err(ClientError::Control(ControlError::UnknownEntity { name, nearest })) => {
            assert_eq!((name.as_str(), nearest.as_deref()), ("wob", Some("web")));
        }
        other => panic!("{other:?}"),
    }
    let register = |name: &str, pid| RegisterParameters {
        name: name.to_owned(),
        pid,
        pidfile: None,
        restart: None,
        follow: None,
    };
    match client.register(register("web", Some(7))).await {
        Err(ClientError::Control(ControlError::Refused { reason })) => {
            assert_eq!(reason, "`web` exists already");
        }
        other => panic!("{other:?}"),
    }
    match client.register(register("other", None)).await {
        Err(ClientError::Control(ControlError::InvalidParameter { field, .. })) => {
            assert_eq!(field, "pid");
        }
        other => panic!("{other:?}"),
    }
    let followed = RegisterParameters {
        pidfile: Some("/run/other.pid".to_owned()),
        follow: Some(true),
        ..register("other", None)
    };
    match client.register(followed).await {
        Err(ClientError::Control(ControlError::InvalidParameter { field, .. })) => {
            assert_eq!(field, "follow");
        }
        other => panic!("{other:?}"),
    }
    // The connection is as good as before.
    client.status(&[]).await.unwrap();
    daemon.end().await;
}

#[tokio::test]
async fn the_service_describes_itself_to_a_foreign_client() {
    use zlink::varlink_service::Proxy;
    let daemon = Daemon::ordinary();
    let mut connection = zlink::tokio::unix::connect(daemon.path()).await.unwrap();
    let info = connection.get_info().await.unwrap().unwrap();
    assert_eq!(info.product, "pmon");
    let interfaces: Vec<_> = info.interfaces.iter().map(|name| name.as_str()).collect();
    assert_eq!(interfaces, [INTERFACE, "org.varlink.service"]);
    for name in [INTERFACE, "org.varlink.service"] {
        let description = connection
            .get_interface_description(name.try_into().unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(description.parse().unwrap().name().as_str(), name);
    }
    daemon.end().await;
}

#[tokio::test]
async fn without_a_daemon_the_client_says_where_it_looked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pmon.sock");
    let text = |error: ClientError| error.to_string();
    let none = text(TypedClient::connect(&path).await.unwrap_err());
    assert_eq!(
        none,
        format!(
            "no daemon at `{}`: there is no such socket; start one with `pmon daemon`",
            path.display()
        )
    );
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stale = text(TypedClient::connect(&path).await.unwrap_err());
    assert!(stale.contains("nobody listens there"), "{stale}");
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_given_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pmon.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let short = Duration::from_millis(50);
    let mut client = TypedClient::connect_within(&path, short, short)
        .await
        .unwrap();
    assert!(matches!(
        client.status(&[]).await,
        Err(ClientError::TimedOut { what: "answer", .. })
    ));
}
