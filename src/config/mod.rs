//! The configuration: the only place that reads the environment.
//!
//! Every setting is an environment variable and a flag; a flag goes before the environment, the
//! environment before `.env`. An empty value is as good as none. What cannot be used becomes one
//! line that names the variable, the value and what is allowed.

mod settings;

use std::{
    env,
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Result, anyhow, bail};
use tracing_subscriber::EnvFilter;

use crate::{
    limits::Limits,
    origins::Origins,
    storage::{self, Place},
    tokens::Tokens,
};

pub use settings::Settings;

impl Settings {
    /// Checks those settings that a conversation may choose, without using them.
    pub fn check(&self) -> Result<()> {
        tokens(self)?;
        origins(self)?;
        limits(self)?;
        Ok(())
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
    pub storage: Place,
    pub origins: Origins,
    /// Whether browsers get the demo page.
    pub has_demo: bool,
    /// Whether events are counted, and `/metrics` tells.
    pub has_metrics: bool,
    /// Whose tokens let clients in. `None`: open mode, clients are believed.
    pub tokens: Option<Tokens>,
    pub limits: Limits,
}

/// How and which log lines are written.
pub struct LogConfig {
    pub filter: EnvFilter,
    pub json: bool,
}

/// Puts `.env` of the working directory, if there is one, behind the environment. Its values may
/// be secret: the error tells the line's number and no more.
pub fn load_dotenv() -> Result<()> {
    let path = Path::new(".env");
    match dotenvy::from_path(path) {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(dotenvy::Error::LineParse(line, _)) => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let number =
                text.lines().position(|other| other.trim() == line.trim()).map_or(0, |n| n + 1);
            bail!(".env: line {number} is not NAME=value")
        }
        Err(dotenvy::Error::Io(error)) => bail!(".env: {error}"),
        Err(_) => bail!(".env: this file cannot be read"),
    }
}

impl Config {
    /// Checks the settings. The error is one line for the operator. A `mongodb+srv` address is
    /// looked up.
    pub async fn new(settings: &Settings) -> Result<Self> {
        let on_platform =
            ["FLY_APP_NAME", "RENDER"].into_iter().any(|name| env::var_os(name).is_some());
        let default_host = if on_platform { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let host = match given(&settings.host) {
            None => IpAddr::V4(default_host),
            Some("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(text) => text.parse().map_err(|_| {
                unusable("HOST", text, "an IP address such as 127.0.0.1, 0.0.0.0 or ::")
            })?,
        };
        let port = match given(&settings.port) {
            None => 3001,
            Some(text) => text
                .parse()
                .map_err(|_| unusable("PORT", text, "a TCP port from 0 (any free one) to 65535"))?,
        };
        let origins = origins(settings)?;
        let has_demo = switch("DEMO", &settings.demo)?;
        let has_metrics = switch("METRICS", &settings.metrics)?;
        let path = Path::new(given(&settings.sqlite_path).unwrap_or("radio-istic.db"));
        let storage = match given(&settings.mongodb_uri) {
            None => Place::Sqlite(path.into()),
            Some(uri) => {
                let options =
                    storage::parse(uri).await.map_err(|reason| storage::unusable(&reason))?;
                let in_memory = path == Path::new(":memory:");
                let outbox = if in_memory { path.into() } else { path.with_extension("outbox.db") };
                Place::Mongo { options: Box::new(options), outbox }
            }
        };
        let address = SocketAddr::new(host, port);
        let (tokens, limits) = (tokens(settings)?, limits(settings)?);
        Ok(Self { address, storage, origins, has_demo, has_metrics, tokens, limits })
    }
}

impl LogConfig {
    pub fn new(settings: &Settings) -> Result<Self> {
        let filter = given(&settings.rust_log).unwrap_or("info");
        let filter = EnvFilter::try_new(filter).map_err(|_| {
            unusable("RUST_LOG", filter, "a filter such as info or radio_istic=debug")
        })?;
        let json = match given(&settings.log_format) {
            None => !std::io::stderr().is_terminal(),
            Some("text") => false,
            Some("json") => true,
            Some(text) => return Err(unusable("LOG_FORMAT", text, "text or json")),
        };
        Ok(Self { filter, json })
    }
}

/// Whose tokens let clients in; `None` in open mode.
pub fn tokens(settings: &Settings) -> Result<Option<Tokens>> {
    // An empty line in a deployment's form must not let everybody in.
    for (variable, setting) in
        [("JWT_SECRET", &settings.jwt_secret), ("JWT_PUBLIC_KEY", &settings.jwt_public_key)]
    {
        if setting.is_some() && given(setting).is_none() {
            bail!("{variable}: it is empty; unset it if clients need no token");
        }
    }
    let tokens = match (given(&settings.jwt_secret), given(&settings.jwt_public_key)) {
        (None, None) => {
            for (variable, setting) in
                [("JWT_AUDIENCE", &settings.jwt_audience), ("JWT_ISSUER", &settings.jwt_issuer)]
            {
                if given(setting).is_some() {
                    bail!("{variable}: it is of no use without JWT_SECRET or JWT_PUBLIC_KEY");
                }
            }
            return Ok(None);
        }
        (Some(_), Some(_)) => bail!("JWT_SECRET and JWT_PUBLIC_KEY: only one of them may be set"),
        (Some(secret), None) => {
            Tokens::signed_with(secret).map_err(|reason| anyhow!("JWT_SECRET: {reason}"))?
        }
        (None, Some(key)) => {
            let pem = match key.contains("-----BEGIN") {
                true => key.to_owned(),
                false => std::fs::read_to_string(key)
                    .map_err(|error| anyhow!("JWT_PUBLIC_KEY: cannot read {key:?}: {error}"))?,
            };
            Tokens::verified_with(&pem).map_err(|reason| anyhow!("JWT_PUBLIC_KEY: {reason}"))?
        }
    };
    Ok(Some(tokens.of(given(&settings.jwt_issuer)).meant_for(given(&settings.jwt_audience))))
}

/// What is on unless somebody turns it off.
fn switch(variable: &str, setting: &Option<String>) -> Result<bool> {
    match given(setting) {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(text) => Err(unusable(variable, text, "on or off")),
    }
}

fn origins(settings: &Settings) -> Result<Origins> {
    let Some(text) = given(&settings.allowed_origins) else { return Ok(Origins::ThisMachine) };
    text.parse().map_err(|entry: String| {
        let allowed = "origins such as https://chat.example.com, or * for all";
        unusable("ALLOWED_ORIGINS", &entry, allowed)
    })
}

fn limits(settings: &Settings) -> Result<Limits> {
    let mut limits = Limits::default();
    match given(&settings.rate_limit) {
        None => {}
        Some("off") => limits.events = None,
        Some(text) => {
            let allowed = "a limit such as 20/s,burst=40, or off";
            limits.events = Some(text.parse().map_err(|()| unusable("RATE_LIMIT", text, allowed))?);
        }
    }
    match given(&settings.connection_limit) {
        None => {}
        Some("off") => limits.connections = None,
        Some(text) => {
            let allowed = "a limit such as 50/s,burst=500,open=2000, or off";
            let limit = text.parse().map_err(|()| unusable("CONNECTION_LIMIT", text, allowed))?;
            limits.connections = Some(limit);
        }
    }
    if let Some(text) = given(&settings.trusted_proxy) {
        let allowed = "the name of a header such as X-Forwarded-For";
        let name = text.parse().map_err(|_| unusable("TRUSTED_PROXY", text, allowed))?;
        limits.trusted_proxy = Some(name);
    }
    Ok(limits)
}

fn given(setting: &Option<String>) -> Option<&str> {
    setting.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn unusable(variable: &str, value: &str, allowed: &str) -> anyhow::Error {
    anyhow!("{variable}: {value:?} is not {allowed}")
}
