//! What has to be known before a batch of events can be decided, and what was found.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::model::{Conversation, Id, Message, MessageId, SentKey};

#[derive(Debug, Default)]
pub struct Lookup {
    pub conversations: HashSet<Id>,
    pub sent: HashSet<SentKey>,
    /// Cursors and messages to be marked as read, by their conversation.
    pub messages: HashSet<(Id, MessageId)>,
    /// By conversation and reader: whether the reader has still to read these messages.
    pub unread: HashMap<(Id, Id), HashSet<MessageId>>,
    /// Conversation and reader: all that the reader has still to read.
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
    /// Whatever was asked for and is not here does not exist. False while the database is away:
    /// then the writer's memory may know more.
    pub is_everything: bool,
}

impl Found {
    /// A message of the same batch exists for the events behind it.
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
    /// Takes those of `ids` out that are there, in their order.
    pub fn take(&mut self, ids: &[MessageId]) -> Vec<MessageId> {
        let taken: BTreeSet<_> = ids.iter().filter(|id| self.0.remove(id)).copied().collect();
        taken.into_iter().collect()
    }

    /// Takes all out, in their order.
    pub fn take_all(&mut self) -> Vec<MessageId> {
        std::mem::take(&mut self.0).into_iter().collect()
    }
}

impl Extend<MessageId> for Unread {
    fn extend<I: IntoIterator<Item = MessageId>>(&mut self, ids: I) {
        self.0.extend(ids);
    }
}
