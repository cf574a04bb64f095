//! What can be done with a file beside the server: look at it, check it, copy it, write all of it
//! out and take it in again.

use std::{
    fmt,
    fs::File as Handle,
    io::{BufRead, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Sqlite, describe, open_reader, schema, write};
use crate::{
    contract::{Id, MessageId, Time},
    storage::{Profile, Write as Change},
};

/// The version of the lines that [`File::export`] writes.
const FORMAT: u32 = 1;

/// A file that is only read. A server may use it meanwhile.
pub struct File {
    connection: Connection,
    path: PathBuf,
}

/// How much there is.
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

/// A line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Record {
    /// The first line.
    RadioIstic {
        format: u32,
    },
    User(Profile),
    /// With its participants in the order in which they came.
    Conversation {
        id: Id,
        is_open: bool,
        participants: Vec<Participant>,
    },
    Message(Box<Message>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    pub id: Id,
    pub unread: u64,
    /// All messages up to this one are read.
    pub read_through: Option<MessageId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub id: MessageId,
    pub conversation_id: Id,
    pub sender_id: Id,
    pub sender_name: String,
    pub sender_avatar: Option<String>,
    pub content: String,
    pub timestamp: Time,
    pub client_message_id: Option<Id>,
    pub read_by: Vec<Receipt>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub user_id: Id,
    pub read_at: Time,
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

    /// Reads all of the file. The error names what is wrong with it.
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

    /// The version of the schema that it has.
    pub fn schema_version(&self) -> Result<u32> {
        Ok(self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    /// Copies the file as it is at one moment, and checks the copy before it gets its name.
    pub fn back_up(&self, to: &Path) -> Result<Counts> {
        ensure!(!to.exists(), "{}: there is a file of this name already", to.display());
        let directory = match to.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // What comes meanwhile may be in the copy. What was there before must be.
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
        Handle::open(&copy)?.sync_all()?;
        // Nobody else may have taken the name meanwhile.
        std::fs::hard_link(&copy, to)?;
        Handle::open(directory)?.sync_all()?;
        Ok(counts)
    }

    /// Writes everything, as it is at one moment, a JSON object a line. The same data is the same
    /// bytes.
    pub fn export(&mut self, mut to: impl Write) -> Result<Counts> {
        self.for_each(|record| {
            serde_json::to_writer(&mut to, &record)?;
            to.write_all(b"\n")?;
            Ok(())
        })
    }

    /// Visits everything, as it is at one moment: conversations stand before their messages.
    pub fn for_each(&mut self, mut visit: impl FnMut(Record) -> Result<()>) -> Result<Counts> {
        let snapshot = self.connection.transaction()?;
        visit(Record::RadioIstic { format: FORMAT })?;
        let mut users =
            snapshot.prepare("SELECT id, name, email, avatar FROM users ORDER BY id")?;
        let mut rows = users.query([])?;
        while let Some(row) = rows.next()? {
            visit(Record::User(Profile {
                id: row.get(0)?,
                name: row.get(1)?,
                email: row.get(2)?,
                avatar: row.get(3)?,
            }))?;
        }
        let mut conversations =
            snapshot.prepare("SELECT id, is_open FROM conversations ORDER BY id")?;
        let mut rows = conversations.query([])?;
        while let Some(row) = rows.next()? {
            let id: Id = row.get(0)?;
            let participants = participants(&snapshot, &id)?;
            visit(Record::Conversation { id, is_open: row.get(1)?, participants })?;
        }
        let mut messages = snapshot.prepare(
            "SELECT id, conversation, sender, sender_name, sender_avatar, content, created_at,
                client_message_id
            FROM messages ORDER BY conversation, id",
        )?;
        let mut rows = messages.query([])?;
        while let Some(row) = rows.next()? {
            visit(Record::Message(Box::new(message(&snapshot, row)?)))?;
        }
        counts(&snapshot)
    }
}

impl Sqlite {
    /// Takes in what [`File::export`] has written, all of it or nothing. What is there already
    /// stays as it is. The error names the line.
    pub fn import(&self, from: impl BufRead) -> Result<Counts> {
        let mut connection = self.writer();
        let transaction = connection.transaction()?;
        for (index, line) in from.lines().enumerate() {
            let take = || {
                let record: Record = serde_json::from_str(&line?)?;
                match (index, &record) {
                    (0, Record::RadioIstic { format }) if *format <= FORMAT => {}
                    (0, Record::RadioIstic { format }) => {
                        bail!("this is format {format}; this version knows those up to {FORMAT}")
                    }
                    (0, _) => bail!("the first line of an export is missing"),
                    _ => {}
                }
                take_in(&transaction, record)
            };
            take().with_context(|| format!("line {}", index + 1))?;
        }
        transaction.execute(
            "UPDATE conversations SET last_message =
                (SELECT max(id) FROM messages WHERE conversation = conversations.id)",
            [],
        )?;
        let counts = counts(&transaction)?;
        transaction.commit()?;
        Ok(counts)
    }
}

fn counts(connection: &Connection) -> Result<Counts> {
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

fn participants(connection: &Connection, conversation: &Id) -> Result<Vec<Participant>> {
    let sql =
        "SELECT user, unread, read_through FROM participants WHERE conversation = ? ORDER BY rowid";
    let mut participants = connection.prepare_cached(sql)?;
    let participants = participants.query_map([conversation], |row| {
        Ok(Participant { id: row.get(0)?, unread: row.get(1)?, read_through: row.get(2)? })
    })?;
    Ok(participants.collect::<rusqlite::Result<_>>()?)
}

fn message(connection: &Connection, row: &Row) -> Result<Message> {
    let (id, conversation_id): (MessageId, Id) = (row.get(0)?, row.get(1)?);
    let sql =
        "SELECT user, read_at FROM receipts WHERE conversation = ? AND message = ? ORDER BY user";
    let mut receipts = connection.prepare_cached(sql)?;
    let read_by = receipts.query_map(params![conversation_id, id], |row| {
        Ok(Receipt { user_id: row.get(0)?, read_at: Time(row.get(1)?) })
    })?;
    Ok(Message {
        read_by: read_by.collect::<rusqlite::Result<_>>()?,
        id,
        conversation_id,
        sender_id: row.get(2)?,
        sender_name: row.get(3)?,
        sender_avatar: row.get(4)?,
        content: row.get(5)?,
        timestamp: Time(row.get(6)?),
        client_message_id: row.get(7)?,
    })
}

fn take_in(transaction: &Transaction, record: Record) -> Result<()> {
    match record {
        Record::RadioIstic { .. } => {}
        Record::User(user) => {
            let mut known = transaction.prepare_cached("SELECT 1 FROM users WHERE id = ?")?;
            if !known.exists([&user.id])? {
                write::apply(transaction, &Change::Profile(user))?;
            }
        }
        Record::Conversation { id, is_open, participants } => {
            transaction
                .prepare_cached(
                    "INSERT INTO conversations (id, is_open) VALUES (?, ?) ON CONFLICT DO NOTHING",
                )?
                .execute(params![id, is_open])?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO participants (conversation, user, unread, read_through) VALUES (?, ?, ?, ?)
                ON CONFLICT DO NOTHING",
            )?;
            for participant in participants {
                let Participant { id: user, unread, read_through } = participant;
                insert.execute(params![id, user, unread, read_through])?;
            }
        }
        Record::Message(message) => {
            let sql = "
                INSERT INTO messages (conversation, id, sender, sender_name, sender_avatar, content,
                    created_at, client_message_id)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
            transaction.prepare_cached(sql)?.execute(params![
                message.conversation_id,
                message.id,
                message.sender_id,
                message.sender_name,
                message.sender_avatar,
                message.content,
                message.timestamp.0,
                message.client_message_id,
            ])?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO receipts (conversation, message, user, read_at)
                SELECT conversation, id, ?, ? FROM messages WHERE conversation = ? AND id = ?
                ON CONFLICT DO NOTHING",
            )?;
            for Receipt { user_id, read_at } in &message.read_by {
                insert.execute(params![user_id, read_at.0, message.conversation_id, message.id])?;
            }
        }
    }
    Ok(())
}
