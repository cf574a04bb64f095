//! The place of the data, as the configuration names it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use mongodb::options::ClientOptions;

/// The place of the messages.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a file; `:memory:` keeps nothing.
    Sqlite(PathBuf),
    /// In MongoDB. Changes that are accepted while it is away wait in the file `outbox`.
    Mongo { options: Box<ClientOptions>, outbox: PathBuf },
}

impl fmt::Display for Place {
    /// The place for the operator, without credentials.
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

/// The absolute form of a path, if there is one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}
