//! How each change is written. All of it happens within the batch's transaction.

use anyhow::Result;
use rusqlite::{Connection, Transaction, named_params, params};

use crate::{
    contract::{Id, Message, MessageId, Time},
    storage::{Profile, Write, Written},
};

/// Makes one change.
pub fn apply(transaction: &Transaction, write: &Write) -> Result<Written> {
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
        Write::Message { message, conversation } => {
            insert_message(transaction, message, conversation.is_open)?;
        }
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

pub fn add_participants(transaction: &Connection, conversation: &Id, users: &[Id]) -> Result<()> {
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
