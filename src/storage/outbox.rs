//! What was accepted while MongoDB is away: a SQLite file with the tables of the SQLite storage,
//! and with a queue of the changes that MongoDB has not seen.
//!
//! A change is in both or in none, with the durability of the SQLite storage. So what is confirmed
//! from here is confirmed, is served from here, and is still to be written after a restart.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::{
    Conversation, Found, Lookup, Page, Profile, Sqlite, Summary, Window, Write, Written,
    sqlite::{read, write},
};
use crate::contract::{Id, Message, MessageId, PageLimit, Time};

pub struct Outbox {
    sqlite: Sqlite,
    pending: AtomicU64,
    rejected: AtomicU64,
}

/// A user who is online on the socket that MongoDB is told, or went offline at that time.
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
    pub change: Change,
}

/// A change as it is kept. Messages and conversations themselves stand in their tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Change {
    Begin { conversation: Id, is_open: bool, participants: Vec<Id> },
    Join { conversation: Id, users: Vec<Id> },
    Send { conversation: Id, message: MessageId },
    Read { conversation: Id, reader: Id, messages: Option<Vec<MessageId>>, at: i64 },
}

impl Outbox {
    pub fn open(path: &Path) -> Result<Self> {
        let sqlite = Sqlite::open_outbox(path)?;
        let outbox = Self { sqlite, pending: AtomicU64::new(0), rejected: AtomicU64::new(0) };
        outbox.count()?;
        outbox.end_statuses()?;
        Ok(outbox)
    }

    /// How many changes MongoDB has not seen.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// How many changes MongoDB has refused for good.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    fn count(&self) -> Result<()> {
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

    /// What is here of what is asked. Messages that are not may well be in MongoDB, so they count
    /// as found: what is marked as read was seen by somebody.
    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        let mut found = self.sqlite.find(lookup)?;
        found.messages.clone_from(&lookup.messages);
        found.is_everything = false;
        Ok(found)
    }

    pub fn history(
        &self,
        conversation: &Id,
        window: Window,
        limit: PageLimit,
    ) -> Result<Page<Message>> {
        let page = self.sqlite.history(conversation, window, limit)?;
        Ok(Page { is_partial: true, ..page })
    }

    pub fn conversations_of(
        &self,
        user: &Id,
        before: Option<&Id>,
        limit: PageLimit,
    ) -> Result<Option<Page<Summary>>> {
        self.sqlite.conversations_of(user, before, limit)
    }

    /// Remembers what users said of themselves. MongoDB's users are another backend's.
    pub fn save_profiles(&self, writes: &[Write]) -> Result<()> {
        if !writes.iter().any(|write| matches!(write, Write::Profile(_))) {
            return Ok(());
        }
        let mut connection = self.sqlite.writer();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for write in writes {
            if let Write::Profile(_) = write {
                write::apply(&transaction, write)?;
            }
        }
        Ok(transaction.commit()?)
    }

    pub fn profile(&self, id: &Id) -> Result<Option<Profile>> {
        let sql = "SELECT name, avatar FROM users WHERE id = ?";
        let connection = self.sqlite.writer();
        let profile = connection.prepare_cached(sql)?.query_one([id], |row| {
            Ok(Profile { id: id.clone(), name: row.get(0)?, email: None, avatar: row.get(1)? })
        });
        Ok(profile.optional()?)
    }

    /// Stores the changes and puts them into the queue.
    pub fn append(&self, writes: &[Write]) -> Result<Vec<Written>> {
        let mut connection = self.sqlite.writer();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut queued = 0;
        let mut written = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Message { message, conversation } => {
                    know(&transaction, &message.conversation_id, conversation)?;
                }
                // Only open rooms take somebody in.
                Write::Participants { conversation, users } => {
                    know(&transaction, conversation, &Conversation::between(true, users))?;
                }
                _ => {}
            }
            let mut result = write::apply(&transaction, write)?;
            if let (
                Write::Receipts { conversation, messages: Some(ids), .. },
                Written::NewlyRead(newly),
            ) = (write, &mut result)
            {
                // Those of MongoDB's are taken at their word.
                for id in ids {
                    if !read::message_exists(&transaction, conversation, *id)? {
                        newly.push(*id);
                    }
                }
                newly.sort_unstable();
                newly.dedup();
            }
            written.push(result);
            if let Some(change) = change(write) {
                transaction
                    .prepare_cached("INSERT INTO pending (change) VALUES (?)")?
                    .execute([serde_json::to_string(&change)?])?;
                queued += 1;
            }
        }
        transaction.commit()?;
        self.pending.fetch_add(queued, Ordering::Relaxed);
        Ok(written)
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
            let change =
                serde_json::from_str(&change).with_context(|| format!("read change {number}"))?;
            Ok(Entry { number, change })
        })
        .collect()
    }

    /// The message of a [`Change::Send`], `None` for another change.
    pub fn message(&self, change: &Change) -> Result<Option<Message>> {
        let Change::Send { conversation, message } = change else { return Ok(None) };
        read::read_message(&self.sqlite.writer(), conversation, *message)
    }

    /// The members of a conversation as they are known here.
    pub fn conversation(&self, id: &Id) -> Result<Option<Conversation>> {
        read::find_conversation(&self.sqlite.writer(), id)
    }

    /// MongoDB has these changes.
    pub fn remove(&self, numbers: &[i64]) -> Result<()> {
        self.settle(numbers, |_, _| Ok(()))
    }

    /// MongoDB refuses this change for good: sets it aside, with what it holds and why.
    pub fn reject(&self, entry: &Entry, document: &str, reason: &str) -> Result<()> {
        self.settle(&[entry.number], |transaction, number| {
            let sql = "INSERT INTO rejected (number, document, reason) VALUES (?, ?, ?)";
            transaction.execute(sql, params![number, document, reason])?;
            Ok(())
        })
    }

    fn settle(&self, numbers: &[i64], also: impl Fn(&Connection, i64) -> Result<()>) -> Result<()> {
        {
            let mut connection = self.sqlite.writer();
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for number in numbers {
                also(&transaction, *number)?;
                transaction
                    .prepare_cached("DELETE FROM pending WHERE number = ?")?
                    .execute([number])?;
            }
            transaction.commit()?;
        }
        self.count()
    }

    /// Forgets what MongoDB has by now. What users said of themselves stays.
    pub fn clear(&self) -> Result<()> {
        let mut connection = self.sqlite.writer();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(
            "DELETE FROM receipts; DELETE FROM messages; DELETE FROM participants; DELETE FROM conversations;",
        )?;
        Ok(transaction.commit()?)
    }

    /// Notes that a user came online on `socket`, or went offline, to be told to MongoDB.
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

    /// What MongoDB does not know yet.
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

    /// MongoDB knows this one. Who is offline needs no entry any more.
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

    /// Nobody is online when the server starts, whoever was when it died.
    pub fn end_statuses(&self) -> Result<()> {
        let sql = "UPDATE statuses SET is_online = 0, at = ?, is_told = 0 WHERE is_online";
        self.sqlite.writer().execute(sql, [Time::now().0])?;
        Ok(())
    }
}

/// Makes a conversation of MongoDB's known here, with those of its members who are known.
fn know(connection: &Connection, id: &Id, conversation: &Conversation) -> Result<()> {
    let sql = "INSERT INTO conversations (id, is_open) VALUES (?, ?) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![id, conversation.is_open])?;
    let participants: Vec<Id> = conversation.participants.iter().cloned().collect();
    write::add_participants(connection, id, &participants)
}

fn change(write: &Write) -> Option<Change> {
    Some(match write {
        Write::Profile(_) => return None,
        Write::Conversation { id, is_open, participants } => Change::Begin {
            conversation: id.clone(),
            is_open: *is_open,
            participants: participants.clone(),
        },
        Write::Participants { conversation, users } => {
            Change::Join { conversation: conversation.clone(), users: users.clone() }
        }
        Write::Message { message, .. } => {
            Change::Send { conversation: message.conversation_id.clone(), message: message.id }
        }
        Write::Receipts { conversation, reader, messages, at } => Change::Read {
            conversation: conversation.clone(),
            reader: reader.clone(),
            messages: messages.clone(),
            at: at.0,
        },
    })
}

impl Change {
    pub fn conversation(&self) -> &Id {
        match self {
            Self::Begin { conversation, .. }
            | Self::Join { conversation, .. }
            | Self::Send { conversation, .. }
            | Self::Read { conversation, .. } => conversation,
        }
    }

    /// The write that it stands for, with what is known of it: `None` for a message that is gone.
    pub fn into_write(self, message: Option<Message>, known: Conversation) -> Option<Write> {
        Some(match self {
            Self::Begin { conversation, is_open, participants } => {
                Write::Conversation { id: conversation, is_open, participants }
            }
            Self::Join { conversation, users } => Write::Participants { conversation, users },
            Self::Send { .. } => {
                Write::Message { message: Arc::new(message?), conversation: known }
            }
            Self::Read { conversation, reader, messages, at } => {
                Write::Receipts { conversation, reader, messages, at: Time(at) }
            }
        })
    }
}
