//! Users, and conversations as a user's list shows them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Id, Kind, Message};

/// A user as `authenticate` described them. `None` means that the client gave no value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub id: Id,
    pub name: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub avatar: Option<Arc<str>>,
}

/// A participant of a conversation; `None` is unknown.
#[derive(Clone, Debug, Serialize)]
pub struct Participant {
    pub id: Id,
    pub name: Option<Arc<str>>,
    pub avatar: Option<Arc<str>>,
    /// Storages do not know the presence of users and set `false`.
    pub online: bool,
}

impl Participant {
    /// A participant of whom only the id is known.
    pub fn unknown(id: Id) -> Self {
        Self { id, name: None, avatar: None, online: false }
    }
}

/// A conversation in a user's list.
#[derive(Debug)]
pub struct Summary {
    pub id: Id,
    pub kind: Kind,
    pub participants: Vec<Participant>,
    pub last_message: Option<Message>,
    /// Messages of others since the user last marked the conversation read; 0 in an open room.
    pub unread_count: u64,
}
