//! Messages and pages of history. The columns stand here once, for every statement that reads or
//! writes a message.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::receipts;
use crate::model::{Id, Message, MessageId, MessageType, Page, PageLimit, SentKey, Time, Window};

/// The columns of a message, in the order in which [`from_row`] and [`insert`] take them. A macro,
/// so that statements are constants.
macro_rules! columns {
    () => {
        "id, conversation, sender, sender_name, sender_avatar, content, created_at, \
         client_message_id"
    };
}
pub(super) use columns;

/// Reads the columns. The readers come from another query.
pub fn from_row(row: &Row) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get(0)?,
        conversation_id: row.get(1)?,
        sender_id: row.get(2)?,
        sender_name: row.get(3)?,
        sender_avatar: row.get(4)?,
        content: row.get(5)?,
        timestamp: Time(row.get(6)?),
        r#type: MessageType::Text,
        read_by: Vec::new(),
        client_message_id: row.get(7)?,
    })
}

/// The treatment of a message that exists already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Known {
    IsAnError,
    IsPassedOver,
}

pub fn insert(connection: &Connection, message: &Message, known: Known) -> Result<()> {
    const INSERT: &str =
        concat!("INSERT INTO messages (", columns!(), ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    const INSERT_MISSING: &str = concat!(
        "INSERT INTO messages (",
        columns!(),
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    );
    let sql = if known == Known::IsPassedOver { INSERT_MISSING } else { INSERT };
    connection.prepare_cached(sql)?.execute(params![
        message.id,
        message.conversation_id,
        message.sender_id,
        message.sender_name,
        message.sender_avatar,
        message.content,
        message.timestamp.0,
        message.client_message_id,
    ])?;
    Ok(())
}

/// Stores a new message as the conversation's last one.
pub fn add(connection: &Connection, message: &Message, is_open: bool) -> Result<()> {
    insert(connection, message, Known::IsAnError)?;
    connection
        .prepare_cached("UPDATE conversations SET last_message = ? WHERE id = ?")?
        .execute(params![message.id, message.conversation_id])?;
    if !is_open {
        connection
            .prepare_cached(
                "UPDATE participants SET unread = unread + 1 WHERE conversation = ? AND user <> ?",
            )?
            .execute(params![message.conversation_id, message.sender_id])?;
    }
    Ok(())
}

pub fn exists(connection: &Connection, conversation: &Id, message: MessageId) -> Result<bool> {
    let sql = "SELECT 1 FROM messages WHERE conversation = ? AND id = ?";
    Ok(connection.prepare_cached(sql)?.exists(params![conversation, message])?)
}

pub fn read(connection: &Connection, conversation: &Id, id: MessageId) -> Result<Option<Message>> {
    let sql = concat!("SELECT ", columns!(), " FROM messages WHERE conversation = ? AND id = ?");
    one(connection, sql, &[conversation, &id])
}

/// The message that the first try of a retry stored.
pub fn find_sent(connection: &Connection, key: &SentKey) -> Result<Option<Message>> {
    let SentKey { conversation, sender, client_message_id } = key;
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM messages WHERE conversation = ? AND sender = ? AND client_message_id = ?"
    );
    one(connection, sql, &[conversation, sender, client_message_id])
}

fn one(connection: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> Result<Option<Message>> {
    let message = connection.prepare_cached(sql)?.query_one(parameters, from_row).optional()?;
    let Some(mut message) = message else { return Ok(None) };
    receipts::add_readers(connection, std::slice::from_mut(&mut message))?;
    Ok(Some(message))
}

/// A page of a conversation's messages with their readers, the oldest first.
pub fn history(
    connection: &Connection,
    conversation: &Id,
    window: Window,
    limit: PageLimit,
) -> Result<Page<Message>> {
    macro_rules! page {
        ($rest:literal) => {
            concat!(
                "SELECT ",
                columns!(),
                " FROM messages WHERE conversation = ?1 ",
                $rest,
                " LIMIT ?2"
            )
        };
    }
    let (sql, is_newest_first) = match window {
        Window::Newest => (page!("ORDER BY id DESC"), true),
        Window::Before(_) => (page!("AND id < ?3 ORDER BY id DESC"), true),
        Window::After(_) => (page!("AND id > ?3 ORDER BY id"), false),
    };
    // One more than requested shows whether there are more.
    let rows = limit.get() + 1;
    let cursor = window.cursor();
    let mut parameters: Vec<&dyn ToSql> = vec![conversation, &rows];
    parameters.extend(cursor.as_ref().map(|cursor| cursor as &dyn ToSql));
    let mut entries = connection
        .prepare_cached(sql)?
        .query_map(&*parameters, from_row)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = entries.len() > limit.get();
    entries.truncate(limit.get());
    if is_newest_first {
        entries.reverse();
    }
    receipts::add_readers(connection, &mut entries)?;
    Ok(Page { entries, has_more, is_partial: false })
}
