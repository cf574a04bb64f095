//! No message is lost, and all clients see the same order.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{Server, within};

const ROOM: &str = "room";

fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_hundred_clients_authenticate_in_the_moment_they_connect() {
    let server = Server::start().await;
    let clients = (0..300).map(|number| {
        let url = server.url.clone();
        tokio::spawn(async move {
            let mut client = radio_istic::client::Client::connect(&url).await.unwrap();
            let answer = client
                .ask("authenticate", json!({ "id": format!("user-{number}") }))
                .await
                .unwrap();
            assert_eq!(answer["ok"], true, "{answer}");
            client
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut online = Vec::new();
    for client in clients {
        online.push(within(client).await.unwrap());
    }
    let mut last = server.user("last").await;
    let users = within(last.event("online-users")).await.unwrap();
    let ids: HashSet<_> =
        users.as_array().unwrap().iter().map(|user| user["id"].to_string()).collect();
    assert_eq!(ids.len(), 301);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_messages_of_one_socket_keep_their_order() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    let mut bob = server.user("bob").await;
    let mut asked = Vec::new();
    for number in 0..200 {
        let message =
            json!({ "conversationId": "c1", "recipientId": "bob", "message": number.to_string() });
        asked.push(alice.emit_with_ack("send-message", message).await.unwrap());
    }
    let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for (asked, content) in asked.into_iter().zip(&expected) {
        let sent = within(alice.event("message-sent")).await.unwrap();
        assert_eq!(sent["content"], *content);
        let answer = within(alice.answer(asked)).await.unwrap();
        assert_eq!(answer["message"], sent);
        let received = within(bob.event("receive-message")).await.unwrap();
        assert_eq!(received, sent);
    }
    let history = server.history("c1", "bob").await;
    assert_eq!(contents(&history), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_sockets_that_write_at_once_see_the_order_of_the_history() {
    const SOCKETS: usize = 10;
    const EACH: usize = 50;
    let server = Server::start().await;
    let mut founder = server.user("founder").await;
    let first = json!({ "conversationId": ROOM, "message": "first" });
    within(founder.ask("send-message", first)).await.unwrap();

    let mut clients = Vec::new();
    for number in 0..SOCKETS {
        let mut client = server.user(&format!("user-{number}")).await;
        within(client.ask("join-conversation", json!({ "conversationId": ROOM }))).await.unwrap();
        clients.push(client);
    }
    let mut writers = Vec::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        writers.push(tokio::spawn(async move {
            for message in 0..EACH {
                let message =
                    json!({ "conversationId": ROOM, "message": format!("{number}-{message}") });
                client.emit("send-message", message).await.unwrap();
            }
            let mut seen = Vec::new();
            while seen.len() < SOCKETS * EACH {
                seen.push(within(client.event("receive-message")).await.unwrap());
            }
            seen
        }));
    }
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(within(writer).await.unwrap());
    }
    let history = server.history(ROOM, "founder").await;
    let history = contents(&history);
    for seen in &seen {
        assert_eq!(contents(seen), history[1..]);
    }
    for number in 0..SOCKETS {
        let prefix = format!("{number}-");
        let mine: Vec<_> =
            history.iter().filter_map(|content| content.strip_prefix(&prefix)).collect();
        assert_eq!(mine, (0..EACH).map(|message| message.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn every_answer_comes_in_the_order_of_the_events() {
    let server = Server::start().await;
    let mut alice = server.client().await;
    let events = [
        ("join-conversation", json!({ "conversationId": "c1", "userId": "alice" })),
        ("send-message", json!({ "conversationId": "c1", "recipientId": "bob", "message": "1" })),
        ("no-such-event", json!({})),
        ("join-conversation", json!({ "conversationId": "c1" })),
        ("send-message", json!({ "conversationId": "c1", "message": "" })),
        ("list-conversations", json!({})),
        ("authenticate", json!({ "id": "alice" })),
        ("typing-start", json!({ "conversationId": "c1" })),
        ("leave-conversation", json!({ "conversationId": "c1" })),
    ];
    let mut asked = Vec::new();
    for (event, payload) in events {
        asked.push(alice.emit_with_ack(event, payload).await.unwrap());
    }
    let mut answers = Vec::new();
    while answers.len() < asked.len() {
        if let radio_istic::client::Received::Ack { id, mut arguments } =
            within(alice.receive()).await.unwrap().unwrap()
        {
            answers.push((id, arguments.remove(0)));
        }
    }
    assert_eq!(answers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), asked);
    // The second join comes after the message, so the message is in the history.
    assert_eq!(answers[3].1["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_restarted_server_has_everything() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    for content in ["1", "2"] {
        let message = json!({ "conversationId": "c1", "recipientId": "bob", "message": content });
        within(alice.ask("send-message", message)).await.unwrap();
    }
    let before = server.history("c1", "bob").await;
    let directory = server.stop().await;

    let server = Server::start_in(directory).await;
    assert_eq!(server.history("c1", "bob").await, before);
    let mut alice = server.user("alice").await;
    let message = json!({ "conversationId": "c1", "message": "3" });
    let answer = within(alice.ask("send-message", message)).await.unwrap();
    let ids = |messages: &[Value]| messages.iter().map(|m| m["id"].to_string()).max();
    assert!(Some(answer["message"]["id"].to_string()) > ids(&before), "ids sort by creation");
    assert_eq!(contents(&server.history("c1", "bob").await), ["1", "2", "3"]);
}

#[tokio::test]
async fn the_longest_message_fits_and_the_next_longer_one_does_not() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    for (length, code) in [(10_000, Value::Null), (10_001, json!("message_too_long"))] {
        let message = json!({ "conversationId": "c1", "message": "🎉".repeat(length) });
        let answer = within(alice.ask("send-message", message)).await.unwrap();
        assert_eq!(answer["error"]["code"], code);
    }
    let ids: Vec<_> = (0..1_001).map(|id| id.to_string()).collect();
    for (ids, code) in [(&ids[..1_000], "message_not_found"), (&ids[..], "invalid_payload")] {
        let request = json!({ "conversationId": "c1", "messageIds": ids });
        let answer = within(alice.ask("mark-as-read", request)).await.unwrap();
        assert_eq!(answer["error"]["code"], code);
    }
}

#[tokio::test]
async fn pages_have_their_sizes_when_no_limit_is_given() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    for number in 0..101 {
        let message = json!({ "conversationId": "long", "message": number.to_string() });
        within(alice.ask("send-message", message)).await.unwrap();
    }
    let request = json!({ "conversationId": "long" });
    let answer = within(alice.ask("join-conversation", request)).await.unwrap();
    let messages = answer["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[0]["content"]), (100, &json!("1")));
    assert_eq!(answer["hasMore"], true);

    for number in 0..50 {
        let message = json!({ "conversationId": format!("c{number}"), "message": "Hi" });
        within(alice.ask("send-message", message)).await.unwrap();
    }
    let answer = within(alice.ask("list-conversations", json!({}))).await.unwrap();
    assert_eq!(answer["conversations"].as_array().unwrap().len(), 50);
    assert_eq!(answer["hasMore"], true);

    for number in 0..20 {
        let mut user = server.user(&format!("user-{number:02}")).await;
        within(user.ask("join-conversation", json!({ "conversationId": "long" }))).await.unwrap();
    }
    let request = json!({ "before": "c0" });
    let answer = within(alice.ask("list-conversations", request)).await.unwrap();
    let participants = answer["conversations"][0]["participants"].as_array().unwrap();
    let ids: Vec<_> =
        participants.iter().map(|participant| participant["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[0], ids[19]), (20, "alice", "user-18"));
}
