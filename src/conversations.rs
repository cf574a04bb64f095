//! Who belongs to a conversation: the writer's cache, and the rules of membership.
//!
//! Only the writer asks, in the order in which it accepts events, so that an event sees what the
//! one before it changed, also before that is on disk. What could not be written is forgotten.

use std::sync::Arc;

use lru::LruCache;

use crate::{
    contract::{Id, Refusal},
    storage::Conversation,
};

/// How many conversations are remembered. Another one is looked up in a few microseconds.
const REMEMBERED: usize = 4_096;

/// For how many conversations is remembered who awaits them. Anybody can make up ids.
const AWAITED: usize = 1_024;

/// How many users may await one conversation, and all of them together.
const AWAITING: usize = 1_000;
const AWAITING_IN_ALL: usize = 8_192;

pub struct Conversations {
    known: LruCache<Id, Conversation>,
    /// Who has joined a conversation that did not exist yet. They take part if it becomes an open
    /// room. One that was begun meanwhile may still stand here, and means nothing.
    awaited: LruCache<Id, Vec<Id>>,
    /// How many users stand in `awaited`.
    awaiting: usize,
}

impl Conversations {
    pub fn new() -> Self {
        // Bounded caches would take the room for all of their entries at once.
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

    /// Forgets what was not needed for the longest time. Never while a batch is being decided:
    /// a conversation that is forgotten then would count as one that does not exist.
    pub fn trim(&mut self) {
        while self.known.len() > REMEMBERED {
            self.known.pop_lru();
        }
        while self.awaited.len() > AWAITED || self.awaiting > AWAITING_IN_ALL {
            let Some((_, users)) = self.awaited.pop_lru() else { break };
            self.awaiting -= users.len();
        }
    }

    /// `user` has joined a conversation that nobody has begun.
    pub fn await_beginning(&mut self, id: &Id, user: &Id) {
        let users = self.awaited.get_or_insert_mut(id.clone(), Vec::new);
        if users.len() < AWAITING && !users.contains(user) {
            users.push(user.clone());
            self.awaiting += 1;
        }
    }

    /// Who takes part in a conversation that `sender` begins: with a recipient the two, without
    /// one everybody who has awaited it, in the order in which they came.
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

impl Conversation {
    pub fn between(is_open: bool, participants: &[Id]) -> Self {
        Self { is_open, participants: Arc::new(participants.iter().cloned().collect()) }
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

    /// Stands for a conversation that nobody has begun, where an event reaches the room, whoever
    /// is there, and its recipient.
    pub fn unknown(recipient: Option<&Id>) -> Self {
        Self::between(true, recipient.map(std::slice::from_ref).unwrap_or_default())
    }
}
