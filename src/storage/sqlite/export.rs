//! A whole file as JSON Lines, and back. The same data gives the same bytes.

use std::io::{BufRead, Write as Writer};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{
    Sqlite, conversations,
    file::{Counts, File, counts},
    messages::{self, Known},
    users,
};
use crate::model::{Id, Kind, Message, MessageId, MessageType, Profile, Time};

/// The version of the format.
const FORMAT: u32 = 1;

/// A line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Record {
    /// The first line.
    RadioIstic {
        format: u32,
    },
    User(Profile),
    /// A conversation, with its participants in the order of their arrival.
    Conversation {
        id: Id,
        is_open: bool,
        participants: Vec<Membership>,
    },
    Message(Box<ExportedMessage>),
}

/// A participant of a conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    pub id: Id,
    pub unread: u64,
    /// All messages up to this one are read.
    pub read_through: Option<MessageId>,
}

/// A message with the times at which it was read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedMessage {
    id: MessageId,
    conversation_id: Id,
    sender_id: Id,
    sender_name: String,
    sender_avatar: Option<String>,
    content: String,
    timestamp: Time,
    client_message_id: Option<Id>,
    pub read_by: Vec<Receipt>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub user_id: Id,
    pub read_at: Time,
}

impl ExportedMessage {
    fn new(message: Message, read_by: Vec<Receipt>) -> Self {
        // The pattern names all fields, so that a new one of the model does not compile without a
        // decision here.
        let Message {
            id,
            conversation_id,
            content,
            sender_id,
            sender_name,
            sender_avatar,
            timestamp,
            r#type: MessageType::Text,
            read_by: _,
            client_message_id,
        } = message;
        Self {
            id,
            conversation_id,
            sender_id,
            sender_name: (*sender_name).into(),
            sender_avatar: sender_avatar.as_deref().map(Into::into),
            content: (*content).into(),
            timestamp,
            client_message_id,
            read_by,
        }
    }

    /// The message without its readers.
    pub fn to_message(&self) -> Message {
        Message {
            id: self.id,
            conversation_id: self.conversation_id.clone(),
            content: self.content.as_str().into(),
            sender_id: self.sender_id.clone(),
            sender_name: self.sender_name.as_str().into(),
            sender_avatar: self.sender_avatar.as_deref().map(Into::into),
            timestamp: self.timestamp,
            r#type: MessageType::Text,
            read_by: Vec::new(),
            client_message_id: self.client_message_id.clone(),
        }
    }
}

impl File {
    /// Writes everything in one snapshot, one JSON object per line.
    pub fn export(&mut self, mut to: impl Writer) -> Result<Counts> {
        self.for_each(|record| {
            serde_json::to_writer(&mut to, &record)?;
            to.write_all(b"\n")?;
            Ok(())
        })
    }

    /// Visits everything in one snapshot: conversations come before their messages.
    pub fn for_each(&mut self, mut visit: impl FnMut(Record) -> Result<()>) -> Result<Counts> {
        let snapshot = self.connection.transaction()?;
        visit(Record::RadioIstic { format: FORMAT })?;
        let sql = format!("SELECT {} FROM users ORDER BY id", users::COLUMNS);
        let mut statement = snapshot.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            visit(Record::User(users::profile(row)?))?;
        }
        let mut statement =
            snapshot.prepare("SELECT id, is_open FROM conversations ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: Id = row.get(0)?;
            let participants = participants(&snapshot, &id)?;
            visit(Record::Conversation { id, is_open: row.get(1)?, participants })?;
        }
        let sql =
            concat!("SELECT ", messages::columns!(), " FROM messages ORDER BY conversation, id");
        let mut statement = snapshot.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let message = messages::from_row(row)?;
            let receipts = receipts(&snapshot, &message)?;
            visit(Record::Message(Box::new(ExportedMessage::new(message, receipts))))?;
        }
        counts(&snapshot)
    }
}

impl Sqlite {
    /// Imports the lines of [`File::export`], all or none. Existing entries stay unchanged. The
    /// error names the line.
    pub fn import(&self, from: impl BufRead) -> Result<Counts> {
        self.transaction(|transaction| {
            for (index, line) in from.lines().enumerate() {
                let take = || {
                    let record = serde_json::from_str(&line?)?;
                    check_format(index, &record)?;
                    take_in(transaction, record)
                };
                take().with_context(|| format!("line {}", index + 1))?;
            }
            transaction.execute(
                "UPDATE conversations SET last_message =
                    (SELECT max(id) FROM messages WHERE conversation = conversations.id)",
                [],
            )?;
            counts(transaction)
        })
    }
}

/// Refuses an export without its first line, or of a newer version.
fn check_format(index: usize, record: &Record) -> Result<()> {
    match (index, record) {
        (0, Record::RadioIstic { format }) if *format <= FORMAT => Ok(()),
        (0, Record::RadioIstic { format }) => {
            bail!("this is format {format}; this version knows those up to {FORMAT}")
        }
        (0, _) => bail!("the first line of an export is missing"),
        _ => Ok(()),
    }
}

fn participants(connection: &Connection, conversation: &Id) -> Result<Vec<Membership>> {
    let sql =
        "SELECT user, unread, read_through FROM participants WHERE conversation = ? ORDER BY rowid";
    let mut participants = connection.prepare_cached(sql)?;
    let participants = participants.query_map([conversation], |row| {
        Ok(Membership { id: row.get(0)?, unread: row.get(1)?, read_through: row.get(2)? })
    })?;
    Ok(participants.collect::<rusqlite::Result<_>>()?)
}

fn receipts(connection: &Connection, message: &Message) -> Result<Vec<Receipt>> {
    let sql =
        "SELECT user, read_at FROM receipts WHERE conversation = ? AND message = ? ORDER BY user";
    let mut receipts = connection.prepare_cached(sql)?;
    let receipts = receipts.query_map(params![message.conversation_id, message.id], |row| {
        Ok(Receipt { user_id: row.get(0)?, read_at: Time(row.get(1)?) })
    })?;
    Ok(receipts.collect::<rusqlite::Result<_>>()?)
}

fn take_in(transaction: &Transaction, record: Record) -> Result<()> {
    match record {
        Record::RadioIstic { .. } => {}
        Record::User(user) => {
            let mut known = transaction.prepare_cached("SELECT 1 FROM users WHERE id = ?")?;
            if !known.exists([&user.id])? {
                users::save(transaction, &user)?;
            }
        }
        Record::Conversation { id, is_open, participants } => {
            conversations::insert_missing(transaction, &id, Kind::from_is_open(is_open))?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO participants (conversation, user, unread, read_through) VALUES (?, ?, ?, ?)
                ON CONFLICT DO NOTHING",
            )?;
            for Membership { id: user, unread, read_through } in participants {
                insert.execute(params![id, user, unread, read_through])?;
            }
        }
        Record::Message(exported) => {
            let message = exported.to_message();
            messages::insert(transaction, &message, Known::IsPassedOver)?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO receipts (conversation, message, user, read_at)
                SELECT conversation, id, ?, ? FROM messages WHERE conversation = ? AND id = ?
                ON CONFLICT DO NOTHING",
            )?;
            for Receipt { user_id, read_at } in &exported.read_by {
                insert.execute(params![user_id, read_at.0, message.conversation_id, message.id])?;
            }
        }
    }
    Ok(())
}
