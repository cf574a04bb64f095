//! The configuration: the only place that reads the environment.
//!
//! Every setting is an environment variable and a flag; a flag goes before the environment, the
//! environment before `.env`. An empty value is as good as none. What cannot be used becomes one
//! line that names the variable, the value and what is allowed.

use std::{
    env, fmt,
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use mongodb::options::ClientOptions;
use tracing_subscriber::EnvFilter;

use crate::{http::Origins, storage};

/// What an operator may set, as it was written.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// TCP port [default: 3001]
    #[arg(long, env, value_name = "PORT")]
    pub port: Option<String>,

    /// Address to listen on [default: 127.0.0.1; 0.0.0.0 on Fly.io and Render]
    #[arg(long, env, value_name = "ADDRESS")]
    pub host: Option<String>,

    /// The SQLite file; `:memory:` keeps nothing [default: radio-istic.db]
    #[arg(long, env, value_name = "FILE")]
    pub sqlite_path: Option<String>,

    /// MongoDB's connection string; without one, messages are kept in SQLite
    #[arg(long, env, value_name = "URI", hide_env_values = true)]
    pub mongodb_uri: Option<String>,

    /// Origins whose pages may connect, comma-separated, or `*` [default: those of this machine]
    #[arg(long, env, value_name = "ORIGINS")]
    pub allowed_origins: Option<String>,

    /// The demo page at `/`: `on` or `off` [default: on]
    #[arg(long, env, value_name = "ON_OR_OFF")]
    pub demo: Option<String>,

    /// How log lines look: `text` or `json` [default: text on a terminal, else json]
    #[arg(long, env, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Which log lines are written, by level and module [default: info]
    #[arg(long, env, value_name = "FILTER")]
    pub rust_log: Option<String>,

    #[arg(long, env, value_name = "SECRET", hide_env_values = true, hide = true)]
    pub jwt_secret: Option<String>,

    #[arg(long, env, value_name = "LIMIT", hide = true)]
    pub rate_limit: Option<String>,

    #[arg(long, env, value_name = "LIMIT", hide = true)]
    pub connection_limit: Option<String>,

    #[arg(long, env, value_name = "HEADER", hide = true)]
    pub trusted_proxy: Option<String>,

    /// Accepted because deployments set it, and ignored
    #[arg(long, env, value_name = "ENVIRONMENT", hide = true)]
    pub node_env: Option<String>,
}

/// Settings of the contract that this version does not have. Ignoring one would be worse than not
/// starting: a server with a `JWT_SECRET` must not let everybody in.
const NOT_SUPPORTED: [&str; 4] = ["JWT_SECRET", "RATE_LIMIT", "CONNECTION_LIMIT", "TRUSTED_PROXY"];

impl Settings {
    /// The setting behind a variable, of those that a conversation may choose.
    pub fn get_mut(&mut self, variable: &str) -> Option<&mut Option<String>> {
        match variable {
            "ALLOWED_ORIGINS" => Some(&mut self.allowed_origins),
            "JWT_SECRET" => Some(&mut self.jwt_secret),
            "RATE_LIMIT" => Some(&mut self.rate_limit),
            "CONNECTION_LIMIT" => Some(&mut self.connection_limit),
            "TRUSTED_PROXY" => Some(&mut self.trusted_proxy),
            _ => None,
        }
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
    pub storage: StorageConfig,
    pub origins: Origins,
    /// Whether browsers get the demo page.
    pub has_demo: bool,
}

/// Where messages are kept.
#[derive(Clone, Debug)]
pub enum StorageConfig {
    /// In a file; `:memory:` keeps nothing.
    Sqlite(PathBuf),
    /// In MongoDB. What is accepted while it is away waits in the file `outbox`.
    Mongo { options: Box<ClientOptions>, outbox: PathBuf },
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
        for name in NOT_SUPPORTED {
            if settings.clone().get_mut(name).is_some_and(|setting| given(setting).is_some()) {
                bail!("{name} is set, but this version does not support it: unset it to start");
            }
        }
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
        let origins = match given(&settings.allowed_origins) {
            None => Origins::ThisMachine,
            Some(text) => text.parse().map_err(|entry: String| {
                unusable(
                    "ALLOWED_ORIGINS",
                    &entry,
                    "origins such as https://chat.example.com, or * for all",
                )
            })?,
        };
        let has_demo = match given(&settings.demo) {
            None | Some("on") => true,
            Some("off") => false,
            Some(text) => return Err(unusable("DEMO", text, "on or off")),
        };
        let path = Path::new(given(&settings.sqlite_path).unwrap_or("radio-istic.db"));
        let storage = match given(&settings.mongodb_uri) {
            None => StorageConfig::Sqlite(path.into()),
            Some(uri) => {
                let options =
                    storage::parse(uri).await.map_err(|reason| storage::unusable(&reason))?;
                let in_memory = path == Path::new(":memory:");
                let outbox = if in_memory { path.into() } else { path.with_extension("outbox.db") };
                StorageConfig::Mongo { options: Box::new(options), outbox }
            }
        };
        Ok(Self { address: SocketAddr::new(host, port), storage, origins, has_demo })
    }
}

impl fmt::Display for StorageConfig {
    /// Where that is, for the operator: without credentials.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Sqlite(path) if path == Path::new(":memory:") => {
                f.write_str("memory, until it stops")
            }
            Self::Sqlite(path) => write!(f, "SQLite, {}", absolute(path).display()),
            Self::Mongo { options, outbox } => {
                let hosts: Vec<_> = options.hosts.iter().map(ToString::to_string).collect();
                let database = options.default_database.as_deref().unwrap_or_default();
                let outbox = absolute(outbox);
                write!(f, "MongoDB, {}/{database}; outbox {}", hosts.join(","), outbox.display())
            }
        }
    }
}

/// A path that says more than the one that was given, if there is one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
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

fn given(setting: &Option<String>) -> Option<&str> {
    setting.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn unusable(variable: &str, value: &str, allowed: &str) -> anyhow::Error {
    anyhow!("{variable}: {value:?} is not {allowed}")
}
