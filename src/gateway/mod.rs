//! The border to socketioxide: connects and disconnects, and incoming events. `outlet` is the border
//! for outgoing packets, `net::gate` holds early events back.
//!
//! - Handlers are types of our own instead of closures. A closure is spawned as a task for each
//!   event, so that two events of one socket may overtake each other; a `MessageHandler` itself
//!   is called in the order of arrival, on the task that reads the connection.
//! - Handlers are registered before the CONNECT packet goes out (`call_middleware`), so that no
//!   event finds a socket without them, and events wait in the session until the socket may emit
//!   (`call`), a moment after the client knows that it is connected.
//! - Socketioxide reads an event's name before the handler, and a name with an escape in it
//!   (`"a\"b"`) closes the connection instead of getting `unknown_event`.

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
    outlet::{EngineTransport, Service, Transports},
    session::{Allowance, Session, Shared},
};

use sockets::{Acceptor, session};

/// The number of packets that may wait for a socket's writer.
const BUFFERED_PACKETS: usize = 8_192;

/// The time that a client may take from the start of the transport to its CONNECT.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// The interval of the check for sockets whose time is over.
const TIME_CHECK: Duration = Duration::from_secs(1);

/// The time over which the end of all sockets is spread, and the number of portions. Up to [`FEW`]
/// sockets end at once.
const SPREAD: Duration = Duration::from_millis(300);
const PORTIONS: usize = 30;
const FEW: usize = 100;

/// The time that an upgrade waits for the polls before it.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(3);

/// The number of bytes that are read from a WebSocket at once. Each socket keeps a buffer of this
/// size, and most events are a few hundred bytes; larger ones make it grow.
const READ_BUFFER: usize = 1_024;

/// The state that all sockets share.
pub struct Gateway {
    shared: Arc<Shared>,
    next_socket: AtomicU64,
    transports: Arc<Transports>,
    /// Set once, right after socketioxide is built with this gateway.
    io: OnceLock<SocketIo>,
    is_closing: AtomicBool,
}

impl Gateway {
    /// Starts to accept sockets.
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

    /// Notes a WebSocket request on this connection: for a new session, or for one that continues
    /// there.
    pub fn websocket_requested(&self, session: Option<Sid>, connection: &Via) {
        let Some(tcp) = connection.0.upgrade() else { return };
        tcp.becomes_websocket();
        match session {
            None => tcp.awaits_connect(),
            Some(sid) => self.transports.upgrades(sid, connection.0.clone()),
        }
    }

    /// Whether a polling session may upgrade to a WebSocket now. Packets that a poll has set aside
    /// for the next one would be lost on the way, so the client has to fetch them first.
    pub async fn may_upgrade(&self, session: Sid) -> bool {
        let Some(session) = self.session(session) else { return true };
        tokio::time::timeout(UPGRADE_PATIENCE, session.outlet.flushed()).await.is_ok()
    }

    /// The allowance of a transport that begins now.
    pub fn transport_begins(&self) -> Arc<Allowance> {
        Arc::new(Allowance::new(&self.shared.limits))
    }

    /// Whether the server accepts no new sessions any more.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Counts the bytes of events and acknowledgements in the answer to a poll of this session.
    pub fn polled(&self, session: Sid, bytes: u64) {
        if let Some(session) = self.session(session) {
            session.outlet.polled(bytes);
        }
    }

    /// Ends a polling session at once.
    pub fn end_polling(&self, session: Sid) {
        self.transports.end(EngineTransport::Polling(session));
    }

    /// Accepts no more events, and resolves when all accepted ones are answered.
    pub async fn drained(&self) {
        self.sessions().for_each(|session| session.stop());
        self.shared.accepted.close();
        self.shared.accepted.wait().await;
    }

    /// Resolves when every reader has received all packets that were sent to it.
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
        // The transports end at different moments, because all clients reconnect.
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

/// Disconnects sockets whose time is over, as long as the gateway exists.
async fn check_times(gateway: Weak<Gateway>) {
    loop {
        tokio::time::sleep(TIME_CHECK).await;
        let Some(gateway) = gateway.upgrade() else { return };
        gateway.sessions().for_each(|session| session.check_time());
    }
}
