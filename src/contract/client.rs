//! What clients send: one variant an event, decoded once from its name and its payload.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::{
    Id, MAX_CONTENT_CHARS, MAX_MESSAGE_IDS, MAX_TOKEN_CHARS, MessageId, PageLimit, Refusal, Text,
};

/// An event's name and its payload, as they came. Further arguments are ignored.
pub struct Incoming<'a> {
    pub name: &'a str,
    pub payload: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Incoming<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Arguments;

        impl<'de> de::Visitor<'de> for Arguments {
            type Value = Incoming<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with the event's name")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                mut arguments: A,
            ) -> Result<Self::Value, A::Error> {
                let name = arguments.next_element()?.ok_or(de::Error::invalid_length(0, &self))?;
                let payload = arguments.next_element()?;
                while arguments.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Incoming { name, payload })
            }
        }

        deserializer.deserialize_seq(Arguments)
    }
}

/// The events' names.
mod name {
    pub const AUTHENTICATE: &str = "authenticate";
    pub const JOIN_CONVERSATION: &str = "join-conversation";
    pub const LEAVE_CONVERSATION: &str = "leave-conversation";
    pub const SEND_MESSAGE: &str = "send-message";
    pub const TYPING_START: &str = "typing-start";
    pub const TYPING_STOP: &str = "typing-stop";
    pub const MARK_AS_READ: &str = "mark-as-read";
    pub const LIST_CONVERSATIONS: &str = "list-conversations";
}

/// What a client asks for. A field that may be left out may be `null` as well.
#[derive(Debug)]
pub enum ClientEvent {
    Authenticate(Authenticate),
    JoinConversation(JoinConversation),
    LeaveConversation(LeaveConversation),
    SendMessage(SendMessage),
    TypingStart(Typing),
    TypingStop(Typing),
    MarkAsRead(MarkAsRead),
    ListConversations(ListConversations),
}

/// Who the socket's user is.
#[derive(Debug, Deserialize)]
pub struct Authenticate {
    /// Needed where no token says it.
    pub id: Option<Id>,
    pub email: Option<Text<256>>,
    pub name: Option<Text<256>>,
    pub avatar: Option<Text<2048>>,
    pub token: Option<Text<MAX_TOKEN_CHARS>>,
}

/// At most one of `before` and `after` may be given, each the id of a message.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinConversation {
    pub conversation_id: Id,
    pub user_id: Option<Id>,
    pub before: Option<Id>,
    pub after: Option<Id>,
    pub limit: Option<PageLimit>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaveConversation {
    pub conversation_id: Id,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    pub conversation_id: Id,
    pub recipient_id: Option<Id>,
    /// Not only white space, at most 10,000 characters.
    pub message: String,
    pub sender_id: Option<Id>,
    pub sender_name: Option<Text<256>>,
    /// The same id from the same sender in the same conversation is the same message.
    pub client_message_id: Option<Id>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Typing {
    pub conversation_id: Id,
    pub recipient_id: Option<Id>,
    pub user_name: Option<Text<256>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkAsRead {
    pub conversation_id: Id,
    /// Without them, all messages of the conversation are meant.
    pub message_ids: Option<Vec<Id>>,
    pub user_id: Option<Id>,
    pub recipient_id: Option<Id>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListConversations {
    pub user_id: Option<Id>,
    /// The id of a conversation of the user's.
    pub before: Option<Id>,
    pub limit: Option<PageLimit>,
}

impl ClientEvent {
    /// Reads an event. A refusal says what is wrong with it.
    pub fn decode(incoming: &Incoming) -> Result<Self, Refusal> {
        let payload = incoming.payload;
        let event = match incoming.name {
            name::AUTHENTICATE => Self::Authenticate(read(payload)?),
            name::JOIN_CONVERSATION => Self::JoinConversation(read(payload)?),
            name::LEAVE_CONVERSATION => Self::LeaveConversation(read(payload)?),
            name::SEND_MESSAGE => Self::SendMessage(read(payload)?),
            name::TYPING_START => Self::TypingStart(read(payload)?),
            name::TYPING_STOP => Self::TypingStop(read(payload)?),
            name::MARK_AS_READ => Self::MarkAsRead(read(payload)?),
            name::LIST_CONVERSATIONS => Self::ListConversations(read(payload)?),
            _ => return Err(Refusal::UnknownEvent),
        };
        event.check()?;
        Ok(event)
    }

    /// Whether this is the name of the event that says who somebody is.
    pub fn is_authenticate(name: &str) -> bool {
        name == name::AUTHENTICATE
    }

    /// The name of an event, if the contract has it, else `unknown`.
    pub fn known_name(name: &str) -> &'static str {
        const ALL: [&str; 8] = [
            name::AUTHENTICATE,
            name::JOIN_CONVERSATION,
            name::LEAVE_CONVERSATION,
            name::SEND_MESSAGE,
            name::TYPING_START,
            name::TYPING_STOP,
            name::MARK_AS_READ,
            name::LIST_CONVERSATIONS,
        ];
        ALL.into_iter().find(|known| *known == name).unwrap_or("unknown")
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Authenticate(_) => name::AUTHENTICATE,
            Self::JoinConversation(_) => name::JOIN_CONVERSATION,
            Self::LeaveConversation(_) => name::LEAVE_CONVERSATION,
            Self::SendMessage(_) => name::SEND_MESSAGE,
            Self::TypingStart(_) => name::TYPING_START,
            Self::TypingStop(_) => name::TYPING_STOP,
            Self::MarkAsRead(_) => name::MARK_AS_READ,
            Self::ListConversations(_) => name::LIST_CONVERSATIONS,
        }
    }

    /// What the types alone do not say.
    fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::SendMessage(event) => {
                let content = &event.message;
                if content.chars().all(char::is_whitespace) {
                    return Err(Refusal::MessageEmpty);
                }
                // A code point has at least a byte: only a long text has to be counted.
                if content.len() > MAX_CONTENT_CHARS && content.chars().count() > MAX_CONTENT_CHARS
                {
                    return Err(Refusal::MessageTooLong);
                }
            }
            Self::JoinConversation(event) if event.before.is_some() && event.after.is_some() => {
                let reason = "before: only one of before and after may be given";
                return Err(Refusal::InvalidPayload(reason.into()));
            }
            Self::MarkAsRead(event)
                if event.message_ids.as_ref().is_some_and(|ids| ids.len() > MAX_MESSAGE_IDS) =>
            {
                return Err(Refusal::too_many_message_ids());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The message that a client names by `id`. Any id may be asked for; only one in the form of a
/// message id can be found.
pub fn message_named(id: &Id) -> Option<MessageId> {
    id.as_str().parse().ok()
}

fn read<'a, T: Deserialize<'a>>(payload: Option<&'a RawValue>) -> Result<T, Refusal> {
    // A payload that was left out has no fields.
    let payload = payload.map(RawValue::get).filter(|json| *json != "null").unwrap_or("{}");
    if !payload.starts_with('{') {
        // Serde would take an array for an object, field by field.
        return Err(Refusal::InvalidPayload("The payload must be an object.".into()));
    }
    serde_json::from_str(payload).map_err(|_| {
        // Finding the path costs, so it is left to the payloads that do not fit.
        let mut json = serde_json::Deserializer::from_str(payload);
        let error = serde_path_to_error::deserialize::<_, T>(&mut json).err();
        Refusal::InvalidPayload(error.as_ref().map_or_else(String::new, describe))
    })
}

/// `field: what is wrong with it`, short enough to be sent back whatever was sent.
fn describe(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    const LONGEST: usize = 200;

    let reason = error.inner().to_string();
    let reason = reason.rsplit_once(" at line ").map_or(&*reason, |(reason, _)| reason);
    let path = error.path().to_string();
    let text = if path == "." { reason.into() } else { format!("{path}: {reason}") };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
