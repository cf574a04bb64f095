//! Messages and their ids.

use std::{fmt, str::FromStr, sync::Arc};

use bson::oid::ObjectId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Id, Parsed, Time};

/// A message as every client sees it and as the outbox queues it.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// The users who have read the message, without its sender.
    pub read_by: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<Id>,
}

impl Message {
    /// The key under which a retry finds this message.
    pub fn sent_key(&self) -> Option<SentKey> {
        Some(SentKey {
            conversation: self.conversation_id.clone(),
            sender: self.sender_id.clone(),
            client_message_id: self.client_message_id.clone()?,
        })
    }
}

/// The key under which a sender's retry finds the message that was stored before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SentKey {
    pub conversation: Id,
    pub sender: Id,
    pub client_message_id: Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    Text,
}

impl MessageType {
    /// The type's name, on the wire and in MongoDB.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
        }
    }
}

impl FromStr for MessageType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        (text == Self::Text.as_str()).then_some(Self::Text).ok_or("this is no message type")
    }
}

impl Serialize for MessageType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MessageType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed::expecting("a message type"))
    }
}

/// A message's id: 24 lower-case hex digits on the wire. The server makes the ids so that they sort
/// in the order in which it accepted the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 12]);

impl MessageId {
    pub fn bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// An id for a message made at `time` that is greater than `last`. An ObjectId is a second,
    /// then its maker (`origin`), then a number. Within a second, or while the clock stands still
    /// or goes back, the next id counts on from `last`, which keeps the order.
    pub fn following(last: Option<Self>, time: Time, origin: [u8; 5]) -> Self {
        let second = u32::try_from(time.0 / 1000).unwrap_or(0).to_be_bytes();
        match last {
            Some(last) if second[..] <= last.0[..4] => {
                let mut next = last.0;
                for byte in next.iter_mut().rev() {
                    *byte = byte.wrapping_add(1);
                    if *byte != 0 {
                        break;
                    }
                }
                Self::from(next)
            }
            _ => {
                let mut bytes = [0; 12];
                bytes[..4].copy_from_slice(&second);
                bytes[4..9].copy_from_slice(&origin);
                Self::from(bytes)
            }
        }
    }

    /// The message that a client names by `id`. A client may name any id, but only one in the form
    /// of a message id can exist.
    pub fn named(id: &Id) -> Option<Self> {
        id.as_str().parse().ok()
    }
}

impl From<[u8; 12]> for MessageId {
    fn from(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }
}

impl FromStr for MessageId {
    type Err = &'static str;

    /// Reads the form in which the server writes ids; upper-case digits are refused.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = "a message id has 24 lower-case hex digits";
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(malformed);
        }
        ObjectId::parse_str(text).map(|id| Self(id.bytes())).map_err(|_| malformed)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ObjectId::from_bytes(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed::expecting("a message id"))
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_within_a_second_or_by_a_clock_that_goes_back_still_sort_by_creation() {
        let mut last = None;
        for time in [5_000, 5_001, 5_999, 6_000, 3_000, 6_001, 9_000].map(Time) {
            for _ in 0..1_000 {
                let next = MessageId::following(last, time, [7; 5]);
                assert!(last < Some(next), "{last:?} at {time:?}");
                last = Some(next);
            }
        }
    }

    #[test]
    fn an_id_counts_on_over_the_end_of_its_last_byte() {
        let last = MessageId::from([0, 0, 0, 9, 1, 1, 1, 1, 1, 7, 255, 255]);
        let next = MessageId::following(Some(last), Time(9_000), [7; 5]);
        assert_eq!(next, MessageId::from([0, 0, 0, 9, 1, 1, 1, 1, 1, 8, 0, 0]));
    }
}
