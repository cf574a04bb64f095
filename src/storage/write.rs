//! Changes as data: decided by events, applied by the engines, queued unchanged by the outbox.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{Conversation, Id, Kind, Message, MessageId, Profile, Time};

/// One change. The writes of a batch take effect in their order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Write {
    /// Updates a user's profile; missing fields stay the same.
    Profile(Profile),
    /// Creates a conversation; its first message follows.
    Conversation { id: Id, kind: Kind, participants: Vec<Id> },
    /// Adds users to an open room who are no participants yet.
    Participants { conversation: Id, users: Vec<Id> },
    /// Stores a message, makes it the conversation's last one, and, unless the conversation is
    /// open, raises the unread count of every participant but the sender.
    Message {
        message: Arc<Message>,
        /// The members, looked up anew when the outbox is written to the database.
        #[serde(skip, default = "nobody")]
        audience: Conversation,
    },
    /// Adds `reader` to the readers of these messages and resets the reader's unread count.
    Receipts {
        conversation: Id,
        reader: Id,
        messages: Vec<MessageId>,
        /// Whether the reader means the whole conversation, of which an outbox may know only a
        /// part.
        is_all: bool,
        at: Time,
    },
}

fn nobody() -> Conversation {
    Conversation::unknown(None)
}

impl Write {
    /// The conversation that changes.
    pub fn conversation(&self) -> Option<&Id> {
        match self {
            Self::Profile(_) => None,
            Self::Conversation { id, .. } => Some(id),
            Self::Participants { conversation, .. } | Self::Receipts { conversation, .. } => {
                Some(conversation)
            }
            Self::Message { message, .. } => Some(&message.conversation_id),
        }
    }

    /// The conversation whose pages of history change.
    pub fn touches(&self) -> Option<&Id> {
        match self {
            Self::Profile(_) | Self::Conversation { .. } | Self::Participants { .. } => None,
            Self::Message { message, .. } => Some(&message.conversation_id),
            Self::Receipts { conversation, messages, .. } => {
                (!messages.is_empty()).then_some(conversation)
            }
        }
    }

    /// The user who has to be a participant for the change to be allowed.
    pub fn author(&self) -> Option<&Id> {
        match self {
            Self::Profile(_) | Self::Conversation { .. } | Self::Participants { .. } => None,
            Self::Message { message, .. } => Some(&message.sender_id),
            Self::Receipts { reader, .. } => Some(reader),
        }
    }

    /// Whether success proves that the disk takes data. Other writes may find nothing to change.
    pub fn proves_disk(&self) -> bool {
        matches!(self, Self::Message { .. })
    }

    /// The same change with the members that its conversation has now.
    pub fn among(self, members: &Conversation) -> Self {
        match self {
            Self::Message { message, .. } => Self::Message { message, audience: members.clone() },
            other => other,
        }
    }
}

/// The database has come back since a batch was decided without it: one of its conversations may
/// have been taken for a new one. The batch has to be decided again.
#[derive(Debug)]
pub struct Stale;

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database has come back since this was decided")
    }
}

impl std::error::Error for Stale {}
