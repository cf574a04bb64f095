//! The writer's memory of conversations: their participants, and the users who wait for one to
//! begin.
//!
//! Only the planner asks, in the order in which it accepts events. So an event sees the changes of
//! the one before it, also before they are on disk. Changes that could not be written are
//! forgotten.

use lru::LruCache;

use crate::model::{Conversation, Id};

/// The number of conversations in memory. Another one is looked up in a few microseconds.
const REMEMBERED: usize = 4_096;

/// The number of unknown conversations for which users may wait. Anybody can make up ids.
const AWAITED: usize = 1_024;

/// The number of users who may wait for one conversation, and for all of them together.
const AWAITING: usize = 1_000;
const AWAITING_IN_ALL: usize = 8_192;

pub struct Members {
    known: LruCache<Id, Conversation>,
    /// Users who joined a conversation that did not exist yet. They take part if it becomes an open
    /// room. An entry of a conversation that was begun meanwhile has no effect.
    awaited: LruCache<Id, Vec<Id>>,
    /// The number of users in `awaited`.
    awaiting: usize,
}

impl Members {
    pub fn new() -> Self {
        // Bounded caches would allocate all of their entries at once.
        Self { known: LruCache::unbounded(), awaited: LruCache::unbounded(), awaiting: 0 }
    }

    pub fn knows(&self, id: &Id) -> bool {
        self.known.contains(id)
    }

    pub fn get(&mut self, id: &Id) -> Option<&mut Conversation> {
        self.known.get_mut(id)
    }

    pub fn remember(&mut self, id: Id, conversation: Conversation) {
        self.known.put(id, conversation);
    }

    /// The next question goes to the storage again.
    pub fn forget(&mut self, id: &Id) {
        self.known.pop(id);
    }

    /// Evicts the entries that were not needed for the longest time. Never call this while a batch
    /// is being decided: a conversation that is forgotten then would count as unknown.
    pub fn trim(&mut self) {
        while self.known.len() > REMEMBERED {
            self.known.pop_lru();
        }
        while self.awaited.len() > AWAITED || self.awaiting > AWAITING_IN_ALL {
            let Some((_, users)) = self.awaited.pop_lru() else { break };
            self.awaiting -= users.len();
        }
    }

    /// Notes that `user` has joined a conversation that has not begun.
    pub fn await_beginning(&mut self, id: &Id, user: &Id) {
        let users = self.awaited.get_or_insert_mut(id.clone(), Vec::new);
        if users.len() < AWAITING && !users.contains(user) {
            users.push(user.clone());
            self.awaiting += 1;
        }
    }

    /// The participants of a conversation that `sender` begins: the two with a recipient, else all
    /// users who wait for it, in the order in which they joined.
    pub fn first_participants(&mut self, id: &Id, sender: &Id, recipient: Option<&Id>) -> Vec<Id> {
        let mut participants = match recipient {
            Some(_) => Vec::new(),
            None => self.awaited.get(id).cloned().unwrap_or_default(),
        };
        for user in [Some(sender), recipient].into_iter().flatten() {
            if !participants.contains(user) {
                participants.push(user.clone());
            }
        }
        participants
    }
}
