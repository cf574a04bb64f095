//! Entering and leaving the room of a conversation, its history, and a user's list.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Payload, Refusal, ServerEvent};
use crate::model::{Id, Message, PageLimit, Participant};

/// The number of rooms that a socket may be in.
pub const MAX_ROOMS: usize = 1_000;

/// The size of a page of history without a `limit`.
pub const HISTORY_PAGE: PageLimit = PageLimit::new(100);

/// The size of a page of the list without a `limit`.
pub const CONVERSATIONS_PAGE: PageLimit = PageLimit::new(50);

/// The most participants of an open room that `conversation-list` shows.
pub const LISTED_PARTICIPANTS: usize = 20;

/// The most participants that `list-participants` returns.
pub const TOLD_PARTICIPANTS: usize = 1_000;

/// `join-conversation`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinConversation {
    pub conversation_id: Id,
    pub user_id: Option<Id>,
    /// The id of a message; not together with `after`.
    pub before: Option<Id>,
    /// The id of a message; not together with `before`.
    pub after: Option<Id>,
    pub limit: Option<PageLimit>,
}

impl Payload for JoinConversation {
    fn check(&self) -> Result<(), Refusal> {
        if self.before.is_some() && self.after.is_some() {
            let reason = "before: only one of before and after may be given";
            return Err(Refusal::InvalidPayload(reason.into()));
        }
        Ok(())
    }
}

/// `leave-conversation`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaveConversation {
    pub conversation_id: Id,
}

impl Payload for LeaveConversation {}

/// `list-conversations`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListConversations {
    pub user_id: Option<Id>,
    /// The id of a conversation of the user's list.
    pub before: Option<Id>,
    pub limit: Option<PageLimit>,
}

impl Payload for ListConversations {}

/// `list-participants`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListParticipants {
    pub conversation_id: Id,
    pub user_id: Option<Id>,
}

impl Payload for ListParticipants {}

/// The acknowledgement of `list-participants`.
#[derive(Serialize)]
pub struct ParticipantList {
    /// The participants in the order of their arrival, at most [`TOLD_PARTICIPANTS`].
    pub participants: Vec<Participant>,
}

/// `conversation-history`, and the acknowledgement of `join-conversation`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationHistory<'a> {
    pub conversation_id: &'a Id,
    /// An array of [`Message`], the oldest first.
    pub messages: &'a RawValue,
    pub has_more: bool,
    /// Present only while the database is away.
    #[serde(skip_serializing_if = "is_false")]
    pub partial: bool,
}

impl ServerEvent for ConversationHistory<'_> {
    const NAME: &'static str = "conversation-history";
}

/// `conversation-list`, and the acknowledgement of `list-conversations`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationList<'a> {
    /// An array of [`ListedConversation`], the most recently active first.
    pub conversations: &'a RawValue,
    pub has_more: bool,
}

impl ServerEvent for ConversationList<'_> {
    const NAME: &'static str = "conversation-list";
}

/// An entry of `conversation-list`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedConversation {
    pub conversation_id: Id,
    pub is_open: bool,
    pub participants: Vec<Participant>,
    pub last_message: Option<Message>,
    /// Messages of others since the user last marked the conversation read; 0 in an open room.
    pub unread_count: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}
