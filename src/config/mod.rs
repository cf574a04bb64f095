//! The configuration: settings that were checked.
//!
//! Every setting is an environment variable and a flag; a flag overrides the environment, and the
//! environment overrides `.env`. An empty value counts as none. An invalid value becomes a one-line
//! error that names the variable, the value and the allowed values.

mod settings;

use std::{
    env,
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use tracing_subscriber::EnvFilter;

use crate::{
    limits::Limits,
    origins::Origins,
    storage::{self, Place},
    tokens::Tokens,
};

pub use settings::{Setting, Settings};

/// The time for which a socket may have no user, if tokens are required.
const AUTHENTICATE_WITHIN: Duration = Duration::from_secs(60);

impl Settings {
    /// Checks the settings that a conversation may choose, without using them.
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
    /// Whether the server counts events and serves `/metrics`.
    pub has_metrics: bool,
    /// The tokens that give access. `None`: open mode, in which the server trusts the identity that
    /// a client claims.
    pub tokens: Option<Tokens>,
    pub limits: Limits,
}

/// The format and the filter of log lines.
pub struct LogConfig {
    pub filter: EnvFilter,
    pub json: bool,
}

/// Reads `.env` of the working directory, if there is one; the environment overrides it. Its values
/// may be secret: the error shows only the line's number.
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
    /// Checks the settings. The error is one line for the operator. The host of a `mongodb+srv`
    /// address is looked up.
    pub async fn new(settings: &Settings) -> Result<Self> {
        let path = settings.sqlite_path().text.unwrap_or_default();
        let path = Path::new(path);
        let storage = match settings.mongodb_uri().text {
            None => Place::Sqlite(path.into()),
            Some(uri) => {
                let options =
                    storage::parse(uri).await.map_err(|reason| storage::unusable(&reason))?;
                let in_memory = path == Path::new(":memory:");
                let outbox = if in_memory { path.into() } else { path.with_extension("outbox.db") };
                Place::Mongo { options: Box::new(options), outbox }
            }
        };
        Ok(Self {
            address: address(settings)?,
            storage,
            origins: origins(settings)?,
            has_demo: settings.demo().is_on()?,
            has_metrics: settings.metrics().is_on()?,
            tokens: tokens(settings)?,
            limits: limits(settings)?,
        })
    }
}

fn address(settings: &Settings) -> Result<SocketAddr> {
    let on_platform =
        ["FLY_APP_NAME", "RENDER"].into_iter().any(|name| env::var_os(name).is_some());
    let default_host = if on_platform { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    let host = match settings.host().text {
        Some("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => settings
            .host()
            .parse("an IP address such as 127.0.0.1, 0.0.0.0 or ::")?
            .unwrap_or(IpAddr::V4(default_host)),
    };
    let port = settings.port().parse("a TCP port from 0 (any free one) to 65535")?;
    Ok(SocketAddr::new(host, port.unwrap_or_default()))
}

impl LogConfig {
    pub fn new(settings: &Settings) -> Result<Self> {
        let filter = settings.rust_log().parse("a filter such as info or radio_istic=debug")?;
        let json = match settings.log_format().text {
            None => !std::io::stderr().is_terminal(),
            Some("text") => false,
            Some("json") => true,
            Some(text) => return Err(settings.log_format().invalid(text, "text or json")),
        };
        Ok(Self { filter: filter.unwrap_or_default(), json })
    }
}

/// The key of the backend that signs tokens; `None` in open mode.
pub fn tokens(settings: &Settings) -> Result<Option<Tokens>> {
    let (secret, key) = (settings.jwt_secret(), settings.jwt_public_key());
    // An empty line in a deployment's form must not let every client in.
    for (given, setting) in [(secret, &settings.jwt_secret), (key, &settings.jwt_public_key)] {
        if setting.is_some() && given.text.is_none() {
            bail!("{}: it is empty; unset it if clients need no token", given.variable);
        }
    }
    let (audience, issuer) = (settings.jwt_audience(), settings.jwt_issuer());
    let tokens = match (secret.text, key.text) {
        (None, None) => {
            if let Some(given) = [audience, issuer].into_iter().find(|given| given.text.is_some()) {
                bail!("{}: it is of no use without JWT_SECRET or JWT_PUBLIC_KEY", given.variable);
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
    Ok(Some(tokens.of(issuer.text).meant_for(audience.text)))
}

fn origins(settings: &Settings) -> Result<Origins> {
    let given = settings.allowed_origins();
    let Some(text) = given.text else { return Ok(Origins::ThisMachine) };
    text.parse().map_err(|entry: String| {
        given.invalid(&entry, "origins such as https://chat.example.com, or * for all")
    })
}

fn limits(settings: &Settings) -> Result<Limits> {
    let events = "a limit such as 20/s,burst=40, or off";
    let connections = "a limit such as 50/s,burst=500,open=2000, or off";
    Ok(Limits {
        events: settings.rate_limit().parse_unless_off(events)?,
        connections: settings.connection_limit().parse_unless_off(connections)?,
        trusted_proxy: settings
            .trusted_proxy()
            .parse("the name of a header such as X-Forwarded-For")?,
        authenticate_within: AUTHENTICATE_WITHIN,
    })
}
