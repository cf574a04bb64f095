//! Passes HTTP, polling and WebSockets on to a server, and shows the recording what passes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::{
    Sink, SinkExt, Stream, StreamExt,
    future::{Either, select},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_tungstenite::{
    WebSocketStream, connect_async,
    tungstenite::{
        self, Message, client::IntoClientRequest, handshake::derive_accept_key, protocol::Role,
    },
};
use url::Url;

use super::recording::Recording;
use crate::client::{
    TransportKind,
    packet::{Packet, engine},
};

/// The largest request that is passed on.
const MAX_BODY: usize = 16 << 20;

/// Headers that are of one connection only, or that are written anew.
const NOT_PASSED_ON: [HeaderName; 8] = [
    header::CONNECTION,
    header::UPGRADE,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::ACCEPT_ENCODING,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
];

/// Passes everything on to the server at `url`.
pub fn router(url: Url, recording: Arc<Recording>) -> Result<Router> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("prepare an HTTP client")?;
    let proxy = Proxy { url, http, recording, links: Arc::default() };
    Ok(Router::new().fallback(pass_on).with_state(proxy))
}

#[derive(Clone)]
struct Proxy {
    url: Url,
    http: reqwest::Client,
    recording: Arc<Recording>,
    /// The Engine.IO sessions that began by polling.
    links: Arc<Mutex<HashMap<String, Arc<Link>>>>,
}

/// An Engine.IO session, which may change from polling to a WebSocket.
#[derive(Default)]
struct Link {
    /// That of the recording, while the client is connected to the namespace.
    session: Mutex<Option<usize>>,
}

impl Link {
    fn session(&self) -> MutexGuard<'_, Option<usize>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pass_on(State(proxy): State<Proxy>, request: Request) -> Response {
    let passed = if request.headers().contains_key(header::SEC_WEBSOCKET_KEY) {
        proxy.websocket(request).await
    } else {
        proxy.http(request).await
    };
    passed.unwrap_or_else(|error| {
        (StatusCode::BAD_GATEWAY, format!("{}: {error:#}\n", proxy.url)).into_response()
    })
}

impl Proxy {
    async fn http(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_BODY).await.context("read the request")?;
        if !is_recorded(&parts) {
            return self.request(&parts, body).await.map(|(response, _)| response);
        }
        let link = self.link(&parts);
        if let (Some(link), true) = (&link, parts.method == "POST") {
            return self.post(&parts, &body, link).await;
        }
        let (response, body) = self.request(&parts, body).await?;
        let text = String::from_utf8_lossy(&body);
        let mut link = link;
        if response.status() == StatusCode::OK {
            for packet in text.split(engine::SEPARATOR) {
                match &link {
                    Some(link) => self.server_sent(link, packet),
                    None => link = self.opened(packet),
                }
            }
        }
        Ok(response)
    }

    /// Passes on what a client posts, a packet at a time, each when it is its turn.
    async fn post(&self, parts: &Parts, body: &[u8], link: &Arc<Link>) -> Result<Response> {
        let text = std::str::from_utf8(body).context("the request is no text")?;
        let mut last = None;
        for packet in text.split(engine::SEPARATOR) {
            if packet == engine::CLOSE {
                self.client_ends(link).await;
            }
            self.client_sends(link, packet, Some(TransportKind::Polling)).await;
            let (response, _) = self.request(parts, packet.to_owned().into()).await?;
            let is_taken = response.status().is_success();
            last = Some(response);
            if !is_taken {
                break;
            }
        }
        last.context("the request has no packets")
    }

    async fn request(&self, parts: &Parts, body: Bytes) -> Result<(Response, Bytes)> {
        let request = self
            .http
            .request(parts.method.clone(), self.target(parts)?)
            .headers(self.headers(&parts.headers))
            .body(body);
        let mut answer = request.send().await.context("there is no answer")?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        NOT_PASSED_ON.iter().for_each(|name| drop(response.headers_mut().remove(name)));
        let body = answer.bytes().await.context("the answer breaks off")?;
        *response.body_mut() = body.clone().into();
        Ok((response, body))
    }

    async fn websocket(&self, mut request: Request) -> Result<Response> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let mut url = self.target(&parts)?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).map_err(|()| anyhow::Error::msg("this is no address"))?;
        let mut handshake = url.as_str().into_client_request()?;
        handshake.headers_mut().extend(self.headers(&parts.headers));
        let server = match connect_async(handshake).await {
            Ok((server, _)) => server,
            Err(tungstenite::Error::Http(refusal)) => {
                let body = refusal.body().clone().unwrap_or_default();
                return Ok((refusal.status(), body).into_response());
            }
            Err(error) => return Err(error.into()),
        };
        let key = &parts.headers[header::SEC_WEBSOCKET_KEY];
        let accept = derive_accept_key(key.as_bytes());
        let proxy = self.clone();
        tokio::spawn(async move {
            // A client that is gone already has nothing to lose.
            if let Ok(upgraded) = upgrade.await {
                let client =
                    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None);
                proxy.join(&parts, client.await, server).await;
            }
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, accept);
        Ok(response.body(Body::empty())?)
    }

    /// Passes frames on in both directions, until one side ends.
    async fn join<C, S>(&self, parts: &Parts, client: C, server: S)
    where
        C: Frames,
        S: Frames,
    {
        let is_recorded = is_recorded(parts);
        // A WebSocket that comes to a polling session is it only once the client has said so.
        let (link, is_session) = match self.link(parts) {
            Some(link) => (link, false),
            None => (Arc::default(), true),
        };
        let is_session = AtomicBool::new(is_session);
        let (mut to_client, mut from_client) = client.split();
        let (mut to_server, mut from_server) = server.split();
        let out = async {
            while let Some(Ok(frame)) = from_client.next().await {
                if let (Message::Text(text), true) = (&frame, is_recorded) {
                    is_session.fetch_or(text.as_str() == engine::UPGRADE, Ordering::Relaxed);
                    let upgrades = parameter(parts, "sid").is_some();
                    let transport = (!upgrades).then_some(TransportKind::Websocket);
                    self.client_sends(&link, text, transport).await;
                }
                if frame.is_close() {
                    return End::Goodbye;
                }
                if to_server.send(frame).await.is_err() {
                    break;
                }
            }
            End::Silence
        };
        let back = async {
            while let Some(Ok(frame)) = from_server.next().await {
                if let (Message::Text(text), true) = (&frame, is_recorded) {
                    self.server_sent(&link, text);
                }
                if frame.is_close() || to_client.send(frame).await.is_err() {
                    break;
                }
            }
        };
        let end = match select(Box::pin(out), Box::pin(back)).await {
            Either::Left((end, _)) => end,
            Either::Right(_) => End::ByServer,
        };
        match end {
            _ if !is_session.into_inner() => {}
            End::Goodbye => self.client_ends(&link).await,
            End::Silence => {
                let session = link.session().take();
                if let Some(session) = session {
                    self.recording.vanished(session).await;
                }
            }
            End::ByServer => {
                if let Some(session) = link.session().take() {
                    self.recording.closed(session);
                }
            }
        }
        let _ = to_server.close().await;
        let _ = to_client.close().await;
    }

    async fn client_sends(&self, link: &Link, text: &str, transport: Option<TransportKind>) {
        let Ok(Some(packet)) = Packet::decode(text, "") else { return };
        let is_connect = matches!(packet, Packet::Connect(_));
        let session = *link.session();
        let session = self.recording.sent(session, packet, text.starts_with("45")).await;
        if is_connect || session.is_none() {
            *link.session() = session;
        }
        if let Some(session) = session
            && (is_connect || transport.is_none())
        {
            // WebSocket is what a file's clients use anyway.
            let named = transport.filter(|transport| *transport != TransportKind::default());
            self.recording.uses(session, named);
        }
    }

    fn server_sent(&self, link: &Link, text: &str) {
        let Ok(Some(packet)) = Packet::decode(text, "") else { return };
        let mut session = link.session();
        if let Some(open) = *session
            && !self.recording.received(open, packet)
        {
            *session = None;
        }
    }

    /// The client has closed its session, with or without a packet for the namespace before.
    async fn client_ends(&self, link: &Link) {
        let session = link.session().take();
        if session.is_some() {
            self.recording.sent(session, Packet::Disconnect, false).await;
        }
    }

    /// Takes note of a session that opens by polling.
    fn opened(&self, packet: &str) -> Option<Arc<Link>> {
        let open: Value = serde_json::from_str(packet.strip_prefix(engine::OPEN)?).ok()?;
        let link = Arc::<Link>::default();
        self.links().insert(open["sid"].as_str()?.to_owned(), link.clone());
        Some(link)
    }

    /// The polling session that a request belongs to.
    fn link(&self, parts: &Parts) -> Option<Arc<Link>> {
        self.links().get(&parameter(parts, "sid")?).cloned()
    }

    fn links(&self) -> MutexGuard<'_, HashMap<String, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, parts: &Parts) -> Result<Url> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        self.url.join(path).context("there is no such address")
    }

    /// The headers that the server gets. A page that comes from here is one of the server's own.
    fn headers(&self, from_client: &HeaderMap) -> HeaderMap {
        let mut headers = from_client.clone();
        NOT_PASSED_ON.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        let own = from_client.get(header::HOST).and_then(|host| host.to_str().ok());
        let origin = from_client.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        let is_own = |origin: &str| origin.split_once("://").map(|(_, host)| host) == own;
        if origin.is_some_and(is_own)
            && let Ok(origin) = HeaderValue::from_str(&self.url.origin().ascii_serialization())
        {
            headers.insert(header::ORIGIN, origin);
        }
        headers
    }
}

/// How a session ends.
enum End {
    /// The client has closed it.
    Goodbye,
    /// The client's connection broke.
    Silence,
    ByServer,
}

/// Both directions of a WebSocket.
trait Frames:
    Stream<Item = tungstenite::Result<Message>> + Sink<Message, Error = tungstenite::Error> + Send
{
}

impl<T> Frames for T where
    T: Stream<Item = tungstenite::Result<Message>>
        + Sink<Message, Error = tungstenite::Error>
        + Send
{
}

/// Whether it is Socket.IO of a version whose packets a file can hold.
fn is_recorded(parts: &Parts) -> bool {
    parts.uri.path().trim_end_matches('/') == "/socket.io"
        && parameter(parts, "EIO").is_some_and(|version| version == "4")
}

fn parameter(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?.as_bytes();
    let mut pairs = url::form_urlencoded::parse(query);
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
