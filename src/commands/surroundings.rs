//! The environment of the server, with warnings about likely mistakes of an operator.

use std::{env, net::SocketAddr, path::Path};

use radio_istic::{config::Config, storage::Place};

/// A server soon uses up fewer open files than this.
const FEW_FILES: u64 = 4_096;

/// Raises the limit of open files as far as the system allows: each client needs one.
pub fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < FEW_FILES => tracing::warn!(
            limit,
            "few files may be open at once, and each client needs one: raise the hard limit \
             (ulimit -Hn, LimitNOFILE=)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files was not raised"),
    }
}

/// Warns of likely mistakes, in a line each with its remedy.
pub fn warn(config: &Config, address: SocketAddr) {
    match &config.tokens {
        None if !address.ip().is_loopback() => tracing::warn!(
            %address,
            "open mode beyond this machine: whoever reaches the server can be anybody; set \
             JWT_SECRET or JWT_PUBLIC_KEY to ask for tokens"
        ),
        Some(tokens) if tokens.has_short_secret() => tracing::warn!(
            "JWT_SECRET has fewer than 32 bytes: it can be guessed, and then everybody can be \
             anybody"
        ),
        _ => {}
    }
    let platform = if env::var_os("FLY_APP_NAME").is_some() {
        Platform::Fly
    } else if env::var_os("RENDER").is_some() {
        Platform::Render
    } else {
        return;
    };
    if config.limits.connections.is_some() && config.limits.trusted_proxy.is_none() {
        tracing::warn!(
            "all clients count as one address, that of the platform's proxy: set \
             TRUSTED_PROXY={}",
            platform.header()
        );
    }
    let (path, what) = match &config.storage {
        Place::Sqlite(path) => (path, "messages are"),
        Place::Mongo { outbox, .. } => (outbox, "what waits for MongoDB is"),
    };
    if !is_on_volume(path) {
        tracing::warn!(
            path = %path.display(),
            "{what} on a disk that is new after each deployment: {}",
            platform.remedy()
        );
    } else if let (Place::Sqlite(_), Platform::Fly) = (&config.storage, platform) {
        tracing::info!(
            "a volume belongs to one machine: keep it at one (fly scale count 1), or each has a \
             file of its own"
        );
    }
}

#[derive(Clone, Copy)]
enum Platform {
    Fly,
    Render,
}

impl Platform {
    /// The header in which the platform writes a client's address.
    fn header(self) -> &'static str {
        match self {
            Self::Fly => "Fly-Client-IP",
            Self::Render => "CF-Connecting-IP",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Fly => {
                "mount a volume (fly volumes create data) and set SQLITE_PATH=/data/radio-istic.db"
            }
            Self::Render => "add a disk and set SQLITE_PATH to a file on it, or set MONGODB_URI",
        }
    }
}

/// Whether a file is on another file system than the machine's own.
fn is_on_volume(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let directory =
        path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    device(directory).is_some_and(|there| device(Path::new("/")) != Some(there))
}
