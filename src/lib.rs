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
//! | [`http`] | Health, the client bundle, and which origins may connect? |
//! | [`config`] | What did the operator set? |
//!
//! Beside the server stand [`client`], a small Socket.IO client, and [`transcript`], which plays
//! conversations and writes down what everybody received.

#![forbid(unsafe_code)]

pub mod client;
pub mod config;
pub mod contract;
pub mod transcript;

mod commit;
mod conversations;
mod delivery;
mod gateway;
mod http;
mod net;
mod presence;
mod session;
mod storage;
mod vitals;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    net::TcpListener,
    sync::{mpsc::unbounded_channel, oneshot},
    time::timeout,
};

use crate::{
    config::{Config, StorageConfig},
    delivery::Delivery,
    gateway::Gateway,
    net::{Listener, Via},
    storage::Storage,
    vitals::Vitals,
};

/// How long accepted events may take to be stored and confirmed once the server stops. With the
/// two limits below it stays under the 4 s that the contract gives.
const DRAIN: Duration = Duration::from_millis(2_500);
/// How long sockets may take to send what they still have.
const CLOSE_SOCKETS: Duration = Duration::from_millis(700);
/// How long other requests may take to end.
const CLOSE_HTTP: Duration = Duration::from_millis(300);

/// Serves until `shutdown` resolves, then ends in order: no new connections, what was accepted is
/// stored and confirmed, sockets are closed.
///
/// Fails, before it accepts anything, if the storage cannot be opened.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let storage = tokio::task::spawn_blocking({
        let StorageConfig::Sqlite(path) = config.storage.clone();
        move || Storage::open(&config.storage).with_context(|| format!("SQLITE_PATH: {path:?}"))
    });
    let storage = Arc::new(storage.await??);
    let vitals = Arc::new(Vitals::new());
    let (committed, to_deliver) = unbounded_channel();
    let (commits, writer) = commit::start(storage.clone(), vitals.clone(), committed)?;
    let mut delivery = tokio::spawn(Delivery::run(storage.clone(), vitals.clone(), to_deliver));
    let (gateway, sockets, io) = Gateway::start(commits.clone());
    let app = http::router(storage, vitals, gateway, sockets, config.origins)
        .into_make_service_with_connect_info::<Via>();

    tracing::info!(address = %listener.local_addr()?, "listening");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(Listener(listener), app).with_graceful_shutdown(async {
        // Both an order to stop and nobody left to give it are one.
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());

    tokio::select! {
        () = shutdown => tracing::info!("stopping"),
        // Nothing would be answered any more. Whoever started the server can start it again.
        _ = &mut delivery => bail!("the server has failed: see the log"),
    }
    drop(stop);
    commits.close();
    if timeout(DRAIN, delivery).await.is_err() {
        tracing::warn!("stopped before everything was confirmed");
    }
    // What takes longer than its limit ends with the process.
    let _ = timeout(CLOSE_SOCKETS, io.close()).await;
    let _ = timeout(CLOSE_HTTP, server).await;
    let _ = timeout(CLOSE_HTTP, tokio::task::spawn_blocking(|| writer.join())).await;
    tracing::info!("stopped");
    Ok(())
}
