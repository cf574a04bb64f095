//! A socket's way out, and the rule on readers that do not keep up.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::value::RawValue;
use socketioxide::{
    SendError, SocketError, TransportType,
    extract::AckSender,
    handler::{FromMessageParts, Value},
    socket::{Sid, Socket},
};

use super::{CONNECT_PATIENCE, Gateway, first_connection};
use crate::{
    contract::{Packet, Refusal, ServerEvent},
    metrics,
    net::Connection,
};

/// How many bytes a reader may be behind, besides a packet as large as the one that it is sent.
const UNSENT_BYTES: u64 = 16_000_000;

/// How long a client that is put out may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A socket's way out: what it is sent, in order, and the end of its transport.
pub struct Outlet {
    /// The socket's id on the wire.
    pub sid: Sid,
    /// Weak, because the socket's handlers own the session, which owns this.
    socket: Weak<Socket>,
    gateway: Arc<Gateway>,
    /// Known from the first packet that goes out over a WebSocket.
    connection: OnceLock<Weak<Connection>>,
    /// Bytes given to the socket's writer so far.
    handed_over: AtomicU64,
    /// What was written before this socket was there: to one before it, on the same transport.
    written_before: u64,
    /// Bytes that polls were answered with so far.
    polled: AtomicU64,
    is_out: AtomicBool,
}

impl Outlet {
    pub fn new(socket: &Arc<Socket>, gateway: Arc<Gateway>) -> Self {
        let is_websocket = socket.transport_type() == TransportType::Websocket;
        let connection = first_connection(socket).filter(|_| is_websocket);
        let connection = connection.and_then(|connection| connection.upgrade());
        Self {
            written_before: connection.map_or(0, |connection| connection.written()),
            sid: socket.id,
            socket: Arc::downgrade(socket),
            gateway,
            connection: OnceLock::new(),
            handed_over: AtomicU64::new(0),
            polled: AtomicU64::new(0),
            is_out: AtomicBool::new(false),
        }
    }

    /// Whether the socket is sent nothing any more, and heard no more.
    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    /// The client has left the namespace. Unless it comes back, its transport is of no use.
    pub fn end_unless_back(&self, socket: &Arc<Socket>) -> impl Future<Output = ()> + Send + use<> {
        let (gateway, sid) = (self.gateway.clone(), self.sid);
        let connection = self.connection(socket).map(|connection| Arc::downgrade(&connection));
        async move {
            tokio::time::sleep(CONNECT_PATIENCE).await;
            if gateway.session(sid).is_some() {
                return;
            }
            match connection {
                Some(connection) => {
                    connection.upgrade().inspect(|connection| connection.end());
                }
                None => gateway.end_polling(sid).await,
            }
        }
    }

    /// A poll was answered with so many bytes.
    pub fn polled(&self, bytes: u64) {
        self.polled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many bytes polls were answered with so far.
    pub fn polled_bytes(&self) -> u64 {
        self.polled.load(Ordering::Relaxed)
    }

    pub fn emit(&self, packet: &Packet) {
        // `42["event",payload]`
        let length = packet.event.len() + packet.payload.get().len() + 7;
        self.send(length, |socket| socket.emit(packet.event, &*packet.payload));
    }

    /// Answers the event that carried the callback `id`.
    pub fn ack(&self, id: i64, answer: &RawValue) {
        // `43id[payload]`
        let length = answer.get().len() + 5;
        self.send(length, |socket| {
            let Ok(sender) =
                AckSender::from_message_parts(socket, &mut Value::Str("".into(), None), &Some(id));
            sender.send(answer)
        });
    }

    /// Ends the transport behind what was sent. A poller's ends with the server.
    pub fn end(&self) {
        if let Some(connection) = self.socket.upgrade().and_then(|socket| self.connection(&socket))
        {
            connection.end_behind_what_is_sent();
        }
    }

    /// Ends the transport: the client sees a lost connection and comes back.
    pub fn put_out(&self, reason: &'static str) {
        if self.is_out.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        tracing::info!(sid = %socket.id, reason, "socket put out");
        metrics::put_out(reason);
        match self.connection(&socket) {
            Some(connection) => connection.end(),
            None => {
                tokio::spawn(self.gateway.clone().end_polling(socket.id));
            }
        }
    }

    /// Tells the client why, and ends the transport behind that and what it was sent before.
    pub fn dismiss(&self, refusal: &Refusal, reason: &'static str) {
        let message = &*refusal.message();
        let polled = self.polled_bytes();
        self.emit(&ServerEvent::refused(refusal, message, None).encode());
        if self.is_out.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        tracing::info!(sid = %socket.id, code = refusal.code(), reason, "socket put out");
        metrics::put_out(reason);
        match self.connection(&socket) {
            Some(connection) => {
                connection.end_behind_what_is_sent();
                // Whoever takes it in trickles does not stay for that.
                let connection = Arc::downgrade(&connection);
                tokio::spawn(async move {
                    tokio::time::sleep(LAST_WORDS).await;
                    if let Some(connection) = connection.upgrade() {
                        connection.end();
                    }
                });
            }
            None => {
                let gateway = self.gateway.clone();
                tokio::spawn(gateway.end_polling_behind(socket.id, polled));
            }
        }
    }

    fn send(&self, length: usize, send: impl FnOnce(&Arc<Socket>) -> Result<(), SendError>) {
        if self.is_out() {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        // The packet itself does not count, nor one of its size: it may be larger than the limit,
        // and is sent as an event and as an acknowledgement.
        if self.unsent(&socket) > UNSENT_BYTES + length as u64 {
            return self.put_out("slow reader: too many bytes unsent");
        }
        match send(&socket) {
            Ok(()) => {
                // A poll puts no more than a separator between packets.
                let header = match length {
                    _ if self.connection.get().is_none() => 0,
                    0..126 => 2,
                    126..65_536 => 4,
                    _ => 10,
                };
                self.handed_over.fetch_add((length + header) as u64, Ordering::Relaxed);
            }
            Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                self.put_out("slow reader: too many packets unsent");
            }
            Err(SendError::Socket(SocketError::Closed)) => {}
            Err(SendError::Serialize(error)) => tracing::error!(%error, "packet not encoded"),
        }
    }

    /// Whether the reader has not taken yet what it was sent.
    pub fn is_behind(&self) -> bool {
        !self.is_out() && self.socket.upgrade().is_some_and(|socket| self.unsent(&socket) > 0)
    }

    /// Resolves when the reader has taken most of what it was sent, or is gone. Whoever asks for
    /// much gets it as fast as they take it.
    pub async fn caught_up(&self) {
        while self.is_far_behind() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the reader should first take what it was sent, before it asks for more.
    pub fn is_far_behind(&self) -> bool {
        !self.is_out()
            && self
                .socket
                .upgrade()
                .is_some_and(|socket| socket.connected() && self.unsent(&socket) > UNSENT_BYTES / 4)
    }

    /// How far the reader is behind, in bytes. A little less than it is: heartbeats and the heads
    /// of the transport are counted as sent, but not as handed over.
    fn unsent(&self, socket: &Arc<Socket>) -> u64 {
        let written = self.connection(socket).map_or(0, |connection| connection.written());
        let written = written.saturating_sub(self.written_before);
        let sent = self.polled.load(Ordering::Relaxed) + written;
        self.handed_over.load(Ordering::Relaxed).saturating_sub(sent)
    }

    fn connection(&self, socket: &Arc<Socket>) -> Option<Arc<Connection>> {
        if let Some(connection) = self.connection.get() {
            return connection.upgrade();
        }
        if socket.transport_type() != TransportType::Websocket {
            return None;
        }
        let upgraded = self.gateway.lock_upgrades().connections.get(&socket.id).cloned();
        let connection = upgraded.or_else(|| first_connection(socket))?;
        self.connection.get_or_init(|| connection).upgrade()
    }
}
