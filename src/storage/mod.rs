//! The place of the messages: one enum over the engines, one method per question.
//!
//! A write is decided elsewhere (`events`) and arrives here as plain [`Write`]s, a batch at a time,
//! each batch one transaction. Row and document types never leave their engine's folder.

mod lookup;
mod mongo;
mod outbox;
mod place;
mod sqlite;
mod write;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use rusqlite::Connection;

use crate::model::{Id, Message, MessageId, Page, PageLimit, Participant, Summary, Time, Window};

pub use lookup::{Found, Lookup, Unread};
pub use mongo::{Mongo, migrate, parse, unusable};
pub use place::Place;
pub use sqlite::{
    Sqlite,
    file::{Counts, File as SqliteFile},
    private_options,
};
pub use write::{Stale, Write};

use sqlite::{conversations, messages};

/// The configured engine, and whether it works.
pub struct Storage {
    engine: Engine,
    /// Whether the last attempt to store something succeeded.
    works: AtomicBool,
}

enum Engine {
    Sqlite(Sqlite),
    Mongo(Mongo),
}

/// The storage's part of `/health`.
pub struct StorageHealth {
    pub backend: &'static str,
    /// Whether the database answers and stores.
    pub is_connected: bool,
    /// Changes that are confirmed and not in the database yet. SQLite has none.
    pub pending: u64,
    /// Changes that the database has refused for good.
    pub rejected: u64,
}

impl Storage {
    /// Opens the place that the configuration names. Fails with a one-line error; a file that is
    /// not this server's stays unchanged. Blocks, and must be called inside a Tokio runtime.
    pub fn open(place: &Place) -> Result<Self> {
        let engine = match place {
            Place::Sqlite(path) => Sqlite::open(path)
                .map(Engine::Sqlite)
                .with_context(|| format!("SQLITE_PATH: {path:?}"))?,
            Place::Mongo { options, outbox } => {
                Engine::Mongo(Mongo::open((**options).clone(), outbox)?)
            }
        };
        Ok(Self { engine, works: AtomicBool::new(true) })
    }

    pub fn health(&self) -> StorageHealth {
        match &self.engine {
            Engine::Sqlite(_) => StorageHealth {
                backend: "sqlite",
                is_connected: self.works.load(Ordering::Relaxed),
                pending: 0,
                rejected: 0,
            },
            // A shared database may refuse a document and still be healthy.
            Engine::Mongo(mongo) => StorageHealth {
                backend: "mongodb",
                is_connected: mongo.is_connected(),
                pending: mongo.pending(),
                rejected: mongo.rejected(),
            },
        }
    }

    /// Whether other processes may change conversations, so that they are looked up each time.
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Mongo(_))
    }

    /// The greatest message id that this server has made, as far as it is known. Blocks.
    pub fn newest_message(&self) -> Result<Option<MessageId>> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.newest_message(),
            Engine::Mongo(mongo) => mongo.newest_message(),
        }
    }

    /// Everything in `lookup` that exists, including the latest writes. Blocks.
    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.find(lookup),
            Engine::Mongo(mongo) => mongo.find(lookup),
        }
    }

    /// Notes that an event could not be stored, also alone.
    pub fn has_failed(&self) {
        self.works.store(false, Ordering::Relaxed);
    }

    /// Stores all of `writes`, durably and in their order, or none of them. Blocks.
    pub fn write(&self, writes: &[Write]) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let written = match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(writes),
            Engine::Mongo(mongo) => mongo.write(writes),
        };
        // Only a write that is sure to reach the disk proves that it takes data.
        if written.is_ok() && writes.iter().any(Write::proves_disk) {
            self.works.store(true, Ordering::Relaxed);
        }
        written
    }

    /// A page of a conversation's messages, the oldest first.
    pub async fn history(
        self: &Arc<Self>,
        conversation: Id,
        window: Window,
        limit: PageLimit,
    ) -> Result<Page<Message>> {
        match &self.engine {
            Engine::Sqlite(_) => {
                self.read(move |db| messages::history(db, &conversation, window, limit)).await
            }
            Engine::Mongo(mongo) => mongo.history(conversation, window, limit).await,
        }
    }

    /// A page of a user's conversations, the most recently active first, after the conversation
    /// `before`. `None` if `before` is no conversation of the user's. Of an open
    /// room the first `shown` participants are read.
    pub async fn conversations_of(
        self: &Arc<Self>,
        user: Id,
        before: Option<Id>,
        limit: PageLimit,
        shown: usize,
    ) -> Result<Option<Page<Summary>>> {
        match &self.engine {
            Engine::Sqlite(_) => {
                self.read(move |db| conversations::list(db, &user, before.as_ref(), limit, shown))
                    .await
            }
            Engine::Mongo(mongo) => mongo.conversations_of(user, before, limit, shown).await,
        }
    }

    /// The first participants of a conversation, at most `limit`, in the order of their arrival.
    pub async fn participants_of(
        self: &Arc<Self>,
        conversation: Id,
        limit: usize,
    ) -> Result<Vec<Participant>> {
        match &self.engine {
            Engine::Sqlite(_) => {
                self.read(move |db| conversations::participants(db, &conversation, limit)).await
            }
            Engine::Mongo(mongo) => mongo.participants_of(conversation, limit).await,
        }
    }

    /// Notes that a user came online on the socket with this id, or went offline.
    pub fn status_changed(&self, user: &Id, socket: Option<String>, at: Time) {
        if let Engine::Mongo(mongo) = &self.engine {
            mongo.status_changed(user.clone(), socket, at);
        }
    }

    /// Marks all users as offline, because the server stops.
    pub async fn end(&self) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Mongo(mongo) => mongo.end().await,
        }
    }

    /// Runs a read of SQLite's on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let storage = self.clone();
        let read = move || match &storage.engine {
            Engine::Sqlite(sqlite) => sqlite.read(question),
            Engine::Mongo(_) => unreachable!("MongoDB is not asked from here"),
        };
        tokio::task::spawn_blocking(read).await?
    }
}
