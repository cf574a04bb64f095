//! One SQLite file: one writing connection, and a few that only read.
//!
//! The pragmas are the durability: with `synchronous=FULL` in WAL mode a commit returns after the
//! log is on disk. Times are milliseconds, message ids the 12 bytes of an ObjectId.

use std::{
    collections::HashSet,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ToSql, Transaction,
    TransactionBehavior, named_params, params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use super::{
    Conversation, Found, Lookup, Page, Profile, SentKey, Summary, Window, Write, Written, schema,
};
use crate::contract::{
    Id, LISTED_PARTICIPANTS, Message, MessageId, MessageType, PageLimit, Participant, Time,
};

/// How many idle reading connections are kept.
const READERS: usize = 4;

/// How long a connection waits for another one's lock before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Sqlite {
    /// Closed before the writer, which as the last one folds the log back into the file.
    readers: Mutex<Vec<Connection>>,
    writer: Mutex<Connection>,
    path: PathBuf,
    /// Held to the end, after all connections are closed: closing a file of its own would drop
    /// the POSIX locks that SQLite holds on it.
    _lock: File,
    /// The directory of a file that keeps nothing; removed with it.
    _directory: Option<tempfile::TempDir>,
}

impl Sqlite {
    /// Opens the file, creates it if there is none, and brings its schema up to date. The path
    /// `:memory:` stands for a file that is gone when the server ends.
    pub fn open(path: &Path) -> Result<Self> {
        if path == Path::new(":memory:") {
            let directory = tempfile::tempdir().context("create a directory for :memory:")?;
            return Self::open_file(&directory.path().join("radio-istic.db"), Some(directory));
        }
        Self::open_file(path, None)
    }

    fn open_file(path: &Path, directory: Option<tempfile::TempDir>) -> Result<Self> {
        let lock = lock(path)?;
        let writer = open_writer(path).map_err(describe)?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            path: path.into(),
            _lock: lock,
            _directory: directory,
        })
    }

    pub fn newest_message(&self) -> Result<Option<MessageId>> {
        // Every conversation knows its last message, and there are fewer of them than messages.
        let sql = "SELECT max(last_message) FROM conversations";
        Ok(self.writer().query_one(sql, [], |row| row.get(0))?)
    }

    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        let connection = self.writer();
        let mut found = Found::default();
        for id in &lookup.conversations {
            if let Some(conversation) = find_conversation(&connection, id)? {
                found.conversations.insert(id.clone(), conversation);
            }
        }
        for key in &lookup.sent {
            if let Some(message) = find_sent(&connection, key)? {
                found.sent.insert(key.clone(), message);
            }
        }
        for (conversation, message) in &lookup.messages {
            if message_exists(&connection, conversation, *message)? {
                found.messages.insert((conversation.clone(), *message));
            }
        }
        Ok(found)
    }

    pub fn write(&self, writes: &[Write]) -> Result<Vec<Written>> {
        let mut connection = self.writer();
        // Taking the write lock at once makes waiting for another process's lock possible.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written =
            writes.iter().map(|write| apply(&transaction, write)).collect::<Result<_>>()?;
        transaction.commit()?;
        Ok(written)
    }

    pub fn history(
        &self,
        conversation: &Id,
        window: Window,
        limit: PageLimit,
    ) -> Result<Page<Message>> {
        self.read(|connection| {
            // One snapshot for the messages and their receipts.
            let snapshot = connection.transaction()?;
            let mut page = read_messages(&snapshot, conversation, window, limit)?;
            add_readers(&snapshot, conversation, &mut page.entries)?;
            Ok(page)
        })
    }

    pub fn conversations_of(
        &self,
        user: &Id,
        before: Option<&Id>,
        limit: PageLimit,
    ) -> Result<Option<Page<Summary>>> {
        self.read(|connection| {
            let snapshot = connection.transaction()?;
            read_summaries(&snapshot, user, before, limit)
        })
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic rolls its transaction back; the connection stays good.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `question` on a connection of the pool, or on a new one.
    fn read<T>(&self, question: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let pooled = readers().pop();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let answer = question(&mut connection)?;
        let mut readers = readers();
        if readers.len() < READERS {
            readers.push(connection);
        }
        Ok(answer)
    }
}

/// Takes the file for this process: two servers on one file would not see each other's users.
fn lock(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => {
            anyhow::anyhow!("another radio-istic is using this file")
        }
        std::fs::TryLockError::Error(error) => error.into(),
    })?;
    Ok(file)
}

fn open_writer(path: &Path) -> Result<Connection> {
    // A look that cannot write: a file that is refused must be left exactly as it was.
    schema::check(&open_reader(path)?)?;
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    ensure!(!connection.is_readonly("main")?, "the file is not writable");
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Says in our words what SQLite says tersely.
fn describe(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code) {
        Some(ErrorCode::NotADatabase) => anyhow::anyhow!("this file is not an SQLite database"),
        Some(ErrorCode::ReadOnly) => anyhow::anyhow!("the file is not writable"),
        _ => error,
    }
}

fn apply(transaction: &Transaction, write: &Write) -> Result<Written> {
    match write {
        Write::Profile(profile) => save_profile(transaction, profile)?,
        Write::Conversation { id, is_open, participants } => {
            transaction
                .prepare_cached("INSERT INTO conversations (id, is_open) VALUES (?, ?)")?
                .execute(params![id, is_open])?;
            add_participants(transaction, id, participants)?;
        }
        Write::Participants { conversation, users } => {
            add_participants(transaction, conversation, users)?
        }
        Write::Message { message, is_open } => insert_message(transaction, message, *is_open)?,
        Write::Receipts { conversation, reader, messages, at } => {
            return mark_read(transaction, conversation, reader, messages.as_deref(), *at);
        }
    }
    Ok(Written::Stored)
}

fn save_profile(transaction: &Transaction, profile: &Profile) -> Result<()> {
    // The condition keeps a login that says nothing new from costing a write to disk.
    let sql = "
        INSERT INTO users (id, name, email, avatar) VALUES (:id, :name, :email, :avatar)
        ON CONFLICT (id) DO UPDATE SET
            name   = coalesce(:name, name),
            email  = coalesce(:email, email),
            avatar = coalesce(:avatar, avatar)
        WHERE coalesce(:name, name) IS NOT name
           OR coalesce(:email, email) IS NOT email
           OR coalesce(:avatar, avatar) IS NOT avatar";
    transaction.prepare_cached(sql)?.execute(named_params! {
        ":id": profile.id, ":name": profile.name, ":email": profile.email, ":avatar": profile.avatar,
    })?;
    Ok(())
}

fn add_participants(transaction: &Transaction, conversation: &Id, users: &[Id]) -> Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO participants (conversation, user) VALUES (?, ?) ON CONFLICT DO NOTHING",
    )?;
    for user in users {
        insert.execute(params![conversation, user])?;
    }
    Ok(())
}

fn insert_message(transaction: &Transaction, message: &Message, is_open: bool) -> Result<()> {
    let insert = "
        INSERT INTO messages (conversation, id, sender, sender_name, sender_avatar, content, created_at,
            client_message_id)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    transaction.prepare_cached(insert)?.execute(params![
        message.conversation_id,
        message.id,
        message.sender_id,
        message.sender_name,
        message.sender_avatar,
        message.content,
        message.timestamp.0,
        message.client_message_id,
    ])?;
    transaction
        .prepare_cached("UPDATE conversations SET last_message = ? WHERE id = ?")?
        .execute(params![message.id, message.conversation_id])?;
    if !is_open {
        transaction
            .prepare_cached(
                "UPDATE participants SET unread = unread + 1 WHERE conversation = ? AND user <> ?",
            )?
            .execute(params![message.conversation_id, message.sender_id])?;
    }
    Ok(())
}

fn mark_read(
    transaction: &Transaction,
    conversation: &Id,
    reader: &Id,
    messages: Option<&[MessageId]>,
    at: Time,
) -> Result<Written> {
    let mut newly = match messages {
        Some(messages) => read_some(transaction, conversation, reader, messages, at)?,
        None => read_all(transaction, conversation, reader, at)?,
    };
    transaction
        .prepare_cached(
            "UPDATE participants SET unread = 0 WHERE conversation = ? AND user = ? AND unread > 0",
        )?
        .execute(params![conversation, reader])?;
    newly.sort_unstable();
    Ok(Written::NewlyRead(newly))
}

fn read_some(
    transaction: &Transaction,
    conversation: &Id,
    reader: &Id,
    messages: &[MessageId],
    at: Time,
) -> Result<Vec<MessageId>> {
    let sql = "
        INSERT INTO receipts (conversation, message, user, read_at)
        SELECT conversation, id, :reader, :at FROM messages
        WHERE conversation = :conversation AND id = :message AND sender <> :reader
        ON CONFLICT DO NOTHING";
    let mut insert = transaction.prepare_cached(sql)?;
    let mut newly = Vec::new();
    for message in messages {
        let inserted = insert.execute(named_params! {
            ":conversation": conversation, ":reader": reader, ":at": at.0, ":message": message,
        })?;
        if inserted > 0 {
            newly.push(*message);
        }
    }
    Ok(newly)
}

/// Looks only at what came after the last time: `read_through` is where that was.
fn read_all(
    transaction: &Transaction,
    conversation: &Id,
    reader: &Id,
    at: Time,
) -> Result<Vec<MessageId>> {
    let sql = "
        INSERT INTO receipts (conversation, message, user, read_at)
        SELECT conversation, id, :reader, :at FROM messages
        WHERE conversation = :conversation AND sender <> :reader AND id > coalesce(
            (SELECT read_through FROM participants WHERE conversation = :conversation AND user = :reader),
            x'')
        ON CONFLICT DO NOTHING
        RETURNING message";
    let newly = transaction
        .prepare_cached(sql)?
        .query_map(
            named_params! { ":conversation": conversation, ":reader": reader, ":at": at.0 },
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<_>>()?;
    let sql = "
        UPDATE participants SET read_through = (SELECT last_message FROM conversations WHERE id = :conversation)
        WHERE conversation = :conversation AND user = :reader";
    transaction
        .prepare_cached(sql)?
        .execute(named_params! { ":conversation": conversation, ":reader": reader })?;
    Ok(newly)
}

fn find_conversation(connection: &Connection, id: &Id) -> Result<Option<Conversation>> {
    let is_open = connection
        .prepare_cached("SELECT is_open FROM conversations WHERE id = ?")?
        .query_one([id], |row| row.get(0))
        .optional()?;
    let Some(is_open) = is_open else { return Ok(None) };
    let participants = connection
        .prepare_cached("SELECT user FROM participants WHERE conversation = ?")?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<HashSet<Id>>>()?;
    Ok(Some(Conversation { is_open, participants: Arc::new(participants) }))
}

fn find_sent(connection: &Connection, key: &SentKey) -> Result<Option<Message>> {
    let sql = format!(
        "SELECT {MESSAGE} FROM messages
         WHERE conversation = ?1 AND sender = ?2 AND client_message_id = ?3"
    );
    let message = connection
        .prepare_cached(&sql)?
        .query_one(params![key.conversation, key.sender, key.client_message_id], |row| {
            message_from(row, &key.conversation)
        })
        .optional()?;
    let Some(mut message) = message else { return Ok(None) };
    add_readers(connection, &key.conversation, std::slice::from_mut(&mut message))?;
    Ok(Some(message))
}

fn message_exists(connection: &Connection, conversation: &Id, message: MessageId) -> Result<bool> {
    let sql = "SELECT 1 FROM messages WHERE conversation = ? AND id = ?";
    Ok(connection.prepare_cached(sql)?.exists(params![conversation, message])?)
}

/// The columns that [`message_from`] reads.
const MESSAGE: &str =
    "id, sender, sender_name, sender_avatar, content, created_at, client_message_id";

fn message_from(row: &Row, conversation: &Id) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get(0)?,
        conversation_id: conversation.clone(),
        sender_id: row.get(1)?,
        sender_name: row.get(2)?,
        sender_avatar: row.get(3)?,
        content: row.get(4)?,
        timestamp: Time(row.get(5)?),
        r#type: MessageType::Text,
        read_by: Vec::new(),
        client_message_id: row.get(6)?,
    })
}

fn read_messages(
    connection: &Connection,
    conversation: &Id,
    window: Window,
    limit: PageLimit,
) -> Result<Page<Message>> {
    let (bound, cursor, order) = match window {
        Window::Newest => ("", None, "DESC"),
        Window::Before(cursor) => ("AND id < ?3", Some(cursor), "DESC"),
        Window::After(cursor) => ("AND id > ?3", Some(cursor), "ASC"),
    };
    let sql = format!(
        "SELECT {MESSAGE} FROM messages WHERE conversation = ?1 {bound} ORDER BY id {order} LIMIT ?2"
    );
    // One more than asked for tells whether there are more.
    let rows = limit.get() + 1;
    let mut parameters: Vec<&dyn ToSql> = vec![conversation, &rows];
    parameters.extend(cursor.as_ref().map(|cursor| cursor as &dyn ToSql));
    let mut entries = connection
        .prepare_cached(&sql)?
        .query_map(&*parameters, |row| message_from(row, conversation))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = entries.len() > limit.get();
    entries.truncate(limit.get());
    if order == "DESC" {
        entries.reverse();
    }
    Ok(Page { entries, has_more })
}

/// Fills `read_by` of messages that are in the order of their ids: one range of receipts.
fn add_readers(connection: &Connection, conversation: &Id, messages: &mut [Message]) -> Result<()> {
    let (Some(first), Some(last)) = (messages.first(), messages.last()) else { return Ok(()) };
    let sql = "
        SELECT message, user FROM receipts
        WHERE conversation = ? AND message BETWEEN ? AND ? ORDER BY message, read_at, user";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![conversation, first.id, last.id])?;
    while let Some(row) = rows.next()? {
        let id: MessageId = row.get(0)?;
        if let Ok(index) = messages.binary_search_by_key(&id, |message| message.id) {
            messages[index].read_by.push(row.get(1)?);
        }
    }
    Ok(())
}

fn read_summaries(
    connection: &Connection,
    user: &Id,
    before: Option<&Id>,
    limit: PageLimit,
) -> Result<Option<Page<Summary>>> {
    let mine =
        "FROM participants p JOIN conversations c ON c.id = p.conversation WHERE p.user = :user";
    let bound = match before {
        // Greater than every message id: a blob that begins like another one is the greater.
        None => vec![0xff; 13],
        Some(before) => {
            let sql = format!("SELECT c.last_message {mine} AND c.id = :before");
            let bound = connection
                .prepare_cached(&sql)?
                .query_one(named_params! { ":user": user, ":before": before }, |row| row.get(0))
                .optional()?;
            let Some(bound) = bound else { return Ok(None) };
            bound
        }
    };
    let sql = format!(
        "SELECT c.id, c.is_open, c.last_message, p.unread {mine}
         AND c.last_message < :bound ORDER BY c.last_message DESC LIMIT :rows"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement
        .query(named_params! { ":user": user, ":bound": bound, ":rows": limit.get() + 1 })?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        if entries.len() == limit.get() {
            return Ok(Some(Page { entries, has_more: true }));
        }
        let id: Id = row.get(0)?;
        let is_open = row.get(1)?;
        entries.push(Summary {
            is_open,
            participants: read_participants(connection, &id, is_open)?,
            last_message: read_message(connection, &id, row.get(2)?)?,
            unread_count: row.get(3)?,
            id,
        });
    }
    Ok(Some(Page { entries, has_more: false }))
}

fn read_message(
    connection: &Connection,
    conversation: &Id,
    id: MessageId,
) -> Result<Option<Message>> {
    let sql = format!("SELECT {MESSAGE} FROM messages WHERE conversation = ? AND id = ?");
    let message = connection
        .prepare_cached(&sql)?
        .query_one(params![conversation, id], |row| message_from(row, conversation))
        .optional()?;
    let Some(mut message) = message else { return Ok(None) };
    add_readers(connection, conversation, std::slice::from_mut(&mut message))?;
    Ok(Some(message))
}

fn read_participants(
    connection: &Connection,
    conversation: &Id,
    is_open: bool,
) -> Result<Vec<Participant>> {
    let sql = "
        SELECT p.user, u.name, u.avatar FROM participants p LEFT JOIN users u ON u.id = p.user
        WHERE p.conversation = ? ORDER BY p.rowid LIMIT ?";
    // A limit of -1 is none.
    let limit = if is_open { LISTED_PARTICIPANTS as i64 } else { -1 };
    let participants = connection
        .prepare_cached(sql)?
        .query_map(params![conversation, limit], |row| {
            Ok(Participant {
                id: row.get(0)?,
                name: row.get(1)?,
                avatar: row.get(2)?,
                online: false,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(participants)
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(|error: &str| FromSqlError::Other(error.into()))
    }
}

impl ToSql for MessageId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.bytes().to_vec().into())
    }
}

impl FromSql for MessageId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 12]>::column_result(value).map(Self::from)
    }
}
