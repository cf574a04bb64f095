//! Where socketioxide ends: sockets come and go, their events come in, server events go out.
//!
//! Everything that one has to know about socketioxide is known here and nowhere else:
//!
//! - Handlers are types of our own instead of closures. A closure is spawned as a task for each
//!   event, so that two events of one socket may overtake each other; a `MessageHandler` itself
//!   is called in the order of arrival, on the task that reads the connection.
//! - They are registered before the CONNECT packet goes out (`call_middleware`), so that no event
//!   finds a socket without them, and events wait in the session until the socket may emit
//!   (`call`), which is a moment after the client knows that it is connected.
//! - Each socket's writer has a buffer of [`BUFFERED_PACKETS`], and what does not fit is dropped.
//!   That, or [`UNSENT_BYTES`], makes a slow reader. Its transport is closed, because from a
//!   Socket.IO disconnect clients do not come back by themselves.
//! - An event's name is read before we see it, and one with an escape in it (`"a\"b"`) closes the
//!   connection instead of getting `unknown_event`.

mod sockets;

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use futures_util::future::join_all;
use socketioxide::{SocketIo, operators::BroadcastOperators, socket::Sid};

use crate::{
    contract::MAX_FRAME_BYTES,
    net::Via,
    outlet::{Service, Transports},
    session::{Allowance, Session, Shared},
};

use sockets::{Acceptor, session};

/// How many packets may wait for a socket's writer.
const BUFFERED_PACKETS: usize = 8_192;

/// How long a client may take from the transport's beginning to its CONNECT.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked for sockets whose time is over.
const TIME_CHECK: Duration = Duration::from_secs(1);

/// Over how long the end of all sockets is spread, in how many portions, if they are not few.
const SPREAD: Duration = Duration::from_millis(300);
const PORTIONS: usize = 30;
const FEW: usize = 100;

/// How long an upgrade waits for the polls that go before it.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(3);

/// How much of a WebSocket is read at once, in bytes. Each socket keeps a buffer of this size, and
/// most events are a few hundred bytes; larger ones make it grow.
const READ_BUFFER: usize = 1_024;

/// What all sockets share.
pub struct Gateway {
    shared: Arc<Shared>,
    next_socket: AtomicU64,
    transports: Arc<Transports>,
    /// Set once, right after it is built with this gateway.
    io: OnceLock<SocketIo>,
    is_closing: AtomicBool,
}

impl Gateway {
    /// Starts to take sockets.
    pub fn start(shared: Arc<Shared>) -> (Arc<Self>, Service) {
        let needs_tokens = shared.tokens.is_some();
        let gateway = Arc::new(Self {
            shared,
            next_socket: AtomicU64::new(1),
            transports: Arc::default(),
            io: OnceLock::new(),
            is_closing: AtomicBool::new(false),
        });
        let (service, io) = SocketIo::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .max_buffer_size(BUFFERED_PACKETS)
            .max_payload(MAX_FRAME_BYTES as u64)
            .ws_max_message_size(MAX_FRAME_BYTES)
            .ws_read_buffer_size(READ_BUFFER)
            .ws_max_frame_size(MAX_FRAME_BYTES)
            .build_with_inner_svc(Router::new());
        io.ns("/", Acceptor::of(gateway.clone()));
        gateway.transports.serve_with(service.clone());
        let _ = gateway.io.set(io);
        if needs_tokens {
            tokio::spawn(check_times(Arc::downgrade(&gateway)));
        }
        (gateway, service)
    }

    /// A WebSocket is asked for on this connection: a new session, or one that goes on there.
    pub fn websocket_requested(&self, session: Option<Sid>, connection: &Via) {
        let Some(tcp) = connection.0.upgrade() else { return };
        tcp.becomes_websocket();
        match session {
            None => tcp.awaits_connect(),
            Some(sid) => self.transports.upgrades(sid, connection.0.clone()),
        }
    }

    /// Whether a polling session may go on as a WebSocket now. What a poll has set aside for the
    /// next one would be lost on the way, so it has to be fetched first.
    pub async fn may_upgrade(&self, session: Sid) -> bool {
        let Some(session) = self.session(session) else { return true };
        tokio::time::timeout(UPGRADE_PATIENCE, session.outlet.flushed()).await.is_ok()
    }

    /// What a transport that begins now may ask for.
    pub fn transport_begins(&self) -> Arc<Allowance> {
        Arc::new(Allowance::new(&self.shared.limits))
    }

    /// Whether the server takes no new sessions any more.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// A poll of this session was answered with so many bytes of events and acknowledgements.
    pub fn polled(&self, session: Sid, bytes: u64) {
        if let Some(session) = self.session(session) {
            session.outlet.polled(bytes);
        }
    }

    /// Accepts no more events, and resolves when every one that has come is answered.
    pub async fn drained(&self) {
        self.sessions().for_each(|session| session.stop());
        self.shared.accepted.close();
        self.shared.accepted.wait().await;
    }

    /// Resolves when every reader has taken what it was sent.
    pub async fn flushed(&self) {
        let sessions: Vec<_> = self.sessions().collect();
        join_all(sessions.iter().map(|session| session.outlet.flushed())).await;
    }

    fn sessions(&self) -> impl Iterator<Item = Arc<Session>> {
        let sockets = self.namespace().map(|sockets| sockets.sockets()).unwrap_or_default();
        sockets.into_iter().filter_map(|socket| session(&socket))
    }

    fn session(&self, sid: Sid) -> Option<Arc<Session>> {
        session(&*self.namespace()?.get_socket(sid)?)
    }

    /// Closes the transports of all sockets.
    pub async fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        // Not all at the same moment, because they all come back.
        let sessions: Vec<_> = self.sessions().collect();
        if sessions.len() > FEW {
            for some in sessions.chunks(sessions.len().div_ceil(PORTIONS)) {
                some.iter().for_each(|session| session.outlet.end());
                tokio::time::sleep(SPREAD / PORTIONS as u32).await;
            }
        }
        if let Some(io) = self.io.get() {
            io.close().await;
        }
    }

    /// The main namespace, as long as the server is not closed.
    fn namespace(&self) -> Option<BroadcastOperators> {
        self.io.get()?.of("/")
    }
}

/// Disconnects sockets whose time is over, as long as there is a gateway.
async fn check_times(gateway: Weak<Gateway>) {
    loop {
        tokio::time::sleep(TIME_CHECK).await;
        let Some(gateway) = gateway.upgrade() else { return };
        gateway.sessions().for_each(|session| session.check_time());
    }
}
