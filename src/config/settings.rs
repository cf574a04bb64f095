//! What an operator may set, as it was written: each a variable and a flag.

use clap::Args;

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

    /// The HS256 secret of the backend that makes tokens; with it, clients need a token
    #[arg(long, env, value_name = "SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,

    /// The public key (PEM, or a file's path) of a backend that signs with RS256, ES256 or EdDSA
    #[arg(long, env, value_name = "KEY", hide_env_values = true)]
    pub jwt_public_key: Option<String>,

    /// The audience (`aud`) that a token must name [default: any]
    #[arg(long, env, value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,

    /// The issuer (`iss`) that a token must name [default: any]
    #[arg(long, env, value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,

    /// Events of one socket, or `off` [default: 20/s,burst=40]
    #[arg(long, env, value_name = "LIMIT")]
    pub rate_limit: Option<String>,

    /// Connections of one address, or `off` [default: 50/s,burst=500,open=2000]
    #[arg(long, env, value_name = "LIMIT")]
    pub connection_limit: Option<String>,

    /// The header in which a proxy in front tells a client's address, such as X-Forwarded-For
    #[arg(long, env, value_name = "HEADER")]
    pub trusted_proxy: Option<String>,

    /// The demo page at `/`: `on` or `off` [default: on]
    #[arg(long, env, value_name = "ON_OR_OFF")]
    pub demo: Option<String>,

    /// `/metrics` for Prometheus: `on` or `off` [default: on]
    #[arg(long, env, value_name = "ON_OR_OFF")]
    pub metrics: Option<String>,

    /// How log lines look: `text` or `json` [default: text on a terminal, else json]
    #[arg(long, env, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Which log lines are written, by level and module [default: info]
    #[arg(long, env, value_name = "FILTER")]
    pub rust_log: Option<String>,

    /// Accepted because deployments set it, and ignored
    #[arg(long, env, value_name = "ENVIRONMENT", hide = true)]
    pub node_env: Option<String>,
}

impl Settings {
    /// The setting behind a variable, of those that a conversation may choose.
    pub fn get_mut(&mut self, variable: &str) -> Option<&mut Option<String>> {
        match variable {
            "ALLOWED_ORIGINS" => Some(&mut self.allowed_origins),
            "JWT_SECRET" => Some(&mut self.jwt_secret),
            "JWT_PUBLIC_KEY" => Some(&mut self.jwt_public_key),
            "JWT_AUDIENCE" => Some(&mut self.jwt_audience),
            "JWT_ISSUER" => Some(&mut self.jwt_issuer),
            "RATE_LIMIT" => Some(&mut self.rate_limit),
            "CONNECTION_LIMIT" => Some(&mut self.connection_limit),
            "TRUSTED_PROXY" => Some(&mut self.trusted_proxy),
            _ => None,
        }
    }
}
