//! A small Socket.IO client over WebSocket or polling, for tests and for playing conversations.
//!
//! The client keeps all that it receives in one sequence, events and acknowledgements alike, and
//! reads from the network only on request. So the order of arrival is never in doubt, and a client
//! without a request is a client that does not read.

pub mod packet;
mod transport;

use std::{collections::VecDeque, fmt, str::FromStr};

use anyhow::{Context, Result, bail};
use axum::http::StatusCode;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use packet::Packet;
use transport::Transport;

/// A packet that the server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Event {
        name: String,
        arguments: Vec<Value>,
    },
    /// The answer to the emission with this number.
    Ack {
        id: u64,
        arguments: Vec<Value>,
    },
    /// The server has disconnected the socket from the namespace.
    Disconnected,
    /// An invalid packet, with the reason.
    Unreadable(String),
}

/// The options of a connection, by the names of the JavaScript client's options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    /// Credentials for the server, such as `{"token":"…"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Value>,
    /// More parameters for the address.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub query: IndexMap<String, String>,
    /// More HTTP headers.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub extra_headers: IndexMap<String, String>,
    /// The only transport of the client. WebSocket, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transports: Option<[TransportKind; 1]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    #[default]
    Websocket,
    Polling,
}

impl TransportKind {
    pub const NAMES: [&str; 2] = ["websocket", "polling"];
}

impl FromStr for TransportKind {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "websocket" => Ok(Self::Websocket),
            "polling" => Ok(Self::Polling),
            _ => Err("expected websocket or polling"),
        }
    }
}

impl Options {
    pub fn transport(&self) -> TransportKind {
        self.transports.map_or_else(TransportKind::default, |[transport]| transport)
    }
}

/// The reason why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The server refuses this client, with this answer (`connect_error`).
    Refused(Value),
    /// The server answers with another HTTP status.
    Status(StatusCode),
    /// There is no server, or it does not speak Socket.IO.
    Unreachable(anyhow::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "the server refused the connection: {error}"),
            Self::Status(status) => write!(f, "the server answered with HTTP status {status}"),
            Self::Unreachable(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<anyhow::Error> for ConnectError {
    fn from(error: anyhow::Error) -> Self {
        Self::Unreachable(error)
    }
}

pub struct Client {
    transport: Transport,
    /// The namespace as it stands in packets: nothing for the main one, else `/name,`.
    namespace: String,
    id: String,
    last_ack: u64,
    /// The packets that arrived while the client waited for another one.
    passed_over: VecDeque<Received>,
}

impl Client {
    /// Connects over WebSocket to the server at `url` (`http://host:port`). As with the official
    /// client, a path is the name of a namespace.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, &Options::default()).await
    }

    pub async fn connect_with(url: &str, options: &Options) -> Result<Self, ConnectError> {
        let url = Url::parse(url).with_context(|| format!("{url} is no address"))?;
        let transport = Transport::open(&url, options).await?;
        let namespace = match url.path() {
            "" | "/" => String::new(),
            path => format!("{path},"),
        };
        let mut client = Self {
            transport,
            namespace,
            id: String::new(),
            last_ack: 0,
            passed_over: VecDeque::new(),
        };
        client.join_namespace(options.auth.clone().unwrap_or_default()).await?;
        Ok(client)
    }

    /// The id that the server gave to this socket.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends an event without a callback.
    pub async fn emit(&mut self, event: &str, payload: impl Into<Option<Value>>) -> Result<()> {
        self.send(event, payload.into().into_iter().collect(), None).await
    }

    /// Sends an event with a callback. Returns the number of the answer.
    pub async fn emit_with_ack(
        &mut self,
        event: &str,
        payload: impl Into<Option<Value>>,
    ) -> Result<u64> {
        let id = self.new_ack();
        self.send(event, payload.into().into_iter().collect(), Some(id)).await?;
        Ok(id)
    }

    /// A number for an answer.
    pub fn new_ack(&mut self) -> u64 {
        self.last_ack += 1;
        self.last_ack
    }

    /// Sends an event with any number of arguments. For an answer, pass a number of
    /// [`Self::new_ack`].
    pub async fn send(
        &mut self,
        event: &str,
        arguments: Vec<Value>,
        ack: Option<u64>,
    ) -> Result<()> {
        self.send_packet(&Packet::Event { ack, name: event.into(), arguments }).await
    }

    /// Sends an event with a callback and waits for the answer. Events that arrive before it are
    /// kept for [`Self::receive`].
    pub async fn ask(&mut self, event: &str, payload: impl Into<Option<Value>>) -> Result<Value> {
        let asked = self.emit_with_ack(event, payload).await?;
        self.answer(asked).await
    }

    /// The answer to the emission with this number.
    pub async fn answer(&mut self, asked: u64) -> Result<Value> {
        self.wait_for(|received| match received {
            Received::Ack { id, arguments } if *id == asked => Some(first(arguments)),
            _ => None,
        })
        .await
    }

    /// The next event of this name. Others are kept.
    pub async fn event(&mut self, event: &str) -> Result<Value> {
        self.wait_for(|received| match received {
            Received::Event { name, arguments } if name == event => Some(first(arguments)),
            _ => None,
        })
        .await
        .with_context(|| format!("wait for {event}"))
    }

    /// The next packet of the server, `None` when the connection is closed. A caller that gives up
    /// waiting loses nothing.
    pub async fn receive(&mut self) -> Result<Option<Received>> {
        match self.passed_over.pop_front() {
            Some(received) => Ok(Some(received)),
            None => self.next().await,
        }
    }

    /// Disconnects, and returns when the server has noticed.
    pub async fn disconnect(mut self) -> Result<()> {
        // A disconnect has no answer. An immediate reconnect has one, which follows the disconnect.
        self.send_packet(&Packet::Disconnect).await?;
        self.join_namespace(Value::Null).await?;
        self.transport.close().await
    }

    /// Disconnects, and does not wait for anything.
    pub async fn leave(mut self) -> Result<()> {
        self.send_packet(&Packet::Disconnect).await?;
        self.transport.close().await
    }

    async fn wait_for(&mut self, wanted: impl Fn(&mut Received) -> Option<Value>) -> Result<Value> {
        let found = self.passed_over.iter_mut().enumerate();
        if let Some((index, value)) =
            found.filter_map(|(index, received)| Some((index, wanted(received)?))).next()
        {
            self.passed_over.remove(index);
            return Ok(value);
        }
        loop {
            let mut received = self.next().await?.context("the server closed the connection")?;
            if let Some(value) = wanted(&mut received) {
                return Ok(value);
            }
            self.passed_over.push_back(received);
        }
    }

    async fn join_namespace(&mut self, auth: Value) -> Result<(), ConnectError> {
        self.send_packet(&Packet::Connect(auth)).await?;
        loop {
            let packet = self.transport.receive().await?;
            let packet = packet.context("the server closed instead of connecting")?;
            match Packet::decode(&packet, &self.namespace)? {
                Some(Packet::Connect(answer)) => {
                    self.id = answer["sid"].as_str().unwrap_or_default().into();
                    return Ok(());
                }
                Some(Packet::ConnectError(error)) => return Err(ConnectError::Refused(error)),
                Some(other) => self.passed_over.extend(received(other)?),
                None => {}
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Received>> {
        while let Some(packet) = self.transport.receive().await? {
            match Packet::decode(&packet, &self.namespace) {
                Ok(Some(packet)) => {
                    if let Some(received) = received(packet)? {
                        return Ok(Some(received));
                    }
                }
                Ok(None) => {}
                Err(error) => return Ok(Some(Received::Unreadable(format!("{error:#}")))),
            }
        }
        Ok(None)
    }

    async fn send_packet(&mut self, packet: &Packet) -> Result<()> {
        self.transport.send(packet.encode(&self.namespace)).await
    }
}

/// The payload of an event or of an answer: the contract has only one argument.
fn first(arguments: &mut [Value]) -> Value {
    arguments.first_mut().map(Value::take).unwrap_or_default()
}

fn received(packet: Packet) -> Result<Option<Received>> {
    Ok(Some(match packet {
        Packet::Event { name, arguments, .. } => Received::Event { name, arguments },
        Packet::Ack { id, arguments } => Received::Ack { id, arguments },
        Packet::Disconnect => Received::Disconnected,
        Packet::Connect(_) => return Ok(None),
        Packet::ConnectError(error) => bail!("refused in the middle of a session: {error}"),
    }))
}
