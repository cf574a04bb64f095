//! Messages: the payload of `send-message`, and the events that follow it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Payload, Refusal, ServerEvent, Text, users::MAX_NAME_CHARS};
use crate::model::{Id, MessageId};

/// The largest content of a message, in Unicode code points.
pub const MAX_CONTENT_CHARS: usize = 10_000;

/// `send-message`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    pub conversation_id: Id,
    pub recipient_id: Option<Id>,
    /// Not only white space, at most [`MAX_CONTENT_CHARS`].
    pub message: Arc<str>,
    pub sender_id: Option<Id>,
    pub sender_name: Option<Text<MAX_NAME_CHARS>>,
    /// The same id from the same sender in the same conversation is the same message.
    pub client_message_id: Option<Id>,
}

impl Payload for SendMessage {
    fn check(&self) -> Result<(), Refusal> {
        let content = &self.message;
        if content.chars().all(char::is_whitespace) {
            return Err(Refusal::MessageEmpty);
        }
        // A code point has at least a byte, so only a long text has to be counted.
        if content.len() > MAX_CONTENT_CHARS && content.chars().count() > MAX_CONTENT_CHARS {
            return Err(Refusal::MessageTooLong);
        }
        Ok(())
    }
}

/// The acknowledgement of `send-message`.
#[derive(Serialize)]
pub struct Sent<'a> {
    /// A message, already encoded.
    pub message: &'a RawValue,
}

/// A message, already encoded.
#[derive(Serialize)]
#[serde(transparent)]
pub struct ReceiveMessage<'a>(pub &'a RawValue);

impl ServerEvent for ReceiveMessage<'_> {
    const NAME: &'static str = "receive-message";
}

/// A message, already encoded.
#[derive(Serialize)]
#[serde(transparent)]
pub struct MessageSent<'a>(pub &'a RawValue);

impl ServerEvent for MessageSent<'_> {
    const NAME: &'static str = "message-sent";
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageDelivered {
    pub message_id: MessageId,
    pub status: Delivered,
}

impl ServerEvent for MessageDelivered {
    const NAME: &'static str = "message-delivered";
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivered {
    Delivered,
}
