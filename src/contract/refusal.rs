//! The reasons to refuse an event: the codes of the contract, each with its sentence.

use std::{borrow::Cow, time::Duration};

use super::{conversations::MAX_ROOMS, messages::MAX_CONTENT_CHARS, users::MAX_SOCKETS_OF_USER};

/// The errors that a client may see. A refused event has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Names the field and the allowed values.
    InvalidPayload(String),
    UnknownEvent,
    Unauthenticated,
    /// The server requires a token, and the socket has none.
    TokenRequired,
    /// Gives the defect of the token, as far as a client may know it.
    InvalidToken(&'static str),
    IdentityMismatch,
    NotAParticipant,
    MessageEmpty,
    MessageTooLong,
    MessageNotFound,
    /// Too many events. The socket may send the next one after this time.
    RateLimited(Duration),
    /// The user has more sockets than a user needs.
    TooManySockets,
    StorageUnavailable,
    /// A fault of the server. The cause is logged where it occurs and is not shown.
    Internal,
}

impl Refusal {
    pub fn too_many_rooms() -> Self {
        let reason = format!("conversationId: a socket may be in at most {MAX_ROOMS} rooms");
        Self::InvalidPayload(reason)
    }

    /// Milliseconds after which the client may try again, if a wait is enough. Never 0.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited(wait) => Some(wait.as_millis() as u64 + 1),
            Self::TooManySockets => Some(60_000),
            _ => None,
        }
    }

    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidPayload(_) => "invalid_payload",
            Self::UnknownEvent => "unknown_event",
            Self::Unauthenticated | Self::TokenRequired => "unauthenticated",
            Self::InvalidToken(_) => "invalid_token",
            Self::IdentityMismatch => "identity_mismatch",
            Self::NotAParticipant => "not_a_participant",
            Self::MessageEmpty => "message_empty",
            Self::MessageTooLong => "message_too_long",
            Self::MessageNotFound => "message_not_found",
            Self::RateLimited(_) | Self::TooManySockets => "rate_limited",
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
            Self::TokenRequired => {
                "Connect with a token, or send authenticate with one first.".into()
            }
            Self::InvalidToken(reason) => (*reason).into(),
            Self::IdentityMismatch => "This socket belongs to another user.".into(),
            Self::NotAParticipant => "Not a participant of this conversation.".into(),
            Self::MessageEmpty => "A message needs more than white space.".into(),
            Self::MessageTooLong => {
                format!("A message has at most {MAX_CONTENT_CHARS} characters.").into()
            }
            Self::MessageNotFound => "The conversation has no such message.".into(),
            Self::RateLimited(_) => "Too many events. Wait before you send more.".into(),
            Self::TooManySockets => {
                let max = MAX_SOCKETS_OF_USER;
                format!("A user has at most {max} sockets: this one is closed.").into()
            }
            Self::StorageUnavailable => "The storage does not answer. Try again.".into(),
            Self::Internal => "Something went wrong on the server.".into(),
        }
    }
}
