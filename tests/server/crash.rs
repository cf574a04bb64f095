//! The server is killed in the middle of traffic, and every confirmed message is there.

use std::{collections::HashMap, time::Duration};

use radio_istic::client::Client;
use serde_json::json;

use crate::{
    process::Process,
    support::{history, within},
};

const WRITERS: usize = 6;
const ROUNDS: usize = 5;

/// Writes until the server is gone. Returns the contents that were confirmed, in order, and how
/// many were sent in all.
async fn write(url: String, writer: usize, from: usize) -> (Vec<String>, usize) {
    let mut client = Client::connect(&url).await.unwrap();
    let mut confirmed = Vec::new();
    let mut next = from;
    loop {
        // A few at once, so that the kill meets some in every stage.
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
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_confirmed_message_survives_the_servers_sudden_death() {
    let directory = tempfile::tempdir().unwrap();
    let mut confirmed: HashMap<usize, Vec<String>> = HashMap::new();
    let mut next = [0; WRITERS];
    for round in 0..ROUNDS {
        let server = Process::start(directory.path());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(server.url.clone(), writer, next[writer])))
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + 70 * round as u64)).await;
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
    let writer = tokio::spawn(write(server.url.clone(), 0, 0));
    tokio::time::sleep(Duration::from_millis(300)).await;
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
