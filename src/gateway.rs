//! Where socketioxide ends: sockets come and go, their events come in, server events go out.
//!
//! Everything that one has to know about socketioxide is known here and nowhere else:
//!
//! - Handlers are types of our own instead of closures. A closure is spawned as a task for each
//!   event, so that two events of one socket may overtake each other; a [`MessageHandler`] itself
//!   is called in the order of arrival, on the task that reads the connection.
//! - They are registered before the CONNECT packet goes out (`call_middleware`), so that no event
//!   finds a socket without them, and events wait in the session until the socket may emit
//!   (`call`), which is a moment after the client knows that it is connected.
//! - Each socket's writer has a buffer of [`BUFFERED_PACKETS`], and what does not fit is dropped.
//!   That, or [`UNSENT_BYTES`] on a WebSocket, makes a slow reader. Its transport is closed,
//!   because from a Socket.IO disconnect clients do not come back by themselves.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use socketioxide::{
    SendError, SocketError, SocketIo, TransportType,
    adapter::LocalAdapter,
    extract::AckSender,
    handler::{ConnectHandler, DisconnectHandler, FromMessageParts, MessageHandler, Value},
    service::SocketIoService,
    socket::{DisconnectReason, Sid, Socket},
};
use tower::ServiceExt;

use crate::{
    commit::Commits,
    contract::{Ack, Incoming, MAX_FRAME_BYTES, Packet},
    net::{Connection, Via},
    session::Session,
};

/// How many packets may wait for a socket's writer.
const BUFFERED_PACKETS: usize = 8_192;

/// How many bytes a WebSocket's reader may be behind: a page of the longest messages, as event
/// and as acknowledgement, fits.
const UNSENT_BYTES: u64 = 16_000_000;

/// How much of a WebSocket is read at once, in bytes. Each socket keeps a buffer of this size, and
/// most events are a few hundred bytes; larger ones make it grow.
const READ_BUFFER: usize = 1_024;

/// Answers requests to `/socket.io`.
pub type Service = SocketIoService<Router>;

/// What all sockets share.
pub struct Gateway {
    commits: Commits,
    next_socket: AtomicU64,
    upgrades: Mutex<Upgrades>,
    /// Set once, right after it was made with this gateway.
    service: OnceLock<Service>,
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
    pub fn start(commits: Commits) -> (Arc<Self>, Service, SocketIo) {
        let gateway = Arc::new(Self {
            commits,
            next_socket: AtomicU64::new(1),
            upgrades: Mutex::default(),
            service: OnceLock::new(),
        });
        let (service, io) = SocketIo::builder()
            .max_buffer_size(BUFFERED_PACKETS)
            .max_payload(MAX_FRAME_BYTES as u64)
            .ws_max_message_size(MAX_FRAME_BYTES)
            .ws_read_buffer_size(READ_BUFFER)
            .ws_max_frame_size(MAX_FRAME_BYTES)
            .build_with_inner_svc(Router::new());
        io.ns("/", Sockets(gateway.clone()));
        let _ = gateway.service.set(service.clone());
        (gateway, service, io)
    }

    /// A WebSocket is asked for on this connection: a new session, or one that goes on there.
    pub fn websocket_requested(&self, session: Option<Sid>, connection: &Via) {
        let Some(sid) = session else {
            if let Some(connection) = connection.0.upgrade() {
                connection.awaits_connect();
            }
            return;
        };
        let mut upgrades = self.lock_upgrades();
        if upgrades.connections.len() >= upgrades.sweep_at {
            upgrades.connections.retain(|_, connection| connection.strong_count() > 0);
            upgrades.sweep_at = 1_024.max(2 * upgrades.connections.len());
        }
        upgrades.connections.insert(sid, connection.0.clone());
    }

    fn lock_upgrades(&self) -> MutexGuard<'_, Upgrades> {
        self.upgrades.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a polling session. Engine.IO offers that to clients only, so it is done as they do it.
    async fn end_polling(self: Arc<Self>, sid: Sid) {
        let Some(service) = self.service.get().cloned() else { return };
        let request = Request::post(format!("/socket.io/?EIO=4&transport=polling&sid={sid}"))
            .body(Body::from("1"))
            .expect("a session id is no odd URI");
        // A session that is gone already is refused, and that is as good.
        let _ = service.oneshot(request).await;
    }
}

/// Makes a session of each socket that connects.
#[derive(Clone)]
struct Sockets(Arc<Gateway>);

/// Marks our handler implementations: the blanket ones for closures use other types here.
struct Ours;

impl ConnectHandler<LocalAdapter, Ours> for Sockets {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        _: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn std::fmt::Display + Send>>> + Send + 'a>>
    {
        let gateway = &self.0;
        let outlet = Outlet {
            socket: Arc::downgrade(&socket),
            gateway: gateway.clone(),
            connection: OnceLock::new(),
            handed_over: AtomicU64::new(0),
            is_out: AtomicBool::new(false),
        };
        let id = gateway.next_socket.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(id, outlet, gateway.commits.clone());
        socket.on_fallback(Inbound(session.clone()));
        socket.on_disconnect(Inbound(session.clone()));
        socket.extensions.insert(Inbound(session));
        Box::pin(std::future::ready(Ok(())))
    }

    fn call(&self, socket: Arc<Socket>, _: Option<Value>) {
        if let Some(Inbound(session)) = socket.extensions.remove::<Inbound>() {
            session.open();
        }
        if let Some(connection) =
            first_connection(&socket).and_then(|connection| connection.upgrade())
        {
            connection.connected();
        }
    }
}

/// The connection on which a socket's session began.
fn first_connection(socket: &Socket) -> Option<Weak<Connection>> {
    let ConnectInfo(Via(connection)) = socket.req_parts().extensions.get()?;
    Some(connection.clone())
}

/// A socket's way into its session.
#[derive(Clone)]
struct Inbound(Arc<Session>);

impl MessageHandler<LocalAdapter, Ours> for Inbound {
    fn call(&self, _: Arc<Socket>, value: Value, ack: Option<i64>) {
        let Value::Str(text, _) = value else { return };
        // Socketioxide has read the event's name already: this is an array that begins with it.
        if let Ok(incoming) = serde_json::from_str::<Incoming>(&text) {
            self.0.receive(&incoming, ack);
        }
    }
}

impl DisconnectHandler<LocalAdapter, Ours> for Inbound {
    fn call_with_defer(&self, socket: Arc<Socket>, _: DisconnectReason, remove: fn(Arc<Socket>)) {
        self.0.close();
        remove(socket);
    }
}

/// A socket's way out: what it is sent, in order, and the end of its transport.
pub struct Outlet {
    /// Weak, because the socket's handlers own the session, which owns this.
    socket: Weak<Socket>,
    gateway: Arc<Gateway>,
    /// Known from the first packet that goes out over a WebSocket.
    connection: OnceLock<Weak<Connection>>,
    /// Bytes given to the WebSocket's writer so far.
    handed_over: AtomicU64,
    is_out: AtomicBool,
}

impl Outlet {
    pub fn emit(&self, packet: &Packet) {
        // `42["event",payload]`
        let length = packet.event.len() + packet.payload.get().len() + 7;
        self.send(length, |socket| socket.emit(packet.event, &*packet.payload));
    }

    /// Answers the event that carried the callback `id`.
    pub fn ack(&self, id: i64, ack: &Ack) {
        let answer = crate::contract::encode(ack);
        // `43id[payload]`
        let length = answer.get().len() + 5;
        self.send(length, |socket| {
            let Ok(sender) =
                AckSender::from_message_parts(socket, &mut Value::Str("".into(), None), &Some(id));
            sender.send(&*answer)
        });
    }

    /// Ends the transport: the client sees a lost connection and comes back.
    pub fn put_out(&self, reason: &'static str) {
        if self.is_out.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        tracing::info!(sid = %socket.id, reason, "socket put out");
        match self.connection(&socket) {
            Some(connection) => connection.end(),
            None => {
                tokio::spawn(self.gateway.clone().end_polling(socket.id));
            }
        }
    }

    fn send(&self, length: usize, send: impl FnOnce(&Arc<Socket>) -> Result<(), SendError>) {
        if self.is_out.load(Ordering::Relaxed) {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        match send(&socket) {
            Ok(()) => {
                if self.unsent(&socket, length) > UNSENT_BYTES {
                    self.put_out("slow reader: too many bytes unsent");
                }
            }
            Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                self.put_out("slow reader: too many packets unsent");
            }
            Err(SendError::Socket(SocketError::Closed)) => {}
            Err(SendError::Serialize(error)) => tracing::error!(%error, "packet not encoded"),
        }
    }

    /// How far a WebSocket's reader is behind, in bytes, with `length` more handed over. A
    /// poller's is not known, and bounded by the number of packets alone.
    fn unsent(&self, socket: &Arc<Socket>, length: usize) -> u64 {
        let Some(connection) = self.connection(socket) else { return 0 };
        let frame_header = if length < 126 {
            2
        } else if length < 65_536 {
            4
        } else {
            10
        };
        let length = (length + frame_header) as u64;
        let handed_over = self.handed_over.fetch_add(length, Ordering::Relaxed) + length;
        handed_over.saturating_sub(connection.written())
    }

    fn connection(&self, socket: &Arc<Socket>) -> Option<Arc<Connection>> {
        if let Some(connection) = self.connection.get() {
            return connection.upgrade();
        }
        if socket.transport_type() != TransportType::Websocket {
            return None;
        }
        let upgraded = self.gateway.lock_upgrades().connections.remove(&socket.id);
        let connection = upgraded.or_else(|| first_connection(socket))?;
        self.connection.get_or_init(|| connection).upgrade()
    }
}
