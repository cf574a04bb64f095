//! Hostile clients, while others chat.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use radio_istic::client::{Client, Received};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    process::Process,
    support::{PATIENCE, history, within},
};

const HOSTILE: usize = 200;
const HONEST: usize = 20;

/// A chat is over after this time without an event.
const QUIET: Duration = Duration::from_millis(3_000);

/// The resident memory that may remain after the attack, in bytes.
const MEMORY_LEFT: u64 = 10_000_000;
/// The memory that caches and the allocator keep once they are full, in bytes.
const CACHES: u64 = 50_000_000;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.roll(most);
        (0..length).map(|_| self.roll(256) as u8).collect()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes(60)).into_owned()
    }

    fn json(&mut self, depth: u64) -> Value {
        match self.roll(8) {
            0 => Value::Null,
            1 => json!(self.roll(u64::MAX)),
            2 => json!(self.roll(2) == 0),
            3 if depth > 0 => (0..self.roll(5)).map(|_| self.json(depth - 1)).collect(),
            4 if depth > 0 => json!({ self.text(): self.json(depth - 1), "$where": "1" }),
            5 => json!("x".repeat(self.roll(20_000) as usize)),
            _ => json!(self.text()),
        }
    }

    /// A text as a client might send it.
    fn packet(&mut self) -> String {
        let events = [
            "authenticate",
            "join-conversation",
            "leave-conversation",
            "send-message",
            "typing-start",
            "typing-stop",
            "mark-as-read",
            "list-conversations",
            "disconnect",
            "",
        ];
        let event = events[self.roll(events.len() as u64) as usize];
        match self.roll(10) {
            0 => self.text(),
            1 => format!("42{}", self.text()),
            2 => format!("42[\"{event}\",{{\"conversationId\":"),
            3 => "4".repeat(self.roll(1_000) as usize),
            4 => format!("451-[\"{event}\",{{\"_placeholder\":true,\"num\":0}}]"),
            5 => format!("42{}[\"{event}\",{}]", self.roll(u64::MAX), self.json(4)),
            6 => format!("42[\"{event}\",{}{}", "[".repeat(5_000), "]".repeat(5_000)),
            7 => {
                let ids: Vec<_> = (0..1_001).map(|_| self.text()).collect();
                let payload = json!({ "conversationId": "c", "messageIds": ids, "userId": "m" });
                format!("42{}", json!(["mark-as-read", payload]))
            }
            _ => {
                let mut payload = json!({
                    "id": self.text(),
                    "conversationId": format!("pair-{}", self.roll(10)),
                    "message": self.text(),
                    "userId": "honest-1",
                    "senderId": "honest-1",
                    "recipientId": self.text(),
                });
                let fields: Vec<_> = payload.as_object().unwrap().keys().cloned().collect();
                let field = &fields[self.roll(fields.len() as u64) as usize];
                payload[field] = self.json(3);
                format!("42{}{}", self.roll(100), json!([event, payload]))
            }
        }
    }
}

/// Connects, misbehaves until the server disconnects it or its packets run out, and starts again.
async fn misbehave(url: String, seed: u64, until: Instant) {
    let mut dice = Dice(seed);
    let websocket = format!("{}/socket.io/?EIO=4&transport=websocket", url.replace("http", "ws"));
    while Instant::now() < until {
        if dice.roll(8) == 0 {
            // A session without polls.
            let polling = format!("{url}/socket.io/?EIO=4&transport=polling");
            let _ = reqwest::get(&polling).await;
            let body = dice.bytes(10_000);
            let _ = reqwest::Client::new().post(&polling).body(body).send().await;
            continue;
        }
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(&websocket).await else {
            continue;
        };
        let _ = socket.send(Message::text("40")).await;
        for _ in 0..dice.roll(200) {
            let message = match dice.roll(40) {
                0 => Message::text("x".repeat(1_000_001)),
                1 => {
                    let long = json!(["send-message", { "x": "y".repeat(900_000) }]);
                    Message::text(format!("42{long}"))
                }
                2 => Message::binary(dice.bytes(5_000)),
                3 => Message::Ping(dice.bytes(100).into()),
                _ => Message::text(dice.packet()),
            };
            if socket.send(message).await.is_err() || Instant::now() > until {
                break;
            }
            // The client reads its answers only sometimes.
            if dice.roll(3) == 0 {
                let _ = tokio::time::timeout(Duration::from_millis(5), socket.next()).await;
            }
        }
    }
}

/// Runs all hostile clients at once.
async fn attack(url: &str, until: Instant) {
    let attacks: Vec<_> = (0..HOSTILE)
        .map(|seed| tokio::spawn(misbehave(url.to_owned(), seed as u64, until)))
        .collect();
    for attack in attacks {
        attack.await.unwrap();
    }
}

/// Chats with the other user of a pair, and returns the confirmed and the received messages.
async fn chat(
    mut client: Client,
    me: usize,
    until: Instant,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let conversation = format!("pair-{}", me / 2);
    let other = format!("honest-{}", me ^ 1);
    let (mut confirmed, mut received) = (BTreeSet::new(), BTreeSet::new());
    let mut asked = BTreeSet::new();
    let mut number = 0;
    let mut next = tokio::time::interval(Duration::from_millis(200));
    // A delayed client does not make up for the delay: that would be over the limit.
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_chatting = Instant::now() < until;
        tokio::select! {
            _ = next.tick(), if is_chatting => {
                number += 1;
                let message = json!({
                    "conversationId": conversation,
                    "recipientId": other,
                    "senderId": format!("honest-{me}"),
                    "message": format!("{me} says {number}"),
                    "clientMessageId": format!("{me}-{number}"),
                });
                asked.insert(client.emit_with_ack("send-message", message).await.unwrap());
            }
            heard = client.receive() => match heard.unwrap().expect("the connection stands") {
                Received::Ack { id, arguments } => {
                    assert_eq!(arguments[0]["ok"], true, "{arguments:?}");
                    asked.remove(&id);
                    confirmed.insert(arguments[0]["message"]["id"].as_str().unwrap().to_owned());
                }
                Received::Event { name, arguments } if name == "receive-message" => {
                    received.insert(arguments[0]["id"].as_str().unwrap().to_owned());
                }
                _ => {}
            },
            // The other client may still send.
            () = tokio::time::sleep(QUIET), if !is_chatting && asked.is_empty() => break,
            () = tokio::time::sleep(PATIENCE), if !is_chatting => break,
        }
    }
    assert!(asked.is_empty(), "not answered");
    (confirmed, received)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow"]
async fn nobody_is_disturbed_by_two_hundred_hostile_clients() {
    let soak = std::env::var("SOAK_SECONDS").ok().map(|text| text.parse().unwrap());
    let duration = Duration::from_secs(soak.unwrap_or(5));
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start_with(directory.path(), &[("RATE_LIMIT", "20/s,burst=40")]);

    // The conversations begin before any hostile client can begin them.
    for me in (0..HONEST).step_by(2) {
        let mut client = within(Client::connect(&server.url)).await.unwrap();
        let message = json!({
            "conversationId": format!("pair-{}", me / 2),
            "senderId": format!("honest-{me}"),
            "recipientId": format!("honest-{}", me + 1),
            "message": "Hello",
        });
        within(client.ask("send-message", message)).await.unwrap();
    }
    // The first attack fills the caches and the allocator, which keep their memory.
    attack(&server.url, Instant::now() + duration).await;
    server.is_left_by_all().await;
    let before = server.resident();

    let mut honest = Vec::new();
    for me in 0..HONEST {
        let mut client = within(Client::connect(&server.url)).await.unwrap();
        let user = json!({ "id": format!("honest-{me}") });
        within(client.ask("authenticate", user)).await.unwrap();
        honest.push(client);
    }
    let until = Instant::now() + duration;
    let chatting: Vec<_> = honest
        .into_iter()
        .enumerate()
        .map(|(me, client)| tokio::spawn(chat(client, me, until)))
        .collect();
    attack(&server.url, until).await;
    let mut confirmed = Vec::new();
    let mut received = Vec::new();
    for chatting in chatting {
        let (sent, heard) = chatting.await.unwrap();
        assert!(!sent.is_empty());
        confirmed.push(sent);
        received.push(heard);
    }
    for me in 0..HONEST {
        let missing: Vec<_> = confirmed[me].difference(&received[me ^ 1]).collect();
        assert!(missing.is_empty(), "{me} was confirmed what the other one has not: {missing:?}");
        let kept = history(&server.url, &format!("pair-{}", me / 2), &format!("honest-{me}")).await;
        let kept: BTreeSet<_> =
            kept.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
        assert!(confirmed[me].is_subset(&kept));
    }
    server.is_left_by_all().await;
    let grown = server.resident().saturating_sub(before);
    // A short run fills caches up to their bounds; in a soak the first attack has filled them.
    let bound = if soak.is_some() { MEMORY_LEFT } else { MEMORY_LEFT + CACHES };
    assert!(grown <= bound, "{grown} bytes more than before");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop();
}
