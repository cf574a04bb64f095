//! The signals that stop a process.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first `SIGTERM` or `SIGINT`. From this call on these do not end the process.
pub fn stop_asked() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
