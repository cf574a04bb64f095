//! `radio-istic`: serves until it is told to stop.

use anyhow::{Context, Result};
use radio_istic::config::{Config, LogConfig, Settings};
use tokio::net::TcpListener;

use crate::signals::stop_asked;

pub fn run(settings: &Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = runtime.block_on(Config::new(settings))?;
    start_logging(LogConfig::new(settings)?);
    runtime.block_on(async {
        let listener = TcpListener::bind(config.address)
            .await
            .with_context(|| format!("HOST and PORT: cannot listen on {}", config.address))?;
        radio_istic::serve(listener, config, stop_asked()?).await
    })?;
    // Whoever did not end in time has no more of it.
    runtime.shutdown_background();
    Ok(())
}

fn start_logging(config: LogConfig) {
    let logging =
        tracing_subscriber::fmt().with_env_filter(config.filter).with_writer(std::io::stderr);
    if config.json {
        logging.json().flatten_event(true).init();
    } else {
        logging.init();
    }
}
