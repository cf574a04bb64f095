//! How each question is answered.

use std::{collections::HashSet, sync::Arc};

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};

use crate::{
    contract::{
        Id, LISTED_PARTICIPANTS, Message, MessageId, MessageType, PageLimit, Participant, Time,
    },
    storage::{Conversation, Found, Lookup, Page, SentKey, Summary, Window},
};

/// Everything in `lookup` that exists.
pub fn find(connection: &Connection, lookup: &Lookup) -> Result<Found> {
    let mut found = Found { is_everything: true, ..Found::default() };
    for id in &lookup.conversations {
        if let Some(conversation) = find_conversation(connection, id)? {
            found.conversations.insert(id.clone(), conversation);
        }
    }
    for key in &lookup.sent {
        if let Some(message) = find_sent(connection, key)? {
            found.sent.insert(key.clone(), message);
        }
    }
    for (conversation, message) in &lookup.messages {
        if message_exists(connection, conversation, *message)? {
            found.messages.insert((conversation.clone(), *message));
        }
    }
    Ok(found)
}

/// A page of a conversation's messages with their readers.
pub fn history(
    connection: &Connection,
    conversation: &Id,
    window: Window,
    limit: PageLimit,
) -> Result<Page<Message>> {
    let mut page = read_messages(connection, conversation, window, limit)?;
    add_readers(connection, conversation, &mut page.entries)?;
    Ok(page)
}

pub fn find_conversation(connection: &Connection, id: &Id) -> Result<Option<Conversation>> {
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

pub fn message_exists(
    connection: &Connection,
    conversation: &Id,
    message: MessageId,
) -> Result<bool> {
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
    Ok(Page { entries, has_more, is_partial: false })
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

/// A page of a user's conversations; `None` where `before` is none of them.
pub fn conversations_of(
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
            return Ok(Some(Page { entries, has_more: true, is_partial: false }));
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
    Ok(Some(Page { entries, has_more: false, is_partial: false }))
}

pub fn read_message(
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
