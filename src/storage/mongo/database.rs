//! The questions and changes of this server, as MongoDB's commands.
//!
//! Every call may fail because the database is away; who calls decides what that means. Batches
//! are transactions, so that a retry finds all of one or nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::{
    Client, ClientSession, Collection, Database as Db, IndexModel,
    error::{Error, ErrorKind, Result, WriteFailure},
    options::IndexOptions,
};

use super::documents::{self, date, either, key, object_id, unread_field};
use crate::{
    contract::{Id, LISTED_PARTICIPANTS, Message, MessageId, PageLimit, Participant, Time},
    storage::{
        Conversation, Found, Lookup, Page, SentKey, Summary, Window, Write, Written,
        outbox::UserStatus,
    },
};

/// How long to wait when another server's transaction is in the way.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

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

    pub async fn find(&self, lookup: &Lookup) -> Result<Found> {
        let mut found = Found::default();
        if !lookup.conversations.is_empty() {
            let ids: Vec<_> = lookup.conversations.iter().map(key).collect();
            let mut cursor = self.conversations.find(doc! { "_id": { "$in": ids } }).await?;
            while let Some(document) = cursor.try_next().await? {
                found.conversations.extend(documents::conversation(&document));
            }
        }
        if !lookup.sent.is_empty() {
            let keys = lookup.sent.iter().map(|sent| {
                doc! {
                    "conversation": key(&sent.conversation),
                    "sender": key(&sent.sender),
                    "clientMessageId": sent.client_message_id.as_str(),
                }
            });
            let filter = doc! { "$or": keys.collect::<Vec<_>>() };
            let read: Vec<Document> = self.messages.find(filter).await?.try_collect().await?;
            let mut messages: Vec<_> = read.iter().filter_map(documents::message).collect();
            self.add_names(&mut messages).await?;
            let keyed = messages.into_iter().filter_map(|message| {
                let key = SentKey {
                    conversation: message.conversation_id.clone(),
                    sender: message.sender_id.clone(),
                    client_message_id: message.client_message_id.clone()?,
                };
                Some((key, message))
            });
            found.sent.extend(keyed);
        }
        if !lookup.messages.is_empty() {
            let ids: Vec<_> = lookup.messages.iter().map(|(_, id)| object_id(*id)).collect();
            let filter = doc! { "_id": { "$in": ids }, "isDeleted": { "$ne": true } };
            let mut cursor =
                self.messages.find(filter).projection(doc! { "conversation": 1 }).await?;
            while let Some(document) = cursor.try_next().await? {
                let conversation = document.get("conversation").and_then(documents::id);
                let message = document.get("_id").and_then(documents::message_id);
                found.messages.extend(conversation.zip(message));
            }
        }
        Ok(found)
    }

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

    pub async fn history(
        &self,
        conversation: &Id,
        window: Window,
        limit: PageLimit,
    ) -> Result<Page<Message>> {
        let mut filter = doc! { "conversation": key(conversation), "isDeleted": { "$ne": true } };
        let (cursor, than, order) = match window {
            Window::Newest => (None, "$lt", -1),
            Window::Before(cursor) => (Some(cursor), "$lt", -1),
            Window::After(cursor) => (Some(cursor), "$gt", 1),
        };
        if let Some(cursor) = cursor {
            let known = self.messages.find_one(doc! { "_id": object_id(cursor) }).await?;
            let created_at = known.as_ref().and_then(|document| document.get("createdAt")).cloned();
            let created_at =
                created_at.unwrap_or_else(|| Bson::DateTime(object_id(cursor).timestamp()));
            let same = doc! { "createdAt": &created_at, "_id": { than: object_id(cursor) } };
            filter.insert("$or", vec![doc! { "createdAt": { than: created_at } }, same]);
        }
        let cursor = self
            .messages
            .find(filter)
            .sort(doc! { "createdAt": order, "_id": order })
            // One more than asked for tells whether there are more.
            .limit(limit.get() as i64 + 1)
            .await?;
        let read: Vec<Document> = cursor.try_collect().await?;
        let has_more = read.len() > limit.get();
        let mut entries: Vec<_> =
            read.iter().take(limit.get()).filter_map(documents::message).collect();
        if order == -1 {
            entries.reverse();
        }
        self.add_names(&mut entries).await?;
        Ok(Page { entries, has_more, is_partial: false })
    }

    pub async fn conversations_of(
        &self,
        user: &Id,
        before: Option<&Id>,
        limit: PageLimit,
    ) -> Result<Option<Page<Summary>>> {
        let mut filter = doc! { "participants": either(user) };
        if let Some(before) = before {
            let mine = doc! { "_id": key(before), "participants": either(user) };
            let Some(known) = self.conversations.find_one(mine).await? else { return Ok(None) };
            let at = known.get("lastMessageAt").cloned().unwrap_or(Bson::Null);
            let same = doc! { "lastMessageAt": &at, "_id": { "$lt": key(before) } };
            let mut behind = vec![doc! { "lastMessageAt": { "$lt": &at } }, same];
            if at != Bson::Null {
                // Those without a date come last, and are not less than one.
                behind.push(doc! { "lastMessageAt": null });
            }
            filter.insert("$or", behind);
        }
        let cursor = self
            .conversations
            .find(filter)
            .sort(doc! { "lastMessageAt": -1, "_id": -1 })
            .limit(limit.get() as i64 + 1)
            .await?;
        let mut read: Vec<Document> = cursor.try_collect().await?;
        let has_more = read.len() > limit.get();
        read.truncate(limit.get());
        let mut last = self.last_messages(&read).await?;
        let mut entries: Vec<Summary> =
            read.iter().filter_map(|document| summary(document, user)).collect();
        for entry in &mut entries {
            entry.last_message = last.remove(&entry.id);
        }
        let names = self
            .names(entries.iter().flat_map(|entry| &entry.participants).map(|user| &user.id))
            .await?;
        for participant in entries.iter_mut().flat_map(|entry| &mut entry.participants) {
            if let Some(known) = names.get(&participant.id) {
                participant.name = known.get_str("name").ok().map(Into::into);
                participant.avatar = known.get_str("avatar").ok().map(Into::into);
            }
        }
        Ok(Some(Page { entries, has_more, is_partial: false }))
    }

    async fn last_messages(&self, conversations: &[Document]) -> Result<HashMap<Id, Message>> {
        let ids: Vec<_> =
            conversations.iter().filter_map(|document| document.get("lastMessage")).collect();
        let filter = doc! { "_id": { "$in": ids }, "isDeleted": { "$ne": true } };
        let read: Vec<Document> = self.messages.find(filter).await?.try_collect().await?;
        let mut messages: Vec<_> = read.iter().filter_map(documents::message).collect();
        self.add_names(&mut messages).await?;
        Ok(messages.into_iter().map(|message| (message.conversation_id.clone(), message)).collect())
    }

    /// Fills the names and avatars that messages lack, with one query for all of them.
    async fn add_names(&self, messages: &mut [Message]) -> Result<()> {
        let nameless = messages.iter().filter(|message| message.sender_name.is_empty());
        let names = self.names(nameless.map(|message| &message.sender_id)).await?;
        for message in messages.iter_mut().filter(|message| message.sender_name.is_empty()) {
            let user = names.get(&message.sender_id);
            let text = |field| user.and_then(|user| user.get_str(field).ok());
            message.sender_name = text("name").unwrap_or(message.sender_id.as_str()).into();
            if message.sender_avatar.is_none() {
                message.sender_avatar = text("avatar").map(Into::into);
            }
        }
        Ok(())
    }

    async fn names<'a>(
        &self,
        users: impl Iterator<Item = &'a Id>,
    ) -> Result<HashMap<Id, Document>> {
        let users: HashSet<_> = users.collect();
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<_> = users.into_iter().map(key).collect();
        let projection = doc! { "name": 1, "avatar": 1 };
        let cursor = self.users.find(doc! { "_id": { "$in": ids } }).projection(projection).await?;
        let read: Vec<Document> = cursor.try_collect().await?;
        let named =
            read.into_iter().filter_map(|user| Some((documents::id(user.get("_id")?)?, user)));
        Ok(named.collect())
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

fn summary(document: &Document, user: &Id) -> Option<Summary> {
    let (id, conversation) = documents::conversation(document)?;
    let listed = if conversation.is_open { LISTED_PARTICIPANTS } else { usize::MAX };
    let participants = documents::participants(document).into_iter().take(listed);
    let unread_count =
        if conversation.is_open { 0 } else { documents::unread_count(document, user) };
    Some(Summary {
        id,
        is_open: conversation.is_open,
        participants: participants
            .map(|id| Participant { id, name: None, avatar: None, online: false })
            .collect(),
        last_message: None,
        unread_count,
    })
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
