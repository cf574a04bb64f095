//! The transports of Engine.IO sessions, and the way to end one from outside.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use socketioxide::{
    service::SocketIoService,
    socket::{Sid, Socket},
};
use tower::ServiceExt;

use crate::net::{Connection, Via};

/// Answers requests to `/socket.io`.
pub type Service = SocketIoService<Router>;

/// The transport of a session's packets.
#[derive(Clone, Debug)]
pub enum EngineTransport {
    Websocket(Weak<Connection>),
    Polling(Sid),
}

/// The connections of sessions that upgraded from polling to a WebSocket, and the way to end a
/// session that polls.
#[derive(Default)]
pub struct Transports {
    upgrades: Mutex<Upgrades>,
    /// Set once, right after socketioxide is built.
    service: OnceLock<Service>,
}

#[derive(Default)]
struct Upgrades {
    connections: HashMap<Sid, Weak<Connection>>,
    /// The number of entries at which those of broken upgrades are removed.
    sweep_at: usize,
}

impl Transports {
    /// The time in which a poller may fetch its packets before its session ends.
    pub const LAST_POLL: Duration = Duration::from_secs(2);

    pub fn serve_with(&self, service: Service) {
        let _ = self.service.set(service);
    }

    /// Notes that a polling session continues as a WebSocket on this connection.
    pub fn upgrades(&self, sid: Sid, connection: Weak<Connection>) {
        let mut upgrades = self.lock();
        if upgrades.connections.len() >= upgrades.sweep_at {
            upgrades.connections.retain(|_, connection| connection.strong_count() > 0);
            upgrades.sweep_at = 1_024.max(2 * upgrades.connections.len());
        }
        upgrades.connections.insert(sid, connection);
    }

    /// The connection to which a session has moved.
    pub fn upgraded(&self, sid: Sid) -> Option<Weak<Connection>> {
        self.lock().connections.get(&sid).cloned()
    }

    /// Ends a transport at once: the client sees a lost connection and reconnects.
    pub fn end(self: &Arc<Self>, transport: EngineTransport) {
        match transport {
            EngineTransport::Websocket(connection) => {
                if let Some(connection) = connection.upgrade() {
                    connection.end();
                }
            }
            EngineTransport::Polling(sid) => {
                tokio::spawn(self.clone().end_polling(sid));
            }
        }
    }

    /// Ends a polling session. Engine.IO offers that to clients only, so the server acts as a
    /// client.
    async fn end_polling(self: Arc<Self>, sid: Sid) {
        let Some(service) = self.service.get().cloned() else { return };
        let request = Request::post(format!("/socket.io/?EIO=4&transport=polling&sid={sid}"))
            .body(Body::from("1"))
            .expect("a session id is no odd URI");
        // A session that is gone already is refused, which is the goal too.
        let _ = service.oneshot(request).await;
    }

    fn lock(&self) -> MutexGuard<'_, Upgrades> {
        self.upgrades.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection on which a socket's session began.
pub fn first_connection(socket: &Socket) -> Option<Weak<Connection>> {
    let Via(connection) = socket.req_parts().extensions.get()?;
    Some(connection.clone())
}
