//! The questions and changes of this server, as MongoDB's commands.
//!
//! Every call may fail because the database is away; who calls decides what that means. Batches
//! are transactions, so that a retry finds all of one or nothing.

mod read;
mod write;

use std::sync::atomic::AtomicBool;

use bson::{Document, doc};
use mongodb::{
    Client, Collection, Database as Db, IndexModel,
    error::{Error, ErrorKind, Result, WriteFailure},
    options::IndexOptions,
};

use super::documents::{date, key};
use crate::storage::outbox::UserStatus;

pub struct Database {
    client: Client,
    db: Db,
    messages: Collection<Document>,
    conversations: Collection<Document>,
    users: Collection<Document>,
    /// False for a single server that is no replica set.
    has_transactions: AtomicBool,
}

impl Database {
    pub fn new(client: Client, db: Db) -> Self {
        let collection = |name| db.collection::<Document>(name);
        let (messages, conversations, users) =
            (collection("messages"), collection("conversations"), collection("users"));
        let has_transactions = AtomicBool::new(true);
        Self { client, db, messages, conversations, users, has_transactions }
    }
}

impl Database {
    pub fn messages(&self) -> &Collection<Document> {
        &self.messages
    }

    pub fn conversations(&self) -> &Collection<Document> {
        &self.conversations
    }

    /// Asks whether the database answers, and sees to the indexes that the reads need.
    pub async fn prepare(&self) -> Result<()> {
        let index = |keys, name: &str, unique: Option<Document>| {
            let options = IndexOptions::builder()
                .name(name.to_owned())
                .unique(unique.is_some().then_some(true))
                .partial_filter_expression(unique);
            IndexModel::builder().keys(keys).options(options.build()).build()
        };
        let by_time = doc! { "conversation": 1, "createdAt": 1 };
        // Messages of one millisecond need an order too.
        let by_time_and_id = doc! { "conversation": 1, "createdAt": 1, "_id": 1 };
        let by_client_id = doc! { "conversation": 1, "sender": 1, "clientMessageId": 1 };
        let by_activity = doc! { "participants": 1, "lastMessageAt": -1, "_id": -1 };
        let given = doc! { "clientMessageId": { "$gt": "" } };
        let indexes = [
            (&self.messages, index(by_time, "conversation_1_createdAt_1", None)),
            (&self.messages, index(by_time_and_id, "conversation_1_createdAt_1__id_1", None)),
            (
                &self.messages,
                index(by_client_id, "conversation_1_sender_1_clientMessageId_1", Some(given)),
            ),
            (
                &self.conversations,
                index(by_activity, "participants_1_lastMessageAt_-1__id_-1", None),
            ),
        ];
        for (collection, index) in indexes {
            match collection.create_index(index).await {
                Ok(_) => {}
                // The other backend's documents, or the account's rights, do not allow it. The
                // server works without, if more slowly.
                Err(error) if is_index_refusal(&error) => {
                    tracing::warn!(collection = collection.name(), %error, "index not made");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the other backend that a user came or went. A user whom it does not have is nobody;
    /// one who is on another server's socket by now is not offline.
    pub async fn set_status(&self, status: &UserStatus) -> Result<()> {
        let UserStatus { user, socket, is_online, at } = status;
        let (filter, update) = if *is_online {
            (doc! { "_id": key(user) }, doc! { "status": "online", "socketId": socket })
        } else {
            let ours = doc! { "_id": key(user), "socketId": socket };
            (ours, doc! { "status": "offline", "socketId": null, "lastSeen": date(*at) })
        };
        self.users.update_one(filter, doc! { "$set": update }).await?;
        Ok(())
    }
}

/// Whether an index cannot be made here: Unauthorized, CannotCreateIndex, IndexOptionsConflict,
/// IndexKeySpecsConflict, DuplicateKey.
fn is_index_refusal(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command)
        if matches!(command.code, 13 | 67 | 85 | 86 | 11000))
}

/// Whether MongoDB has refused these documents for good. Everything else may be different later.
pub fn is_refusal(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::InsertMany(error) => {
            error.write_errors.is_some() && error.write_concern_error.is_none()
        }
        ErrorKind::Write(WriteFailure::WriteError(_)) => true,
        ErrorKind::BsonSerialization(_)
        | ErrorKind::BsonDeserialization(_)
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::Custom(_) => true,
        // BadValue, FailedToParse, TypeMismatch, DocumentValidationFailure, BSONObjectTooLarge,
        // DuplicateKey.
        ErrorKind::Command(command) => matches!(command.code, 2 | 9 | 14 | 121 | 10334 | 11000),
        _ => false,
    }
}
