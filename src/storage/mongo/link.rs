//! The two states, and the ways between them.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use super::{
    PATIENCE,
    database::{Database, is_refusal},
};
use crate::{
    contract::{Id, Time},
    storage::{
        Conversation, Lookup, Write,
        outbox::{Change, Entry, Outbox},
    },
};

/// How long a batch of the outbox may take. Nobody waits for it.
const PATIENCE_WITH_OUTBOX: Duration = Duration::from_secs(50);

/// How often MongoDB is asked whether it is back.
const RETRY: Duration = Duration::from_millis(500);

/// How many changes of the outbox are written at once.
const BATCH: usize = 200;

/// The way to MongoDB, or around it.
pub struct Link {
    pub database: Database,
    pub outbox: Outbox,
    is_away: AtomicBool,
    /// How often the server has turned to the outbox or back.
    turns: AtomicU64,
    /// Held while a change is made, so that the way back is not taken in the middle of it.
    changing: Mutex<()>,
    /// Held while MongoDB is told of statuses, so that a later one is not overtaken.
    telling: tokio::sync::Mutex<()>,
}

/// A user who came, on a socket, or went.
pub struct StatusChange {
    pub user: Id,
    pub socket: Option<String>,
    pub at: Time,
}

impl Link {
    /// Away, until [`Self::come_back`] has succeeded.
    pub fn new(database: Database, outbox: Outbox) -> Self {
        Self {
            database,
            outbox,
            is_away: AtomicBool::new(true),
            turns: AtomicU64::new(0),
            changing: Mutex::new(()),
            telling: tokio::sync::Mutex::new(()),
        }
    }

    /// How often the server has turned to the outbox or back.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    pub fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What MongoDB says, `None` if it is away.
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

    /// Writes the outbox to MongoDB, if that is there, and turns back to it. An error means: later.
    pub async fn come_back(&self) -> Result<()> {
        timeout(PATIENCE, self.database.prepare()).await??;
        loop {
            let entries = self.outbox.oldest(BATCH)?;
            if !entries.is_empty() {
                self.write_to_database(entries).await?;
                continue;
            }
            // A change that is being made right now may still go to the outbox.
            {
                let changing = match self.changing.try_lock() {
                    Ok(changing) => Some(changing),
                    Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                    Err(TryLockError::WouldBlock) => None,
                };
                if changing.is_some() && self.outbox.pending() == 0 {
                    self.turn(false);
                    self.outbox.clear()?;
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tell_statuses().await
    }

    /// Tells MongoDB who came and went since it was told the last time.
    pub async fn tell_statuses(&self) -> Result<()> {
        let _telling = self.telling.lock().await;
        for status in self.outbox.untold_statuses()? {
            match self.ask(self.database.set_status(&status)).await {
                Some(Ok(())) => self.outbox.status_told(&status)?,
                Some(Err(error)) => {
                    let user = &status.user;
                    tracing::error!(%user, error = format!("{error:#}"), "status refused");
                    self.outbox.status_told(&status)?;
                }
                // It is told on the way back.
                None => break,
            }
        }
        Ok(())
    }

    /// Turns to the outbox, or back. Returns whether it was the other way before.
    fn turn(&self, away: bool) -> bool {
        let has_turned = self.is_away.swap(away, Ordering::AcqRel) != away;
        if has_turned {
            self.turns.fetch_add(1, Ordering::AcqRel);
        }
        has_turned
    }

    /// Writes changes of the outbox in their order. Those that MongoDB refuses for good are set
    /// aside.
    async fn write_to_database(&self, entries: Vec<Entry>) -> Result<()> {
        let numbers: Vec<_> = entries.iter().map(|entry| entry.number).collect();
        if let Some(writes) = self.prepare_writes(&entries).await? {
            let writing = self.database.write(&writes, true);
            match timeout(PATIENCE_WITH_OUTBOX, writing).await {
                Ok(Ok(_)) => return self.outbox.remove(&numbers),
                Ok(Err(error)) if !is_refusal(&error) => return Err(error.into()),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        // Something in it is refused, or it is too much at once: one by one.
        for entry in entries {
            let refusal = match self.prepare_writes(std::slice::from_ref(&entry)).await? {
                Some(writes) => {
                    let writing = self.database.write(&writes, true);
                    match timeout(PATIENCE_WITH_OUTBOX, writing).await? {
                        Ok(_) => None,
                        Err(error) if is_refusal(&error) => Some(error.to_string()),
                        Err(error) => return Err(error.into()),
                    }
                }
                None => Some("not a participant of the conversation".into()),
            };
            match refusal {
                None => self.outbox.remove(&[entry.number])?,
                Some(reason) => self.reject(&entry, &reason)?,
            }
        }
        Ok(())
    }

    /// The writes of these changes with the members that MongoDB has; `None` if one of them does
    /// not belong into its conversation.
    async fn prepare_writes(&self, entries: &[Entry]) -> Result<Option<Vec<Write>>> {
        let conversations =
            entries.iter().map(|entry| entry.change.conversation().clone()).collect();
        let lookup = Lookup { conversations, ..Lookup::default() };
        let found = timeout(PATIENCE, self.database.find(&lookup)).await??;
        let mut known: HashMap<Id, Conversation> = found.conversations;
        let mut writes = Vec::new();
        for Entry { change, .. } in entries {
            let id = change.conversation();
            if !known.contains_key(id)
                && let Some(begun_here) = self.outbox.conversation(id)?
            {
                known.insert(id.clone(), begun_here);
            }
            let conversation =
                known.get(id).cloned().unwrap_or_else(|| Conversation::unknown(None));
            let message = self.outbox.message(change)?;
            let actor = match change {
                Change::Send { .. } => message.as_ref().map(|message| &message.sender_id),
                Change::Read { reader, .. } => Some(reader),
                Change::Begin { .. } | Change::Join { .. } => None,
            };
            if actor.is_some_and(|actor| conversation.check(actor, None).is_err()) {
                return Ok(None);
            }
            writes.extend(change.clone().into_write(message, conversation));
        }
        Ok(Some(writes))
    }

    fn reject(&self, entry: &Entry, reason: &str) -> Result<()> {
        let message = self.outbox.message(&entry.change)?;
        let document = match &message {
            Some(message) => serde_json::to_string(message)?,
            None => serde_json::to_string(&entry.change)?,
        };
        tracing::error!(
            conversation = %entry.change.conversation(),
            message = message.map(|message| message.id.to_string()),
            change = entry.number,
            reason,
            "MongoDB refuses a change: it is set aside in the outbox"
        );
        self.outbox.reject(entry, &document, reason)
    }
}

/// Comes back to MongoDB whenever it was away, until the server ends.
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

/// Notes who came and went, in order, and tells MongoDB.
pub async fn note_statuses(link: Weak<Link>, mut changes: UnboundedReceiver<StatusChange>) {
    while let Some(StatusChange { user, socket, at }) = changes.recv().await {
        let Some(link) = link.upgrade() else { return };
        let noting = link.clone();
        let noted = tokio::task::spawn_blocking(move || {
            noting.outbox.note_status(&user, socket.as_deref(), at)
        });
        let told = match noted.await {
            Ok(Ok(())) => link.tell_statuses().await,
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = told {
            tracing::error!(error = format!("{error:#}"), "status not written");
        }
    }
}
