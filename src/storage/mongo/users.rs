//! The other backend's users: this server reads their names, and writes their status.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::error::Result as DriverResult;

use super::{
    Mongo,
    database::Database,
    documents::{self, date, key},
};
use crate::{
    model::{Id, Message, Participant},
    storage::outbox::UserStatus,
};

impl Mongo {
    /// Fills the names that only this server knows: the other backend does not have these users,
    /// but they gave their names here.
    pub async fn add_profiles(&self, mut participants: Vec<&mut Participant>) -> Result<()> {
        participants.retain(|participant| participant.name.is_none());
        if participants.is_empty() {
            return Ok(());
        }
        let users: Vec<_> = participants.iter().map(|participant| participant.id.clone()).collect();
        let profiles = self.link.with_outbox(move |outbox| outbox.profiles(&users)).await?;
        for participant in participants {
            if let Some(profile) = profiles.get(&participant.id) {
                participant.name = profile.name.clone();
                participant.avatar = participant.avatar.take().or(profile.avatar.clone());
            }
        }
        Ok(())
    }
}

impl Database {
    /// Writes a user's status for the other backend. An unknown user is skipped, and a user on
    /// another server's socket does not go offline.
    pub async fn set_status(&self, status: &UserStatus) -> DriverResult<()> {
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

    /// Fills the names and avatars that messages lack, with one query for all of them.
    pub async fn name_senders(&self, messages: &mut [Message]) -> DriverResult<()> {
        let nameless = messages.iter().filter(|message| message.sender_name.is_empty());
        let users = self.find_users(nameless.map(|message| &message.sender_id)).await?;
        for message in messages.iter_mut().filter(|message| message.sender_name.is_empty()) {
            let user = users.get(&message.sender_id);
            let text = |field| user.and_then(|user| user.get_str(field).ok());
            message.sender_name = text("name").unwrap_or(message.sender_id.as_str()).into();
            if message.sender_avatar.is_none() {
                message.sender_avatar = text("avatar").map(Into::into);
            }
        }
        Ok(())
    }

    /// Fills the names and avatars of participants, with one query for all of them.
    pub async fn name_participants<'a>(
        &self,
        participants: impl Iterator<Item = &'a mut Participant>,
    ) -> DriverResult<()> {
        let mut participants: Vec<_> = participants.collect();
        let users = self.find_users(participants.iter().map(|participant| &participant.id)).await?;
        for participant in &mut participants {
            if let Some(user) = users.get(&participant.id) {
                participant.name = user.get_str("name").ok().map(Into::into);
                participant.avatar = user.get_str("avatar").ok().map(Into::into);
            }
        }
        Ok(())
    }

    async fn find_users<'a>(
        &self,
        users: impl Iterator<Item = &'a Id>,
    ) -> DriverResult<HashMap<Id, Document>> {
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
