//! Where messages live: one enum over the engines, one method per question.
//!
//! A write is decided elsewhere (`commit`) and arrives here as plain [`Write`]s, a batch at a
//! time, each batch one transaction. Row and document types never leave their engine's file.

mod mongo;
mod outbox;
mod sqlite;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    config::StorageConfig,
    contract::{Id, Message, MessageId, PageLimit, Participant, Time},
};

pub use mongo::migrate;
pub use mongo::{Mongo, parse, unusable};
pub use sqlite::{
    Sqlite,
    file::{Counts, File as SqliteFile, Record},
};

/// The engine that was configured.
pub enum Storage {
    Sqlite(Sqlite),
    Mongo(Mongo),
}

/// Who may take part in a conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Anybody may join an open room and becomes a participant by it.
    pub is_open: bool,
    pub participants: Arc<HashSet<Id>>,
}

/// The key under which a sender's retry finds the message that was stored before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SentKey {
    pub conversation: Id,
    pub sender: Id,
    pub client_message_id: Id,
}

/// What has to be known before a batch of events can be decided.
#[derive(Debug, Default)]
pub struct Lookup {
    pub conversations: HashSet<Id>,
    pub sent: HashSet<SentKey>,
    /// Cursors and messages to be marked as read, by their conversation.
    pub messages: HashSet<(Id, MessageId)>,
}

/// The part of a [`Lookup`] that exists.
#[derive(Debug, Default)]
pub struct Found {
    pub conversations: HashMap<Id, Conversation>,
    pub sent: HashMap<SentKey, Message>,
    pub messages: HashSet<(Id, MessageId)>,
    /// What was asked and is not here does not exist. False while the database is away: then what
    /// is remembered holds.
    pub is_everything: bool,
}

/// A user as `authenticate` described them; what is `None` was not said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub id: Id,
    pub name: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub avatar: Option<Arc<str>>,
}

/// One change. The writes of a batch take effect in their order.
#[derive(Debug)]
pub enum Write {
    /// Remembers what is new about a user; what was not said stays as it was.
    Profile(Profile),
    /// Creates a conversation; its first message follows.
    Conversation { id: Id, is_open: bool, participants: Vec<Id> },
    /// Adds users who do not take part yet.
    Participants { conversation: Id, users: Vec<Id> },
    /// Stores a message, makes it the conversation's last one, and, unless the conversation is
    /// open, raises the unread count of everybody but the sender.
    Message { message: Arc<Message>, conversation: Conversation },
    /// Adds `reader` to the readers of these messages (of all without `messages`) that others
    /// wrote, and resets the reader's unread count.
    Receipts { conversation: Id, reader: Id, messages: Option<Vec<MessageId>>, at: Time },
}

/// The database has come back since a batch was decided without it: one of its conversations may
/// have been taken for a new one. The batch has to be decided again.
#[derive(Debug)]
pub struct Stale;

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database has come back since this was decided")
    }
}

impl std::error::Error for Stale {}

/// What a [`Write`] found out.
#[derive(Debug, PartialEq)]
pub enum Written {
    Stored,
    /// The messages that are newly read, in their order.
    NewlyRead(Vec<MessageId>),
}

/// Which messages of a conversation are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    Newest,
    Before(MessageId),
    After(MessageId),
}

/// A page, and whether there are more entries in the direction in which it was asked for.
#[derive(Debug)]
pub struct Page<T> {
    pub entries: Vec<T>,
    pub has_more: bool,
    /// The database is away: there may be more entries anywhere.
    pub is_partial: bool,
}

/// A conversation of a user's. Who of the participants is online, the storage cannot say.
#[derive(Debug)]
pub struct Summary {
    pub id: Id,
    pub is_open: bool,
    pub participants: Vec<Participant>,
    pub last_message: Option<Message>,
    pub unread_count: u64,
}

/// What `/health` tells of the storage.
pub struct StorageHealth {
    pub backend: &'static str,
    /// Whether the database answers.
    pub is_connected: bool,
    /// Changes that are confirmed and not in the database yet.
    pub pending: u64,
    /// Changes that the database has refused for good.
    pub rejected: u64,
}

impl Storage {
    /// Opens what the configuration names. Fails with one line that says what is wrong; a file
    /// that is not this server's is left as it is. Blocks, and must be called where tasks can be
    /// spawned.
    pub fn open(config: &StorageConfig) -> Result<Self> {
        match config {
            StorageConfig::Sqlite(path) => Sqlite::open(path)
                .map(Self::Sqlite)
                .with_context(|| format!("SQLITE_PATH: {path:?}")),
            StorageConfig::Mongo { options, outbox } => {
                Mongo::open((**options).clone(), outbox).map(Self::Mongo)
            }
        }
    }

    pub fn health(&self) -> StorageHealth {
        match self {
            Self::Sqlite(_) => {
                StorageHealth { backend: "sqlite", is_connected: true, pending: 0, rejected: 0 }
            }
            Self::Mongo(mongo) => StorageHealth {
                backend: "mongodb",
                is_connected: mongo.is_connected(),
                pending: mongo.pending(),
                rejected: mongo.rejected(),
            },
        }
    }

    /// Whether somebody else may change conversations, so that they have to be asked for each time.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Mongo(_))
    }

    /// The greatest message id that this server has made, as far as it is known. Blocks.
    pub fn newest_message(&self) -> Result<Option<MessageId>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.newest_message(),
            Self::Mongo(mongo) => mongo.newest_message(),
        }
    }

    /// Everything in `lookup` that exists, including what was written last. Blocks.
    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        match self {
            Self::Sqlite(sqlite) => sqlite.find(lookup),
            Self::Mongo(mongo) => mongo.find(lookup),
        }
    }

    /// Stores all of `writes`, durably and in their order, or none of them. Blocks.
    pub fn write(&self, writes: &[Write]) -> Result<Vec<Written>> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Sqlite(sqlite) => sqlite.write(writes),
            Self::Mongo(mongo) => mongo.write(writes),
        }
    }

    /// A page of a conversation's messages, the oldest first.
    pub async fn history(
        self: &Arc<Self>,
        conversation: Id,
        window: Window,
        limit: PageLimit,
    ) -> Result<Page<Message>> {
        match &**self {
            Self::Sqlite(_) => {
                self.blocking(move |sqlite| sqlite.history(&conversation, window, limit)).await
            }
            Self::Mongo(mongo) => mongo.history(&conversation, window, limit).await,
        }
    }

    /// A page of a user's conversations, the most recently active first, behind the
    /// conversation `before`. `None` where `before` is no conversation of the user's.
    pub async fn conversations_of(
        self: &Arc<Self>,
        user: Id,
        before: Option<Id>,
        limit: PageLimit,
    ) -> Result<Option<Page<Summary>>> {
        match &**self {
            Self::Sqlite(_) => {
                self.blocking(move |sqlite| sqlite.conversations_of(&user, before.as_ref(), limit))
                    .await
            }
            Self::Mongo(mongo) => mongo.conversations_of(&user, before.as_ref(), limit).await,
        }
    }

    /// A user came online on the socket with this id, or went offline.
    pub fn status_changed(&self, user: &Id, socket: Option<String>, at: Time) {
        if let Self::Mongo(mongo) = self {
            mongo.status_changed(user.clone(), socket, at);
        }
    }

    /// The server stops: whoever was online is not any more.
    pub async fn end(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Mongo(mongo) => mongo.end().await,
        }
    }

    /// Runs a read on a thread that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Sqlite) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let storage = self.clone();
        let read = move || match &*storage {
            Self::Sqlite(sqlite) => read(sqlite),
            Self::Mongo(_) => unreachable!("MongoDB is not asked from here"),
        };
        tokio::task::spawn_blocking(read).await?
    }
}

impl Lookup {
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.sent.is_empty() && self.messages.is_empty()
    }
}
