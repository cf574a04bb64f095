//! Read receipts.

use serde::{Deserialize, Serialize};

use super::{Payload, Refusal, ServerEvent};
use crate::model::{Id, MessageId, Time};

/// The number of message ids that one `mark-as-read` may name, and that one `messages-read` has.
pub const MAX_MESSAGE_IDS: usize = 1_000;

/// `mark-as-read`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkAsRead {
    pub conversation_id: Id,
    /// The messages to mark. Without them, all messages of the conversation.
    pub message_ids: Option<Vec<Id>>,
    pub user_id: Option<Id>,
    pub recipient_id: Option<Id>,
}

impl Payload for MarkAsRead {
    fn check(&self) -> Result<(), Refusal> {
        if self.message_ids.as_ref().is_some_and(|ids| ids.len() > MAX_MESSAGE_IDS) {
            let reason = format!("messageIds: at most {MAX_MESSAGE_IDS} ids are allowed");
            return Err(Refusal::InvalidPayload(reason));
        }
        Ok(())
    }
}

/// The acknowledgement of `mark-as-read`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkedAsRead<'a> {
    /// The messages that are newly read.
    pub message_ids: &'a [MessageId],
    pub read_at: Time,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessagesRead<'a> {
    pub conversation_id: &'a Id,
    pub message_ids: &'a [MessageId],
    /// The reader.
    pub read_by: &'a Id,
    pub read_at: Time,
}

impl ServerEvent for MessagesRead<'_> {
    const NAME: &'static str = "messages-read";
}
