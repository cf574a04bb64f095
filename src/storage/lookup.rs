//! The data that a batch of events needs before its decisions, and the part of it that exists.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::model::{Conversation, Id, Message, MessageId, SentKey};

#[derive(Debug, Default)]
pub struct Lookup {
    pub conversations: HashSet<Id>,
    pub sent: HashSet<SentKey>,
    /// Cursors and messages to be marked as read, by their conversation.
    pub messages: HashSet<(Id, MessageId)>,
    /// Messages to check for being unread, by conversation and reader.
    pub unread: HashMap<(Id, Id), HashSet<MessageId>>,
    /// Conversations with readers whose unread messages are all needed.
    pub all_unread: HashSet<(Id, Id)>,
}

impl Lookup {
    pub fn is_empty(&self) -> bool {
        let Self { conversations, sent, messages, unread, all_unread } = self;
        conversations.is_empty()
            && sent.is_empty()
            && messages.is_empty()
            && unread.is_empty()
            && all_unread.is_empty()
    }
}

/// The part of a [`Lookup`] that exists.
#[derive(Debug, Default)]
pub struct Found {
    pub conversations: HashMap<Id, Conversation>,
    pub sent: HashMap<SentKey, Message>,
    pub messages: HashSet<(Id, MessageId)>,
    /// By conversation and reader, messages of others that the reader has not read. There is an
    /// entry for each pair that was asked for.
    pub unread: HashMap<(Id, Id), Unread>,
    /// Whether entries that are missing here do not exist. False while the database is away: then
    /// the writer's memory may know more.
    pub is_everything: bool,
}

impl Found {
    /// Adds a message of the same batch, which exists for the events after it.
    pub fn add(&mut self, message: &Message) {
        if let Some(key) = message.sent_key() {
            self.sent.insert(key, message.clone());
        }
        for ((conversation, reader), unread) in &mut self.unread {
            if *conversation == message.conversation_id && *reader != message.sender_id {
                unread.0.insert(message.id);
            }
        }
    }
}

/// Messages that a user has still to read.
#[derive(Debug, Default)]
pub struct Unread(BTreeSet<MessageId>);

impl Unread {
    /// Removes and returns the ones of `ids` that are present, in their order.
    pub fn take(&mut self, ids: &[MessageId]) -> Vec<MessageId> {
        let taken: BTreeSet<_> = ids.iter().filter(|id| self.0.remove(id)).copied().collect();
        taken.into_iter().collect()
    }

    /// Removes and returns all, in their order.
    pub fn take_all(&mut self) -> Vec<MessageId> {
        std::mem::take(&mut self.0).into_iter().collect()
    }
}

impl Extend<MessageId> for Unread {
    fn extend<I: IntoIterator<Item = MessageId>>(&mut self, ids: I) {
        self.0.extend(ids);
    }
}
