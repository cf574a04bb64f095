//! One SQLite file: one writing connection, and a few that only read.
//!
//! The pragmas are the durability: with `synchronous=FULL` in WAL mode a commit returns after the
//! log is on disk. Times are milliseconds, message ids the 12 bytes of an ObjectId.

pub mod conversations;
pub mod export;
pub mod file;
pub mod messages;
pub mod receipts;
mod schema;
pub mod users;
mod values;

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use schema::Schema;

use super::{Found, Lookup, Write};
use crate::model::MessageId;

/// The number of idle reading connections that are kept.
const READERS: usize = 4;

/// The number of pages at which the log is folded into the file: 16 MiB. The pages of lively
/// conversations are written again and again, and reach the file only once this way.
const LOG_PAGES: i32 = 4_096;

/// The part of the file that a reading connection caches, in KiB (negative, as SQLite has it).
/// Pages of history lie together, and the system caches the file as well.
const READER_CACHE: i32 = -512;

/// The time that a connection waits for another one's lock before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Sqlite {
    /// The readers are closed before the writer, which as the last connection folds the log back
    /// into the file. `None` for a database in memory, of which there is only one connection.
    readers: Option<Readers>,
    writer: Mutex<Connection>,
    /// The lock is held to the end, after all connections are closed: closing a file of its own
    /// would drop the POSIX locks that SQLite holds on it.
    _lock: Option<File>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Sqlite {
    /// Opens the file, creates it if there is none, and brings its schema up to date. The path
    /// `:memory:` keeps nothing.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, &schema::CHAT)
    }

    /// Opens the file in which changes wait for MongoDB, as [`Self::open`] does.
    pub fn open_outbox(path: &Path) -> Result<Self> {
        Self::open_as(path, &schema::OUTBOX)
    }

    fn open_as(path: &Path, schema: &Schema) -> Result<Self> {
        if path == Path::new(":memory:") {
            let mut writer = Connection::open_in_memory()?;
            schema.migrate(&mut writer)?;
            return Ok(Self { readers: None, writer: Mutex::new(writer), _lock: None });
        }
        let lock = lock(path)?;
        let writer = open_writer(path, schema).map_err(describe)?;
        let readers = Readers { path: path.into(), idle: Mutex::default() };
        Ok(Self { readers: Some(readers), writer: Mutex::new(writer), _lock: Some(lock) })
    }

    pub fn newest_message(&self) -> Result<Option<MessageId>> {
        // Every conversation knows its last message, and there are fewer of them than messages.
        let sql = "SELECT max(last_message) FROM conversations";
        Ok(self.writer().query_one(sql, [], |row| row.get(0))?)
    }

    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        find(&self.writer(), lookup)
    }

    pub fn write(&self, writes: &[Write]) -> Result<()> {
        self.transaction(|transaction| {
            writes.iter().try_for_each(|write| apply(transaction, write))
        })
    }

    /// Makes all changes of `change` durably, or none.
    pub fn transaction<T>(&self, change: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
        let mut connection = self.writer();
        // Taking the write lock at once makes waiting for another process's lock possible.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = change(&transaction)?;
        transaction.commit()?;
        Ok(changed)
    }

    pub fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic rolls its transaction back; the connection stays valid.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one snapshot, on a connection of the pool or on a new one.
    pub fn read<T>(&self, question: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let Some(readers) = &self.readers else { return question(&self.writer()) };
        let idle = || readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let pooled = idle().pop();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => open_reader(&readers.path)?,
        };
        let snapshot = connection.transaction()?;
        let answer = question(&snapshot)?;
        drop(snapshot);
        let mut idle = idle();
        if idle.len() < READERS {
            idle.push(connection);
        }
        Ok(answer)
    }
}

/// Everything in `lookup` that exists.
fn find(connection: &Connection, lookup: &Lookup) -> Result<Found> {
    let mut found = Found { is_everything: true, ..Found::default() };
    for id in &lookup.conversations {
        if let Some(conversation) = conversations::find(connection, id)? {
            found.conversations.insert(id.clone(), conversation);
        }
    }
    for key in &lookup.sent {
        if let Some(message) = messages::find_sent(connection, key)? {
            found.sent.insert(key.clone(), message);
        }
    }
    for (conversation, message) in &lookup.messages {
        if messages::exists(connection, conversation, *message)? {
            found.messages.insert((conversation.clone(), *message));
        }
    }
    for (key, messages) in &lookup.unread {
        let (conversation, reader) = key;
        let unread = receipts::unread_of(connection, conversation, reader, messages)?;
        found.unread.entry(key.clone()).or_default().extend(unread);
    }
    for key in &lookup.all_unread {
        let (conversation, reader) = key;
        let unread = receipts::all_unread(connection, conversation, reader)?;
        found.unread.entry(key.clone()).or_default().extend(unread);
    }
    Ok(found)
}

/// Makes one change, within the batch's transaction.
pub fn apply(transaction: &Transaction, write: &Write) -> Result<()> {
    match write {
        Write::Profile(profile) => users::save(transaction, profile),
        Write::Conversation { id, kind, participants } => {
            conversations::insert(transaction, id, *kind, participants)
        }
        Write::Participants { conversation, users } => {
            conversations::add_participants(transaction, conversation, users)
        }
        Write::Message { message, audience } => {
            messages::add(transaction, message, audience.is_open())
        }
        Write::Receipts { conversation, reader, messages, is_all, at } => {
            receipts::add(transaction, conversation, reader, messages, *is_all, *at)
        }
    }
}

/// Options for a new file that only its owner may read: it holds private messages. SQLite gives its
/// log the mode of the file.
pub fn private_options() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

/// A path that SQLite takes for nothing but a path: `file:` at its beginning would make it a URI.
fn literal(path: &Path) -> PathBuf {
    if path.is_absolute() { path.into() } else { Path::new(".").join(path) }
}

/// Locks the file for this process: two servers on one file would not see each other's users.
fn lock(path: &Path) -> Result<File> {
    let mut options = private_options();
    let opened = options.read(true).write(true).create(true).truncate(false).open(literal(path));
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            anyhow!("not writable: {error}")
        }
        _ => error.into(),
    })?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => anyhow!("another radio-istic is using this file"),
        std::fs::TryLockError::Error(error) => error.into(),
    })?;
    Ok(file)
}

fn open_writer(path: &Path, schema: &Schema) -> Result<Connection> {
    // The check cannot write: a refused file must be left exactly as it was.
    schema.check(&open_reader(path)?)?;
    let mut connection = Connection::open_with_flags(
        literal(path),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    ensure!(!connection.is_readonly("main")?, "not writable");
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    schema.migrate(&mut connection)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(
        literal(path),
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", READER_CACHE)?;
    Ok(connection)
}

/// Replaces SQLite's terse errors by clearer ones.
fn describe(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code) {
        Some(ErrorCode::NotADatabase) => anyhow!("this file is not an SQLite database"),
        Some(ErrorCode::ReadOnly) => anyhow!("not writable"),
        _ => error,
    }
}
