//! A compact real-time chat server that speaks Socket.IO: one binary, one file.
//!
//! An event walks through these rooms, in one direction, and each answers one question:
//!
//! | module | question |
//! |---|---|
//! | [`contract`] | What is on the wire? |
//! | [`net`] | Which TCP connections are there, and how does one end from outside? |
//! | [`gateway`] | How do events come in from socketioxide, and server events go out? |
//! | [`session`] | One socket: who is it, and what does its event mean? |
//! | [`commit`] | In which order is everything accepted and written? |
//! | [`conversations`] | Who belongs to a conversation? |
//! | [`storage`] | Where does it live? |
//! | [`delivery`] | Which sockets get which server event? |
//! | [`presence`] | Who is online, who is typing? |
//! | [`tokens`] | Who vouches for a user? |
//! | [`limits`] | How much may a client ask for? |
//! | [`vitals`], [`metrics`] | How is the server? |
//! | [`http`] | Health, the client bundle, and which origins may connect? |
//! | [`config`] | What did the operator set? |
//!
//! Beside the server stand [`client`], a small Socket.IO client, [`transcript`], which plays
//! conversations and writes down what everybody received, and [`recorder`], which writes down those
//! of others.

#![forbid(unsafe_code)]

pub mod client;
pub mod config;
pub mod contract;
pub mod recorder;
pub mod storage;
pub mod tokens;
pub mod transcript;

mod commit;
mod conversations;
mod delivery;
mod gateway;
mod http;
mod limits;
mod metrics;
mod net;
mod presence;
mod session;
mod vitals;

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    net::TcpListener,
    sync::{mpsc::unbounded_channel, oneshot},
    time::timeout,
};

use crate::{
    config::Config, delivery::Delivery, gateway::Gateway, limits::Addresses, session::Rules,
    storage::Storage, vitals::Vitals,
};

/// How long accepted events may take to be stored and confirmed once the server stops. Together
/// with the limits below it stays under the 4 s that the contract gives.
const DRAIN: Duration = Duration::from_millis(1_600);
/// How long readers may take to read what they are sent. Pollers have to come for it.
const FLUSH: Duration = Duration::from_millis(500);
/// How long the end of all sockets may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long other requests and the writer may take to end, each.
const CLOSE: Duration = Duration::from_millis(300);

/// A server whose storage is open.
pub struct Server {
    storage: Arc<Storage>,
    config: Config,
}

/// Opens the storage and serves: [`Server::open`] and [`Server::serve`].
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    Server::open(config).await?.serve(listener, shutdown).await
}

impl Server {
    /// Opens the storage.
    pub async fn open(config: Config) -> Result<Self> {
        let place = config.storage.clone();
        let storage = tokio::task::spawn_blocking(move || Storage::open(&place)).await??;
        Ok(Self { storage: Arc::new(storage), config })
    }

    /// Serves until `shutdown` resolves, then ends in order: no new connections, what was accepted
    /// is stored and confirmed, sockets are closed.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let Self { storage, config } = self;
        if config.has_metrics {
            metrics::start();
        }
        let vitals = Arc::new(Vitals::new());
        let (committed, to_deliver) = unbounded_channel();
        let needs_tokens = config.tokens.is_some();
        let (commits, writer) =
            commit::start(storage.clone(), vitals.clone(), needs_tokens, committed)?;
        let mut delivery =
            tokio::spawn(Delivery::run(storage.clone(), vitals.clone(), needs_tokens, to_deliver));
        let rules = Rules { tokens: config.tokens.clone(), limits: config.limits.clone() };
        let (gateway, sockets) = Gateway::start(commits.clone(), rules);
        let addresses = config.limits.connections.map(Addresses::new);
        let app =
            http::router(storage.clone(), vitals, gateway.clone(), sockets, &config, addresses);

        tracing::info!(address = %listener.local_addr()?, "listening");
        let (stop_accepting, accepting) = oneshot::channel::<()>();
        let (stop_serving, serving) = oneshot::channel::<()>();
        // All connections of a proxy are its own: what counts is the clients behind it.
        let tcp = config.limits.connections.filter(|_| config.limits.trusted_proxy.is_none());
        let tcp = tcp.map(Addresses::new);
        let server =
            tokio::spawn(net::serve(listener, app, tcp, dropped(accepting), dropped(serving)));

        tokio::select! {
            () = metrics::keep_up() => {}
            () = shutdown => tracing::info!("stopping"),
            // Nothing would be answered any more. Whoever started the server can start it again.
            _ = &mut delivery => bail!("the server has failed: see the log"),
        }
        drop(stop_accepting);
        let _ = timeout(DRAIN / 2, gateway.drained()).await;
        commits.close();
        if timeout(DRAIN / 2, delivery).await.is_err() {
            tracing::warn!("stopped before everything was confirmed");
        }
        // What takes longer than its limit ends with the process.
        let _ = timeout(FLUSH, gateway.flushed()).await;
        let _ = timeout(GOODBYE, gateway.close()).await;
        if let Ok(Err(error)) = timeout(CLOSE, storage.end()).await {
            tracing::warn!(error = format!("{error:#}"), "users are left online");
        }
        drop(stop_serving);
        let _ = timeout(CLOSE, server).await;
        let _ = timeout(CLOSE, tokio::task::spawn_blocking(|| writer.join())).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Resolves when the other end is dropped.
async fn dropped(receiver: oneshot::Receiver<()>) {
    let _ = receiver.await;
}
