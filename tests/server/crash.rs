//! The server is killed in the middle of traffic, or its disk is full, and every confirmed message
//! is there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use radio_istic::client::Client;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    process::Process,
    support::{history, within},
};

const WRITERS: usize = 6;
const ROUNDS: usize = 5;

/// Writes until the server is gone, and signals `begun`. Returns the contents that were confirmed,
/// in order, and the number of all that were sent.
async fn write(
    url: String,
    writer: usize,
    from: usize,
    begun: Arc<Semaphore>,
) -> (Vec<String>, usize) {
    let mut client = Client::connect(&url).await.unwrap();
    let mut confirmed = Vec::new();
    let mut next = from;
    loop {
        // Several messages at once, so that the kill meets some in every stage.
        let mut asked = Vec::new();
        for _ in 0..5 {
            let message = json!({
                "conversationId": format!("c{writer}"), "recipientId": "reader",
                "senderId": format!("writer-{writer}"), "message": next.to_string(),
                "clientMessageId": next.to_string(),
            });
            next += 1;
            match client.emit_with_ack("send-message", message).await {
                Ok(id) => asked.push(id),
                Err(_) => return (confirmed, next),
            }
        }
        for asked in asked {
            match client.answer(asked).await {
                Ok(answer) => {
                    confirmed.push(answer["message"]["content"].as_str().unwrap().to_owned())
                }
                Err(_) => return (confirmed, next),
            }
        }
        begun.add_permits(1);
    }
}

/// Waits until as many writers as given have a confirmation, and then a little, so that the kill
/// comes at another moment each time.
async fn traffic(begun: &Semaphore, writers: usize, round: usize) {
    begun.acquire_many(writers as u32).await.unwrap().forget();
    tokio::time::sleep(Duration::from_millis(70 * round as u64)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_confirmed_message_survives_the_servers_sudden_death() {
    let directory = tempfile::tempdir().unwrap();
    let mut confirmed: HashMap<usize, Vec<String>> = HashMap::new();
    let mut next = [0; WRITERS];
    for round in 0..ROUNDS {
        let server = Process::start(directory.path());
        let begun = Arc::new(Semaphore::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(write(server.url.clone(), writer, next[writer], begun.clone()))
            })
            .collect();
        within(traffic(&begun, 5 * WRITERS, round)).await;
        server.kill();
        for (writer, written) in writers.into_iter().enumerate() {
            let (contents, sent) = within(written).await.unwrap();
            confirmed.entry(writer).or_default().extend(contents);
            next[writer] = sent;
        }

        let server = Process::start(directory.path());
        for (writer, confirmed) in &confirmed {
            let stored: Vec<usize> = history(&server.url, &format!("c{writer}"), "reader")
                .await
                .iter()
                .map(|message| message["content"].as_str().unwrap().parse().unwrap())
                .collect();
            assert!(
                stored.is_sorted_by(|one, other| one < other),
                "in order, and each once: {stored:?}"
            );
            for content in confirmed {
                assert!(stored.contains(&content.parse().unwrap()), "{content} was confirmed");
            }
        }
        server.kill();
    }
    assert!(
        confirmed.values().map(Vec::len).sum::<usize>() > WRITERS * ROUNDS,
        "there was traffic"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_retry_after_the_crash_stores_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let begun = Arc::new(Semaphore::new(0));
    let writer = tokio::spawn(write(server.url.clone(), 0, 0, begun.clone()));
    within(traffic(&begun, 10, 0)).await;
    server.kill();
    let (confirmed, sent) = within(writer).await.unwrap();

    let server = Process::start(directory.path());
    let mut client = within(Client::connect(&server.url)).await.unwrap();
    for number in confirmed.len().saturating_sub(20)..sent {
        let message = json!({
            "conversationId": "c0", "recipientId": "reader", "senderId": "writer-0",
            "message": number.to_string(), "clientMessageId": number.to_string(),
        });
        let answer = within(client.ask("send-message", message)).await.unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let stored = history(&server.url, "c0", "reader").await;
    let stored: Vec<_> =
        stored.iter().map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(stored, (0..sent).map(|number| number.to_string()).collect::<Vec<_>>());
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_refuses_messages_and_keeps_everything_else_going() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start_with_little_space(directory.path(), 400);
    let mut alice = within(Client::connect(&server.url)).await.unwrap();
    let mut bob = within(Client::connect(&server.url)).await.unwrap();
    within(alice.ask("authenticate", json!({ "id": "alice", "name": "Alice" }))).await.unwrap();
    let mut confirmed = Vec::new();
    loop {
        let message = json!({
            "conversationId": "c1", "recipientId": "bob", "message": "x".repeat(5_000),
            "clientMessageId": confirmed.len().to_string(),
        });
        let answer = within(alice.ask("send-message", message)).await.unwrap();
        if answer["ok"] == false {
            assert_eq!(answer["error"]["code"], "storage_unavailable");
            assert_eq!(within(alice.event("error")).await.unwrap()["event"], "send-message");
            break;
        }
        confirmed.push(answer["message"]["id"].clone());
        assert!(confirmed.len() < 1_000, "the disk does not get full");
    }

    // The server goes on: users connect, read and type. A reconnect does not make the disk healthy.
    let alice_again = json!({ "id": "alice", "name": "Alice" });
    assert_eq!(within(alice.ask("authenticate", alice_again)).await.unwrap()["ok"], true);
    let health: serde_json::Value =
        reqwest::get(format!("{}/health", server.url)).await.unwrap().json().await.unwrap();
    assert_eq!(
        (&health["status"], &health["storage"]["connected"]),
        (&json!("degraded"), &json!(false))
    );
    let answer =
        within(bob.ask("authenticate", json!({ "id": "bob", "name": "Bob" }))).await.unwrap();
    assert_eq!(answer["ok"], true);
    within(alice.ask("typing-start", json!({ "conversationId": "c1" }))).await.unwrap();
    within(bob.event("user-typing")).await.unwrap();
    let stored = history(&server.url, "c1", "bob").await;
    assert_eq!(stored.iter().map(|message| message["id"].clone()).collect::<Vec<_>>(), confirmed);
    server.kill();

    // With space again, all confirmed messages are there, and refused ones can be sent again.
    let server = Process::start(directory.path());
    let mut alice = within(Client::connect(&server.url)).await.unwrap();
    let message = json!({
        "conversationId": "c1", "senderId": "alice", "message": "Again",
        "clientMessageId": confirmed.len().to_string(),
    });
    let answer = within(alice.ask("send-message", message)).await.unwrap();
    confirmed.push(answer["message"]["id"].clone());
    let stored = history(&server.url, "c1", "bob").await;
    assert_eq!(stored.iter().map(|message| message["id"].clone()).collect::<Vec<_>>(), confirmed);
    server.kill();
}
