//! The handlers of socketioxide: a session for each socket that connects, its events, its end.

use std::{
    borrow::Cow,
    fmt::Display,
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use serde::Deserialize;
use socketioxide::{
    adapter::LocalAdapter,
    handler::{ConnectHandler, DisconnectHandler, MessageHandler, Value},
    socket::{DisconnectReason, Sid, Socket},
};

use super::{CONNECT_PATIENCE, Gateway};
use crate::{
    contract::{Incoming, Refusal, users::MAX_TOKEN_CHARS},
    limits::Disconnect,
    metrics,
    net::Connection,
    outlet::{EngineTransport, Outlet, first_connection},
    session::{Allowance, Session},
    tokens::Claims,
};

/// The time for which a client is not read after its CONNECT was refused, so that the refusal
/// arrives first.
const REFUSAL_FIRST: Duration = Duration::from_millis(50);

/// Makes a session for each socket that connects.
#[derive(Clone)]
pub struct Acceptor(Arc<Gateway>);

impl Acceptor {
    pub fn of(gateway: Arc<Gateway>) -> Self {
        Self(gateway)
    }

    /// The session of a socket that wants to connect. The client gets the code of a refusal.
    fn begin(&self, socket: &Arc<Socket>, auth: Option<&Value>) -> Result<Arc<Session>, Refusal> {
        let Self(gateway) = self;
        let allowance = socket.req_parts().extensions.get::<Arc<Allowance>>().cloned();
        let allowance = allowance.unwrap_or_else(|| gateway.transport_begins());
        allowance.connects().map_err(|_| Refusal::RateLimited(Duration::from_secs(1)))?;
        let claims = self.claims(auth)?;
        let outlet = Outlet::new(socket, gateway.transports.clone());
        let id = gateway.next_socket.fetch_add(1, Ordering::Relaxed);
        Ok(Session::new(id, outlet, gateway.shared.clone(), allowance, claims))
    }

    /// The claims of the token in the handshake, if there is a token and the server checks tokens.
    fn claims(&self, auth: Option<&Value>) -> Result<Option<Claims>, Refusal> {
        #[derive(Deserialize)]
        struct Auth<'a> {
            #[serde(borrow)]
            token: Option<Cow<'a, str>>,
        }

        let (Some(tokens), Some(Value::Str(auth, _))) = (&self.0.shared.tokens, auth) else {
            return Ok(None);
        };
        let malformed = |_| Refusal::InvalidToken("The token is not a string.");
        let Auth { token } = serde_json::from_str(auth).map_err(malformed)?;
        let verify = |token: Cow<str>| match token.len() {
            0..=MAX_TOKEN_CHARS => tokens.verify(&token),
            _ => Err(Refusal::InvalidToken("The token is too long.")),
        };
        token.map(verify).transpose()
    }
}

/// Marks our handler implementations: the blanket ones for closures use other types here.
pub struct Ours;

impl ConnectHandler<LocalAdapter, Ours> for Acceptor {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn Display + Send>>> + Send + 'a>> {
        let begun = self.begin(&socket, auth.as_ref()).map(|session| {
            let inbound = Inbound { session, gateway: self.0.clone() };
            socket.on_fallback(inbound.clone());
            socket.on_disconnect(inbound.clone());
            socket.extensions.insert(inbound);
        });
        let result = begun.map_err(|refusal| {
            let reason = refusal.message();
            tracing::info!(sid = %socket.id, code = refusal.code(), %reason, "connection refused");
            metrics::refused(refusal.code());
            if let Some(connection) = first_connection(&socket) {
                tokio::spawn(let_in_again(connection));
            }
            Box::new(refusal.code()) as Box<dyn Display + Send>
        });
        Box::pin(std::future::ready(result))
    }

    fn call(&self, socket: Arc<Socket>, _: Option<Value>) {
        if let Some(session) = session(&socket) {
            session.open();
        }
        if let Some(connection) =
            first_connection(&socket).and_then(|connection| connection.upgrade())
        {
            connection.connected();
        }
    }
}

/// A socket's session, once it is connected.
pub fn session(socket: &Socket) -> Option<Arc<Session>> {
    socket.extensions.get::<Inbound>().map(|inbound| inbound.session)
}

/// The handlers that connect a socket to its session.
#[derive(Clone)]
struct Inbound {
    session: Arc<Session>,
    gateway: Arc<Gateway>,
}

impl MessageHandler<LocalAdapter, Ours> for Inbound {
    fn call(&self, _: Arc<Socket>, value: Value, ack: Option<i64>) {
        let Value::Str(text, _) = value else { return };
        // Socketioxide has read the beginning of the text, up to the event's name.
        match serde_json::from_str::<Incoming>(&text) {
            Ok(incoming) => self.session.receive(&incoming, ack),
            Err(_) => self.session.outlet.cut(Disconnect::NotJson),
        }
    }
}

impl DisconnectHandler<LocalAdapter, Ours> for Inbound {
    fn call_with_defer(
        &self,
        socket: Arc<Socket>,
        reason: DisconnectReason,
        remove: fn(Arc<Socket>),
    ) {
        self.session.close();
        if reason == DisconnectReason::ClientNSDisconnect {
            let transport = self.session.outlet.transport(&socket);
            tokio::spawn(end_unless_back(self.gateway.clone(), socket.id, transport));
        }
        remove(socket);
    }
}

/// The client has left the namespace. Unless it returns, its transport is of no use.
async fn end_unless_back(gateway: Arc<Gateway>, sid: Sid, transport: EngineTransport) {
    tokio::time::sleep(CONNECT_PATIENCE).await;
    if gateway.session(sid).is_none() {
        gateway.transports.end(transport);
    }
}

/// Reads a client again after the refusal of its CONNECT: it may try again, or leave.
async fn let_in_again(connection: Weak<Connection>) {
    tokio::time::sleep(REFUSAL_FIRST).await;
    if let Some(connection) = connection.upgrade() {
        connection.connected();
    }
}
