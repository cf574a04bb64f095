//! Changes, as MongoDB's commands: a batch is a transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use bson::{Document, doc};
use mongodb::{
    ClientSession,
    error::{Error, ErrorKind, Result},
};

use super::{
    super::documents::{self, date, either, key, object_id, unread_field},
    Database, is_refusal,
};
use crate::{
    contract::{Id, Message, MessageId, Time},
    storage::{Conversation, Write, Written},
};

/// How long to wait when another server's transaction is in the way.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

impl Database {
    /// Makes all of the changes, in one transaction. With `may_be_known`, messages that are there
    /// already are passed over with all that they bring.
    ///
    /// A server that is no replica set knows no transactions. There a batch that breaks off in the
    /// middle may leave an unread count behind; its messages are stored once all the same.
    pub async fn write(&self, writes: &[Write], may_be_known: bool) -> Result<Vec<Written>> {
        let mut session = self.client.start_session().await?;
        loop {
            if !self.has_transactions.load(Ordering::Relaxed) {
                let written = self.write_in(&mut session, writes, true).await;
                if written.as_ref().is_err_and(is_refusal) && !may_be_known {
                    self.take_back(writes).await?;
                }
                return written;
            }
            session.start_transaction().await?;
            let written = match self.write_in(&mut session, writes, may_be_known).await {
                Ok(written) => written,
                Err(error) => {
                    // The server ends what cannot be aborted.
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
            };
            match session.commit_transaction().await {
                Ok(()) => return Ok(written),
                Err(error) if is_conflict(&error) => tokio::time::sleep(CONFLICT_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the messages of a batch of which one was refused: each will be tried alone.
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
    ) -> Result<Vec<Written>> {
        let mut written = Vec::with_capacity(writes.len());
        // Messages wait for each other, to go out as one command.
        let mut messages: Vec<(&Message, &Conversation)> = Vec::new();
        for write in writes {
            let mut result = Written::Stored;
            match write {
                Write::Profile(_) => {}
                Write::Conversation { id, is_open, participants } => {
                    let now = date(Time::now());
                    let insert = doc! {
                        "participants": participants.iter().map(key).collect::<Vec<_>>(),
                        "isOpen": is_open, "unreadCount": {}, "createdAt": now, "updatedAt": now, "__v": 0,
                    };
                    self.conversations
                        .update_one(doc! { "_id": key(id) }, doc! { "$setOnInsert": insert })
                        .upsert(true)
                        .session(&mut *session)
                        .await?;
                }
                Write::Participants { conversation, users } => {
                    let users: Vec<_> = users.iter().map(key).collect();
                    let update = doc! { "$addToSet": { "participants": { "$each": users } } };
                    // Meanwhile it may turn out to be somebody's own.
                    let filter = doc! { "_id": key(conversation), "isOpen": true };
                    self.conversations.update_one(filter, update).session(&mut *session).await?;
                }
                Write::Message { message, conversation } => {
                    messages.push((&**message, conversation))
                }
                Write::Receipts { conversation, reader, messages: ids, at, .. } => {
                    self.insert(session, std::mem::take(&mut messages), may_be_known).await?;
                    result =
                        self.mark_read(session, conversation, reader, ids.as_deref(), *at).await?;
                }
            }
            written.push(result);
        }
        self.insert(session, messages, may_be_known).await?;
        Ok(written)
    }

    async fn insert(
        &self,
        session: &mut ClientSession,
        mut messages: Vec<(&Message, &Conversation)>,
        may_be_known: bool,
    ) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        if may_be_known {
            let ids: Vec<_> = messages.iter().map(|(message, _)| object_id(message.id)).collect();
            let filter = doc! { "_id": { "$in": ids } };
            let mut cursor = self
                .messages
                .find(filter)
                .projection(doc! { "_id": 1 })
                .session(&mut *session)
                .await?;
            let mut known = HashSet::new();
            while let Some(document) = cursor.next(session).await.transpose()? {
                known.extend(document.get("_id").and_then(documents::message_id));
            }
            messages.retain(|(message, _)| !known.contains(&message.id));
        }
        if messages.is_empty() {
            return Ok(());
        }
        let inserts = messages.iter().map(|(message, _)| documents::from_message(message));
        self.messages.insert_many(inserts).session(&mut *session).await?;

        let updates: Vec<Document> = activity(&messages);
        let command = doc! { "update": self.conversations.name(), "updates": updates };
        let answer = self.db.run_command(command).session(&mut *session).await?;
        match answer.get_array("writeErrors") {
            Ok(errors) => Err(Error::custom(format!("conversations not updated: {errors:?}"))),
            Err(_) => Ok(()),
        }
    }

    async fn mark_read(
        &self,
        session: &mut ClientSession,
        conversation: &Id,
        reader: &Id,
        ids: Option<&[MessageId]>,
        at: Time,
    ) -> Result<Written> {
        let mut filter = doc! {
            "conversation": key(conversation),
            "sender": { "$nin": [key(reader), reader.as_str()] },
            "isDeleted": { "$ne": true },
            "$nor": [{ "readBy": either(reader) }, { "readBy.user": either(reader) }],
            "createdAt": { "$lte": date(at) },
        };
        if let Some(ids) = ids {
            let ids: Vec<_> = ids.iter().copied().map(object_id).collect();
            filter.insert("_id", doc! { "$in": ids });
        }
        let mut newly = Vec::new();
        let mut cursor =
            self.messages.find(filter).projection(doc! { "_id": 1 }).session(&mut *session).await?;
        while let Some(document) = cursor.next(session).await.transpose()? {
            newly.extend(document.get("_id").and_then(documents::message_id));
        }
        newly.sort_unstable();
        if !newly.is_empty() {
            let ids: Vec<_> = newly.iter().copied().map(object_id).collect();
            let receipt = doc! { "user": key(reader), "readAt": date(at) };
            self.messages
                .update_many(
                    doc! { "_id": { "$in": ids } },
                    doc! { "$push": { "readBy": receipt } },
                )
                .session(&mut *session)
                .await?;
        }
        let reset = doc! { "$set": { unread_field(reader): 0 } };
        self.conversations
            .update_one(doc! { "_id": key(conversation) }, reset)
            .session(session)
            .await?;
        Ok(Written::NewlyRead(newly))
    }
}

/// What messages change in their conversations: for each, who has how many more to read, and the
/// last message, unless a later one of another server's is there already.
fn activity(messages: &[(&Message, &Conversation)]) -> Vec<Document> {
    let mut by_conversation: HashMap<&Id, Vec<(&Message, &Conversation)>> = HashMap::new();
    for (message, conversation) in messages {
        by_conversation.entry(&message.conversation_id).or_default().push((message, conversation));
    }
    let mut updates = Vec::new();
    for (id, messages) in by_conversation {
        let (last, conversation) = messages.last().expect("there is at least one");
        let at = date(last.timestamp);
        if !conversation.is_open {
            let mut unread = Document::new();
            for user in conversation.participants.iter() {
                let count =
                    messages.iter().filter(|(message, _)| message.sender_id != *user).count();
                if count > 0 {
                    unread.insert(unread_field(user), count as i32);
                }
            }
            if !unread.is_empty() {
                updates.push(doc! { "q": { "_id": key(id) }, "u": { "$inc": unread } });
            }
        }
        updates.push(doc! {
            "q": { "_id": key(id), "$or": [{ "lastMessageAt": { "$lte": at } }, { "lastMessageAt": null }] },
            "u": { "$set": { "lastMessage": object_id(last.id), "lastMessageAt": at, "updatedAt": at } },
        });
    }
    updates
}

/// Whether another transaction was in the way: a new attempt may succeed at once.
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
