//! MongoDB, shared with another backend, and the outbox for the time while it is away.
//!
//! There are two states. While MongoDB answers, changes and questions go there. When it does not
//! answer within [`PATIENCE`], the server turns to the outbox: it stores and confirms changes
//! there, in order, and answers questions from there. A task of its own tries MongoDB again and
//! again, writes the outbox to it when it is back, oldest first, and turns back when the outbox is
//! empty. As long as a change waits, no later one may pass it, so both states never mix.

mod conversations;
mod database;
mod documents;
mod link;
mod messages;
mod migration;
mod receipts;
mod uri;
mod users;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use mongodb::options::ClientOptions;
use rusqlite::Connection;
use tokio::{
    runtime::Handle,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::{Found, Lookup, Stale, Write, outbox::Outbox};
use crate::model::{Id, MessageId, Time};
use database::Database;
use link::{Link, StatusChange, keep_trying, note_statuses};

pub use migration::migrate;
pub use uri::{parse, unusable};

/// The time that an event waits for MongoDB before the outbox takes it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time that the start waits for MongoDB before it goes on without.
const PATIENCE_AT_START: Duration = Duration::from_secs(2);

pub struct Mongo {
    link: Arc<Link>,
    runtime: Handle,
    statuses: UnboundedSender<StatusChange>,
    /// The turn in which the writer found the data for its decisions.
    found_in: AtomicU64,
}

impl Mongo {
    /// Connects, as far as MongoDB answers. Must be called where tasks can be spawned.
    pub fn open(options: ClientOptions, outbox: &Path) -> Result<Self> {
        let runtime = Handle::current();
        let outbox =
            Outbox::open(outbox).with_context(|| format!("outbox {}", outbox.display()))?;
        let _entered = runtime.enter();
        let link = Arc::new(Link::new(Database::new(options)?, outbox));
        let _ = runtime.block_on(timeout(PATIENCE_AT_START, link.come_back()));
        if link.is_away() {
            tracing::warn!(
                pending = link.outbox().pending(),
                "MongoDB does not answer: messages go to the outbox"
            );
        }
        let (statuses, changes) = unbounded_channel();
        runtime.spawn(keep_trying(Arc::downgrade(&link)));
        runtime.spawn(note_statuses(Arc::downgrade(&link), changes));
        let found_in = AtomicU64::new(link.turns());
        Ok(Self { link, runtime, statuses, found_in })
    }

    pub fn is_connected(&self) -> bool {
        !self.link.is_away()
    }

    pub fn pending(&self) -> u64 {
        self.link.outbox().pending()
    }

    pub fn rejected(&self) -> u64 {
        self.link.outbox().rejected()
    }

    pub fn newest_message(&self) -> Result<Option<MessageId>> {
        self.link.outbox().newest_message()
    }

    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        self.found_in.store(self.link.turns(), Ordering::Release);
        if lookup.is_empty() {
            return Ok(Found::default());
        }
        match self.runtime.block_on(self.link.ask(self.link.database.find(lookup))) {
            Some(found) => found,
            None => self.link.outbox().find(lookup),
        }
    }

    pub fn write(&self, writes: &[Write]) -> Result<()> {
        let _changing = self.link.changing.blocking_lock();
        let found_in = self.found_in.load(Ordering::Acquire);
        // A decision without MongoDB may have taken one of its conversations for a new one.
        if !self.link.is_away() && self.link.turns() != found_in {
            return Err(Stale.into());
        }
        self.link.outbox().save_profiles(writes)?;
        let writing = self.link.database.write(writes, false);
        if let Some(written) = self.runtime.block_on(self.link.ask(writing)) {
            return written;
        }
        self.link.outbox().append(writes)
    }

    /// The answer of MongoDB, or of the outbox while MongoDB is away.
    async fn ask<T: Send + 'static>(
        &self,
        asking: impl Future<Output = mongodb::error::Result<T>>,
        otherwise: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.link.ask(asking).await {
            Some(answer) => answer,
            None => self.link.with_outbox(|outbox| outbox.read(otherwise)).await,
        }
    }

    /// Marks all users of this server as offline.
    pub async fn end(&self) -> Result<()> {
        self.link.with_outbox(Outbox::end_statuses).await?;
        self.link.tell_statuses().await
    }

    /// Notes that a user came online on `socket`, or went offline. MongoDB gets it as soon as it
    /// answers.
    pub fn status_changed(&self, user: Id, socket: Option<String>, at: Time) {
        // Sending fails only after the end of the server.
        let _ = self.statuses.send(StatusChange { user, socket, at });
    }
}
