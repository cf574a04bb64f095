//! Read receipts: the readers of messages, and the messages that a user has still to read.

use std::collections::HashMap;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::{ClientSession, error::Result};

use super::{
    database::Database,
    documents::{self, date, either, key, object_id, unread_field},
};
use crate::{
    model::{Id, MessageId, Time},
    storage::{Lookup, Unread},
};

impl Database {
    /// The unread messages of the lookup, by conversation and reader.
    pub async fn find_unread(&self, lookup: &Lookup) -> Result<HashMap<(Id, Id), Unread>> {
        let named = lookup.unread.iter().map(|(key, ids)| (key, Some(ids.iter().copied())));
        let all = lookup.all_unread.iter().map(|key| (key, None));
        let mut found: HashMap<_, Unread> = HashMap::new();
        for (key, ids) in named.chain(all) {
            let (conversation, reader) = key;
            let filter = unread_by(reader, conversation, ids);
            let cursor = self.messages.find(filter).projection(doc! { "_id": 1 }).await?;
            let read: Vec<Document> = cursor.try_collect().await?;
            let ids =
                read.iter().filter_map(|document| documents::message_id(document.get("_id")?));
            found.entry(key.clone()).or_default().extend(ids);
        }
        Ok(found)
    }

    /// Adds `reader` to the readers of these messages, or of all up to `at`, and resets the unread
    /// count.
    pub async fn add_receipts(
        &self,
        session: &mut ClientSession,
        conversation: &Id,
        reader: &Id,
        ids: Option<&[MessageId]>,
        at: Time,
    ) -> Result<()> {
        if ids.is_none_or(|ids| !ids.is_empty()) {
            let mut filter = unread_by(reader, conversation, ids.map(|ids| ids.iter().copied()));
            if ids.is_none() {
                // Later messages were not there yet when the reader marked all.
                filter.insert("createdAt", doc! { "$lte": date(at) });
            }
            let receipt = doc! { "user": key(reader), "readAt": date(at) };
            let push = doc! { "$push": { "readBy": receipt } };
            self.messages.update_many(filter, push).session(&mut *session).await?;
        }
        let reset = doc! { "$set": { unread_field(reader): 0 } };
        self.conversations
            .update_one(doc! { "_id": key(conversation) }, reset)
            .session(session)
            .await?;
        Ok(())
    }
}

/// The messages of others in a conversation that `reader` has not read, all or those of `ids`.
fn unread_by(
    reader: &Id,
    conversation: &Id,
    ids: Option<impl Iterator<Item = MessageId>>,
) -> Document {
    let mut filter = doc! {
        "conversation": key(conversation),
        "sender": { "$nin": [key(reader), reader.as_str()] },
        "isDeleted": { "$ne": true },
        "$nor": [{ "readBy": either(reader) }, { "readBy.user": either(reader) }],
    };
    if let Some(ids) = ids {
        filter.insert("_id", doc! { "$in": ids.map(object_id).collect::<Vec<_>>() });
    }
    filter
}
