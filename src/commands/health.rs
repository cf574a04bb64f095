//! `radio-istic health`: checks a server, for machines without another HTTP client.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use radio_istic::config::Settings;
use url::Url;

/// The time limit for the answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Checks a server: exit code 0 if it answers
#[derive(Args)]
pub struct Arguments {
    /// The server [default: the one on this machine, at PORT]
    #[arg(long)]
    url: Option<Url>,
}

pub fn run(Arguments { url }: &Arguments, settings: &Settings) -> Result<()> {
    let url = match url {
        Some(url) => url.clone(),
        None => {
            let port = settings.port().text.unwrap_or_default();
            // A server that listens on all addresses listens on loopback too.
            let host = settings.host().text.filter(|host| !matches!(*host, "0.0.0.0" | "::"));
            let host = host.unwrap_or("127.0.0.1").to_owned();
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            Url::parse(&format!("http://{host}:{port}")).context("HOST and PORT")?
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let health = runtime.block_on(async {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let answer = http.get(url.join("/health")?).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "{url} answers with HTTP status {status}");
        Ok(answer.text().await?)
    })?;
    anstream::println!("{health}");
    Ok(())
}
