//! The outgoing packets of a socket, and the rule on slow readers.
//!
//! Each socket's writer in socketioxide has a bounded buffer, and drops further packets. A full
//! buffer, or [`UNSENT_BYTES`], makes a slow reader. It loses its *transport*: the client sees a lost
//! connection, reconnects, and catches up, which it would not do after a Socket.IO disconnect. The
//! packets of a socket never have a gap.

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

pub use polled::{count_packets, event_bytes};
pub use transports::{EngineTransport, Service, Transports, first_connection};

/// The number of unsent bytes of a reader, besides a packet as large as the current one.
const UNSENT_BYTES: u64 = 16_000_000;

/// The interval at which a waiting task checks whether a polling session has upgraded.
const UPGRADE_CHECK: Duration = Duration::from_millis(250);

/// The time in which a client whose connection ends may read the reason.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The packets of a socket, in order, and the end of its transport.
pub struct Outlet {
    /// The socket's id on the wire.
    pub sid: Sid,
    /// Weak, because the socket's handlers own the session, which owns this.
    socket: Weak<Socket>,
    transports: Arc<Transports>,
    /// Known from the first packet on that goes out over a WebSocket.
    connection: OnceLock<Weak<Connection>>,
    /// Bytes given to the socket's writer so far.
    handed_over: AtomicU64,
    /// The bytes that the transport carried before this socket, for an earlier one.
    written_before: u64,
    /// The bytes of events and acknowledgements in the answers to polls so far.
    polled: AtomicU64,
    /// Wakes the tasks that wait for a poll, or for the socket's end.
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

    /// Whether the socket gets no more packets, and its events are ignored.
    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    /// Counts the bytes of events and acknowledgements in the answer to a poll.
    pub fn polled(&self, bytes: u64) {
        self.polled.fetch_add(bytes, Ordering::Relaxed);
        self.progress.notify_waiters();
    }

    /// Wakes all waiting tasks, because the socket is gone.
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

    /// Ends the transport after the sent packets. A poller's transport ends with the server.
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

    /// Sends the client the reason, and ends the transport after it and the packets before.
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
                // A client that reads very slowly does not stay for the reason.
                tokio::time::sleep(LAST_WORDS).await;
            }
            outlet.transports.end(transport);
        });
    }

    /// Stops all packets to the socket. `None` if they were stopped before, or if the socket is
    /// gone.
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
        // The packet itself does not count, nor one of its size: a packet may be larger than the
        // limit, and is sent as an event and as an acknowledgement.
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

    /// Resolves when the reader has received all packets, or is gone.
    pub async fn flushed(&self) {
        self.wait_until(|| self.is_out() || self.has_taken_all()).await;
    }

    fn has_taken_all(&self) -> bool {
        let socket = self.socket.upgrade().filter(|socket| socket.connected());
        socket.is_none_or(|socket| self.unsent(&socket) == 0)
    }

    /// Resolves when the reader has received most packets, or is gone. So a client that requests
    /// much gets it as fast as it reads.
    pub async fn caught_up(&self) {
        self.wait_until(|| !self.is_far_behind()).await;
    }

    /// Whether the reader should first receive its packets, before it requests more.
    pub fn is_far_behind(&self) -> bool {
        !self.is_out()
            && self
                .socket
                .upgrade()
                .is_some_and(|socket| socket.connected() && self.unsent(&socket) > UNSENT_BYTES / 4)
    }

    /// Checks again whenever the reader has received something, or is gone.
    async fn wait_until(&self, is_over: impl Fn() -> bool) {
        loop {
            let connection = self.socket.upgrade().and_then(|socket| self.connection(&socket));
            // Both notice every change from here on, and so also a change during the check.
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
                // The session may upgrade to a WebSocket meanwhile, which wakes nobody.
                None => drop(tokio::time::timeout(UPGRADE_CHECK, polled).await),
            }
        }
    }

    /// The number of unsent bytes. The result is a little too small: heartbeats and the heads of
    /// the transport are counted as sent, but not as handed over.
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
