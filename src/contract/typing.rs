//! Typing indicators.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Payload, ServerEvent, Text, users::MAX_NAME_CHARS};
use crate::model::Id;

/// Typing ends by itself after this long without a renewal.
pub const TYPING_LASTS: Duration = Duration::from_secs(6);

/// `typing-start`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypingStart {
    pub conversation_id: Id,
    pub recipient_id: Option<Id>,
    pub user_name: Option<Text<MAX_NAME_CHARS>>,
}

impl Payload for TypingStart {}

/// `typing-stop`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypingStop {
    pub conversation_id: Id,
    pub recipient_id: Option<Id>,
}

impl Payload for TypingStop {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserTyping<'a> {
    pub conversation_id: &'a Id,
    pub user_id: &'a Id,
    pub user_name: &'a str,
    pub is_typing: bool,
}

impl ServerEvent for UserTyping<'_> {
    const NAME: &'static str = "user-typing";
}
