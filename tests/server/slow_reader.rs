//! A client that stops reading loses its connection, never a message, and disturbs no other client.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    poller::Poller,
    support::{Server, within},
};

/// Sends messages, a few at a time, and returns their ids.
async fn send(client: &mut radio_istic::client::Client, count: usize, content: &str) -> Vec<Value> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let mut asked = Vec::new();
        for _ in 0..100.min(count - ids.len()) {
            let message = json!({ "conversationId": "room", "message": content });
            asked.push(client.emit_with_ack("send-message", message).await.unwrap());
        }
        for asked in asked {
            let mut answer = within(client.answer(asked)).await.unwrap();
            ids.push(answer["message"]["id"].take());
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_websocket_that_is_not_read_is_closed_and_catches_up() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    let first = send(&mut alice, 1, "first").await;

    let mut reader = server.user("reader").await;
    within(reader.ask("join-conversation", json!({ "conversationId": "room" }))).await.unwrap();
    let mut sleeper = server.user("sleeper").await;
    within(sleeper.ask("join-conversation", json!({ "conversationId": "room" }))).await.unwrap();

    // The sleeper does not read from here on. The messages are more than its buffers hold.
    let long = "🎉".repeat(10_000);
    let (sent, received) = tokio::join!(send(&mut alice, 900, &long), async {
        let mut received = Vec::new();
        while received.len() < 900 {
            received.push(within(reader.event("receive-message")).await.unwrap()["id"].take());
        }
        received
    });
    assert_eq!(received, sent, "the reader got everything");
    server.health(|health| health["connections"] == 2).await;

    // The sleeper wakes up: its transport is gone, without a disconnect, so the client reconnects.
    while let Ok(Some(received)) = within(sleeper.receive()).await {
        assert_ne!(received, radio_istic::client::Received::Disconnected);
    }
    let mut sleeper = server.user("sleeper").await;
    let mut missed: Vec<Value> = Vec::new();
    let mut after = first[0].clone();
    loop {
        let request = json!({ "conversationId": "room", "after": after, "limit": 50 });
        let answer = within(sleeper.ask("join-conversation", request)).await.unwrap();
        let messages = answer["messages"].as_array().unwrap();
        missed.extend(messages.iter().map(|message| message["id"].clone()));
        if answer["hasMore"] == false {
            break;
        }
        after = missed.last().unwrap().clone();
    }
    assert_eq!(missed[missed.len() - 900..], sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "slow"]
async fn a_poller_that_does_not_return_is_disconnected() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    send(&mut alice, 1, "first").await;
    let mut sleeper = Poller::connect(&server.url).await;
    let request = json!({ "conversationId": "room", "userId": "sleeper" });
    sleeper.ask(1, "join-conversation", request).await;

    send(&mut alice, 8_300, "more than its buffer takes").await;
    server.health(|health| health["connections"] == 1).await;
    assert_eq!(sleeper.post("2").await, StatusCode::BAD_REQUEST, "its session is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_requests_much_gets_it_as_fast_as_it_reads() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    send(&mut alice, 100, &"🎉".repeat(10_000)).await;
    let mut glutton = Poller::connect(&server.url).await;
    // Each answer has eight megabytes: together they are more than the limit of unsent bytes.
    for number in 1..=5 {
        let join = json!(["join-conversation", { "conversationId": "room", "userId": "glutton" }]);
        glutton.post(&format!("42{number}{join}")).await;
    }
    for number in 1..=5 {
        let answer = glutton.packet(&format!("43{number}[")).await;
        assert_eq!(answer[0]["messages"].as_array().unwrap().len(), 100);
    }
}

#[tokio::test]
async fn too_many_events_at_once_close_the_connection() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    let mut flooder = server.client().await;
    // The flood waits after a read. The amount that is taken before the answer differs.
    let flood = async {
        for _ in 0..100_000 {
            let request = json!({ "conversationId": "c1", "userId": "flooder" });
            if flooder.emit("join-conversation", request).await.is_err() {
                return;
            }
        }
        panic!("the flood was not stopped");
    };
    within(flood).await;
    let answer =
        within(alice.ask("leave-conversation", json!({ "conversationId": "c1" }))).await.unwrap();
    assert_eq!(answer["ok"], true);
}
