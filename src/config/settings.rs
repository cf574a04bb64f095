//! The settings of an operator, as written: one table of variables, flags and defaults.

use std::str::FromStr;

use anyhow::{Result, anyhow};
use clap::Args;

/// A line of the table below.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable. The flag is the same in kebab case.
    pub variable: &'static str,
    /// The value that holds if nothing is set.
    pub default: Option<&'static str>,
    /// Whether a conversation file may choose it for a server of its own.
    pub is_for_conversations: bool,
}

/// The value of a setting, or its default.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub variable: &'static str,
    /// Without white space around it. An empty value counts as none.
    pub text: Option<&'a str>,
}

macro_rules! settings {
    ($(
        $(#[$meta:meta])*
        $field:ident: $variable:literal, $value_name:literal $(= $default:literal)? $(, $conversations:ident)?;
    )*) => {
        /// The settings of an operator, as they were written.
        #[derive(Args, Clone, Debug, Default)]
        pub struct Settings {
            $(
                $(#[$meta])*
                #[arg(long, env = $variable, value_name = $value_name $(, default_value = $default)?)]
                pub $field: Option<String>,
            )*
        }

        impl Settings {
            /// All settings, in the order in which `--help` shows them.
            pub const ALL: &[Setting] = &[$(Setting {
                variable: $variable,
                default: first(&[$($default)?]),
                is_for_conversations: !matches!(&[$(stringify!($conversations))?] as &[&str], []),
            }),*];

            $(
                pub fn $field(&self) -> Given<'_> {
                    Given::new($variable, &self.$field, first(&[$($default)?]))
                }
            )*

            /// The setting of this variable.
            pub fn get_mut(&mut self, variable: &str) -> Option<&mut Option<String>> {
                match variable {
                    $($variable => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

const fn first(defaults: &[&'static str]) -> Option<&'static str> {
    defaults.first().copied()
}

settings! {
    /// TCP port
    port: "PORT", "PORT" = "3001";

    /// Address to listen on [default: 127.0.0.1; 0.0.0.0 on Fly.io and Render]
    host: "HOST", "ADDRESS";

    /// The SQLite file; `:memory:` keeps nothing
    sqlite_path: "SQLITE_PATH", "FILE" = "radio-istic.db";

    /// MongoDB's connection string; without one, messages are kept in SQLite
    #[arg(hide_env_values = true)]
    mongodb_uri: "MONGODB_URI", "URI";

    /// Origins whose pages may connect, comma-separated, or `*` [default: those of this machine]
    allowed_origins: "ALLOWED_ORIGINS", "ORIGINS", conversations;

    /// The HS256 secret of the backend that makes tokens; with it, clients need a token
    #[arg(hide_env_values = true)]
    jwt_secret: "JWT_SECRET", "SECRET", conversations;

    /// The public key (PEM, or a file's path) of a backend that signs with RS256, ES256 or EdDSA
    #[arg(hide_env_values = true)]
    jwt_public_key: "JWT_PUBLIC_KEY", "KEY", conversations;

    /// The audience (`aud`) that a token must name [default: any]
    jwt_audience: "JWT_AUDIENCE", "AUDIENCE", conversations;

    /// The issuer (`iss`) that a token must name [default: any]
    jwt_issuer: "JWT_ISSUER", "ISSUER", conversations;

    /// Events of one socket, or `off`
    rate_limit: "RATE_LIMIT", "LIMIT" = "20/s,burst=40", conversations;

    /// Connections of one address, or `off`
    connection_limit: "CONNECTION_LIMIT", "LIMIT" = "50/s,burst=500,open=2000", conversations;

    /// The header in which a proxy writes a client's address, such as X-Forwarded-For
    trusted_proxy: "TRUSTED_PROXY", "HEADER", conversations;

    /// The demo page at `/`: `on` or `off`
    demo: "DEMO", "ON_OR_OFF" = "on";

    /// `/metrics` for Prometheus: `on` or `off`
    metrics: "METRICS", "ON_OR_OFF" = "on";

    /// The form of log lines: `text` or `json` [default: text on a terminal, else json]
    log_format: "LOG_FORMAT", "FORMAT";

    /// Which log lines are written, by level and module
    rust_log: "RUST_LOG", "FILTER" = "info";

    /// Accepted because deployments set it, and ignored
    #[arg(hide = true)]
    node_env: "NODE_ENV", "ENVIRONMENT";
}

impl<'a> Given<'a> {
    fn new(
        variable: &'static str,
        setting: &'a Option<String>,
        default: Option<&'static str>,
    ) -> Self {
        let text = setting.as_deref().map(str::trim).filter(|text| !text.is_empty());
        Self { variable, text: text.or(default) }
    }

    /// The value, if there is one. The error names the variable, the value and the allowed values.
    pub fn parse<T: FromStr>(self, allowed: &str) -> Result<Option<T>> {
        let parse = |text: &str| text.parse().map_err(|_| self.invalid(text, allowed));
        self.text.map(parse).transpose()
    }

    /// The value, if there is one and it is not `off`. The error is that of [`Self::parse`].
    pub fn parse_unless_off<T: FromStr>(self, allowed: &str) -> Result<Option<T>> {
        if self.text == Some("off") { Ok(None) } else { self.parse(allowed) }
    }

    /// `on` or `off`.
    pub fn is_on(self) -> Result<bool> {
        match self.text {
            Some("on") => Ok(true),
            Some("off") => Ok(false),
            text => Err(self.invalid(text.unwrap_or_default(), "on or off")),
        }
    }

    /// The error for a value that is not allowed.
    pub fn invalid(self, value: &str, allowed: &str) -> anyhow::Error {
        anyhow!("{}: {value:?} is not {allowed}", self.variable)
    }
}
