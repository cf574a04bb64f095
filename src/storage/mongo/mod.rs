//! MongoDB, shared with another backend, and what happens while it is away.
//!
//! There are two states. While MongoDB answers, changes and questions go there. When it does not,
//! within [`PATIENCE`], the server turns to the outbox: changes are stored and confirmed there, in
//! order, and questions are answered from there. A task of its own tries MongoDB again and again,
//! writes the outbox to it when it is back, oldest first, and turns back when the outbox is empty.
//! As long as a change waits, no later one may pass it, so both states never mix.

mod database;
mod documents;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use mongodb::{Client, options::ClientOptions};
use tokio::{
    runtime::Handle,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::{
    Conversation, Found, Lookup, Page, Stale, Summary, Window, Write, Written,
    outbox::{Change, Entry, Outbox},
};
use crate::contract::{Id, Message, MessageId, PageLimit, Time};
use database::{Database, is_refusal};

/// How long an event waits for MongoDB before the outbox takes it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the start waits for MongoDB before it goes on without.
const PATIENCE_AT_START: Duration = Duration::from_secs(2);

/// How long a batch of the outbox may take. Nobody waits for it.
const PATIENCE_WITH_OUTBOX: Duration = Duration::from_secs(50);

/// How often MongoDB is asked whether it is back.
const RETRY: Duration = Duration::from_millis(500);

/// How many changes of the outbox are written at once.
const BATCH: usize = 200;

pub struct Mongo {
    link: Arc<Link>,
    runtime: Handle,
    statuses: UnboundedSender<StatusChange>,
    /// The turn in which the writer found what it decides upon.
    found_in: AtomicU64,
}

struct Link {
    database: Database,
    outbox: Outbox,
    is_away: AtomicBool,
    /// How often the server has turned to the outbox or back.
    turns: AtomicU64,
    /// Held while a change is made, so that the way back is not taken in the middle of it.
    changing: Mutex<()>,
    /// Held while MongoDB is told of statuses, so that a later one is not overtaken.
    telling: tokio::sync::Mutex<()>,
}

/// A user who came, on a socket, or went.
struct StatusChange {
    user: Id,
    socket: Option<String>,
    at: Time,
}

/// Checks a connection string. The error does not show it: it holds a password.
pub async fn parse(uri: &str) -> Result<ClientOptions, String> {
    let mut options = ClientOptions::parse(uri).await.map_err(|error| match &*error.kind {
        mongodb::error::ErrorKind::InvalidArgument { message, .. } => {
            without_credentials(uri, message)
        }
        mongodb::error::ErrorKind::DnsResolve { .. } => "its host cannot be looked up".into(),
        _ => "it cannot be used".into(),
    })?;
    options.app_name = Some("radio-istic".into());
    options.server_selection_timeout = Some(PATIENCE);
    options.connect_timeout = Some(PATIENCE);
    Ok(options)
}

/// The driver's message, unless it repeats a word of what may be secret.
fn without_credentials(uri: &str, message: &str) -> String {
    let secret = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let mut words = secret.split(|character: char| !character.is_alphanumeric());
    if words.any(|word| word.len() >= 3 && message.contains(word)) {
        "it is malformed".into()
    } else {
        message.into()
    }
}

impl Mongo {
    /// Connects, as far as MongoDB answers. Must be called where tasks can be spawned.
    pub fn open(options: ClientOptions, outbox: &Path) -> Result<Self> {
        let runtime = Handle::current();
        let name = options.default_database.clone().unwrap_or_else(|| "radio-istic".into());
        let outbox =
            Outbox::open(outbox).with_context(|| format!("outbox {}", outbox.display()))?;
        // The client starts tasks of its own.
        let _entered = runtime.enter();
        let client = Client::with_options(options)?;
        let db = client.database(&name);
        let link = Arc::new(Link {
            database: Database::new(client, db),
            is_away: AtomicBool::new(true),
            turns: AtomicU64::new(0),
            outbox,
            changing: Mutex::new(()),
            telling: tokio::sync::Mutex::new(()),
        });
        let _ = runtime.block_on(timeout(PATIENCE_AT_START, link.come_back()));
        if link.is_away() {
            tracing::warn!(
                pending = link.outbox.pending(),
                "MongoDB does not answer: messages go to the outbox"
            );
        }
        let (statuses, changes) = unbounded_channel();
        runtime.spawn(keep_trying(Arc::downgrade(&link)));
        runtime.spawn(note_statuses(Arc::downgrade(&link), changes));
        let found_in = AtomicU64::new(link.turns.load(Ordering::Acquire));
        Ok(Self { link, runtime, statuses, found_in })
    }

    pub fn is_connected(&self) -> bool {
        !self.link.is_away()
    }

    pub fn pending(&self) -> u64 {
        self.link.outbox.pending()
    }

    pub fn rejected(&self) -> u64 {
        self.link.outbox.rejected()
    }

    pub fn newest_message(&self) -> Result<Option<MessageId>> {
        self.link.outbox.newest_message()
    }

    pub fn find(&self, lookup: &Lookup) -> Result<Found> {
        self.found_in.store(self.link.turns.load(Ordering::Acquire), Ordering::Release);
        if lookup.is_empty() {
            return Ok(Found::default());
        }
        if let Some(found) = self.runtime.block_on(self.link.ask(self.link.database.find(lookup))) {
            let mut found = found?;
            found.is_everything = true;
            return Ok(found);
        }
        self.link.outbox.find(lookup)
    }

    pub fn write(&self, writes: &[Write]) -> Result<Vec<Written>> {
        let _changing = self.link.changing();
        let found_in = self.found_in.load(Ordering::Acquire);
        // Without MongoDB, one of its conversations may have been taken for a new one.
        if !self.link.is_away() && self.link.turns.load(Ordering::Acquire) != found_in {
            return Err(Stale.into());
        }
        self.link.outbox.save_profiles(writes)?;
        let writing = self.link.database.write(writes, false);
        if let Some(written) = self.runtime.block_on(self.link.ask(writing)) {
            return written;
        }
        self.link.outbox.append(writes)
    }

    pub async fn history(
        &self,
        conversation: &Id,
        window: Window,
        limit: PageLimit,
    ) -> Result<Page<Message>> {
        let asking = self.link.database.history(conversation, window, limit);
        match self.link.ask(asking).await {
            Some(page) => page,
            None => self.link.outbox.history(conversation, window, limit),
        }
    }

    pub async fn conversations_of(
        &self,
        user: &Id,
        before: Option<&Id>,
        limit: PageLimit,
    ) -> Result<Option<Page<Summary>>> {
        let asking = self.link.database.conversations_of(user, before, limit);
        let Some(page) = self.link.ask(asking).await else {
            return self.link.outbox.conversations_of(user, before, limit);
        };
        let Some(mut page) = page? else { return Ok(None) };
        // Whom the other backend does not know has said their name here.
        for participant in page.entries.iter_mut().flat_map(|entry| &mut entry.participants) {
            if participant.name.is_none()
                && let Some(profile) = self.link.outbox.profile(&participant.id)?
            {
                participant.name = profile.name;
                participant.avatar = participant.avatar.take().or(profile.avatar);
            }
        }
        Ok(Some(page))
    }

    /// Nobody is online any more.
    pub async fn end(&self) -> Result<()> {
        self.link.outbox.end_statuses()?;
        self.link.tell_statuses().await
    }

    /// A user came online on `socket`, or went offline. Told to MongoDB when it is there.
    pub fn status_changed(&self, user: Id, socket: Option<String>, at: Time) {
        // It fails only when the server has ended.
        let _ = self.statuses.send(StatusChange { user, socket, at });
    }
}

impl Link {
    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What MongoDB says, `None` if it is away.
    async fn ask<T>(
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
    async fn come_back(&self) -> Result<()> {
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
    async fn tell_statuses(&self) -> Result<()> {
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
            let message = match change {
                Change::Send { conversation, message } => {
                    self.outbox.message(conversation, *message)?
                }
                _ => None,
            };
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
        let message = match &entry.change {
            Change::Send { conversation, message } => {
                self.outbox.message(conversation, *message)?
            }
            _ => None,
        };
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
async fn keep_trying(link: Weak<Link>) {
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
async fn note_statuses(link: Weak<Link>, mut changes: UnboundedReceiver<StatusChange>) {
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

/// An error for a connection string that cannot be used.
pub fn unusable(reason: &str) -> anyhow::Error {
    anyhow!("MONGODB_URI: {reason}; expected mongodb:// or mongodb+srv:// and a host")
}
