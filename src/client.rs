//! A small Socket.IO client over WebSocket, for tests and for playing conversations.
//!
//! It keeps what it receives in one sequence, events and acknowledgements alike, and reads from
//! the network only when it is asked for more. So the order of arrival is never in doubt, and a
//! client that is not asked is a client that does not read.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// Engine.IO packet types that this client meets.
mod engine {
    pub const OPEN: char = '0';
    pub const PING: &str = "2";
    pub const PONG: &str = "3";
    pub const MESSAGE: char = '4';
}

/// One thing that the server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Event {
        name: String,
        payload: Value,
    },
    /// The answer to the emission with this number.
    Ack {
        id: u64,
        payload: Value,
    },
    /// The server has put the socket out of the namespace.
    Disconnected,
}

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_ack: u64,
    /// Received while something else was waited for.
    passed_over: VecDeque<Received>,
}

impl Client {
    /// Connects to the server at `url` (`http://host:port`) and to its main namespace.
    pub async fn connect(url: &str) -> Result<Self> {
        let url = format!("{}/socket.io/?EIO=4&transport=websocket", url.replacen("http", "ws", 1));
        let (socket, _) = connect_async(&url).await.with_context(|| format!("connect to {url}"))?;
        let mut client = Self { socket, last_ack: 0, passed_over: VecDeque::new() };
        let open = client.read().await?.context("the server closed instead of opening")?;
        ensure!(open.starts_with(engine::OPEN), "expected the session to open, got {open:?}");
        client.join_namespace().await?;
        Ok(client)
    }

    /// Sends an event without a callback.
    pub async fn emit(&mut self, event: &str, payload: impl Into<Option<Value>>) -> Result<()> {
        self.send(format!("42{}", arguments(event, payload.into()))).await
    }

    /// Sends an event with a callback. The number returned is that of the answer.
    pub async fn emit_with_ack(
        &mut self,
        event: &str,
        payload: impl Into<Option<Value>>,
    ) -> Result<u64> {
        self.last_ack += 1;
        let id = self.last_ack;
        self.send(format!("42{id}{}", arguments(event, payload.into()))).await?;
        Ok(id)
    }

    /// Sends an event with a callback and waits for the answer. Events that arrive before it are
    /// kept for [`Self::receive`].
    pub async fn ask(&mut self, event: &str, payload: impl Into<Option<Value>>) -> Result<Value> {
        let asked = self.emit_with_ack(event, payload).await?;
        self.answer(asked).await
    }

    /// The answer to the emission with this number.
    pub async fn answer(&mut self, asked: u64) -> Result<Value> {
        let is_answer =
            |received: &Received| matches!(received, Received::Ack { id, .. } if *id == asked);
        match self.wait_for(is_answer).await? {
            Received::Ack { payload, .. } => Ok(payload),
            _ => unreachable!("only an answer is one"),
        }
    }

    /// The next event of this name. Others are kept.
    pub async fn event(&mut self, event: &str) -> Result<Value> {
        let is_event =
            |received: &Received| matches!(received, Received::Event { name, .. } if name == event);
        match self.wait_for(is_event).await.with_context(|| format!("wait for {event}"))? {
            Received::Event { payload, .. } => Ok(payload),
            _ => unreachable!("only an event is one"),
        }
    }

    /// The next thing the server sent, `None` when the connection is closed.
    pub async fn receive(&mut self) -> Result<Option<Received>> {
        match self.passed_over.pop_front() {
            Some(received) => Ok(Some(received)),
            None => self.next().await,
        }
    }

    /// Says goodbye, and returns when the server has taken note of it.
    pub async fn disconnect(mut self) -> Result<()> {
        // A goodbye has no answer. Coming back at once has one, and it follows the goodbye.
        self.send("41".into()).await?;
        self.join_namespace().await?;
        self.socket.close(None).await?;
        Ok(())
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Received) -> bool) -> Result<Received> {
        if let Some(index) = self.passed_over.iter().position(&wanted) {
            return Ok(self.passed_over.remove(index).expect("it was just found"));
        }
        loop {
            let received = self.next().await?.context("the server closed the connection")?;
            if wanted(&received) {
                return Ok(received);
            }
            self.passed_over.push_back(received);
        }
    }

    async fn join_namespace(&mut self) -> Result<()> {
        self.send("40".into()).await?;
        loop {
            let packet = self.read().await?.context("the server closed instead of connecting")?;
            if packet.starts_with("40") {
                return Ok(());
            }
            ensure!(
                !packet.starts_with("44"),
                "the server refused the connection: {}",
                &packet[2..]
            );
            self.passed_over.extend(decode(&packet)?);
        }
    }

    async fn next(&mut self) -> Result<Option<Received>> {
        while let Some(packet) = self.read().await? {
            if let Some(received) = decode(&packet)? {
                return Ok(Some(received));
            }
        }
        Ok(None)
    }

    /// The next Engine.IO packet that is no heartbeat.
    async fn read(&mut self) -> Result<Option<String>> {
        while let Some(frame) = self.socket.next().await {
            match frame? {
                Message::Text(text) if text == engine::PING => {
                    self.send(engine::PONG.into()).await?
                }
                Message::Text(text) => return Ok(Some(text.to_string())),
                Message::Close(_) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn send(&mut self, packet: String) -> Result<()> {
        Ok(self.socket.send(Message::text(packet)).await?)
    }
}

fn arguments(event: &str, payload: Option<Value>) -> Value {
    payload.map_or_else(|| json!([event]), |payload| json!([event, payload]))
}

/// Reads an event or an acknowledgement; `None` for other Engine.IO packets.
fn decode(packet: &str) -> Result<Option<Received>> {
    let Some(packet) = packet.strip_prefix(engine::MESSAGE) else { return Ok(None) };
    let (kind, rest) = packet.split_at(packet.len().min(1));
    let json_at = rest.find('[').unwrap_or(rest.len());
    let (id, json) = rest.split_at(json_at);
    let unexpected = || format!("unexpected packet 4{packet}");
    match kind {
        "1" => Ok(Some(Received::Disconnected)),
        "2" => {
            #[derive(Deserialize)]
            struct Event(String, #[serde(default)] Value);

            let Event(name, payload) = serde_json::from_str(json)
                .or_else(|_| {
                    serde_json::from_str::<(String,)>(json).map(|(name,)| Event(name, Value::Null))
                })
                .with_context(unexpected)?;
            Ok(Some(Received::Event { name, payload }))
        }
        "3" => {
            let id = id.parse().with_context(unexpected)?;
            let (payload,) = serde_json::from_str(json).with_context(unexpected)?;
            Ok(Some(Received::Ack { id, payload }))
        }
        _ => bail!(unexpected()),
    }
}
