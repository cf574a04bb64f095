//! A file outside of the server: read, checked, copied.

use std::{
    fmt,
    fs::{File as Handle, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::Connection;

use super::{describe, open_reader, schema};

/// A file that is only read. A server may use it meanwhile.
pub struct File {
    pub(super) connection: Connection,
    path: PathBuf,
}

/// The number of entries of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub users: u64,
    pub conversations: u64,
    pub messages: u64,
    pub receipts: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { users, conversations, messages, receipts } = self;
        write!(
            f,
            "{messages} messages, {conversations} conversations, {users} users, {receipts} receipts"
        )
    }
}

impl File {
    /// Opens a file that a server has made.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            ensure!(path.is_file(), "there is no such file");
            let connection = open_reader(path)?;
            schema::CHAT.check(&connection)?;
            schema::CHAT.is_current(&connection)?;
            Ok(Self { connection, path: path.into() })
        };
        open().map_err(describe).with_context(|| path.display().to_string())
    }

    pub fn counts(&self) -> Result<Counts> {
        counts(&self.connection)
    }

    /// Reads the whole file. The error names its defect.
    pub fn check(&self) -> Result<Counts> {
        let path = self.path.display();
        let mut integrity = self.connection.prepare("PRAGMA integrity_check(10)")?;
        let problems: Vec<String> =
            integrity.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        if problems != ["ok"] {
            bail!("{path}: {}", problems.join("; "));
        }
        let mut orphans = self.connection.prepare("PRAGMA foreign_key_check")?;
        if let Some(row) = orphans.query([])?.next()? {
            let table: String = row.get(0)?;
            bail!("{path}: an entry of {table} refers to one that is not there");
        }
        self.counts()
    }

    /// The version of the file's schema.
    pub fn schema_version(&self) -> Result<u32> {
        Ok(self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    /// Copies the file in one snapshot, and checks the copy before it gets its name.
    pub fn back_up(&self, to: &Path) -> Result<Counts> {
        ensure!(!to.exists(), "{}: there is a file of this name already", to.display());
        let directory = match to.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // The copy may have changes that arrive meanwhile. It must have all earlier ones.
        let least = self.counts()?;
        let place = tempfile::Builder::new().prefix(".backup-").tempdir_in(directory)?;
        let copy = place.path().join("copy.db");
        let name = copy.to_str().context("the path is no UTF-8")?;
        self.connection.execute("VACUUM INTO ?", [name])?;
        let counts = File::open(&copy)?.check()?;
        ensure!(
            counts.messages >= least.messages && counts.receipts >= least.receipts,
            "the copy has less than the file: {counts} instead of {least}"
        );
        let handle = Handle::open(&copy)?;
        handle.set_permissions(Permissions::from_mode(0o600))?;
        handle.sync_all()?;
        // The link fails if another process has taken the name meanwhile.
        std::fs::hard_link(&copy, to)?;
        Handle::open(directory)?.sync_all()?;
        Ok(counts)
    }
}

pub(super) fn counts(connection: &Connection) -> Result<Counts> {
    let count = |table| {
        connection.query_one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
    };
    Ok(Counts {
        users: count("users")?,
        conversations: count("conversations")?,
        messages: count("messages")?,
        receipts: count("receipts")?,
    })
}
