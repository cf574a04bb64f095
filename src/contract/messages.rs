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
        if content.chars().all(is_blank) {
            return Err(Refusal::MessageEmpty);
        }
        // A code point has at least a byte, so only a long text has to be counted.
        if content.len() > MAX_CONTENT_CHARS && content.chars().count() > MAX_CONTENT_CHARS {
            return Err(Refusal::MessageTooLong);
        }
        Ok(())
    }
}

/// Whether a character shows nothing: white space, a format or filler character (Unicode's
/// `Default_Ignorable_Code_Point`), or the blank of Braille.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str) -> Result<(), Refusal> {
        let payload = serde_json::json!({ "conversationId": "c1", "message": message });
        serde_json::from_value::<SendMessage>(payload).unwrap().check()
    }

    #[test]
    fn a_message_that_shows_nothing_is_empty() {
        for blank in
            ["", " \n\u{3000}", "\u{200b}", "\u{2800}\u{3164}", "\u{feff}\u{e0020}", "\u{fe0f}"]
        {
            assert_eq!(check(blank), Err(Refusal::MessageEmpty), "{blank:?}");
        }
        for seen in [".", "\u{200b}x", "🎉", "👩\u{200d}👩", "\u{0301}", "क\u{200d}"] {
            assert_eq!(check(seen), Ok(()), "{seen:?}");
        }
    }
}
