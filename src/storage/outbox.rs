//! The changes that are accepted while MongoDB is away: a SQLite file with the tables of the SQLite
//! storage, and with a queue of the changes that MongoDB has not seen.
//!
//! A change is in both or in none, with the durability of the SQLite storage. So a change that is
//! confirmed from here is served from here, and is still in the queue after a restart.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use rusqlite::{Connection, params};

use super::{
    Found, Lookup, Sqlite, Write,
    sqlite::{self, conversations, users},
};
use crate::model::{Conversation, Id, Kind, MessageId, Profile, Time};

pub struct Outbox {
    sqlite: Sqlite,
    pending: AtomicU64,
    rejected: AtomicU64,
}

/// The status of a user for MongoDB: online on `socket`, or offline since `at`.
#[derive(Debug)]
pub struct UserStatus {
    pub user: Id,
    pub socket: String,
    pub is_online: bool,
    pub at: Time,
}

/// A change in the queue, under its number.
pub struct Entry {
    pub number: i64,
    pub write: Write,
}

impl Outbox {
    pub fn open(path: &Path) -> Result<Self> {
        let sqlite = Sqlite::open_outbox(path)?;
        let outbox = Self { sqlite, pending: AtomicU64::new(0), rejected: AtomicU64::new(0) };
        outbox.count()?;
        outbox.end_statuses()?;
        Ok(outbox)
    }

    /// The number of changes that MongoDB has not seen.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// The number of changes that MongoDB has refused for good.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Counts the changes in the tables.
    pub fn count(&self) -> Result<()> {
        let connection = self.sqlite.writer();
        let count = |table: &str| -> Result<u64> {
            Ok(connection
                .query_one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?)
        };
        self.pending.store(count("pending")?, Ordering::Relaxed);
        self.rejected.store(count("rejected")?, Ordering::Relaxed);
        Ok(())
    }

    pub fn newest_message(&self) -> Result<Option<MessageId>> {
        self.sqlite.newest_message()
    }

    /// The part of `lookup` that this file has. Other messages may be in MongoDB, so they count as
    /// found, and as unread: a user who marks one as read has seen it.
    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        let mut found = self.sqlite.find(lookup)?;
        for (key, messages) in &lookup.unread {
            let (conversation, _) = key;
            let is_elsewhere =
                |id: &MessageId| !found.messages.contains(&(conversation.clone(), *id));
            let elsewhere: Vec<_> = messages.iter().copied().filter(is_elsewhere).collect();
            found.unread.entry(key.clone()).or_default().extend(elsewhere);
        }
        found.messages.clone_from(&lookup.messages);
        found.is_everything = false;
        Ok(found)
    }

    /// Reads from the tables of the chat.
    pub fn read<T>(&self, question: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.sqlite.read(question)
    }

    /// Stores the profiles of users. MongoDB's users are another backend's.
    pub fn save_profiles(&self, writes: &[Write]) -> Result<()> {
        let is_profile = |write: &&Write| matches!(write, Write::Profile(_));
        if !writes.iter().any(|write| is_profile(&write)) {
            return Ok(());
        }
        self.sqlite.transaction(|transaction| {
            writes.iter().filter(is_profile).try_for_each(|write| sqlite::apply(transaction, write))
        })
    }

    /// The profiles of the known users among `users`.
    pub fn profiles(&self, users: &[Id]) -> Result<HashMap<Id, Profile>> {
        self.read(|connection| users::find(connection, users))
    }

    /// Stores the changes and puts them into the queue.
    pub fn append(&self, writes: &[Write]) -> Result<()> {
        let queued = self.sqlite.transaction(|transaction| {
            let mut queued = 0;
            for write in writes {
                match write {
                    Write::Message { message, audience } => {
                        know(transaction, &message.conversation_id, audience)?;
                    }
                    Write::Participants { conversation, users } => {
                        let room = Conversation::new(Kind::Open, users.iter().cloned());
                        know(transaction, conversation, &room)?;
                    }
                    _ => {}
                }
                sqlite::apply(transaction, write)?;
                // Profiles stay here.
                if write.conversation().is_some() {
                    transaction
                        .prepare_cached("INSERT INTO pending (change) VALUES (?)")?
                        .execute([serde_json::to_string(write)?])?;
                    queued += 1;
                }
            }
            Ok(queued)
        })?;
        self.pending.fetch_add(queued, Ordering::Relaxed);
        Ok(())
    }

    /// The oldest changes of the queue.
    pub fn oldest(&self, count: usize) -> Result<Vec<Entry>> {
        let connection = self.sqlite.writer();
        let mut statement = connection
            .prepare_cached("SELECT number, change FROM pending ORDER BY number LIMIT ?")?;
        let rows =
            statement.query_map([count], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (number, change) = row?;
            let write =
                serde_json::from_str(&change).with_context(|| format!("read change {number}"))?;
            Ok(Entry { number, write })
        })
        .collect()
    }

    /// The members of a conversation as this file knows them.
    pub fn conversation(&self, id: &Id) -> Result<Option<Conversation>> {
        conversations::find(&self.sqlite.writer(), id)
    }

    /// Removes these changes, because MongoDB has them.
    pub fn remove(&self, numbers: &[i64]) -> Result<()> {
        self.settle(numbers, |_, _| Ok(()))
    }

    /// Sets a change aside that MongoDB refuses for good, with its content and the reason.
    pub fn reject(&self, entry: &Entry, document: &str, reason: &str) -> Result<()> {
        self.settle(&[entry.number], |transaction, number| {
            let sql = "INSERT INTO rejected (number, document, reason) VALUES (?, ?, ?)";
            transaction.execute(sql, params![number, document, reason])?;
            Ok(())
        })
    }

    fn settle(&self, numbers: &[i64], also: impl Fn(&Connection, i64) -> Result<()>) -> Result<()> {
        self.sqlite.transaction(|transaction| {
            for number in numbers {
                also(transaction, *number)?;
                transaction
                    .prepare_cached("DELETE FROM pending WHERE number = ?")?
                    .execute([number])?;
            }
            Ok(())
        })?;
        self.count()
    }

    /// Deletes the conversations, which MongoDB has by now. Profiles stay.
    pub fn clear(&self) -> Result<()> {
        self.sqlite.transaction(|transaction| {
            Ok(transaction.execute_batch(
                "DELETE FROM receipts; DELETE FROM messages; DELETE FROM participants; DELETE FROM conversations;",
            )?)
        })
    }

    /// Notes for MongoDB that a user came online on `socket`, or went offline.
    pub fn note_status(&self, user: &Id, socket: Option<&str>, at: Time) -> Result<()> {
        let connection = self.sqlite.writer();
        match socket {
            Some(socket) => {
                let sql = "INSERT OR REPLACE INTO statuses (user, socket, is_online, at, is_told)
                           VALUES (?, ?, 1, ?, 0)";
                connection.prepare_cached(sql)?.execute(params![user, socket, at.0])?;
            }
            None => {
                let sql = "UPDATE statuses SET is_online = 0, at = ?, is_told = 0 WHERE user = ?";
                connection.prepare_cached(sql)?.execute(params![at.0, user])?;
            }
        }
        Ok(())
    }

    /// The statuses that MongoDB does not know yet.
    pub fn untold_statuses(&self) -> Result<Vec<UserStatus>> {
        let connection = self.sqlite.writer();
        let sql = "SELECT user, socket, is_online, at FROM statuses WHERE is_told = 0";
        let mut statement = connection.prepare_cached(sql)?;
        let statuses = statement.query_map([], |row| {
            Ok(UserStatus {
                user: row.get(0)?,
                socket: row.get(1)?,
                is_online: row.get(2)?,
                at: Time(row.get(3)?),
            })
        })?;
        Ok(statuses.collect::<rusqlite::Result<_>>()?)
    }

    /// Notes that MongoDB knows this status. An offline user needs no entry any more.
    pub fn status_told(&self, told: &UserStatus) -> Result<()> {
        let connection = self.sqlite.writer();
        let sql = if told.is_online {
            "UPDATE statuses SET is_told = 1 WHERE user = ? AND is_online AND socket = ?"
        } else {
            "DELETE FROM statuses WHERE user = ? AND NOT is_online AND socket = ?"
        };
        connection.prepare_cached(sql)?.execute(params![told.user, told.socket])?;
        Ok(())
    }

    /// Marks all users as offline. After a start no user is online, also after a crash.
    pub fn end_statuses(&self) -> Result<()> {
        let sql = "UPDATE statuses SET is_online = 0, at = ?, is_told = 0 WHERE is_online";
        self.sqlite.writer().execute(sql, [Time::now().0])?;
        Ok(())
    }
}

/// Stores a conversation of MongoDB's here, with the members that are known.
fn know(connection: &Connection, id: &Id, conversation: &Conversation) -> Result<()> {
    conversations::insert_missing(connection, id, conversation.kind)?;
    conversations::add_participants(connection, id, conversation.participants())
}
