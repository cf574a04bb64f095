//! The way from a file to MongoDB, which can be begun again wherever it broke off.
//!
//! Every document is written under the id that it has in the file, and what is there already stays
//! as it is: so a second attempt only adds what is missing. Nothing writes to the file meanwhile.

use std::{collections::HashSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use bson::{Bson, Document, doc};
use mongodb::{
    Client,
    error::{Error, ErrorKind},
    options::ClientOptions,
};
use tokio::runtime::Handle;

use super::{
    database::Database,
    documents::{date, from_message, key, participants, unread_field},
};
use crate::{
    contract::{Id, MessageType, Time},
    storage::{Counts, Record, Sqlite, SqliteFile, Write, outbox::Outbox, sqlite::file},
};

/// How many documents are written at once.
const BATCH: usize = 1_000;

/// DuplicateKey.
const IS_THERE: i32 = 11_000;

/// Writes everything of the file at `path` to MongoDB, and compares what is there then. `progress`
/// hears how many messages are written, and then how many are compared. Blocks.
pub fn migrate(
    path: &Path,
    options: ClientOptions,
    outbox: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Counts> {
    // No server may write to it.
    let _locked = Sqlite::open(path).with_context(|| path.display().to_string())?;
    let mut file = SqliteFile::open(path)?;
    let runtime = Handle::current();
    let name = options.default_database.clone().unwrap_or_else(|| "radio-istic".into());
    let client = Client::with_options(options)?;
    let db = client.database(&name);
    let database = Database::new(client, db);
    let outbox = Outbox::open(outbox).with_context(|| format!("outbox {}", outbox.display()))?;
    ensure!(outbox.pending() == 0, "the outbox holds changes: let a server write them first");
    runtime.block_on(database.prepare()).context("MongoDB does not answer")?;

    let mut batch = Vec::new();
    let mut moved = Vec::new();
    let counts = file.for_each(|record| {
        match record {
            Record::RadioIstic { .. } => {}
            // Users are the other backend's. What they said of themselves is remembered here.
            Record::User(user) => outbox.save_profiles(&[Write::Profile(user)])?,
            Record::Conversation { id, is_open, participants } => {
                let insert = conversation(&participants, is_open);
                runtime.block_on(database.begin_if_unknown(&id, insert))?;
                moved.push(id);
            }
            Record::Message(message) => {
                batch.push(document(*message));
                if batch.len() == BATCH {
                    progress(BATCH as u64);
                    runtime.block_on(database.insert_missing(std::mem::take(&mut batch)))?;
                }
            }
        }
        Ok(())
    })?;
    progress(batch.len() as u64);
    runtime.block_on(database.insert_missing(std::mem::take(&mut batch)))?;

    // What is there is what was sent.
    file.for_each(|record| {
        if let Record::Message(message) = record {
            batch.push(document(*message));
            if batch.len() == BATCH {
                progress(BATCH as u64);
                runtime.block_on(database.compare(std::mem::take(&mut batch)))?;
            }
        }
        Ok(())
    })?;
    progress(batch.len() as u64);
    runtime.block_on(database.compare(batch))?;
    runtime.block_on(database.set_last_messages(&moved))?;
    Ok(counts)
}

fn conversation(members: &[file::Participant], is_open: bool) -> Document {
    let mut unread = Document::new();
    for participant in members.iter().filter(|participant| participant.unread > 0) {
        let field = unread_field(&participant.id);
        let field = field.split_once('.').map_or(&*field, |(_, field)| field).to_owned();
        unread.insert(field, participant.unread as i32);
    }
    let now = date(Time::now());
    doc! {
        "participants": members.iter().map(|participant| key(&participant.id)).collect::<Vec<_>>(),
        "isOpen": is_open, "unreadCount": unread, "createdAt": now, "updatedAt": now, "__v": 0,
    }
}

fn document(message: file::Message) -> Document {
    let receipts: Vec<Bson> = message
        .read_by
        .iter()
        .map(|receipt| {
            doc! { "user": key(&receipt.user_id), "readAt": date(receipt.read_at) }.into()
        })
        .collect();
    let mut document = from_message(&crate::contract::Message {
        id: message.id,
        conversation_id: message.conversation_id,
        content: message.content.into(),
        sender_id: message.sender_id,
        sender_name: message.sender_name.into(),
        sender_avatar: message.sender_avatar.map(Into::into),
        timestamp: message.timestamp,
        r#type: MessageType::Text,
        read_by: Vec::new(),
        client_message_id: message.client_message_id,
    });
    document.insert("readBy", receipts);
    document
}

impl Database {
    async fn begin_if_unknown(&self, id: &Id, insert: Document) -> Result<()> {
        let members = |document: &Document| {
            let participants: HashSet<Id> = participants(document).into_iter().collect();
            (document.get_bool("isOpen").unwrap_or(false), participants)
        };
        let known = self.conversations().find_one(doc! { "_id": key(id) }).await?;
        if let Some(known) = known {
            // Messages of one must not be read by those of another.
            ensure!(
                members(&known) == members(&insert),
                "conversation {id} is between others in MongoDB"
            );
            return Ok(());
        }
        let update = doc! { "$setOnInsert": insert };
        self.conversations().update_one(doc! { "_id": key(id) }, update).upsert(true).await?;
        Ok(())
    }

    async fn insert_missing(&self, documents: Vec<Document>) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        match self.messages().insert_many(documents).ordered(false).await {
            Ok(_) => Ok(()),
            Err(error) if only_tells_what_is_there(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether all of these documents are there as they are.
    async fn compare(&self, documents: Vec<Document>) -> Result<()> {
        let ids: Vec<Bson> = documents.iter().filter_map(|one| one.get("_id").cloned()).collect();
        let mut stored = std::collections::HashMap::new();
        let mut cursor = self.messages().find(doc! { "_id": { "$in": ids } }).await?;
        while cursor.advance().await? {
            let document = cursor.deserialize_current()?;
            stored.insert(document.get_object_id("_id")?, document);
        }
        for document in documents {
            let id = document.get_object_id("_id")?;
            match stored.get(&id) {
                None => bail!("message {id} is missing in MongoDB"),
                // Fields that another backend has added are its own.
                Some(stored)
                    if document.iter().all(|(name, value)| stored.get(name) == Some(value)) => {}
                Some(_) => bail!("message {id} is another one in MongoDB"),
            }
        }
        Ok(())
    }

    /// Tells each of these conversations which message is its last one.
    async fn set_last_messages(&self, conversations: &[Id]) -> Result<()> {
        for id in conversations {
            let newest = self
                .messages()
                .find_one(doc! { "conversation": key(id) })
                .sort(doc! { "createdAt": -1, "_id": -1 })
                .await?;
            let Some(newest) = newest else { continue };
            let (message, at) = (newest.get_object_id("_id")?, newest.get_datetime("createdAt")?);
            let set = doc! { "lastMessage": message, "lastMessageAt": at, "updatedAt": at };
            self.conversations().update_one(doc! { "_id": key(id) }, doc! { "$set": set }).await?;
        }
        Ok(())
    }
}

fn only_tells_what_is_there(error: &Error) -> bool {
    let ErrorKind::InsertMany(error) = &*error.kind else { return false };
    error.write_concern_error.is_none()
        && error
            .write_errors
            .as_ref()
            .is_some_and(|errors| errors.iter().all(|error| error.code == IS_THERE))
}
