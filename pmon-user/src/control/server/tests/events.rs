//! The event stream and its slow readers.

use super::*;

#[tokio::test]
async fn events_begin_with_the_recent_ones_and_follow_without_a_seam() {
    let daemon = Daemon::ordinary();
    for number in 1..=5 {
        daemon.fake.say("web", &format!("event {number}"));
    }
    let mut events = daemon
        .client()
        .await
        .events(EventsParameters::recent(2))
        .await
        .unwrap();
    for expected in [4, 5] {
        let (event, lost) = events.next().await.unwrap().unwrap();
        assert_eq!((event.seq, lost), (expected, 0));
    }
    daemon.fake.say("web", "event 6");
    let (event, lost) = events.next().await.unwrap().unwrap();
    assert_eq!((event.seq, event.text.as_str(), lost), (6, "event 6", 0));
    // The daemon's end is the stream's regular end.
    daemon.end().await;
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn early_events_are_for_those_who_ask() {
    let daemon = Daemon::ordinary();
    let asked = EventsParameters::recent(10).with_early(true);
    let not_asked = EventsParameters::recent(10);
    daemon.fake.say("web", "event 1");
    daemon.fake.hint("web", "hint 1");
    let mut with_early = daemon.client().await.events(asked).await.unwrap();
    let mut without = daemon.client().await.events(not_asked).await.unwrap();
    while daemon.fake.followers() < 2 {
        tokio::task::yield_now().await;
    }
    daemon.fake.hint("web", "hint 2");
    daemon.fake.say("web", "event 2");
    for (seq, text, early) in [
        (1, "event 1", false),
        (1, "hint 1", true),
        (1, "hint 2", true),
        (2, "event 2", false),
    ] {
        let (event, lost) = with_early.next().await.unwrap().unwrap();
        let told = (event.seq, event.text.as_str(), event.early, lost);
        assert_eq!(told, (seq, text, early, 0));
    }
    // Neither a gap nor a loss where nothing was asked for.
    for (seq, text) in [(1, "event 1"), (2, "event 2")] {
        let (event, lost) = without.next().await.unwrap().unwrap();
        assert_eq!((event.seq, event.text.as_str(), lost), (seq, text, 0));
    }
    let mut client = daemon.client().await;
    assert_eq!(client.recent_events(asked).await.unwrap().len(), 4);
    assert_eq!(client.recent_events(not_asked).await.unwrap().len(), 2);
    daemon.end().await;
}

#[tokio::test]
async fn a_slow_reader_of_events_holds_up_nobody_and_learns_what_it_lost() {
    let daemon = Daemon::ordinary();
    let mut events = daemon
        .client()
        .await
        .events(EventsParameters::default())
        .await
        .unwrap();
    while daemon.fake.followers() == 0 {
        tokio::task::yield_now().await;
    }
    let text = "x".repeat(10_000);
    let told: u64 = 500;
    for number in 0..told {
        daemon.fake.say("web", &text);
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    daemon.still_serves().await;
    assert_eq!(daemon.fake.followers(), 1, "it is still connected");
    let (mut seen, mut lost, mut last) = (0, 0, 0);
    while last < told {
        let next = timeout(LONG, events.next()).await.unwrap();
        let (event, missing) = next.unwrap().unwrap();
        assert_eq!(
            event.seq,
            last + missing + 1,
            "the gap is what was reported"
        );
        last = event.seq;
        lost += missing;
        seen += 1;
    }
    assert!(lost > 0, "{seen} events fitted into the socket");
    assert_eq!(seen + lost, told);
    daemon.end().await;
}

#[tokio::test]
async fn a_follower_that_leaves_is_noticed_without_any_event() {
    let daemon = Daemon::ordinary();
    let events = daemon
        .client()
        .await
        .events(EventsParameters::default())
        .await
        .unwrap();
    while daemon.fake.followers() == 0 {
        tokio::task::yield_now().await;
    }
    drop(events);
    let gone = async {
        while daemon.fake.followers() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, gone).await.unwrap();
    daemon.end().await;
}
