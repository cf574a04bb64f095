//! Passes HTTP, polling and WebSockets on to a server, and shows the recording what passes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
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
use serde::Deserialize;
use tokio::sync::mpsc::unbounded_channel;
use tokio_tungstenite::{
    WebSocketStream, connect_async,
    tungstenite::{
        self, Message, client::IntoClientRequest, handshake::derive_accept_key, protocol::Role,
    },
};
use url::Url;

use super::recording::Recording;
use crate::client::{
    Options, TransportKind,
    packet::{Packet, engine},
};

/// The largest request that is passed on.
const MAX_BODY: usize = 16 << 20;

/// Parameters of Engine.IO's own.
const OWN_PARAMETERS: [&str; 5] = ["EIO", "transport", "sid", "t", "b64"];
/// How long a client whose poll has broken off may take to poll again.
const COME_BACK: Duration = Duration::from_secs(2);

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
struct Link {
    /// What the client's handshake says.
    options: Options,
    /// That of the recording, while the client is connected to the namespace.
    session: Mutex<Option<usize>>,
    /// How many requests of it have come.
    requests: AtomicUsize,
}

impl Link {
    fn new(parts: &Parts) -> Arc<Self> {
        let (session, requests) = (Mutex::default(), AtomicUsize::default());
        Arc::new(Self { options: options(parts), session, requests })
    }

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
        let Some(link) = self.link(&parts) else {
            let (response, body) = self.request(&parts, body).await?;
            self.opened(&parts, &String::from_utf8_lossy(&body));
            return Ok(response);
        };
        link.requests.fetch_add(1, Ordering::Relaxed);
        if parts.method == "POST" {
            return self.post(&parts, &body, &link).await;
        }
        let poll = Poll { proxy: self, link: &link, is_answered: false };
        let (response, body) = self.request(&parts, body).await?;
        poll.answered();
        let text = String::from_utf8_lossy(&body);
        for packet in text.split(engine::SEPARATOR) {
            self.server_sent(&link, packet);
        }
        if response.status() != StatusCode::OK || text.ends_with(engine::CLOSE) {
            self.server_ends(&link);
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
            self.client_sends(link, packet).await;
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
    async fn join<C: Frames, S: Frames>(&self, parts: &Parts, client: C, server: S) {
        let is_recorded = is_recorded(parts);
        // A WebSocket that comes to a polling session is it only once the client has said so.
        let polled = self.link(parts);
        let is_session = AtomicBool::new(polled.is_none());
        let link = polled.unwrap_or_else(|| Link::new(parts));
        let (mut to_client, mut from_client) = client.split();
        let (mut to_server, mut from_server) = server.split();
        // Messages wait for their turn. Heartbeats do not, nor do answers that the server asked for.
        let (acts, mut to_act) = unbounded_channel::<Message>();
        let (passes, mut to_pass) = unbounded_channel::<Message>();
        let acted = passes.clone();
        let read = async move {
            while let Some(Ok(frame)) = from_client.next().await {
                let waits = is_recorded
                    && match &frame {
                        Message::Text(text) => text.starts_with('4') && !text.starts_with("43"),
                        Message::Binary(_) => true,
                        _ => false,
                    };
                if frame.is_close() {
                    return true;
                }
                let _ = if waits { acts.send(frame) } else { passes.send(frame) };
            }
            false
        };
        let act = async {
            while let Some(frame) = to_act.recv().await {
                if let Message::Text(text) = &frame {
                    self.client_sends(&link, text).await;
                }
                let _ = acted.send(frame);
            }
            // What the client has still said is passed on.
            drop(acted);
        };
        let write = async {
            while let Some(frame) = to_pass.recv().await {
                if let Message::Text(text) = &frame
                    && text.as_str() == engine::UPGRADE
                {
                    is_session.store(true, Ordering::Relaxed);
                    if let Some(session) = *link.session() {
                        self.recording.uses(session, TransportKind::Websocket);
                    }
                }
                if to_server.send(frame).await.is_err() {
                    // The server's own end tells.
                    std::future::pending::<()>().await;
                }
            }
        };
        let out = async {
            let (is_goodbye, (), ()) = tokio::join!(read, act, write);
            // What it has brought about may still come, until it is the turn of this.
            match is_goodbye {
                _ if !is_session.load(Ordering::Relaxed) => {}
                true => self.client_ends(&link).await,
                false => self.vanished(&link).await,
            }
        };
        let back = async {
            let mut client_is_there = true;
            while let Some(Ok(frame)) = from_server.next().await {
                if let (Message::Text(text), true) = (&frame, is_recorded) {
                    self.server_sent(&link, text);
                }
                if frame.is_close() {
                    break;
                }
                client_is_there = client_is_there && to_client.send(frame).await.is_ok();
            }
        };
        let has_server_ended =
            matches!(select(Box::pin(out), Box::pin(back)).await, Either::Right(_));
        if has_server_ended && is_session.into_inner() {
            self.server_ends(&link);
        }
        let _ = to_server.close().await;
        let _ = to_client.close().await;
    }

    /// Notes what a client sends, once it is its turn.
    async fn client_sends(&self, link: &Link, text: &str) {
        let Ok(Some(packet)) = Packet::decode(text, "") else { return };
        let session = *link.session();
        match (packet, session) {
            (Packet::Connect(auth), _) => {
                let session = self.recording.connects(link.options.clone(), auth).await;
                *link.session() = Some(session);
            }
            (Packet::Disconnect, _) => self.client_ends(link).await,
            (Packet::Event { name, .. }, Some(session)) if text.starts_with("45") => {
                let what = format!("sent {name} with binary data, which a file cannot hold");
                self.recording.does(session, what).await;
            }
            (Packet::Event { ack, name, arguments }, Some(session)) => {
                self.recording.emits(session, ack, name, arguments).await;
            }
            (Packet::Event { .. } | Packet::Ack { .. } | Packet::ConnectError(_), _) => {}
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
        let session = *link.session();
        if let Some(session) = session {
            self.recording.disconnects(session).await;
            link.session().take();
        }
    }

    async fn vanished(&self, link: &Link) {
        let session = *link.session();
        if let Some(session) = session {
            self.recording.vanished(session).await;
            link.session().take();
        }
    }

    fn server_ends(&self, link: &Link) {
        if let Some(session) = link.session().take() {
            self.recording.closed(session);
        }
    }

    /// Takes note of a session that opens by polling.
    fn opened(&self, parts: &Parts, body: &str) {
        #[derive(Deserialize)]
        struct Open {
            sid: String,
        }

        let packet = body.split(engine::SEPARATOR).next().unwrap_or_default();
        let open = packet.strip_prefix(engine::OPEN).map(serde_json::from_str);
        if let Some(Ok(Open { sid })) = open {
            self.links().insert(sid, Link::new(parts));
        }
    }

    /// The polling session that a request belongs to.
    fn link(&self, parts: &Parts) -> Option<Arc<Link>> {
        self.links().get(&parameter(parts, "sid")?).cloned()
    }

    fn links(&self) -> MutexGuard<'_, HashMap<String, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, parts: &Parts) -> Result<Url> {
        // Not by joining: `//host/` would be another server.
        let mut url = self.url.clone();
        url.set_path(parts.uri.path());
        url.set_query(parts.uri.query());
        Ok(url)
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

/// A poll under way. A client that breaks it off, and does not come back, has vanished.
struct Poll<'a> {
    proxy: &'a Proxy,
    link: &'a Arc<Link>,
    is_answered: bool,
}

impl Poll<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let (proxy, link) = (self.proxy.clone(), self.link.clone());
            let requests = link.requests.load(Ordering::Relaxed);
            tokio::spawn(async move {
                tokio::time::sleep(COME_BACK).await;
                if link.requests.load(Ordering::Relaxed) == requests {
                    proxy.vanished(&link).await;
                }
            });
        }
    }
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

/// What a handshake says beyond what every one does: as an official client was told by its options.
fn options(parts: &Parts) -> Options {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let query = url::form_urlencoded::parse(query).into_owned();
    let is_told = |name: &HeaderName| {
        matches!(*name, header::AUTHORIZATION | header::COOKIE) || name.as_str().starts_with("x-")
    };
    let headers = parts.headers.iter().filter(|(name, _)| is_told(name));
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.to_string(), value.to_str().ok()?.to_owned()))
    };
    let polls = parameter(parts, "transport").is_some_and(|transport| transport == "polling");
    Options {
        auth: None,
        query: query.filter(|(name, _)| !OWN_PARAMETERS.contains(&name.as_str())).collect(),
        extra_headers: headers.filter_map(header).collect(),
        transports: polls.then_some([TransportKind::Polling]),
    }
}

fn parameter(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?.as_bytes();
    let mut pairs = url::form_urlencoded::parse(query);
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
