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

mod outlet;
mod sockets;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use socketioxide::{
    SocketIo, operators::BroadcastOperators, service::SocketIoService, socket::Sid,
};
use tower::ServiceExt;

use crate::{
    commit::Commits,
    contract::MAX_FRAME_BYTES,
    net::{Connection, Via},
    session::{Rules, Session, Transport},
};

pub use outlet::Outlet;
use sockets::{Sockets, first_connection, session};

/// How many packets may wait for a socket's writer.
const BUFFERED_PACKETS: usize = 8_192;

/// How long a client may take from the transport's beginning to its CONNECT.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked for sockets whose time is over.
const TIME_CHECK: Duration = Duration::from_secs(1);

/// How long a poller may take to fetch what it is sent before its session ends.
const LAST_POLL: Duration = Duration::from_secs(2);

/// Over how long the end of all sockets is spread, in how many portions, if they are not few.
const SPREAD: Duration = Duration::from_millis(300);
const PORTIONS: usize = 30;
const FEW: usize = 100;

/// How long an upgrade waits for the polls that go before it.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(3);

/// How much of a WebSocket is read at once, in bytes. Each socket keeps a buffer of this size, and
/// most events are a few hundred bytes; larger ones make it grow.
const READ_BUFFER: usize = 1_024;

/// Answers requests to `/socket.io`.
pub type Service = SocketIoService<Router>;

/// What all sockets share.
pub struct Gateway {
    commits: Commits,
    rules: Arc<Rules>,
    next_socket: AtomicU64,
    upgrades: Mutex<Upgrades>,
    /// Set once, right after it was made with this gateway.
    engine: OnceLock<Engine>,
    is_closing: AtomicBool,
}

/// Socketioxide's two ends.
struct Engine {
    service: Service,
    io: SocketIo,
}

/// The connections to which sessions that began with polling have moved.
#[derive(Default)]
struct Upgrades {
    connections: HashMap<Sid, Weak<Connection>>,
    /// Entries of broken upgrades are removed when there are this many.
    sweep_at: usize,
}

impl Gateway {
    /// Starts to take sockets, whose events go to `commits`.
    pub fn start(commits: Commits, rules: Rules) -> (Arc<Self>, Service) {
        let needs_tokens = rules.tokens.is_some();
        let gateway = Arc::new(Self {
            commits,
            rules: Arc::new(rules),
            next_socket: AtomicU64::new(1),
            upgrades: Mutex::default(),
            engine: OnceLock::new(),
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
        io.ns("/", Sockets::of(gateway.clone()));
        let _ = gateway.engine.set(Engine { service: service.clone(), io });
        if needs_tokens {
            tokio::spawn(check_times(Arc::downgrade(&gateway)));
        }
        (gateway, service)
    }

    /// A WebSocket is asked for on this connection: a new session, or one that goes on there.
    pub fn websocket_requested(&self, session: Option<Sid>, connection: &Via) {
        let Some(tcp) = connection.0.upgrade() else { return };
        tcp.becomes_websocket();
        let Some(sid) = session else { return tcp.awaits_connect() };
        let mut upgrades = self.lock_upgrades();
        if upgrades.connections.len() >= upgrades.sweep_at {
            upgrades.connections.retain(|_, connection| connection.strong_count() > 0);
            upgrades.sweep_at = 1_024.max(2 * upgrades.connections.len());
        }
        upgrades.connections.insert(sid, connection.0.clone());
    }

    /// Whether a polling session may go on as a WebSocket now. What a poll has set aside for the
    /// next one would be lost on the way, so it has to be fetched first.
    pub async fn may_upgrade(&self, session: Sid) -> bool {
        let is_behind = || self.session(session).is_some_and(|session| session.outlet.is_behind());
        let fetched = async {
            while is_behind() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(UPGRADE_PATIENCE, fetched).await.is_ok()
    }

    /// What is to be remembered of a transport that begins now.
    pub fn transport_begins(&self) -> Arc<Transport> {
        Arc::new(Transport::new(&self.rules))
    }

    /// Whether the server takes no new sessions any more.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// A poll of this session was answered with so many bytes.
    pub fn polled(&self, session: Sid, bytes: u64) {
        if let Some(session) = self.session(session) {
            session.outlet.polled(bytes);
        }
    }

    /// Accepts no more events, and resolves when every one that has come is answered.
    pub async fn drained(&self) {
        self.sessions().for_each(|session| session.stop());
        while self.sessions().any(|session| !session.is_idle()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resolves when every reader has taken what it was sent.
    pub async fn flushed(&self) {
        while self.sessions().any(|session| session.outlet.is_behind()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
        if let Some(engine) = self.engine.get() {
            engine.io.close().await;
        }
    }

    /// The main namespace, as long as the server is not closed.
    fn namespace(&self) -> Option<BroadcastOperators> {
        self.engine.get()?.io.of("/")
    }

    fn lock_upgrades(&self) -> MutexGuard<'_, Upgrades> {
        self.upgrades.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a polling session once it has fetched what it was sent: with the first poll that is
    /// answered after `polled` bytes.
    async fn end_polling_behind(self: Arc<Self>, sid: Sid, polled: u64) {
        let has_unsent =
            || self.session(sid).is_some_and(|session| session.outlet.polled_bytes() <= polled);
        let fetched = async {
            while has_unsent() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_POLL, fetched).await;
        self.end_polling(sid).await;
    }

    /// Ends a polling session. Engine.IO offers that to clients only, so it is done as they do it.
    async fn end_polling(self: Arc<Self>, sid: Sid) {
        let Some(service) = self.engine.get().map(|engine| engine.service.clone()) else { return };
        let request = Request::post(format!("/socket.io/?EIO=4&transport=polling&sid={sid}"))
            .body(Body::from("1"))
            .expect("a session id is no odd URI");
        // A session that is gone already is refused, and that is as good.
        let _ = service.oneshot(request).await;
    }
}

/// Puts out sockets whose time is over, as long as there is a gateway.
async fn check_times(gateway: Weak<Gateway>) {
    loop {
        tokio::time::sleep(TIME_CHECK).await;
        let Some(gateway) = gateway.upgrade() else { return };
        gateway.sessions().for_each(|session| session.check_time());
    }
}
