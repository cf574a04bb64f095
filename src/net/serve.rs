//! Accepts connections, and serves HTTP on them.
//!
//! The server uses hyper itself, because on the internet it has to bound the head of a request, in
//! bytes and in time.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower::ServiceExt;

use super::{Connection, Stream, Via};
use crate::{
    limits::{Addresses, Permit, Reject},
    metrics,
};

/// The time that a client may take for the head of a request, also of the next one on a connection
/// that it keeps.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1_024;

/// The pause before the next attempt when the system has no more connections to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Serves new connections until `stop_accepting` resolves, and the open ones until `stop_serving`
/// does. Accepts no more connections of an address than `addresses` allow.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    addresses: Option<Arc<Addresses>>,
    stop_accepting: impl Future<Output = ()>,
    stop_serving: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(MAX_HEAD_BYTES);
    let (stop, stopped) = watch::channel(());
    tokio::pin!(stop_accepting);
    loop {
        let accepted = tokio::select! {
            () = &mut stop_accepting => break,
            accepted = accept(&listener) => accepted,
        };
        let (tcp, peer) = accepted;
        match permit(addresses.as_ref(), peer.ip()) {
            Ok(permit) => {
                // Chat messages are small and urgent. A peer that is gone already shows when its
                // stream is read.
                let _ = tcp.set_nodelay(true);
                let connection = Arc::new(Connection::new(tcp, peer.ip(), permit));
                tokio::spawn(converse(http.clone(), connection, app.clone(), stopped.clone()));
            }
            Err(reason) => {
                tracing::info!(address = %peer.ip(), reason = reason.as_str(), "connection refused");
                metrics::refused(reason.as_str());
                refuse(&tcp);
            }
        }
    }
    drop(listener);
    stop_serving.await;
    drop(stopped);
    // Each connection has a receiver until it ends.
    let _ = stop.send(());
    stop.closed().await;
}

/// Serves HTTP on one connection, until it ends or `stopped` changes.
async fn converse(
    http: http1::Builder,
    connection: Arc<Connection>,
    app: Router,
    mut stopped: watch::Receiver<()>,
) {
    let via = Via(Arc::downgrade(&connection));
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(via.clone());
        app.clone().oneshot(request.map(Body::new))
    });
    let stream = TokioIo::new(Stream::new(connection));
    let connection = http.serve_connection(stream, answer).with_upgrades();
    tokio::pin!(connection);
    // A client that leaves, or sends no HTTP, ends its connection and no more.
    tokio::select! {
        _ = &mut connection => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                // The usual reason is too many open files. Some connections will end.
                tracing::error!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Behind a proxy there are no `addresses`: all connections come from the proxy.
fn permit(addresses: Option<&Arc<Addresses>>, peer: IpAddr) -> Result<Option<Permit>, Reject> {
    match addresses {
        Some(addresses) if !peer.to_canonical().is_loopback() => addresses.hold(peer).map(Some),
        _ => Ok(None),
    }
}

/// Sends a refusal as well as that works without reading.
fn refuse(tcp: &TcpStream) {
    let answer = "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\n\
                  Content-Length: 0\r\n\r\n";
    let _ = tcp.try_write(answer.as_bytes());
}
