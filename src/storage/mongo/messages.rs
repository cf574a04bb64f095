//! Messages and pages of history.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    error::{Error, Result as DriverResult},
};

use super::{
    Mongo,
    conversations::activity,
    database::Database,
    documents::{self, key, object_id},
};
use crate::{
    model::{Conversation, Id, Message, MessageId, Page, PageLimit, SentKey, Window},
    storage::sqlite,
};

impl Mongo {
    pub async fn history(
        &self,
        conversation: Id,
        window: Window,
        limit: PageLimit,
    ) -> Result<Page<Message>> {
        let asking = self.link.database.history(&conversation, window, limit);
        let id = conversation.clone();
        self.ask(asking, move |outbox| {
            let page = sqlite::messages::history(outbox, &id, window, limit)?;
            Ok(Page { is_partial: true, ..page })
        })
        .await
    }
}

impl Database {
    /// The messages that earlier tries of retries stored.
    pub async fn find_sent(
        &self,
        keys: &HashSet<SentKey>,
    ) -> DriverResult<HashMap<SentKey, Message>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys = keys.iter().map(|sent| {
            doc! {
                "conversation": key(&sent.conversation),
                "sender": key(&sent.sender),
                "clientMessageId": sent.client_message_id.as_str(),
            }
        });
        let filter = doc! { "$or": keys.collect::<Vec<_>>() };
        let read: Vec<Document> = self.messages.find(filter).await?.try_collect().await?;
        let mut messages: Vec<_> = read.iter().filter_map(documents::message).collect();
        self.name_senders(&mut messages).await?;
        Ok(messages
            .into_iter()
            .filter_map(|message| Some((message.sent_key()?, message)))
            .collect())
    }

    /// The existing ones of these messages.
    pub async fn find_messages(
        &self,
        messages: &HashSet<(Id, MessageId)>,
    ) -> DriverResult<HashSet<(Id, MessageId)>> {
        let mut found = HashSet::new();
        if messages.is_empty() {
            return Ok(found);
        }
        let ids: Vec<_> = messages.iter().map(|(_, id)| object_id(*id)).collect();
        let filter = doc! { "_id": { "$in": ids }, "isDeleted": { "$ne": true } };
        let mut cursor = self.messages.find(filter).projection(doc! { "conversation": 1 }).await?;
        while let Some(document) = cursor.try_next().await? {
            let conversation = document.get("conversation").and_then(documents::id);
            let message = document.get("_id").and_then(documents::message_id);
            found.extend(conversation.zip(message));
        }
        Ok(found)
    }

    /// A page of a conversation's messages, the oldest first.
    pub async fn history(
        &self,
        conversation: &Id,
        window: Window,
        limit: PageLimit,
    ) -> DriverResult<Page<Message>> {
        let mut filter = doc! { "conversation": key(conversation), "isDeleted": { "$ne": true } };
        let (than, order) = match window {
            Window::Newest | Window::Before(_) => ("$lt", -1),
            Window::After(_) => ("$gt", 1),
        };
        if let Some(cursor) = window.cursor() {
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
            // One more than requested shows whether there are more.
            .limit(limit.get() as i64 + 1)
            .await?;
        let read: Vec<Document> = cursor.try_collect().await?;
        let has_more = read.len() > limit.get();
        let mut entries: Vec<_> =
            read.iter().take(limit.get()).filter_map(documents::message).collect();
        if order == -1 {
            entries.reverse();
        }
        self.name_senders(&mut entries).await?;
        Ok(Page { entries, has_more, is_partial: false })
    }

    /// Stores messages, and their effects on their conversations. With `may_be_known`, existing
    /// messages are skipped.
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        mut messages: Vec<(&Message, &Conversation)>,
        may_be_known: bool,
    ) -> DriverResult<()> {
        if may_be_known && !messages.is_empty() {
            let known = self.known(session, &messages).await?;
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

    /// The ids of the existing ones of these messages.
    async fn known(
        &self,
        session: &mut ClientSession,
        messages: &[(&Message, &Conversation)],
    ) -> DriverResult<HashSet<MessageId>> {
        let ids: Vec<_> = messages.iter().map(|(message, _)| object_id(message.id)).collect();
        let filter = doc! { "_id": { "$in": ids } };
        let mut cursor =
            self.messages.find(filter).projection(doc! { "_id": 1 }).session(&mut *session).await?;
        let mut known = HashSet::new();
        while let Some(document) = cursor.next(session).await.transpose()? {
            known.extend(document.get("_id").and_then(documents::message_id));
        }
        Ok(known)
    }
}
