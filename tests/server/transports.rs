//! Clients that differ from ours: polling only, Socket.IO v2, and invalid packets.

use futures_util::{SinkExt, StreamExt};
use reqwest::StatusCode;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{
    poller::Poller,
    support::{Server, within},
};

#[tokio::test]
async fn two_people_talk_over_polling_only() {
    let server = Server::start().await;
    let mut alice = Poller::connect(&server.url).await;
    let mut bob = Poller::connect(&server.url).await;
    alice.ask(1, "authenticate", json!({ "id": "alice" })).await;
    bob.ask(1, "authenticate", json!({ "id": "bob" })).await;
    let message =
        json!({ "conversationId": "c1", "recipientId": "bob", "message": "Slow but sure" });
    let answer = alice.ask(2, "send-message", message).await;
    assert_eq!(answer[0]["ok"], true);
    let received = bob.packet("42[\"receive-message\"").await;
    assert_eq!(received[1], answer[0]["message"]);
    let sent = alice.packet("42[\"message-sent\"").await;
    assert_eq!(sent[1], answer[0]["message"]);
}

#[tokio::test]
async fn a_page_of_the_longest_messages_comes_over_polling() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    let long = "🎉".repeat(10_000);
    for _ in 0..100 {
        let message = json!({ "conversationId": "c1", "recipientId": "bob", "message": long });
        let answer = within(alice.ask("send-message", message)).await.unwrap();
        assert_eq!(answer["ok"], true);
    }
    let mut bob = Poller::connect(&server.url).await;
    let answer =
        bob.ask(1, "join-conversation", json!({ "conversationId": "c1", "userId": "bob" })).await;
    assert_eq!(answer[0]["messages"].as_array().unwrap().len(), 100);
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(server: &Server, version: u8) -> Socket {
    let url = format!(
        "{}/socket.io/?EIO={version}&transport=websocket",
        server.url.replace("http", "ws")
    );
    let (mut socket, _) = within(connect_async(url)).await.unwrap();
    assert!(text(&mut socket).await.unwrap().starts_with('0'));
    socket
}

/// The next text, `None` after the server has closed: Engine.IO's `1` announces it.
async fn text(socket: &mut Socket) -> Option<String> {
    loop {
        match within(socket.next()).await? {
            Ok(Message::Text(text)) if text == "1" => return None,
            // A heartbeat: these clients do not live long enough to answer it.
            Ok(Message::Text(text)) if text == "2" => {}
            Ok(Message::Text(text)) => return Some(text.to_string()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(other) => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_socket_io_v2_client_talks_with_a_v4_client() {
    let server = Server::start().await;
    let mut old = open(&server, 3).await;
    // Engine.IO 3: the server connects by itself, and the client sends the pings.
    assert_eq!(text(&mut old).await.unwrap(), "40");
    old.send("2".into()).await.unwrap();
    assert_eq!(text(&mut old).await.unwrap(), "3");
    old.send(r#"420["authenticate",{"id":"old"}]"#.into()).await.unwrap();
    assert!(text(&mut old).await.unwrap().starts_with(r#"42["user-status-change","#));
    assert!(text(&mut old).await.unwrap().starts_with(r#"42["online-users","#));
    assert!(text(&mut old).await.unwrap().starts_with(r#"430[{"ok":true,"user""#));

    let mut new = server.user("new").await;
    assert!(text(&mut old).await.unwrap().starts_with(r#"42["user-status-change","#));
    let message = json!({ "conversationId": "c1", "recipientId": "old", "message": "Hello" });
    within(new.ask("send-message", message)).await.unwrap();
    assert!(text(&mut old).await.unwrap().contains(r#""content":"Hello""#));
}

#[tokio::test]
async fn an_invalid_packet_closes_its_connection_and_no_other() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    let too_long = format!("42[\"send-message\",{{\"message\":\"{}\"}}]", "x".repeat(1_000_000));
    for bad in ["x", "42", "42[", "42{}", "42[5]", "45-[\"a\"]", "49[\"a\"]", "4", "", &too_long] {
        let mut socket = open(&server, 4).await;
        socket.send("40".into()).await.unwrap();
        let connected = text(&mut socket).await.unwrap();
        assert!(connected.starts_with("40"), "{connected}");
        socket.send(bad.into()).await.unwrap();
        assert_eq!(text(&mut socket).await, None, "{}", &bad[..bad.len().min(40)]);
    }
    let answer =
        within(alice.ask("leave-conversation", json!({ "conversationId": "c1" }))).await.unwrap();
    assert_eq!(answer["ok"], true);
}

#[tokio::test]
async fn a_polling_request_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let poller = Poller::connect(&server.url).await;
    let status = poller.post(&format!("42[\"x\",\"{}\"]", "x".repeat(1_000_000))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn events_in_the_same_burst_as_the_connect_are_not_lost() {
    let server = Server::start().await;
    let mut sockets = Vec::new();
    for number in 0..300 {
        let mut socket = open(&server, 4).await;
        socket.feed("40".into()).await.unwrap();
        socket
            .feed(format!(r#"421["authenticate",{{"id":"user-{number}"}}]"#).into())
            .await
            .unwrap();
        socket.flush().await.unwrap();
        sockets.push(socket);
    }
    for socket in &mut sockets {
        loop {
            let packet = text(socket).await.expect("the answer comes before the end");
            if packet.starts_with("431") {
                assert!(packet.contains("\"ok\":true"), "{packet}");
                break;
            }
        }
    }
}
