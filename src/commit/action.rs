//! What events ask for, and what they have come to.

use std::sync::Arc;

use crate::{
    contract::{Id, Message, MessageId, PageLimit, Refusal, Time},
    storage::{Conversation, Profile, SentKey, Window},
};

/// What a socket's event asks for, by whom.
pub enum Action {
    Connect,
    Disconnect,
    Authenticate(Profile),
    Join {
        conversation: Id,
        user: Id,
        window: Window,
        limit: PageLimit,
    },
    Leave {
        conversation: Id,
    },
    Send(Draft),
    StartTyping {
        conversation: Id,
        recipient: Option<Id>,
        user: Id,
        name: Arc<str>,
    },
    StopTyping {
        conversation: Id,
        recipient: Option<Id>,
        user: Id,
    },
    MarkRead {
        conversation: Id,
        recipient: Option<Id>,
        reader: Id,
        /// Those that are named; one that no message can have is `None`.
        messages: Option<Vec<Option<MessageId>>>,
    },
    List {
        user: Id,
        before: Option<Id>,
        limit: PageLimit,
    },
    /// Refused already; only its answer has to take its place.
    Refuse(Refusal),
}

impl Action {
    /// Whether its answer has to be read from the storage.
    pub fn reads(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::List { .. })
    }
}

/// A message before it has its id and its time.
pub struct Draft {
    pub conversation: Id,
    pub recipient: Option<Id>,
    pub sender: Id,
    pub sender_name: Arc<str>,
    pub sender_avatar: Option<Arc<str>>,
    pub content: Arc<str>,
    pub client_message_id: Option<Id>,
}

/// What an accepted event has come to.
pub enum Effect {
    Connected,
    Disconnected,
    Authenticated(Profile),
    Joined {
        conversation: Id,
        /// What to read. Nothing of a conversation that was unknown: what it holds by the time of
        /// reading may not be for everybody who has joined.
        page: Option<(Window, PageLimit)>,
    },
    Left {
        conversation: Id,
    },
    Sent {
        message: Arc<Message>,
        audience: Conversation,
    },
    /// The message of a `clientMessageId` that was used before.
    SentBefore {
        message: Arc<Message>,
    },
    TypingStarted {
        conversation: Id,
        user: Id,
        name: Arc<str>,
        audience: Conversation,
    },
    TypingStopped {
        conversation: Id,
        user: Id,
    },
    MarkedRead {
        conversation: Id,
        reader: Id,
        messages: Vec<MessageId>,
        at: Time,
        audience: Conversation,
    },
    Listed {
        user: Id,
        before: Option<Id>,
        limit: PageLimit,
    },
}

impl Action {
    /// The conversation whose members have to be known.
    pub fn conversation(&self) -> Option<&Id> {
        match self {
            Self::Join { conversation, .. }
            | Self::Send(Draft { conversation, .. })
            | Self::StartTyping { conversation, .. }
            | Self::StopTyping { conversation, .. }
            | Self::MarkRead { conversation, .. } => Some(conversation),
            _ => None,
        }
    }
}

impl Draft {
    pub fn sent_key(&self) -> Option<SentKey> {
        Some(SentKey {
            conversation: self.conversation.clone(),
            sender: self.sender.clone(),
            client_message_id: self.client_message_id.clone()?,
        })
    }
}
