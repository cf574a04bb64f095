//! The migration from a file to MongoDB, which can start again after any interruption.
//!
//! Every document is written under the id that it has in the file, and existing documents stay
//! unchanged: so a second attempt only adds the missing ones. Nothing writes to the file meanwhile.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use bson::{Bson, Document, doc};
use mongodb::{
    error::{Error, ErrorKind},
    options::ClientOptions,
};
use tokio::runtime::Handle;

use super::{
    database::Database,
    documents::{self, date, from_message, key},
};
use crate::{
    model::{Id, Kind},
    storage::{
        Counts, Sqlite, SqliteFile, Write,
        outbox::Outbox,
        sqlite::export::{ExportedMessage, Membership, Record},
    },
};

/// The number of documents that are written at once.
const BATCH: usize = 1_000;

/// The code of MongoDB's DuplicateKey.
const IS_THERE: i32 = 11_000;

/// Writes the whole file at `path` to MongoDB, and compares the result. `progress` is called with
/// the number of written messages, and then with the number of compared ones. Blocks.
pub fn migrate(
    path: &Path,
    options: ClientOptions,
    outbox: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Counts> {
    // The lock keeps servers from writing to the file.
    let _locked = Sqlite::open(path).with_context(|| path.display().to_string())?;
    let mut file = SqliteFile::open(path)?;
    let runtime = Handle::current();
    let database = Database::new(options)?;
    let outbox = Outbox::open(outbox).with_context(|| format!("outbox {}", outbox.display()))?;
    ensure!(outbox.pending() == 0, "the outbox holds changes: let a server write them first");
    runtime.block_on(database.prepare()).context("MongoDB does not answer")?;

    let mut moved = Vec::new();
    let begin = |record| match record {
        // Users belong to the other backend. The outbox keeps the profiles that they gave here.
        Record::User(user) => outbox.save_profiles(&[Write::Profile(user)]),
        Record::Conversation { id, is_open, participants } => {
            let insert = conversation(&participants, is_open);
            runtime.block_on(database.begin_if_unknown(&id, insert))?;
            moved.push(id);
            Ok(())
        }
        Record::RadioIstic { .. } | Record::Message(_) => Ok(()),
    };
    let counts = in_batches(&mut file, begin, |batch| {
        progress(batch.len() as u64);
        runtime.block_on(database.insert_missing(batch))
    })?;
    // Compares the stored documents with the sent ones.
    in_batches(
        &mut file,
        |_| Ok(()),
        |batch| {
            progress(batch.len() as u64);
            runtime.block_on(database.compare(batch))
        },
    )?;
    runtime.block_on(database.set_last_messages(&moved))?;
    Ok(counts)
}

/// Visits the messages of a file in batches of documents, and everything else one by one.
fn in_batches(
    file: &mut SqliteFile,
    mut other: impl FnMut(Record) -> Result<()>,
    mut with: impl FnMut(Vec<Document>) -> Result<()>,
) -> Result<Counts> {
    let mut batch = Vec::new();
    let counts = file.for_each(|record| match record {
        Record::Message(message) => {
            batch.push(document(&message));
            if batch.len() == BATCH { with(std::mem::take(&mut batch)) } else { Ok(()) }
        }
        record => other(record),
    })?;
    with(batch)?;
    Ok(counts)
}

fn conversation(members: &[Membership], is_open: bool) -> Document {
    let unread = documents::unread_counts(members.iter().map(|member| (&member.id, member.unread)));
    let participants = members.iter().map(|member| &member.id);
    documents::new_conversation(Kind::from_is_open(is_open), participants, unread)
}

fn document(message: &ExportedMessage) -> Document {
    let mut document = from_message(&message.to_message());
    let receipts = message.read_by.iter().map(|receipt| {
        Bson::from(doc! { "user": key(&receipt.user_id), "readAt": date(receipt.read_at) })
    });
    document.insert("readBy", receipts.collect::<Vec<_>>());
    document
}

impl Database {
    async fn begin_if_unknown(&self, id: &Id, insert: Document) -> Result<()> {
        let members = |document: &Document| {
            let participants: HashSet<Id> = documents::participants(document).into_iter().collect();
            (documents::kind(document).is_open(), participants)
        };
        let known = self.conversations.find_one(doc! { "_id": key(id) }).await?;
        if let Some(known) = known {
            // The members of one must not read the messages of the other.
            ensure!(
                members(&known) == members(&insert),
                "conversation {id} is between others in MongoDB"
            );
            return Ok(());
        }
        let update = doc! { "$setOnInsert": insert };
        self.conversations.update_one(doc! { "_id": key(id) }, update).upsert(true).await?;
        Ok(())
    }

    async fn insert_missing(&self, documents: Vec<Document>) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        match self.messages.insert_many(documents).ordered(false).await {
            Ok(_) => Ok(()),
            Err(error) if only_tells_what_is_there(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether all of these documents are stored unchanged.
    async fn compare(&self, documents: Vec<Document>) -> Result<()> {
        let ids: Vec<Bson> = documents.iter().filter_map(|one| one.get("_id").cloned()).collect();
        let mut stored = HashMap::new();
        let mut cursor = self.messages.find(doc! { "_id": { "$in": ids } }).await?;
        while cursor.advance().await? {
            let document = cursor.deserialize_current()?;
            stored.insert(document.get_object_id("_id")?, document);
        }
        for document in documents {
            let id = document.get_object_id("_id")?;
            match stored.get(&id) {
                None => bail!("message {id} is missing in MongoDB"),
                // Another backend may have added fields of its own.
                Some(stored)
                    if document.iter().all(|(name, value)| stored.get(name) == Some(value)) => {}
                Some(_) => bail!("message {id} is another one in MongoDB"),
            }
        }
        Ok(())
    }

    /// Stores the last message of each of these conversations.
    async fn set_last_messages(&self, conversations: &[Id]) -> Result<()> {
        for id in conversations {
            let newest = self
                .messages
                .find_one(doc! { "conversation": key(id) })
                .sort(doc! { "createdAt": -1, "_id": -1 })
                .await?;
            let Some(newest) = newest else { continue };
            let (message, at) = (newest.get_object_id("_id")?, newest.get_datetime("createdAt")?);
            let set = doc! { "lastMessage": message, "lastMessageAt": at, "updatedAt": at };
            self.conversations.update_one(doc! { "_id": key(id) }, doc! { "$set": set }).await?;
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
