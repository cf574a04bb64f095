//! Questions, as MongoDB's queries. Each has its index.

use std::collections::{HashMap, HashSet};

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::error::Result;

use super::{
    super::documents::{self, either, key, object_id},
    Database,
};
use crate::{
    contract::{Id, LISTED_PARTICIPANTS, Message, PageLimit, Participant},
    storage::{Found, Lookup, Page, SentKey, Summary, Window},
};

impl Database {
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
