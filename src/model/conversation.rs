//! Conversations and their rules: the participants, and the permission to join.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Id;

/// The kind of a conversation, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Between its participants, usually two. No other user may take part.
    Direct,
    /// Between its participants as `Direct` is, with a name and roles.
    Group,
    /// Anybody may join, and becomes a participant by it. An open room has no unread counts.
    Open,
}

impl Kind {
    /// The kind of a conversation of which a storage says only whether it is open.
    pub fn from_is_open(is_open: bool) -> Self {
        if is_open { Self::Open } else { Self::Direct }
    }

    pub fn is_open(self) -> bool {
        self == Self::Open
    }
}

/// The permissions of a participant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Member,
}

/// A conversation's kind and its participants. A clone shares the participants.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    pub kind: Kind,
    participants: Arc<HashMap<Id, Role>>,
}

impl Conversation {
    pub fn new(kind: Kind, participants: impl IntoIterator<Item = Id>) -> Self {
        let participants = participants.into_iter().map(|user| (user, Role::default()));
        Self { kind, participants: Arc::new(participants.collect()) }
    }

    /// Stands for a conversation that has not begun. An event there reaches all sockets in the
    /// room, and the event's recipient.
    pub fn unknown(recipient: Option<&Id>) -> Self {
        Self::new(Kind::Open, recipient.cloned())
    }

    pub fn is_open(&self) -> bool {
        self.kind.is_open()
    }

    pub fn has(&self, user: &Id) -> bool {
        self.participants.contains_key(user)
    }

    /// The participants, in no order.
    pub fn participants(&self) -> impl Iterator<Item = &Id> {
        self.participants.keys()
    }

    /// The number of participants.
    pub fn size(&self) -> usize {
        self.participants.len()
    }

    /// Whether `user` may take part and address `recipient` here.
    pub fn admits(&self, user: &Id, recipient: Option<&Id>) -> bool {
        self.is_open() || (self.has(user) && recipient.is_none_or(|recipient| self.has(recipient)))
    }

    /// Adds `users` and returns the ones that were no participants before.
    pub fn add<'a>(&mut self, users: impl IntoIterator<Item = &'a Id>) -> Vec<Id> {
        let mut added = Vec::new();
        for user in users {
            if !self.has(user) {
                Arc::make_mut(&mut self.participants).insert(user.clone(), Role::default());
                added.push(user.clone());
            }
        }
        added
    }
}
