//! What clients receive: server events and acknowledgements.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Id, MessageId, Refusal, Time};

/// A message as every client sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub id: MessageId,
    pub conversation_id: Id,
    pub content: Arc<str>,
    pub sender_id: Id,
    pub sender_name: Arc<str>,
    pub sender_avatar: Option<Arc<str>>,
    pub timestamp: Time,
    pub r#type: MessageType,
    /// The users who have read it, its sender not among them.
    pub read_by: Vec<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<Id>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    Text,
}

/// A user; what is unknown is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct User {
    pub id: Id,
    pub name: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub avatar: Option<Arc<str>>,
    pub online: bool,
}

/// A user as an entry of a conversation in `conversation-list`.
#[derive(Clone, Debug, Serialize)]
pub struct Participant {
    pub id: Id,
    pub name: Option<Arc<str>>,
    pub avatar: Option<Arc<str>>,
    pub online: bool,
}

/// An entry of `conversation-list`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationSummary {
    pub conversation_id: Id,
    pub is_open: bool,
    pub participants: Vec<Participant>,
    pub last_message: Option<Message>,
    /// Messages of others since the user last marked the conversation read; 0 in an open room.
    pub unread_count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Online,
    Offline,
}

/// An event for clients: the variant gives the name and the payload, so the two cannot drift
/// apart. Payloads that several events and acknowledgements share are encoded once, before.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum ServerEvent<'a> {
    /// An array of [`User`].
    OnlineUsers(&'a RawValue),
    UserStatusChange {
        user_id: &'a Id,
        status: Status,
        timestamp: Time,
        /// Only when the user went offline.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_seen: Option<Time>,
    },
    ConversationHistory {
        conversation_id: &'a Id,
        /// An array of [`Message`], the oldest first.
        messages: &'a RawValue,
        has_more: bool,
        #[serde(skip_serializing_if = "is_false")]
        partial: bool,
    },
    ConversationList {
        /// An array of [`ConversationSummary`], the most recently active first.
        conversations: &'a RawValue,
        has_more: bool,
    },
    /// A [`Message`].
    ReceiveMessage(&'a RawValue),
    /// A [`Message`].
    MessageSent(&'a RawValue),
    MessageDelivered {
        message_id: MessageId,
        status: Delivered,
    },
    MessagesRead {
        conversation_id: &'a Id,
        message_ids: &'a [MessageId],
        read_by: &'a Id,
        read_at: Time,
    },
    UserTyping {
        conversation_id: &'a Id,
        user_id: &'a Id,
        user_name: &'a str,
        is_typing: bool,
    },
    Error {
        code: &'static str,
        message: &'a str,
        /// The event that was refused; `null` if the socket itself is put out.
        event: Option<&'a str>,
        /// Only with `rate_limited`.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivered {
    Delivered,
}

impl<'a> ServerEvent<'a> {
    /// Tells of the event that was refused.
    pub fn refused(refusal: &Refusal, message: &'a str, event: Option<&'a str>) -> Self {
        let (code, retry_after_ms) = (refusal.code(), refusal.retry_after_ms());
        Self::Error { code, message, event, retry_after_ms }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::OnlineUsers(_) => "online-users",
            Self::UserStatusChange { .. } => "user-status-change",
            Self::ConversationHistory { .. } => "conversation-history",
            Self::ConversationList { .. } => "conversation-list",
            Self::ReceiveMessage(_) => "receive-message",
            Self::MessageSent(_) => "message-sent",
            Self::MessageDelivered { .. } => "message-delivered",
            Self::MessagesRead { .. } => "messages-read",
            Self::UserTyping { .. } => "user-typing",
            Self::Error { .. } => "error",
        }
    }

    pub fn encode(&self) -> Packet {
        Packet { event: self.name(), payload: encode(self) }
    }
}

/// A server event encoded once, for any number of receivers.
pub struct Packet {
    pub event: &'static str,
    pub payload: Box<RawValue>,
}

/// The answer to an event that carried a callback.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Ack<'a> {
    Done {
        ok: bool,
    },
    User {
        ok: bool,
        user: &'a RawValue,
    },
    Joined {
        ok: bool,
        conversation_id: &'a Id,
        messages: &'a RawValue,
        has_more: bool,
        #[serde(skip_serializing_if = "is_false")]
        partial: bool,
    },
    Sent {
        ok: bool,
        message: &'a RawValue,
    },
    Read {
        ok: bool,
        message_ids: &'a [MessageId],
        read_at: Time,
    },
    Listed {
        ok: bool,
        conversations: &'a RawValue,
        has_more: bool,
    },
    Refused {
        ok: bool,
        error: AckError<'a>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AckError<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl<'a> Ack<'a> {
    pub fn refused(refusal: &Refusal, message: &'a str) -> Self {
        let (code, retry_after_ms) = (refusal.code(), refusal.retry_after_ms());
        Self::Refused { ok: false, error: AckError { code, message, retry_after_ms } }
    }
}

/// The JSON of a value of this module.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("wire types have string keys and times within the calendar")
}

/// `partial` is there only while the database is away.
fn is_false(value: &bool) -> bool {
    !value
}
