//! A socket's way out, and the rule on readers that do not keep up.
//!
//! A client that takes nothing loses its *transport*: it sees a lost connection, comes back, and
//! catches up. Nothing is ever left out of what a socket is sent.

mod polled;
mod transports;

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
use tokio::sync::Notify;

use crate::{
    contract::{EncodedEvent, Refusal, Refused},
    limits::Disconnect,
    metrics,
    net::Connection,
};

pub use polled::event_bytes;
pub use transports::{EngineTransport, Service, Transports, first_connection};

/// How many bytes a reader may be behind, besides a packet as large as the one that it is sent.
const UNSENT_BYTES: u64 = 16_000_000;

/// How long a client whose connection ends may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What a socket is sent, in order, and the end of its transport.
pub struct Outlet {
    /// The socket's id on the wire.
    pub sid: Sid,
    /// Weak, because the socket's handlers own the session, which owns this.
    socket: Weak<Socket>,
    transports: Arc<Transports>,
    /// Known from the first packet that goes out over a WebSocket.
    connection: OnceLock<Weak<Connection>>,
    /// Bytes given to the socket's writer so far.
    handed_over: AtomicU64,
    /// What was written before this socket was there: to one before it, on the same transport.
    written_before: u64,
    /// Bytes of events and acknowledgements that polls were answered with so far.
    polled: AtomicU64,
    /// Wakes those who wait for a poll, or for the socket's end.
    progress: Notify,
    is_out: AtomicBool,
}

impl Outlet {
    pub fn new(socket: &Arc<Socket>, transports: Arc<Transports>) -> Arc<Self> {
        let is_websocket = socket.transport_type() == TransportType::Websocket;
        let connection = first_connection(socket).filter(|_| is_websocket);
        let connection = connection.and_then(|connection| connection.upgrade());
        Arc::new(Self {
            written_before: connection.map_or(0, |connection| connection.written()),
            sid: socket.id,
            socket: Arc::downgrade(socket),
            transports,
            connection: OnceLock::new(),
            handed_over: AtomicU64::new(0),
            polled: AtomicU64::new(0),
            progress: Notify::new(),
            is_out: AtomicBool::new(false),
        })
    }

    /// Whether the socket is sent nothing any more, and heard no more.
    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    /// A poll was answered with so many bytes of events and acknowledgements.
    pub fn polled(&self, bytes: u64) {
        self.polled.fetch_add(bytes, Ordering::Relaxed);
        self.progress.notify_waiters();
    }

    /// The socket is gone: nobody needs to wait for it.
    pub fn gone(&self) {
        self.progress.notify_waiters();
    }

    pub fn emit(&self, packet: &EncodedEvent) {
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
        let socket = self.socket.upgrade();
        if let Some(connection) = socket.and_then(|socket| self.connection(&socket)) {
            connection.end_behind_what_is_sent();
        }
    }

    /// Ends the transport at once.
    pub fn cut(&self, reason: Disconnect) {
        let Some(socket) = self.leave(reason, None) else { return };
        self.transports.end(self.transport(&socket));
    }

    /// Tells the client why, and ends the transport behind that and what it was sent before.
    pub fn dismiss(self: &Arc<Self>, refusal: &Refusal, reason: Disconnect) {
        self.emit(&Refused::new(refusal).event(None));
        let Some(socket) = self.leave(reason, Some(refusal.code())) else { return };
        let transport = self.transport(&socket);
        let outlet = self.clone();
        if let Some(connection) = self.connection(&socket) {
            connection.end_behind_what_is_sent();
        }
        tokio::spawn(async move {
            if let EngineTransport::Polling(_) = transport {
                let fetching = outlet.wait_until(|| outlet.has_taken_all());
                let _ = tokio::time::timeout(Transports::LAST_POLL, fetching).await;
            } else {
                // A client that reads in trickles does not stay for that.
                tokio::time::sleep(LAST_WORDS).await;
            }
            outlet.transports.end(transport);
        });
    }

    /// From now on the socket is sent nothing. `None` if it was so before, or if it is gone.
    fn leave(&self, reason: Disconnect, code: Option<&'static str>) -> Option<Arc<Socket>> {
        if self.is_out.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.progress.notify_waiters();
        let socket = self.socket.upgrade()?;
        tracing::info!(sid = %socket.id, code, reason = reason.as_str(), "socket disconnected");
        metrics::disconnected(reason.as_str());
        Some(socket)
    }

    fn send(&self, length: usize, send: impl FnOnce(&Arc<Socket>) -> Result<(), SendError>) {
        if self.is_out() {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        // The packet itself does not count, nor one of its size: it may be larger than the limit,
        // and is sent as an event and as an acknowledgement.
        if self.unsent(&socket) > UNSENT_BYTES + length as u64 {
            return self.cut(Disconnect::UnsentBytes);
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
                self.cut(Disconnect::UnsentPackets);
            }
            Err(SendError::Socket(SocketError::Closed)) => {}
            Err(SendError::Serialize(error)) => tracing::error!(%error, "packet not encoded"),
        }
    }

    /// Resolves when the reader has taken all that it was sent, or is gone.
    pub async fn flushed(&self) {
        self.wait_until(|| self.is_out() || self.has_taken_all()).await;
    }

    fn has_taken_all(&self) -> bool {
        let socket = self.socket.upgrade().filter(|socket| socket.connected());
        socket.is_none_or(|socket| self.unsent(&socket) == 0)
    }

    /// Resolves when the reader has taken most of what it was sent, or is gone. Whoever asks for
    /// much gets it as fast as they take it.
    pub async fn caught_up(&self) {
        self.wait_until(|| !self.is_far_behind()).await;
    }

    /// Whether the reader should first take what it was sent, before it asks for more.
    pub fn is_far_behind(&self) -> bool {
        !self.is_out()
            && self
                .socket
                .upgrade()
                .is_some_and(|socket| socket.connected() && self.unsent(&socket) > UNSENT_BYTES / 4)
    }

    /// Looks again whenever the reader has taken something, or is gone.
    async fn wait_until(&self, is_over: impl Fn() -> bool) {
        loop {
            let connection = self.socket.upgrade().and_then(|socket| self.connection(&socket));
            // Both see everything from here on, and so also what happens during the look.
            let polled = self.progress.notified();
            let written = connection.as_ref().map(|connection| connection.progress());
            if is_over() {
                return;
            }
            match written {
                Some(written) => tokio::select! {
                    () = polled => {}
                    () = written => {}
                },
                None => polled.await,
            }
        }
    }

    /// How far the reader is behind, in bytes. A little less than it is: heartbeats and the heads
    /// of the transport are counted as sent, but not as handed over.
    fn unsent(&self, socket: &Arc<Socket>) -> u64 {
        let written = self.connection(socket).map_or(0, |connection| connection.written());
        let written = written.saturating_sub(self.written_before);
        let sent = self.polled.load(Ordering::Relaxed) + written;
        self.handed_over.load(Ordering::Relaxed).saturating_sub(sent)
    }

    /// The transport that the socket uses now.
    pub fn transport(&self, socket: &Arc<Socket>) -> EngineTransport {
        match self.connection(socket) {
            Some(connection) => EngineTransport::Websocket(Arc::downgrade(&connection)),
            None => EngineTransport::Polling(self.sid),
        }
    }

    fn connection(&self, socket: &Arc<Socket>) -> Option<Arc<Connection>> {
        if let Some(connection) = self.connection.get() {
            return connection.upgrade();
        }
        if socket.transport_type() != TransportType::Websocket {
            return None;
        }
        let connection =
            self.transports.upgraded(socket.id).or_else(|| first_connection(socket))?;
        self.connection.get_or_init(|| connection).upgrade()
    }
}
