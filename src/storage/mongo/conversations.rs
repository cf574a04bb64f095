//! Conversations, their participants, and a user's list.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::{ClientSession, error::Result as DriverResult};

use super::{
    Mongo,
    database::Database,
    documents::{self, date, either, key, object_id, unread_field},
};
use crate::{
    model::{Conversation, Id, Kind, Message, Page, PageLimit, Participant, Summary},
    storage::sqlite,
};

impl Mongo {
    pub async fn conversations_of(
        &self,
        user: Id,
        before: Option<Id>,
        limit: PageLimit,
        shown: usize,
    ) -> Result<Option<Page<Summary>>> {
        let asking = self.link.database.conversations_of(&user, before.as_ref(), limit, shown);
        let (id, cursor) = (user.clone(), before.clone());
        let page = self.ask(asking, move |outbox| {
            sqlite::conversations::list(outbox, &id, cursor.as_ref(), limit, shown)
        });
        let Some(mut page) = page.await? else { return Ok(None) };
        let participants = page.entries.iter_mut().flat_map(|entry| &mut entry.participants);
        self.add_profiles(participants.collect()).await?;
        Ok(Some(page))
    }

    pub async fn participants_of(
        &self,
        conversation: Id,
        limit: usize,
    ) -> Result<Vec<Participant>> {
        let asking = self.link.database.participants_of(&conversation, limit);
        let id = conversation.clone();
        let participants =
            self.ask(asking, move |outbox| sqlite::conversations::participants(outbox, &id, limit));
        let mut participants = participants.await?;
        self.add_profiles(participants.iter_mut().collect()).await?;
        Ok(participants)
    }
}

impl Database {
    pub async fn find_conversations(
        &self,
        ids: &HashSet<Id>,
    ) -> DriverResult<HashMap<Id, Conversation>> {
        let mut found = HashMap::new();
        if ids.is_empty() {
            return Ok(found);
        }
        let ids: Vec<_> = ids.iter().map(key).collect();
        let mut cursor = self.conversations.find(doc! { "_id": { "$in": ids } }).await?;
        while let Some(document) = cursor.try_next().await? {
            found.extend(documents::conversation(&document));
        }
        Ok(found)
    }

    /// Creates a conversation, unless it exists.
    pub async fn begin(
        &self,
        session: &mut ClientSession,
        id: &Id,
        kind: Kind,
        participants: &[Id],
    ) -> DriverResult<()> {
        let insert = documents::new_conversation(kind, participants.iter(), Document::new());
        self.conversations
            .update_one(doc! { "_id": key(id) }, doc! { "$setOnInsert": insert })
            .upsert(true)
            .session(session)
            .await?;
        Ok(())
    }

    pub async fn add_participants(
        &self,
        session: &mut ClientSession,
        conversation: &Id,
        users: &[Id],
    ) -> DriverResult<()> {
        let users: Vec<_> = users.iter().map(key).collect();
        let update = doc! { "$addToSet": { "participants": { "$each": users } } };
        // The conversation may turn out to be no open room.
        let filter = doc! { "_id": key(conversation), "isOpen": true };
        self.conversations.update_one(filter, update).session(session).await?;
        Ok(())
    }

    pub async fn conversations_of(
        &self,
        user: &Id,
        before: Option<&Id>,
        limit: PageLimit,
        shown: usize,
    ) -> DriverResult<Option<Page<Summary>>> {
        let mut filter = doc! { "participants": either(user) };
        if let Some(before) = before {
            let Some(behind) = self.behind(user, before).await? else { return Ok(None) };
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
            read.iter().filter_map(|document| summary(document, user, shown)).collect();
        for entry in &mut entries {
            entry.last_message = last.remove(&entry.id);
        }
        self.name_participants(entries.iter_mut().flat_map(|entry| &mut entry.participants))
            .await?;
        Ok(Some(Page { entries, has_more, is_partial: false }))
    }

    /// The first participants, in their order in the document.
    pub async fn participants_of(
        &self,
        conversation: &Id,
        limit: usize,
    ) -> DriverResult<Vec<Participant>> {
        let projection = doc! { "participants": 1 };
        let document = self
            .conversations
            .find_one(doc! { "_id": key(conversation) })
            .projection(projection)
            .await?;
        let participants = document.as_ref().map(documents::participants).unwrap_or_default();
        let mut participants: Vec<_> =
            participants.into_iter().take(limit).map(Participant::unknown).collect();
        self.name_participants(participants.iter_mut()).await?;
        Ok(participants)
    }

    /// The filter for the conversations after `before` in the user's list; `None` if it is not in
    /// the list.
    async fn behind(&self, user: &Id, before: &Id) -> DriverResult<Option<Vec<Document>>> {
        let mine = doc! { "_id": key(before), "participants": either(user) };
        let Some(known) = self.conversations.find_one(mine).await? else { return Ok(None) };
        let at = known.get("lastMessageAt").cloned().unwrap_or(Bson::Null);
        let same = doc! { "lastMessageAt": &at, "_id": { "$lt": key(before) } };
        let mut behind = vec![doc! { "lastMessageAt": { "$lt": &at } }, same];
        if at != Bson::Null {
            // Conversations without a date come last, and are not less than one.
            behind.push(doc! { "lastMessageAt": null });
        }
        Ok(Some(behind))
    }

    async fn last_messages(
        &self,
        conversations: &[Document],
    ) -> DriverResult<HashMap<Id, Message>> {
        let ids: Vec<_> =
            conversations.iter().filter_map(|document| document.get("lastMessage")).collect();
        let filter = doc! { "_id": { "$in": ids }, "isDeleted": { "$ne": true } };
        let read: Vec<Document> = self.messages.find(filter).await?.try_collect().await?;
        let mut messages: Vec<_> = read.iter().filter_map(documents::message).collect();
        self.name_senders(&mut messages).await?;
        Ok(messages.into_iter().map(|message| (message.conversation_id.clone(), message)).collect())
    }
}

fn summary(document: &Document, user: &Id, shown: usize) -> Option<Summary> {
    let (id, conversation) = documents::conversation(document)?;
    let is_open = conversation.is_open();
    let shown = if is_open { shown } else { usize::MAX };
    let participants = documents::participants(document).into_iter().take(shown);
    Some(Summary {
        id,
        kind: conversation.kind,
        participants: participants.map(Participant::unknown).collect(),
        last_message: None,
        unread_count: if is_open { 0 } else { documents::unread_count(document, user) },
    })
}

/// The changes of conversations by messages: for each, the number of further unread messages by
/// user, and the last message, unless a later one of another server is there already.
pub fn activity(messages: &[(&Message, &Conversation)]) -> Vec<Document> {
    let mut by_conversation: HashMap<&Id, Vec<(&Message, &Conversation)>> = HashMap::new();
    for (message, conversation) in messages {
        by_conversation.entry(&message.conversation_id).or_default().push((message, conversation));
    }
    let mut updates = Vec::new();
    for (id, messages) in by_conversation {
        let (last, conversation) = messages.last().expect("there is at least one");
        let at = date(last.timestamp);
        if !conversation.is_open() {
            let mut unread = Document::new();
            for user in conversation.participants() {
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
