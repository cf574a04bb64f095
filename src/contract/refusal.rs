//! Why an event is refused: the codes of the contract, and the sentence that goes with each.

use std::borrow::Cow;

use crate::contract::{MAX_CONTENT_CHARS, MAX_MESSAGE_IDS};

/// What a client may see of an error. A refused event has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Names the field and what is allowed there.
    InvalidPayload(String),
    UnknownEvent,
    Unauthenticated,
    IdentityMismatch,
    NotAParticipant,
    MessageEmpty,
    MessageTooLong,
    MessageNotFound,
    StorageUnavailable,
    /// A fault of the server's own. The cause is logged where it is met and is not shown.
    Internal,
}

impl Refusal {
    pub fn too_many_message_ids() -> Self {
        Self::InvalidPayload(format!("messageIds: at most {MAX_MESSAGE_IDS} ids are allowed"))
    }

    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidPayload(_) => "invalid_payload",
            Self::UnknownEvent => "unknown_event",
            Self::Unauthenticated => "unauthenticated",
            Self::IdentityMismatch => "identity_mismatch",
            Self::NotAParticipant => "not_a_participant",
            Self::MessageEmpty => "message_empty",
            Self::MessageTooLong => "message_too_long",
            Self::MessageNotFound => "message_not_found",
            Self::StorageUnavailable => "storage_unavailable",
            Self::Internal => "internal",
        }
    }

    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidPayload(reason) => reason.into(),
            Self::UnknownEvent => "The server knows no event of this name.".into(),
            Self::Unauthenticated => {
                "Send authenticate first, or name the user in the event.".into()
            }
            Self::IdentityMismatch => "This socket belongs to another user.".into(),
            Self::NotAParticipant => "Not a participant of this conversation.".into(),
            Self::MessageEmpty => "A message needs more than white space.".into(),
            Self::MessageTooLong => {
                format!("A message has at most {MAX_CONTENT_CHARS} characters.").into()
            }
            Self::MessageNotFound => "The conversation has no such message.".into(),
            Self::StorageUnavailable => "The storage does not answer. Try again.".into(),
            Self::Internal => "Something went wrong on the server.".into(),
        }
    }
}
