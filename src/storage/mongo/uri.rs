//! The connection string, and errors about it that do not show it, for it holds a password.

use anyhow::anyhow;
use mongodb::{error::ErrorKind, options::ClientOptions};

use super::PATIENCE;

/// Checks a connection string. The error does not show it: it holds a password.
pub async fn parse(uri: &str) -> Result<ClientOptions, String> {
    let mut options = ClientOptions::parse(uri).await.map_err(|error| match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } => without_credentials(uri, message),
        ErrorKind::DnsResolve { .. } => "its host cannot be looked up".into(),
        _ => "it cannot be used".into(),
    })?;
    options.app_name = Some("radio-istic".into());
    options.server_selection_timeout = Some(PATIENCE);
    options.connect_timeout = Some(PATIENCE);
    Ok(options)
}

/// The driver's message, unless it repeats a word that may be secret.
fn without_credentials(uri: &str, message: &str) -> String {
    let secret = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let mut words = secret.split(|character: char| !character.is_alphanumeric());
    if words.any(|word| word.len() >= 3 && message.contains(word)) {
        "it is malformed".into()
    } else {
        message.into()
    }
}

/// An error for a connection string that cannot be used.
pub fn unusable(reason: &str) -> anyhow::Error {
    anyhow!("MONGODB_URI: {reason}; expected mongodb:// or mongodb+srv:// and a host")
}
