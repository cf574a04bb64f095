//! Passes HTTP, polling and WebSockets on to a server, and shows the recording their contents.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_tungstenite::{
    WebSocketStream, connect_async,
    tungstenite::{self, client::IntoClientRequest, handshake::derive_accept_key, protocol::Role},
};
use url::Url;

use super::{
    recording::Recording,
    relay::{Poll, Relay, parameter},
    websocket::join,
};
use crate::tools::client::packet::engine;

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
    let proxy = Proxy { url, http, recording, relays: Arc::default() };
    Ok(Router::new().fallback(pass_on).with_state(proxy))
}

#[derive(Clone)]
struct Proxy {
    url: Url,
    http: reqwest::Client,
    recording: Arc<Recording>,
    /// The Engine.IO sessions that began by polling.
    relays: Arc<Mutex<HashMap<String, Arc<Relay>>>>,
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
        let Some(relay) = self.relay(&parts) else {
            let (response, body) = self.request(&parts, body).await?;
            self.opened(&parts, &String::from_utf8_lossy(&body));
            return Ok(response);
        };
        relay.requested();
        if parts.method == "POST" {
            return self.post(&parts, &body, &relay).await;
        }
        let poll = Poll::new(&relay);
        let (response, body) = self.request(&parts, body).await?;
        poll.answered();
        let text = String::from_utf8_lossy(&body);
        for packet in text.split(engine::SEPARATOR) {
            relay.server_sent(packet);
        }
        if response.status() != StatusCode::OK || text.ends_with(engine::CLOSE) {
            relay.server_ends();
        }
        Ok(response)
    }

    /// Passes on the packets of a client's post, one at a time, each when it is its turn.
    async fn post(&self, parts: &Parts, body: &[u8], relay: &Arc<Relay>) -> Result<Response> {
        let text = std::str::from_utf8(body).context("the request is no text")?;
        let mut last = None;
        for packet in text.split(engine::SEPARATOR) {
            if packet == engine::CLOSE {
                relay.client_ends().await;
            }
            relay.client_sends(packet).await;
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
                let (relay, is_session) = match proxy.relay(&parts) {
                    Some(relay) => (Some(relay), false),
                    None if is_recorded(&parts) => {
                        (Some(Relay::new(&proxy.recording, &parts)), true)
                    }
                    None => (None, true),
                };
                join(client.await, server, relay, is_session).await;
            }
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, accept);
        Ok(response.body(Body::empty())?)
    }

    /// Notes a session that opens by polling.
    fn opened(&self, parts: &Parts, body: &str) {
        #[derive(Deserialize)]
        struct Open {
            sid: String,
        }

        let packet = body.split(engine::SEPARATOR).next().unwrap_or_default();
        let open = packet.strip_prefix(engine::OPEN).map(serde_json::from_str);
        if let Some(Ok(Open { sid })) = open {
            self.relays().insert(sid, Relay::new(&self.recording, parts));
        }
    }

    /// The polling session that a request belongs to.
    fn relay(&self, parts: &Parts) -> Option<Arc<Relay>> {
        self.relays().get(&parameter(parts, "sid")?).cloned()
    }

    fn relays(&self) -> MutexGuard<'_, HashMap<String, Arc<Relay>>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, parts: &Parts) -> Result<Url> {
        // Joining would make `//host/` another server.
        let mut url = self.url.clone();
        url.set_path(parts.uri.path());
        url.set_query(parts.uri.query());
        Ok(url)
    }

    /// The headers for the server. A page that the recorder serves is one of the server's own.
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

/// Whether the request is Socket.IO of a version whose packets a file can hold.
fn is_recorded(parts: &Parts) -> bool {
    parts.uri.path().trim_end_matches('/') == "/socket.io"
        && parameter(parts, "EIO").is_some_and(|version| version == "4")
}
