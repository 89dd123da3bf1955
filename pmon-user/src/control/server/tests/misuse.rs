//! Every way to misbehave: it costs only the one who does.

use super::*;

#[tokio::test]
async fn nonsense_gets_an_error_reply_and_ends_only_its_own_connection() {
    let daemon = Daemon::ordinary();
    for nonsense in [
        &b"\0"[..],
        b"hello\0",
        b"[]\0",
        b"{}\0",
        b"\"\xff\xfe\"\0",
        b"{\"method\":\"io.pmon.Monitor.Status\"\0",
        b"{\"method\":\"io.pmon.Monitor.Status\",\"upgrade\":true}\0",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n\0",
    ] {
        let mut stream = daemon.raw().await;
        stream.write_all(nonsense).await.unwrap();
        let answer = reply(&mut stream).await.unwrap();
        assert_eq!(answer["error"], method("InvalidRequest"), "{answer}");
        assert!(answer["parameters"]["reason"].is_string());
        assert_eq!(reply(&mut stream).await, None);
        daemon.still_serves().await;
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_request_of_a_megabyte_is_refused_readably() {
    let daemon = Daemon::ordinary();
    let mut stream = daemon.raw().await;
    let mut message = json!({
        "method": method("Status"),
        "parameters": {"names": ["x".repeat(1 << 20)]},
    })
    .to_string()
    .into_bytes();
    message.push(0);
    stream.write_all(&message).await.unwrap();
    let answer = reply(&mut stream).await.unwrap();
    assert_eq!(answer["error"], method("InvalidRequest"));
    assert_eq!(answer["parameters"]["reason"], "longer than 65536 bytes");
    assert_eq!(reply(&mut stream).await, None);
    daemon.still_serves().await;
    daemon.end().await;
}

#[tokio::test]
async fn unknown_methods_have_the_standard_errors_and_the_connection_goes_on() {
    let daemon = Daemon::ordinary();
    let mut stream = daemon.raw().await;
    for (call, error) in [
        (
            json!({"method": method("Exec")}),
            "org.varlink.service.MethodNotFound",
        ),
        (
            json!({"method": "io.pmon.Other.Status"}),
            "org.varlink.service.InterfaceNotFound",
        ),
        (
            json!({"method": "org.varlink.service.GetInterfaceDescription",
                   "parameters": {"interface": "io.pmon.Other"}}),
            "org.varlink.service.InterfaceNotFound",
        ),
        // Without `more` there is no stream.
        (
            json!({"method": method("Events")}),
            "org.varlink.service.ExpectedMore",
        ),
        (
            json!({"method": method("Show"), "parameters": {"nmae": "web"}}),
            "io.pmon.Monitor.InvalidParameter",
        ),
        (
            json!({"method": method("Events"), "more": true, "parameters": {"recent": -1}}),
            "io.pmon.Monitor.InvalidParameter",
        ),
        (
            json!({"method": method("Stop"), "parameters": {"name": "web", "reason": "x".repeat(2000)}}),
            "io.pmon.Monitor.InvalidParameter",
        ),
    ] {
        let answer = ask(&mut stream, &call).await.unwrap();
        assert_eq!(answer["error"], error, "{call}");
    }
    let answer = ask(
        &mut stream,
        &json!({"method": method("Status"), "parameters": null}),
    )
    .await;
    assert_eq!(answer.unwrap()["parameters"]["version"], 1);
    assert_eq!(daemon.fake.asked(), []);
    daemon.end().await;
}

#[tokio::test]
async fn calls_can_be_pipelined_and_oneway_ones_are_not_answered() {
    let daemon = Daemon::ordinary();
    let mut stream = daemon.raw().await;
    let calls = [
        json!({"method": method("Stop"), "parameters": {"name": "web"}, "oneway": true}),
        json!({"method": method("Exec"), "oneway": false}),
        json!({"method": method("List"), "parameters": {"names": ["web"]}}),
    ];
    let message: Vec<u8> = calls
        .iter()
        .flat_map(|call| [call.to_string().into_bytes(), vec![0]].concat())
        .collect();
    stream.write_all(&message).await.unwrap();
    let answer = reply(&mut stream).await.unwrap();
    assert_eq!(answer["error"], "org.varlink.service.MethodNotFound");
    let answer = reply(&mut stream).await.unwrap();
    assert_eq!(answer["parameters"]["entities"][0]["state"], "down");
    daemon.end().await;
}

#[tokio::test]
async fn silence_ends_only_its_own_connection() {
    let limits = Limits {
        idle: Duration::from_secs(2),
        request: Duration::from_millis(500),
        ..LIMITS
    };
    let daemon = Daemon::start(limits, AccessRules::default());
    let mut half = daemon.raw().await;
    half.write_all(b"{\"method\":").await.unwrap();
    let mut idle = daemon.raw().await;
    daemon.still_serves().await;
    let answer = reply(&mut half).await.unwrap();
    assert_eq!(answer["error"], method("InvalidRequest"));
    assert_eq!(reply(&mut half).await, None);
    assert_eq!(reply(&mut idle).await, None);
    daemon.still_serves().await;
    daemon.end().await;
}

#[tokio::test]
async fn an_engine_that_hangs_or_panics_costs_one_client_its_answer() {
    let limits = Limits {
        answer: Duration::from_secs(1),
        ..LIMITS
    };
    let daemon = Daemon::start(limits, AccessRules::default());
    for name in ["hangs", "panics"] {
        daemon.fake.set(samples::entity(name, StateWord::Up));
    }
    let mut client = daemon.client().await;
    match client.operate("hangs", OperatorAction::Stop, None).await {
        Err(ClientError::Control(ControlError::TimedOut { .. })) => {}
        other => panic!("{other:?}"),
    }
    match client.operate("panics", OperatorAction::Stop, None).await {
        Err(ClientError::Lost { .. }) => {}
        other => panic!("{other:?}"),
    }
    let mut client = daemon.client().await;
    assert_eq!(client.status(&[]).await.unwrap().entities.len(), 5);
    daemon.end().await;
}

#[tokio::test]
async fn many_clients_are_served_at_once() {
    let daemon = Daemon::ordinary();
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let path = daemon.path();
        clients.spawn(async move {
            let mut client = TypedClient::connect(&path).await.unwrap();
            for _ in 0..5 {
                client.status(&[]).await.unwrap();
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    daemon.end().await;
}

#[tokio::test]
async fn too_many_writers_are_told_so() {
    let limits = Limits {
        writers: 2,
        ..LIMITS
    };
    let daemon = Daemon::start(limits, AccessRules::default());
    let mut first = daemon.client().await;
    first.status(&[]).await.unwrap();
    let mut second = daemon.client().await;
    second.status(&[]).await.unwrap();
    match daemon.client().await.status(&[]).await {
        Err(ClientError::Control(ControlError::Refused { reason })) => {
            assert!(reason.contains("too many connections"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    drop(first);
    let freed = async {
        while daemon.client().await.status(&[]).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, freed).await.unwrap();
    daemon.end().await;
}
