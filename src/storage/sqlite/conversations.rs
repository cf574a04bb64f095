//! Conversations, their participants, and a user's list.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::messages;
use crate::model::{Conversation, Id, Kind, Page, PageLimit, Participant, Summary};

pub fn insert(connection: &Connection, id: &Id, kind: Kind, participants: &[Id]) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO conversations (id, is_open) VALUES (?, ?)")?
        .execute(params![id, kind.is_open()])?;
    add_participants(connection, id, participants)
}

/// Inserts a conversation, unless it exists.
pub fn insert_missing(connection: &Connection, id: &Id, kind: Kind) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO conversations (id, is_open) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, kind.is_open()])?;
    Ok(())
}

pub fn add_participants<'a>(
    connection: &Connection,
    conversation: &Id,
    users: impl IntoIterator<Item = &'a Id>,
) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO participants (conversation, user) VALUES (?, ?) ON CONFLICT DO NOTHING",
    )?;
    for user in users {
        insert.execute(params![conversation, user])?;
    }
    Ok(())
}

pub fn find(connection: &Connection, id: &Id) -> Result<Option<Conversation>> {
    let is_open = connection
        .prepare_cached("SELECT is_open FROM conversations WHERE id = ?")?
        .query_one([id], |row| row.get(0))
        .optional()?;
    let Some(is_open) = is_open else { return Ok(None) };
    let participants = connection
        .prepare_cached("SELECT user FROM participants WHERE conversation = ?")?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Id>>>()?;
    Ok(Some(Conversation::new(Kind::from_is_open(is_open), participants)))
}

/// A page of a user's conversations; `None` if `before` is none of them.
pub fn list(
    connection: &Connection,
    user: &Id,
    before: Option<&Id>,
    limit: PageLimit,
    shown: usize,
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
        let kind = Kind::from_is_open(row.get(1)?);
        let shown = if kind.is_open() { shown } else { usize::MAX };
        entries.push(Summary {
            kind,
            participants: participants(connection, &id, shown)?,
            last_message: messages::read(connection, &id, row.get(2)?)?,
            unread_count: row.get(3)?,
            id,
        });
    }
    Ok(Some(Page { entries, has_more: false, is_partial: false }))
}

/// The first participants, in the order of their arrival.
pub fn participants(
    connection: &Connection,
    conversation: &Id,
    limit: usize,
) -> Result<Vec<Participant>> {
    let sql = "
        SELECT p.user, u.name, u.avatar FROM participants p LEFT JOIN users u ON u.id = p.user
        WHERE p.conversation = ? ORDER BY p.rowid LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
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
