//! Engine.IO's two transports, as a client uses them.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};
use url::Url;

use super::{ConnectError, Options, TransportKind, packet::engine};

/// The time limit for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// An open Engine.IO session. It reads from the network only on request; a request may be given up
/// at any time without losing anything.
pub(super) struct Transport {
    line: Wire,
    pong: Pong,
}

enum Wire {
    WebSocket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Polling(Polling),
}

/// The state of the answer to the server's heartbeat. It is sent once, even if a request is given
/// up: a server that counts two of them takes the second one for an answer to its next heartbeat.
#[derive(Default)]
enum Pong {
    #[default]
    Sent,
    Owed,
    /// The answer is in the WebSocket's buffer.
    Buffered,
    Posting(BoxFuture<'static, Result<()>>),
}

impl Transport {
    /// Opens a session at `base` (`http`, `https`, `ws` or `wss`).
    pub async fn open(base: &Url, options: &Options) -> Result<Self, ConnectError> {
        let headers = headers(options)?;
        let line = match options.transport() {
            TransportKind::Websocket => open_websocket(base, options, headers).await?,
            TransportKind::Polling => Wire::Polling(Polling::open(base, options, headers).await?),
        };
        Ok(Self { line, pong: Pong::default() })
    }

    pub async fn send(&mut self, packet: String) -> Result<()> {
        match &mut self.line {
            Wire::WebSocket(socket) => Ok(socket.send(Message::text(packet)).await?),
            Wire::Polling(polling) => polling.post(packet).await,
        }
    }

    /// The next packet that is no heartbeat, `None` when the session has ended.
    pub async fn receive(&mut self) -> Result<Option<String>> {
        loop {
            self.send_pong().await?;
            let packet = match &mut self.line {
                Wire::WebSocket(socket) => match socket.next().await.transpose()? {
                    None | Some(Message::Close(_)) => return Ok(None),
                    Some(Message::Text(text)) => text.to_string(),
                    Some(_) => continue,
                },
                Wire::Polling(polling) => match polling.receive().await? {
                    None => return Ok(None),
                    Some(packet) => packet,
                },
            };
            match packet.as_str() {
                engine::PING => self.pong = Pong::Owed,
                engine::NOOP => {}
                engine::CLOSE => return Ok(None),
                _ => return Ok(Some(packet)),
            }
        }
    }

    async fn send_pong(&mut self) -> Result<()> {
        loop {
            let next = match (&mut self.pong, &mut self.line) {
                (Pong::Sent, _) => return Ok(()),
                (Pong::Owed, Wire::WebSocket(socket)) => {
                    socket.feed(Message::text(engine::PONG)).await?;
                    Pong::Buffered
                }
                (Pong::Owed, Wire::Polling(polling)) => {
                    Pong::Posting(Box::pin(polling.post(engine::PONG.into())))
                }
                (Pong::Buffered, Wire::WebSocket(socket)) => {
                    socket.flush().await?;
                    Pong::Sent
                }
                (Pong::Buffered, Wire::Polling(_)) => unreachable!("polling has no buffer"),
                (Pong::Posting(posting), _) => {
                    // If the session has ended, the next poll says so, after the packets that have
                    // arrived.
                    let _ = posting.await;
                    Pong::Sent
                }
            };
            self.pong = next;
        }
    }

    /// Ends the session, and returns when the server knows of it.
    pub async fn close(mut self) -> Result<()> {
        match &mut self.line {
            Wire::WebSocket(socket) => Ok((**socket).close(None).await?),
            Wire::Polling(polling) => polling.post(engine::CLOSE.into()).await,
        }
    }
}

async fn open_websocket(
    base: &Url,
    options: &Options,
    headers: HeaderMap,
) -> Result<Wire, ConnectError> {
    let mut url = handshake_url(base, options, "websocket");
    let scheme = if matches!(base.scheme(), "https" | "wss") { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| anyhow!("{base} is no address of a server"))?;
    let mut request = url.as_str().into_client_request().map_err(anyhow::Error::from)?;
    request.headers_mut().extend(headers);
    let connecting = tokio::time::timeout(CONNECT_PATIENCE, connect_async(request));
    match connecting.await.context("no connection in time")? {
        Ok((mut socket, _)) => {
            let opened = socket.next().await.context("the server closed instead of opening")?;
            let opened = opened.map_err(anyhow::Error::from)?;
            let is_open = matches!(&opened, Message::Text(text) if text.starts_with(engine::OPEN));
            ensure_open(is_open, &opened)?;
            Ok(Wire::WebSocket(Box::new(socket)))
        }
        Err(tungstenite::Error::Http(response)) => Err(ConnectError::Status(response.status())),
        Err(error) => Err(ConnectError::Unreachable(error.into())),
    }
}

fn ensure_open(is_open: bool, opened: &dyn std::fmt::Debug) -> Result<()> {
    ensure!(is_open, "expected an Engine.IO session to open, got {opened:?}");
    Ok(())
}

/// A session that fetches its packets with one request after another.
struct Polling {
    http: reqwest::Client,
    url: Url,
    arrived: VecDeque<String>,
    /// The request in progress. It outlives a caller that gives up waiting: its packets are sent
    /// once.
    poll: Option<BoxFuture<'static, reqwest::Result<(StatusCode, String)>>>,
}

impl Polling {
    async fn open(base: &Url, options: &Options, headers: HeaderMap) -> Result<Self, ConnectError> {
        let mut url = handshake_url(base, options, "polling");
        let scheme = if matches!(base.scheme(), "https" | "wss") { "https" } else { "http" };
        url.set_scheme(scheme).map_err(|()| anyhow!("{base} is no address of a server"))?;
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_PATIENCE)
            .no_proxy()
            .build()
            .context("prepare an HTTP client")?;
        let mut polling = Self { http, url, arrived: VecDeque::new(), poll: None };
        let (status, body) = polling.get().await.map_err(anyhow::Error::from)?;
        if status != StatusCode::OK {
            return Err(ConnectError::Status(status));
        }
        polling.arrived = packets(&body);
        let opened = polling.arrived.pop_front().unwrap_or_default();

        #[derive(Deserialize)]
        struct Open {
            sid: String,
        }

        ensure_open(opened.starts_with(engine::OPEN), &opened)?;
        let Open { sid } = serde_json::from_str(&opened[1..]).context("open a session")?;
        polling.url.query_pairs_mut().append_pair("sid", &sid);
        Ok(polling)
    }

    fn get(&self) -> BoxFuture<'static, reqwest::Result<(StatusCode, String)>> {
        let request = self.http.get(self.url.clone());
        Box::pin(async {
            let response = request.send().await?;
            Ok((response.status(), response.text().await?))
        })
    }

    fn post(&self, packet: String) -> impl Future<Output = Result<()>> + Send + 'static {
        let request = self.http.post(self.url.clone()).body(packet);
        async {
            let response = request.send().await?;
            ensure!(response.status() == StatusCode::OK, "the session has ended");
            Ok(())
        }
    }

    async fn receive(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(packet) = self.arrived.pop_front() {
                return Ok(Some(packet));
            }
            if self.poll.is_none() {
                self.poll = Some(self.get());
            }
            let polled = self.poll.as_mut().expect("set above").await;
            self.poll = None;
            let (status, body) = polled?;
            if status != StatusCode::OK {
                return Ok(None);
            }
            self.arrived = packets(&body);
        }
    }
}

fn packets(body: &str) -> VecDeque<String> {
    body.split(engine::SEPARATOR).map(ToOwned::to_owned).collect()
}

fn handshake_url(base: &Url, options: &Options, transport: &str) -> Url {
    let mut url = base.clone();
    url.set_path("/socket.io/");
    url.query_pairs_mut()
        .clear()
        .append_pair("EIO", "4")
        .append_pair("transport", transport)
        .extend_pairs(&options.query);
    url
}

fn headers(options: &Options) -> Result<HeaderMap> {
    let header = |(name, value): (&String, &String)| {
        let name = name.parse::<HeaderName>().with_context(|| format!("header {name:?}"))?;
        let value = value.parse::<HeaderValue>().with_context(|| format!("header {name}"))?;
        Ok((name, value))
    };
    options.extra_headers.iter().map(header).collect()
}
