//! Read receipts: the readers of messages, and the messages that a user has still to read.

use std::collections::HashSet;

use anyhow::Result;
use rusqlite::{Connection, named_params, params};

use crate::model::{Id, Message, MessageId, Time};

/// Fills `read_by` of messages of one conversation that are in the order of their ids: one range of
/// receipts.
pub fn add_readers(connection: &Connection, messages: &mut [Message]) -> Result<()> {
    let (Some(first), Some(last)) = (messages.first(), messages.last()) else { return Ok(()) };
    let sql = "
        SELECT message, user FROM receipts
        WHERE conversation = ? AND message BETWEEN ? AND ? ORDER BY message, read_at, user";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![first.conversation_id, first.id, last.id])?;
    while let Some(row) = rows.next()? {
        let id: MessageId = row.get(0)?;
        if let Ok(index) = messages.binary_search_by_key(&id, |message| message.id) {
            messages[index].read_by.push(row.get(1)?);
        }
    }
    Ok(())
}

/// The part of `messages` that another user wrote and `reader` has not read.
pub fn unread_of(
    connection: &Connection,
    conversation: &Id,
    reader: &Id,
    messages: &HashSet<MessageId>,
) -> Result<Vec<MessageId>> {
    let sql = "
        SELECT 1 FROM messages m WHERE conversation = :conversation AND id = :message
        AND sender <> :reader AND NOT EXISTS (SELECT 1 FROM receipts r
            WHERE r.conversation = m.conversation AND r.message = m.id AND r.user = :reader)";
    let mut statement = connection.prepare_cached(sql)?;
    let mut unread = Vec::new();
    for message in messages {
        let parameters = named_params! {
            ":conversation": conversation, ":message": message, ":reader": reader,
        };
        if statement.exists(parameters)? {
            unread.push(*message);
        }
    }
    Ok(unread)
}

/// All messages of others that `reader` has not read. Looks only after `read_through`, the message
/// up to which all was marked the last time.
pub fn all_unread(
    connection: &Connection,
    conversation: &Id,
    reader: &Id,
) -> Result<Vec<MessageId>> {
    let sql = "
        SELECT id FROM messages m WHERE conversation = :conversation AND sender <> :reader
        AND id > coalesce((SELECT read_through FROM participants
            WHERE conversation = :conversation AND user = :reader), x'')
        AND NOT EXISTS (SELECT 1 FROM receipts r
            WHERE r.conversation = m.conversation AND r.message = m.id AND r.user = :reader)";
    let unread = connection
        .prepare_cached(sql)?
        .query_map(named_params! { ":conversation": conversation, ":reader": reader }, |row| {
            row.get(0)
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(unread)
}

/// Adds `reader` to the readers of the existing ones of these messages, and resets the unread
/// count.
pub fn add(
    connection: &Connection,
    conversation: &Id,
    reader: &Id,
    messages: &[MessageId],
    is_all: bool,
    at: Time,
) -> Result<()> {
    let sql = "
        INSERT INTO receipts (conversation, message, user, read_at)
        SELECT conversation, id, :reader, :at FROM messages
        WHERE conversation = :conversation AND id = :message
        ON CONFLICT DO NOTHING";
    let mut insert = connection.prepare_cached(sql)?;
    for message in messages {
        insert.execute(named_params! {
            ":conversation": conversation, ":reader": reader, ":at": at.0, ":message": message,
        })?;
    }
    connection
        .prepare_cached(
            "UPDATE participants SET unread = 0 WHERE conversation = ? AND user = ? AND unread > 0",
        )?
        .execute(params![conversation, reader])?;
    if is_all {
        let sql = "
            UPDATE participants
            SET read_through = (SELECT last_message FROM conversations WHERE id = :conversation)
            WHERE conversation = :conversation AND user = :reader";
        connection
            .prepare_cached(sql)?
            .execute(named_params! { ":conversation": conversation, ":reader": reader })?;
    }
    Ok(())
}
