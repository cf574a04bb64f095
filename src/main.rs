//! The command line.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use radio_istic::config::{self, Config, LogConfig, Settings};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// A compact real-time chat server that speaks Socket.IO.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radio-istic: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    config::load_dotenv()?;
    let settings = Cli::parse().settings;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = runtime.block_on(Config::new(&settings))?;
    start_logging(LogConfig::new(&settings)?);
    runtime.block_on(async {
        let listener = TcpListener::bind(config.address)
            .await
            .with_context(|| format!("HOST and PORT: cannot listen on {}", config.address))?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        radio_istic::serve(listener, config, async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
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
