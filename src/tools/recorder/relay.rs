//! One Engine.IO session that passes through the recorder.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue, header, request::Parts};

use super::recording::Recording;
use crate::tools::client::{Options, TransportKind, packet::Packet};

/// The parameters that Engine.IO itself uses.
const OWN_PARAMETERS: [&str; 5] = ["EIO", "transport", "sid", "t", "b64"];
/// The time in which a client whose poll has broken off may poll again.
const COME_BACK: Duration = Duration::from_secs(2);

/// An Engine.IO session, which may change from polling to a WebSocket.
pub(super) struct Relay {
    recording: Arc<Recording>,
    /// The options in the client's handshake.
    options: Options,
    /// The session's index in the recording, while the client is connected to the namespace.
    session: Mutex<Option<usize>>,
    /// The number of requests of the session.
    requests: AtomicUsize,
}

impl Relay {
    /// The session that this handshake opens.
    pub fn new(recording: &Arc<Recording>, parts: &Parts) -> Arc<Self> {
        let (session, requests) = (Mutex::default(), AtomicUsize::default());
        Arc::new(Self { recording: recording.clone(), options: options(parts), session, requests })
    }

    fn session(&self) -> MutexGuard<'_, Option<usize>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request of the session.
    pub fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the session goes on over a WebSocket.
    pub fn upgraded(&self) {
        if let Some(session) = *self.session() {
            self.recording.uses(session, TransportKind::Websocket);
        }
    }

    /// Notes a packet that a client sends, once it is its turn.
    pub async fn client_sends(&self, text: &str) {
        let Ok(Some(packet)) = Packet::decode(text, "") else { return };
        let session = *self.session();
        match (packet, session) {
            (Packet::Connect(auth), _) => {
                let session = self.recording.connects(self.options.clone(), auth).await;
                *self.session() = Some(session);
            }
            (Packet::Disconnect, _) => self.client_ends().await,
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

    pub fn server_sent(&self, text: &str) {
        let Ok(Some(packet)) = Packet::decode(text, "") else { return };
        let mut session = self.session();
        if let Some(open) = *session
            && !self.recording.received(open, packet)
        {
            *session = None;
        }
    }

    /// Notes that the client has closed its session, with or without a packet for the namespace
    /// before.
    pub async fn client_ends(&self) {
        let session = *self.session();
        if let Some(session) = session {
            self.recording.disconnects(session).await;
            self.session().take();
        }
    }

    pub async fn vanished(&self) {
        let session = *self.session();
        if let Some(session) = session {
            self.recording.vanished(session).await;
            self.session().take();
        }
    }

    pub fn server_ends(&self) {
        if let Some(session) = self.session().take() {
            self.recording.closed(session);
        }
    }
}

/// A poll in progress. A client that breaks it off, and does not return, has vanished.
pub(super) struct Poll<'a> {
    link: &'a Arc<Relay>,
    is_answered: bool,
}

impl<'a> Poll<'a> {
    pub fn new(link: &'a Arc<Relay>) -> Self {
        Self { link, is_answered: false }
    }

    pub fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let link = self.link.clone();
            let requests = link.requests.load(Ordering::Relaxed);
            tokio::spawn(async move {
                tokio::time::sleep(COME_BACK).await;
                if link.requests.load(Ordering::Relaxed) == requests {
                    link.vanished().await;
                }
            });
        }
    }
}

/// The options of an official client, from the parts of its handshake that not every handshake has.
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

/// A parameter of the request's query.
pub(super) fn parameter(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?.as_bytes();
    let mut pairs = url::form_urlencoded::parse(query);
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
