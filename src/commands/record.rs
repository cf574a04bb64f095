//! `radio-istic record`: a proxy between clients and a server that writes a conversation file.

use std::{
    fs::OpenOptions, future::IntoFuture, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use anyhow::{Context, Result};
use axum::serve::ListenerExt;
use clap::Args;
use radio_istic::{
    recorder::{Recording, router},
    transcript::parse_duration,
};
use tokio::net::TcpListener;
use url::Url;

use super::overwrite;
use crate::signals::stop_asked;

/// The interval at which the file is saved during the conversation.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Runs a proxy between clients and a server, and writes their traffic as a conversation file
#[derive(Args)]
#[command(after_help = "Ctrl-C ends the recording. Tokens that clients connect with stand in the \
    file. What clients send at the same time is passed on one after the other.")]
pub struct Arguments {
    /// The address that clients connect to
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3002")]
    listen: SocketAddr,

    /// The server that they talk to
    #[arg(long, default_value = "http://127.0.0.1:3001")]
    url: Url,

    /// The file to write, which must not exist yet
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// A step ends after this long without an event
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "200ms")]
    quiet: Duration,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let recorded = runtime.block_on(record(arguments));
    runtime.shutdown_background();
    recorded
}

async fn record(arguments: &Arguments) -> Result<()> {
    let Arguments { listen, url, output, quiet } = arguments;
    let recording = Arc::new(Recording::new(*quiet));
    let app = router(url.clone(), recording.clone())?;
    let stop = stop_asked()?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let listen = listener.local_addr()?;
    let listener = listener.tap_io(|connection| {
        // The proxy must not delay packets.
        let _ = connection.set_nodelay(true);
    });
    // An existing recording is never overwritten.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(output)
        .with_context(|| format!("make {}", output.display()))?;
    eprintln!("Recording what passes between http://{listen} and {url}. Ctrl-C ends it.");

    let save = || {
        let text = format!("# Recorded at {url}\n{}", recording.text());
        overwrite(output, &text).with_context(|| format!("write {}", output.display()))
    };
    let saving = async {
        let mut saved = recording.changes();
        loop {
            tokio::time::sleep(SAVE_EVERY).await;
            let changes = recording.changes();
            if changes != saved {
                match save() {
                    Ok(()) => saved = changes,
                    // The conversation goes on, and the file may be writable again.
                    Err(error) => eprintln!("radio-istic: {error:#}"),
                }
            }
        }
    };
    tokio::select! {
        () = stop => {}
        served = axum::serve(listener, app).into_future() => served?,
        () = saving => {}
    }
    save()?;
    let (clients, steps) = (recording.clients(), recording.steps());
    eprintln!("{}: {steps} steps, {clients} connections", output.display());
    Ok(())
}
