//! The wiring: a server is opened, serves, and ends in order.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    net::TcpListener,
    sync::{mpsc::unbounded_channel, oneshot},
    task,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    commit::{self, Commits},
    config::Config,
    delivery::Delivery,
    gateway::Gateway,
    http::{self, App},
    limits::Addresses,
    metrics::{self, Gauges},
    net,
    session::{Request, Shared},
    storage::Storage,
};

/// The time in which accepted events may be stored and confirmed once the server stops. Together
/// with the limits below it stays under the 4 s of the contract.
const DRAIN: Duration = Duration::from_millis(1_600);
/// The time in which readers may receive the packets for them. Pollers have to fetch theirs.
const FLUSH: Duration = Duration::from_millis(500);
/// The time in which all sockets may end.
const GOODBYE: Duration = Duration::from_millis(500);
/// The time in which other requests may end, and again the writer.
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
        let storage = task::spawn_blocking(move || Storage::open(&place)).await??;
        Ok(Self { storage: Arc::new(storage), config })
    }

    /// Serves until `shutdown` resolves, then ends in order: takes no new connections, stores and
    /// confirms the accepted events, closes the sockets.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let Self { storage, config } = self;
        if config.has_metrics {
            metrics::start();
        }
        let gauges = Arc::new(Gauges::new());
        let needs_tokens = config.tokens.is_some();
        let (committed, to_deliver) = unbounded_channel();
        let (commits, writer) = commit::start(storage.clone(), needs_tokens, committed)?;
        let mut delivery =
            tokio::spawn(Delivery::run(storage.clone(), gauges.clone(), needs_tokens, to_deliver));
        let limits = config.limits.clone();
        let accepted = TaskTracker::new();
        let tokens = config.tokens.clone();
        let shared = Shared { commits: commits.clone(), tokens, limits, accepted };
        let (gateway, sockets) = Gateway::start(Arc::new(shared));
        let app = http::router(app(&config, &storage, gauges, &gateway), sockets);

        tracing::info!(address = %listener.local_addr()?, "listening");
        let (stop_accepting, accepting) = oneshot::channel::<()>();
        let (stop_serving, serving) = oneshot::channel::<()>();
        // All connections of a proxy have its address: the limit is for the clients behind it.
        let tcp = config.limits.connections.filter(|_| config.limits.trusted_proxy.is_none());
        let tcp = tcp.map(Addresses::new);
        let server =
            tokio::spawn(net::serve(listener, app, tcp, dropped(accepting), dropped(serving)));

        tokio::select! {
            () = metrics::keep_up() => {}
            () = shutdown => tracing::info!("stopping"),
            // The server would answer nothing more. A supervisor can start it again.
            _ = &mut delivery => bail!("the server has failed: see the log"),
        }
        drop(stop_accepting);
        drain(&gateway, commits, delivery).await;
        end_users(&storage).await;
        drop(stop_serving);
        let _ = timeout(CLOSE, server).await;
        end_writer(writer).await;
        tracing::info!("stopped");
        Ok(())
    }
}

fn app(
    config: &Config,
    storage: &Arc<Storage>,
    gauges: Arc<Gauges>,
    gateway: &Arc<Gateway>,
) -> App {
    App {
        storage: storage.clone(),
        gauges,
        gateway: gateway.clone(),
        origins: config.origins.clone(),
        has_demo: config.has_demo,
        has_metrics: config.has_metrics,
        addresses: config.limits.connections.map(Addresses::new),
        trusted_proxy: config.limits.trusted_proxy.clone(),
    }
}

/// Answers the accepted events, and closes the sockets afterwards. Work that takes longer than its
/// limit ends with the process.
async fn drain(gateway: &Gateway, commits: Commits<Request>, delivery: task::JoinHandle<()>) {
    let _ = timeout(DRAIN / 2, gateway.drained()).await;
    commits.close();
    if timeout(DRAIN / 2, delivery).await.is_err() {
        tracing::warn!("stopped before everything was confirmed");
    }
    let _ = timeout(FLUSH, gateway.flushed()).await;
    let _ = timeout(GOODBYE, gateway.close()).await;
}

async fn end_users(storage: &Storage) {
    if let Ok(Err(error)) = timeout(CLOSE, storage.end()).await {
        tracing::warn!(error = format!("{error:#}"), "users are left online");
    }
}

async fn end_writer(writer: JoinHandle<()>) {
    let _ = timeout(CLOSE, task::spawn_blocking(|| writer.join())).await;
}

/// Resolves when the other end is dropped.
async fn dropped(receiver: oneshot::Receiver<()>) {
    let _ = receiver.await;
}
