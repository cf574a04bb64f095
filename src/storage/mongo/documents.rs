//! The shapes that this server shares with a Mongoose backend.
//!
//! Documents of the other backend are read leniently: any optional field may be missing, ids may
//! be ObjectIds or strings, `readBy` may hold users or `{ user, readAt }`.

use std::sync::Arc;

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};

use crate::model::{Conversation, Id, Kind, Message, MessageId, MessageType, Time};

/// An id as it is stored: 24 lower-case hex digits are an ObjectId, anything else the string.
pub fn key(id: &Id) -> Bson {
    match id.as_str().parse::<MessageId>() {
        Ok(id) => Bson::ObjectId(object_id(id)),
        Err(_) => Bson::String(id.as_str().into()),
    }
}

/// Both forms in which another backend may have stored an id.
pub fn either(id: &Id) -> Document {
    doc! { "$in": [key(id), id.as_str()] }
}

pub fn object_id(id: MessageId) -> ObjectId {
    ObjectId::from_bytes(*id.bytes())
}

pub fn date(time: Time) -> DateTime {
    DateTime::from_millis(time.0)
}

/// A user's name as a field. Dots and dollars would be paths and operators there.
fn field(user: &Id) -> String {
    user.as_str().replace('%', "%25").replace('.', "%2E").replace('$', "%24")
}

/// The path of a user's unread count.
pub fn unread_field(user: &Id) -> String {
    format!("unreadCount.{}", field(user))
}

/// The unread counts of a conversation that are not 0.
pub fn unread_counts<'a>(counts: impl Iterator<Item = (&'a Id, u64)>) -> Document {
    let counts = counts.filter(|(_, count)| *count > 0);
    counts.map(|(user, count)| (field(user), Bson::Int32(count as i32))).collect()
}

/// A user's unread count in a conversation.
pub fn unread_count(conversation: &Document, user: &Id) -> u64 {
    let counts = conversation.get_document("unreadCount").ok();
    match counts.and_then(|counts| counts.get(field(user))) {
        Some(Bson::Int32(count)) => (*count).try_into().unwrap_or(0),
        Some(Bson::Int64(count)) => (*count).try_into().unwrap_or(0),
        Some(Bson::Double(count)) => *count as u64,
        _ => 0,
    }
}

pub fn id(value: &Bson) -> Option<Id> {
    match value {
        Bson::ObjectId(id) => id.to_hex().parse().ok(),
        Bson::String(id) => id.parse().ok(),
        _ => None,
    }
}

pub fn message_id(value: &Bson) -> Option<MessageId> {
    value.as_object_id().map(|id| MessageId::from(id.bytes()))
}

pub fn conversation(document: &Document) -> Option<(Id, Conversation)> {
    let conversation = Conversation::new(kind(document), participants(document));
    Some((id(document.get("_id")?)?, conversation))
}

/// A backend that knows no open rooms writes no `isOpen`, one without groups no `isGroup`.
pub fn kind(conversation: &Document) -> Kind {
    let says = |field| conversation.get_bool(field).unwrap_or(false);
    match (says("isOpen"), says("isGroup")) {
        (true, _) => Kind::Open,
        (false, true) => Kind::Group,
        (false, false) => Kind::Direct,
    }
}

/// A conversation that begins now, as Mongoose would store it. `unread` has the unread counts.
pub fn new_conversation<'a>(
    kind: Kind,
    participants: impl Iterator<Item = &'a Id>,
    unread: Document,
) -> Document {
    let now = date(Time::now());
    doc! {
        "participants": participants.map(key).collect::<Vec<_>>(),
        "isOpen": kind.is_open(), "unreadCount": unread, "createdAt": now, "updatedAt": now, "__v": 0,
    }
}

/// The participants, in their order in the document.
pub fn participants(conversation: &Document) -> Vec<Id> {
    conversation.get_array("participants").into_iter().flatten().filter_map(id).collect()
}

/// A message. Values that it lacks come from `users` later: until then its sender's name is empty,
/// its avatar `None`.
pub fn message(document: &Document) -> Option<Message> {
    let text = |field| document.get_str(field).ok().map(Arc::<str>::from);
    let message_id = message_id(document.get("_id")?)?;
    let created_at = document.get_datetime("createdAt").ok().copied();
    Some(Message {
        id: message_id,
        conversation_id: id(document.get("conversation")?)?,
        content: text("content").unwrap_or_default(),
        sender_id: id(document.get("sender")?)?,
        sender_name: text("senderName").unwrap_or_default(),
        sender_avatar: text("senderAvatar"),
        timestamp: time(created_at.unwrap_or_else(|| object_id(message_id).timestamp())),
        r#type: MessageType::Text,
        read_by: readers(document),
        client_message_id: document.get_str("clientMessageId").ok().and_then(|id| id.parse().ok()),
    })
}

/// A date within the years that ISO 8601 writes with four digits: dates in MongoDB go further.
fn time(date: DateTime) -> Time {
    const YEAR_1: i64 = -62_135_596_800_000;
    // A day before the end of the year, so that it is in that year in every time zone.
    const END_OF_YEAR_9999: i64 = 253_402_207_200_000;
    Time(date.timestamp_millis().clamp(YEAR_1, END_OF_YEAR_9999))
}

fn readers(message: &Document) -> Vec<Id> {
    let entries = message.get_array("readBy").into_iter().flatten();
    let mut readers = Vec::new();
    for entry in entries {
        let user = entry.as_document().map_or(Some(entry), |receipt| receipt.get("user"));
        if let Some(reader) = user.and_then(id)
            && !readers.contains(&reader)
        {
            readers.push(reader);
        }
    }
    readers
}

/// A message as Mongoose would store it.
pub fn from_message(message: &Message) -> Document {
    let mut document = doc! {
        "_id": object_id(message.id),
        "conversation": key(&message.conversation_id),
        "sender": key(&message.sender_id),
        "senderName": &*message.sender_name,
        "senderAvatar": message.sender_avatar.as_deref(),
        "content": &*message.content,
        "type": message.r#type.as_str(),
        "readBy": [],
        "isDeleted": false,
        "createdAt": date(message.timestamp),
        "updatedAt": date(message.timestamp),
        "__v": 0,
    };
    if let Some(id) = &message.client_message_id {
        document.insert("clientMessageId", id.as_str());
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "65f0aaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn every_id_comes_back_as_it_was() {
        for text in [HEX, "65F0AAAAAAAAAAAAAAAAAAAA", "a.b", "$set", "🎉", "%2E", "65f0"] {
            assert_eq!(id(&key(&text.parse().unwrap())).unwrap().as_str(), text);
        }
        assert!(matches!(key(&HEX.parse().unwrap()), Bson::ObjectId(_)));
        assert!(matches!(key(&"65F0AAAAAAAAAAAAAAAAAAAA".parse().unwrap()), Bson::String(_)));
    }

    #[test]
    fn a_users_count_is_one_field_for_any_id() {
        let fields: std::collections::HashSet<_> = ["a.b", "a%2Eb", "$a", "%24a", "ab", "🎉"]
            .map(|user| unread_field(&user.parse().unwrap()))
            .into();
        assert_eq!(fields.len(), 6);
        assert!(fields.iter().all(|field| field.matches('.').count() == 1 && !field.contains('$')));
    }

    #[test]
    fn a_date_beyond_the_calendar_is_written_as_its_end() {
        for millis in [i64::MIN, i64::MAX, 8_640_000_000_000_000] {
            serde_json::to_string(&time(DateTime::from_millis(millis))).unwrap();
        }
    }

    #[test]
    fn a_message_without_optional_fields_is_read() {
        let sender = ObjectId::parse_str(HEX).unwrap();
        let reader = ObjectId::parse_str("65f0bbbbbbbbbbbbbbbbbbbb").unwrap();
        let message = message(&doc! {
            "_id": sender, "conversation": "c1", "sender": sender,
            "readBy": [reader, { "user": "eve", "readAt": DateTime::from_millis(0) }, { "user": reader }],
        })
        .unwrap();
        assert_eq!(message.sender_id.as_str(), HEX);
        assert_eq!(
            message.read_by.iter().map(Id::as_str).collect::<Vec<_>>(),
            ["65f0bbbbbbbbbbbbbbbbbbbb", "eve"]
        );
        assert_eq!(message.timestamp.0, 0x65f0_aaaa * 1000);
        assert_eq!((&*message.content, &*message.sender_name), ("", ""));
    }
}
