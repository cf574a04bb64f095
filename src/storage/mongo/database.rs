//! The connection to MongoDB: collections, indexes, transactions, and the meaning of its errors.
//!
//! Every call may fail because the database is away; the caller decides how to go on. A batch is
//! one transaction, so a retry finds all of it or nothing.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bson::{Document, doc};
use mongodb::{
    Client, ClientSession, Collection, Database as Db, IndexModel,
    error::{Error, ErrorKind, Result, WriteFailure},
    options::{ClientOptions, IndexOptions},
};

use super::documents::object_id;
use crate::{
    model::{Conversation, Message},
    storage::{Found, Lookup, Write},
};

/// The database of a connection string that names none.
const DEFAULT_NAME: &str = "radio-istic";

/// The pause before a new attempt after a conflict with another server's transaction.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

pub struct Database {
    client: Client,
    pub db: Db,
    pub messages: Collection<Document>,
    pub conversations: Collection<Document>,
    pub users: Collection<Document>,
    /// Whether the server has transactions. False for a single server that is no replica set.
    has_transactions: AtomicBool,
}

impl Database {
    /// Connects when it is first used. Must be called inside a Tokio runtime, because the driver
    /// starts tasks of its own.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let name = options.default_database.clone().unwrap_or_else(|| DEFAULT_NAME.into());
        let client = Client::with_options(options)?;
        let db = client.database(&name);
        let collection = |name| db.collection::<Document>(name);
        let (messages, conversations, users) =
            (collection("messages"), collection("conversations"), collection("users"));
        let has_transactions = AtomicBool::new(true);
        Ok(Self { client, db, messages, conversations, users, has_transactions })
    }

    /// Checks that the database answers, and makes the indexes that the reads need.
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
                // The other backend's documents, or the account's rights, may not allow an index.
                // The server works without it, if more slowly.
                Err(error) if is_index_refusal(&error) => {
                    tracing::warn!(collection = collection.name(), %error, "index not made");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Everything in `lookup` that exists.
    pub async fn find(&self, lookup: &Lookup) -> Result<Found> {
        Ok(Found {
            conversations: self.find_conversations(&lookup.conversations).await?,
            sent: self.find_sent(&lookup.sent).await?,
            messages: self.find_messages(&lookup.messages).await?,
            unread: self.find_unread(lookup).await?,
            is_everything: true,
        })
    }

    /// Makes all changes in one transaction. With `may_be_known`, existing messages are skipped
    /// with all their effects.
    ///
    /// A server that is no replica set knows no transactions. There a batch that breaks off in the
    /// middle may leave an unread count behind; its messages are stored once all the same.
    pub async fn write(&self, writes: &[Write], may_be_known: bool) -> Result<()> {
        let mut session = self.client.start_session().await?;
        loop {
            if !self.has_transactions.load(Ordering::Relaxed) {
                let written = self.write_in(&mut session, writes, true, may_be_known).await;
                if written.as_ref().is_err_and(is_refusal) && !may_be_known {
                    self.take_back(writes).await?;
                }
                return written;
            }
            session.start_transaction().await?;
            if let Err(error) =
                self.write_in(&mut session, writes, may_be_known, may_be_known).await
            {
                // The server ends a transaction that cannot be aborted.
                let _ = session.abort_transaction().await;
                if is_without_transactions(&error) {
                    tracing::warn!("MongoDB is no replica set: changes are not transactions");
                    self.has_transactions.store(false, Ordering::Relaxed);
                } else if is_conflict(&error) {
                    tokio::time::sleep(CONFLICT_PAUSE).await;
                } else {
                    return Err(error);
                }
                continue;
            }
            match session.commit_transaction().await {
                Err(error) if is_conflict(&error) => tokio::time::sleep(CONFLICT_PAUSE).await,
                committed => return committed,
            }
        }
    }

    /// Removes the messages of a batch after the refusal of one: each will be tried alone.
    async fn take_back(&self, writes: &[Write]) -> Result<()> {
        let messages = writes.iter().filter_map(|write| match write {
            Write::Message { message, .. } => Some(object_id(message.id)),
            _ => None,
        });
        let filter = doc! { "_id": { "$in": messages.collect::<Vec<_>>() } };
        self.messages.delete_many(filter).await?;
        Ok(())
    }

    async fn write_in(
        &self,
        session: &mut ClientSession,
        writes: &[Write],
        may_be_known: bool,
        is_from_outbox: bool,
    ) -> Result<()> {
        // Messages are collected, to go out as one command.
        let mut messages: Vec<(&Message, &Conversation)> = Vec::new();
        for write in writes {
            match write {
                Write::Profile(_) => {}
                Write::Conversation { id, kind, participants } => {
                    self.begin(session, id, *kind, participants).await?;
                }
                Write::Participants { conversation, users } => {
                    self.add_participants(session, conversation, users).await?;
                }
                Write::Message { message, audience } => messages.push((&**message, audience)),
                Write::Receipts { conversation, reader, messages: ids, is_all, at } => {
                    self.insert(session, std::mem::take(&mut messages), may_be_known).await?;
                    // The reader means all messages, also those that the outbox did not know.
                    let ids = (!(is_from_outbox && *is_all)).then_some(&**ids);
                    self.add_receipts(session, conversation, reader, ids, *at).await?;
                }
            }
        }
        self.insert(session, messages, may_be_known).await
    }
}

/// Whether an index cannot be made here: Unauthorized, CannotCreateIndex, IndexOptionsConflict,
/// IndexKeySpecsConflict, DuplicateKey.
fn is_index_refusal(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command)
        if matches!(command.code, 13 | 67 | 85 | 86 | 11000))
}

/// Whether MongoDB has refused these documents for good. Any other error may be temporary.
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

/// Whether another transaction conflicted: a new attempt may succeed at once.
fn is_conflict(error: &Error) -> bool {
    const WRITE_CONFLICT: i32 = 112;
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == WRITE_CONFLICT)
}

/// Whether the server is no replica set.
fn is_without_transactions(error: &Error) -> bool {
    const ILLEGAL_OPERATION: i32 = 20;
    const NOT_IN_TRANSACTION: i32 = 263;
    matches!(&*error.kind, ErrorKind::Command(command)
        if matches!(command.code, ILLEGAL_OPERATION | NOT_IN_TRANSACTION))
}
