//! Everything that a client can make grow, and its limits.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use radio_istic::{
    client::{Client, Options, Received},
    config::Settings,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Server, within};

async fn server(settings: Settings) -> Server {
    Server::start_with(tempfile::tempdir().unwrap(), settings).await
}

/// An event that does nearly nothing.
async fn knock(client: &mut Client) -> Value {
    within(client.ask("leave-conversation", json!({ "conversationId": "-" }))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_over_the_limit_are_refused_until_the_client_has_waited() {
    let rate_limit = Some("2/s,burst=3".into());
    let server = server(Settings { rate_limit, ..Settings::default() }).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        assert_eq!(knock(&mut client).await["ok"], true);
    }
    let refused = knock(&mut client).await;
    assert_eq!(refused["error"]["code"], "rate_limited", "{refused}");
    let wait = refused["error"]["retryAfterMs"].as_u64().unwrap();
    assert!((1..=500).contains(&wait), "{wait}");
    let error = within(client.event("error")).await.unwrap();
    assert_eq!(error["code"], "rate_limited");
    assert_eq!(error["event"], "leave-conversation");
    assert!(error["retryAfterMs"].as_u64().unwrap() >= 1);
    // The client waits for the time that the server asks for.
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_eq!(knock(&mut client).await["ok"], true);
    // Another socket has its own limit.
    assert_eq!(knock(&mut server.client().await).await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn a_client_that_ignores_the_rate_limit_is_disconnected() {
    let rate_limit = Some("20/s".into());
    let server = server(Settings { rate_limit, ..Settings::default() }).await;
    let mut patient = server.client().await;
    let mut flooding = server.client().await;
    let begun = Instant::now();
    let end = async {
        loop {
            let request = json!({ "conversationId": "-" });
            if flooding.emit("leave-conversation", request).await.is_err() {
                return;
            }
            tokio::select! {
                received = flooding.receive() => match received {
                    Ok(Some(received)) => assert_ne!(received, Received::Disconnected),
                    Ok(None) | Err(_) => return,
                },
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    };
    within(end).await;
    assert!(begun.elapsed() >= Duration::from_secs(10), "it was told long enough");
    assert_eq!(knock(&mut patient).await["ok"], true);
}

fn from_address(forwarded_for: &str) -> Options {
    let headers = [("X-Forwarded-For".to_owned(), forwarded_for.to_owned())];
    Options { extra_headers: headers.into_iter().collect(), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_only_so_many_connections_and_cannot_pretend_to_be_another() {
    let server = server(Settings {
        connection_limit: Some("1000/s,open=2".into()),
        trusted_proxy: Some("X-Forwarded-For".into()),
        ..Settings::default()
    })
    .await;
    let connect = async |address: &str| {
        within(Client::connect_with(&server.url, &from_address(address))).await
    };
    let first = connect("192.0.2.1").await.unwrap();
    let _second = connect("192.0.2.1").await.unwrap();
    assert!(connect("192.0.2.1").await.is_err());
    assert!(connect("198.51.100.7, 192.0.2.1").await.is_err(), "the client wrote the first entry");
    let _other = connect("192.0.2.2").await.unwrap();

    let request = reqwest::Client::new()
        .get(format!("{}/socket.io/?EIO=4&transport=polling", server.url))
        .header("X-Forwarded-For", "192.0.2.1");
    let refused = within(request.send()).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");

    first.disconnect().await.unwrap();
    within(async {
        while connect("192.0.2.1").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_begins_only_so_many_connections_at_once() {
    let server = server(Settings {
        connection_limit: Some("1/s,burst=2".into()),
        trusted_proxy: Some("Fly-Client-IP".into()),
        ..Settings::default()
    })
    .await;
    let open = async |address: &str| {
        let request = reqwest::Client::new()
            .get(format!("{}/socket.io/?EIO=4&transport=polling", server.url))
            .header("Fly-Client-IP", address);
        within(request.send()).await.unwrap().status().as_u16()
    };
    assert_eq!([open("192.0.2.1").await, open("192.0.2.1").await], [200, 200]);
    assert_eq!([open("192.0.2.1").await, open("192.0.2.2").await], [429, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escaped_session_id_parameter_counts_as_a_new_session() {
    let server = server(Settings {
        connection_limit: Some("1000/s,open=1".into()),
        trusted_proxy: Some("X-Forwarded-For".into()),
        ..Settings::default()
    })
    .await;
    let open = async |query: &str| {
        let request = reqwest::Client::new()
            .get(format!("{}/socket.io/?EIO=4&transport=polling{query}", server.url))
            .header("X-Forwarded-For", "192.0.2.1");
        within(request.send()).await.unwrap().status().as_u16()
    };
    assert_eq!(open("").await, 200);
    assert_eq!(open("&s%69d=AAAAAAAAAAAAAAAA").await, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_over_the_same_transport_resets_no_rate_limit() {
    let rate_limit = Some("1/s,burst=3".into());
    let server = server(Settings { rate_limit, ..Settings::default() }).await;
    let url = format!("{}/socket.io/?EIO=4&transport=websocket", server.url.replace("http", "ws"));
    let (mut socket, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
    let mut refused = false;
    for _ in 0..5 {
        // The client connects and disconnects over the same transport.
        socket.send("40".into()).await.unwrap();
        refused |= loop {
            let answer = within(socket.next()).await.unwrap().unwrap().into_text().unwrap();
            if answer.starts_with("40") || answer.starts_with("44") {
                break answer.contains("rate_limited");
            }
        };
        socket.send("41".into()).await.unwrap();
    }
    assert!(refused, "the limit begins anew with each goodbye");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trusted_proxy_loopback_has_no_limit_and_headers_are_ignored() {
    let connection_limit = Some("1/s,open=1".into());
    let server = server(Settings { connection_limit, ..Settings::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let options = from_address("192.0.2.1");
        clients.push(within(Client::connect_with(&server.url, &options)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_in_only_so_many_rooms() {
    let server = Server::start().await;
    let mut alice = server.user("alice").await;
    let join = |room: usize| json!({ "conversationId": format!("room-{room}") });
    for room in 0..1_000 {
        let answer = within(alice.ask("join-conversation", join(room))).await.unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let refused = within(alice.ask("join-conversation", join(1_000))).await.unwrap();
    assert_eq!(
        refused["error"]["message"],
        "conversationId: a socket may be in at most 1000 rooms"
    );
    let again = within(alice.ask("join-conversation", join(0))).await.unwrap();
    assert_eq!(again["ok"], true, "one that it is in already");
    within(alice.ask("leave-conversation", join(0))).await.unwrap();
    let instead = within(alice.ask("join-conversation", join(1_000))).await.unwrap();
    assert_eq!(instead["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_only_so_many_sockets() {
    let server = Server::start().await;
    let mut others = Vec::new();
    for _ in 0..100 {
        others.push(server.user("alice").await);
    }
    let mut newest = server.client().await;
    newest.emit("authenticate", json!({ "id": "alice" })).await.unwrap();
    let error = within(newest.event("error")).await.unwrap();
    assert_eq!((&error["code"], &error["retryAfterMs"]), (&json!("rate_limited"), &json!(60_000)));
    while let Ok(Some(_)) = within(newest.receive()).await {}
    assert_eq!(knock(&mut others[0]).await["ok"], true);
    server.health(|health| health["connections"] == 100).await;
}

/// Sends `head`, and returns all bytes until the server closes the connection.
async fn raw(server: &Server, head: &[u8]) -> String {
    let mut tcp = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    // The server may have closed before all of it was sent.
    let _ = tcp.write_all(head).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), tcp.read_to_end(&mut answer));
    let _ = read.await.expect("the server closes the connection");
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn heads_and_handshakes_have_limits_of_size_and_time() {
    let server = Server::start().await;
    let long = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let half = "GET /health HTTP/1.1\r\nHost: x\r\n";
    // A WebSocket whose Socket.IO CONNECT never comes.
    let silent = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n\
                  Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (long, _, silent) =
        tokio::join!(raw(&server, long.as_bytes()), raw(&server, half.as_bytes()), async {
            let mut tcp =
                TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
            tcp.write_all(silent.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(60), tcp.read_to_end(&mut answer));
            let _ = read.await.expect("the server closes the connection");
            answer
        },);
    assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
    assert!(silent.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(knock(&mut server.client().await).await["ok"], true, "others are served");
}
