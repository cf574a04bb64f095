//! `radio-istic`: serves until a signal stops it.

use std::{io::Write, net::SocketAddr, num::NonZeroUsize};

use anyhow::{Context, Result};
use radio_istic::{
    Server,
    config::{Config, LogConfig, Settings},
};
use tokio::{net::TcpListener, runtime::Runtime};

use super::{logging, surroundings};
use crate::signals::stop_asked;

pub fn run(settings: &Settings) -> Result<()> {
    let runtime = runtime()?;
    let config = runtime.block_on(Config::new(settings))?;
    logging::start(LogConfig::new(settings)?);
    runtime.block_on(async {
        let listener = TcpListener::bind(config.address)
            .await
            .with_context(|| format!("HOST and PORT: cannot listen on {}", config.address))?;
        let stop = stop_asked()?;
        let address = listener.local_addr()?;
        surroundings::warn(&config, address);
        surroundings::raise_file_limit();
        let greeting = greeting(&config, address);
        let server = Server::open(config).await?;
        // The greeting is for a person; a closed standard output must not stop the server.
        let _ = writeln!(std::io::stdout(), "{greeting}");
        server.serve(listener, stop).await
    })?;
    // Tasks that did not end in time are abandoned.
    runtime.shutdown_background();
    Ok(())
}

/// The writer has a thread of its own, so one core less is left. With too many threads, whichever
/// thread wakes up first sends a socket's packets one by one, instead of together.
fn runtime() -> Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads((cores - 1).max(1)).enable_all().build()?)
}

/// The lines that an operator needs at the start.
fn greeting(config: &Config, address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if ip.is_unspecified() || ip.is_loopback() => "localhost".to_owned(),
        _ => address.ip().to_string(),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let open = if config.has_demo { "open in a browser" } else { "address" };
    let mode = match &config.tokens {
        Some(_) => "tokens, users are who their token says",
        None => "open, users are who they say they are",
    };
    let reach = match address.ip() {
        ip if ip.is_loopback() => "this machine only",
        ip if ip.is_unspecified() => "all networks",
        _ => "the network of this address",
    };
    format!(
        "radio-istic {}\n  {open}: http://{host}:{}\n  storage: {}\n  mode: {mode}; \
         reached from {reach}",
        env!("CARGO_PKG_VERSION"),
        address.port(),
        config.storage,
    )
}
