//! Who belongs to a conversation: the writer's cache, and the rules of membership.
//!
//! Only the writer asks, in the order in which it accepts events, so that an event sees what the
//! one before it changed, also before that is on disk. What could not be written is forgotten.

use std::{collections::HashSet, sync::Arc};

use lru::LruCache;

use crate::{
    contract::{Id, Refusal},
    storage::Conversation,
};

/// How many conversations are remembered. More than a batch has events.
const REMEMBERED: usize = 65_536;

pub struct Conversations(LruCache<Id, Conversation>);

impl Conversations {
    pub fn new() -> Self {
        // A bounded cache would take the room for all of them at once.
        Self(LruCache::unbounded())
    }

    pub fn knows(&self, id: &Id) -> bool {
        self.0.contains(id)
    }

    pub fn get(&mut self, id: &Id) -> Option<&mut Conversation> {
        self.0.get_mut(id)
    }

    pub fn remember(&mut self, id: Id, conversation: Conversation) {
        self.0.put(id, conversation);
        if self.0.len() > REMEMBERED {
            self.0.pop_lru();
        }
    }

    /// The next question goes to the storage again.
    pub fn forget(&mut self, id: &Id) {
        self.0.pop(id);
    }
}

impl Conversation {
    /// Begins with a first message: with a recipient between the two, without one as an open room.
    pub fn begun_by(sender: &Id, recipient: Option<&Id>) -> Self {
        let participants = [Some(sender), recipient].into_iter().flatten().cloned().collect();
        Self { is_open: recipient.is_none(), participants: Arc::new(participants) }
    }

    /// Whether `user` may take part, and address `recipient` there.
    pub fn check(&self, user: &Id, recipient: Option<&Id>) -> Result<(), Refusal> {
        let mut concerned = std::iter::once(user).chain(recipient);
        if self.is_open || concerned.all(|user| self.participants.contains(user)) {
            Ok(())
        } else {
            Err(Refusal::NotAParticipant)
        }
    }

    /// Makes participants of an open room of those who are not yet, and returns them.
    pub fn admit<'a>(&mut self, users: impl IntoIterator<Item = &'a Id>) -> Vec<Id> {
        let mut admitted = Vec::new();
        if self.is_open {
            for user in users {
                if !self.participants.contains(user) {
                    Arc::make_mut(&mut self.participants).insert(user.clone());
                    admitted.push(user.clone());
                }
            }
        }
        admitted
    }

    /// The sets of a conversation that does not exist yet, as far as an event reaches.
    pub fn unknown(recipient: Option<&Id>) -> Self {
        let participants: HashSet<Id> = recipient.into_iter().cloned().collect();
        Self { is_open: true, participants: Arc::new(participants) }
    }
}
