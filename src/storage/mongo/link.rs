//! The two states of the storage, and the transitions between them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    sync::{Mutex, mpsc::UnboundedReceiver},
    time::timeout,
};

use super::{
    PATIENCE,
    database::{Database, is_refusal},
};
use crate::{
    model::{Conversation, Id, Time},
    storage::{
        Lookup, Write,
        outbox::{Entry, Outbox},
    },
};

/// The time limit for a batch of the outbox. No client waits for it.
const PATIENCE_WITH_OUTBOX: Duration = Duration::from_secs(50);

/// The interval at which the server tries MongoDB while it is away.
const RETRY: Duration = Duration::from_millis(500);

/// The number of changes of the outbox that are written at once.
const BATCH: usize = 200;

/// The connection to MongoDB, and the outbox beside it.
pub struct Link {
    pub database: Database,
    outbox: Arc<Outbox>,
    is_away: AtomicBool,
    /// The number of times that the server has turned to the outbox or back.
    turns: AtomicU64,
    /// Held during a change, so that the server does not turn back to MongoDB in the middle of it.
    pub changing: Mutex<()>,
    /// Held while MongoDB gets statuses, so that they keep their order.
    telling: Mutex<()>,
}

/// A user who came online on `socket`, or went offline.
pub struct StatusChange {
    pub user: Id,
    pub socket: Option<String>,
    pub at: Time,
}

impl Link {
    /// A link that counts as away until [`Self::come_back`] has succeeded.
    pub fn new(database: Database, outbox: Outbox) -> Self {
        Self {
            database,
            outbox: Arc::new(outbox),
            is_away: AtomicBool::new(true),
            turns: AtomicU64::new(0),
            changing: Mutex::default(),
            telling: Mutex::default(),
        }
    }

    /// The number of times that the server has turned to the outbox or back.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    /// The outbox, for callers that may block.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Reads or changes the outbox, on a thread that may wait for the disk.
    pub async fn with_outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || work(&outbox)).await?
    }

    /// The answer of MongoDB; `None` if it is away.
    pub async fn ask<T>(
        &self,
        asking: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Option<Result<T>> {
        if self.is_away() {
            return None;
        }
        let reason = match timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => return Some(Ok(answer)),
            Ok(Err(error)) if is_refusal(&error) => return Some(Err(error.into())),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        if self.turn(true) {
            tracing::warn!(reason, "MongoDB is away: messages go to the outbox");
        }
        None
    }

    /// Writes the outbox to MongoDB, if it answers, and turns back to it. An error means a later
    /// attempt.
    pub async fn come_back(&self) -> Result<()> {
        timeout(PATIENCE, self.database.prepare()).await??;
        loop {
            let entries = self.with_outbox(|outbox| outbox.oldest(BATCH)).await?;
            if !entries.is_empty() {
                self.write_to_database(entries).await?;
                continue;
            }
            // A change in progress may still go to the outbox.
            let _changing = self.changing.lock().await;
            // Counted anew: a removal may have passed the counter of the change that it removed.
            self.with_outbox(Outbox::count).await?;
            if self.outbox.pending() == 0 {
                self.turn(false);
                self.with_outbox(Outbox::clear).await?;
                break;
            }
        }
        self.tell_statuses().await
    }

    /// Writes the statuses to MongoDB that it does not know yet.
    pub async fn tell_statuses(&self) -> Result<()> {
        let _telling = self.telling.lock().await;
        for status in self.with_outbox(Outbox::untold_statuses).await? {
            match self.ask(self.database.set_status(&status)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let user = &status.user;
                    tracing::error!(%user, error = format!("{error:#}"), "status refused");
                }
                // The way back to MongoDB writes the status.
                None => break,
            }
            self.with_outbox(move |outbox| outbox.status_told(&status)).await?;
        }
        Ok(())
    }

    /// Turns to the outbox, or back. Returns whether the state has changed.
    fn turn(&self, away: bool) -> bool {
        let has_turned = self.is_away.swap(away, Ordering::AcqRel) != away;
        if has_turned {
            self.turns.fetch_add(1, Ordering::AcqRel);
        }
        has_turned
    }

    /// Writes changes of the outbox in their order. Changes that MongoDB refuses for good are set
    /// aside.
    async fn write_to_database(&self, entries: Vec<Entry>) -> Result<()> {
        let numbers: Vec<_> = entries.iter().map(|entry| entry.number).collect();
        if let Some(writes) = self.prepare_writes(&entries).await? {
            let writing = self.database.write(&writes, true);
            match timeout(PATIENCE_WITH_OUTBOX, writing).await {
                Ok(Ok(())) => return self.with_outbox(move |outbox| outbox.remove(&numbers)).await,
                Ok(Err(error)) if !is_refusal(&error) => return Err(error.into()),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        // MongoDB refuses a change, or the batch is too large: write one by one.
        for entry in entries {
            let refusal = match self.prepare_writes(std::slice::from_ref(&entry)).await? {
                Some(writes) => {
                    let writing = self.database.write(&writes, true);
                    match timeout(PATIENCE_WITH_OUTBOX, writing).await? {
                        Ok(()) => None,
                        Err(error) if is_refusal(&error) => Some(error.to_string()),
                        Err(error) => return Err(error.into()),
                    }
                }
                None => Some("not a participant of the conversation".into()),
            };
            match refusal {
                None => self.with_outbox(move |outbox| outbox.remove(&[entry.number])).await?,
                Some(reason) => self.reject(entry, reason).await?,
            }
        }
        Ok(())
    }

    /// The writes of these changes with the members that MongoDB has; `None` if a change does not
    /// belong in its conversation.
    async fn prepare_writes(&self, entries: &[Entry]) -> Result<Option<Vec<Write>>> {
        let conversations = entries.iter().filter_map(|entry| entry.write.conversation());
        let lookup =
            Lookup { conversations: conversations.cloned().collect(), ..Lookup::default() };
        let found = timeout(PATIENCE, self.database.find(&lookup)).await??;
        let mut known: HashMap<Id, Conversation> = found.conversations;
        let mut writes = Vec::new();
        for Entry { write, .. } in entries {
            let Some(id) = write.conversation().cloned() else { continue };
            if !known.contains_key(&id) {
                let asked = id.clone();
                let begun_here =
                    self.with_outbox(move |outbox| outbox.conversation(&asked)).await?;
                let members = begun_here.unwrap_or_else(|| Conversation::unknown(None));
                known.insert(id.clone(), members);
            }
            let members = &known[&id];
            if write.author().is_some_and(|author| !members.admits(author, None)) {
                return Ok(None);
            }
            writes.push(write.clone().among(members));
        }
        Ok(Some(writes))
    }

    async fn reject(&self, entry: Entry, reason: String) -> Result<()> {
        let document = match &entry.write {
            Write::Message { message, .. } => serde_json::to_string(&**message)?,
            other => serde_json::to_string(other)?,
        };
        let message = match &entry.write {
            Write::Message { message, .. } => Some(message.id.to_string()),
            _ => None,
        };
        tracing::error!(
            conversation = entry.write.conversation().map(Id::as_str),
            message,
            change = entry.number,
            reason,
            "MongoDB refuses a change: it is set aside in the outbox"
        );
        self.with_outbox(move |outbox| outbox.reject(&entry, &document, &reason)).await
    }
}

/// Returns to MongoDB whenever it was away, until the server ends.
pub async fn keep_trying(link: Weak<Link>) {
    loop {
        tokio::time::sleep(RETRY).await;
        let Some(link) = link.upgrade() else { return };
        if link.is_away() {
            match link.come_back().await {
                Ok(()) => tracing::info!("MongoDB is back"),
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "MongoDB is still away")
                }
            }
        }
    }
}

/// Stores status changes in order, and passes them to MongoDB.
pub async fn note_statuses(link: Weak<Link>, mut changes: UnboundedReceiver<StatusChange>) {
    while let Some(StatusChange { user, socket, at }) = changes.recv().await {
        let Some(link) = link.upgrade() else { return };
        let noted =
            link.with_outbox(move |outbox| outbox.note_status(&user, socket.as_deref(), at)).await;
        let told = match noted {
            Ok(()) => link.tell_statuses().await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::error!(error = format!("{error:#}"), "status not written");
        }
    }
}
