//! Decides a batch event by event, each on the state that the earlier ones left.
//!
//! The [`Planner`] is the state that the decisions of one batch leave to the next one; [`Decide`]
//! is the interface of one decision.

use std::hash::{BuildHasher, RandomState};

use super::{Actor, ClientEvent, Outcome, members::Members};
use crate::{
    contract::Refusal,
    model::{Conversation, Id, Kind, Message, MessageId, SentKey, Time},
    storage::{Found, Lookup, Unread, Write},
};

/// The writes of a batch, and an outcome for each of its events.
pub struct Plan {
    pub writes: Vec<Write>,
    pub outcomes: Vec<Result<Outcome, Refusal>>,
}

pub struct Planner {
    members: Members,
    last_id: Option<MessageId>,
    last_time: Time,
    /// Distinguishes this server's ids from the ids that other servers make in the same second.
    origin: [u8; 5],
    /// Whether other processes change the storage too. If so, members are looked up for every
    /// batch.
    is_shared: bool,
    /// Whether a conversation that cannot be looked up is refused. If not, it counts as a new one.
    is_strict: bool,
}

impl Planner {
    /// New messages get ids greater than `last_id`.
    pub fn new(last_id: Option<MessageId>, is_shared: bool, is_strict: bool) -> Self {
        // The standard library seeds its hash maps with random bytes.
        let random = RandomState::new().hash_one(()).to_be_bytes();
        Self {
            members: Members::new(),
            last_id,
            last_time: Time(0),
            origin: std::array::from_fn(|index| random[index]),
            is_shared,
            is_strict,
        }
    }

    /// The look-ups that these events need before they can be decided.
    pub fn lookup<'a>(&self, batch: impl Iterator<Item = (&'a Actor, &'a ClientEvent)>) -> Lookup {
        let mut lookup = Lookup::default();
        for (by, event) in batch {
            if let Some(id) = event.conversation()
                && (self.is_shared || !self.members.knows(id))
            {
                lookup.conversations.insert(id.clone());
            }
            event.look_up(by, &mut lookup);
        }
        lookup
    }

    /// Decides the events in their order.
    pub fn plan<'a>(
        &mut self,
        batch: impl Iterator<Item = (&'a Actor, &'a ClientEvent)> + Clone,
        mut found: Found,
    ) -> Plan {
        let is_blind = self.is_shared && self.is_strict && !found.is_everything;
        if self.is_shared && found.is_everything {
            for id in batch.clone().filter_map(|(_, event)| event.conversation()) {
                self.members.forget(id);
            }
        }
        for (id, conversation) in found.conversations.drain() {
            // The memory may know more than an outbox does.
            if found.is_everything || !self.members.knows(&id) {
                self.members.remember(id, conversation);
            }
        }
        let mut cx = Decide { planner: self, found, writes: Vec::new(), is_blind };
        let outcomes = batch.map(|(by, event)| cx.decide(by, event)).collect();
        let writes = cx.writes;
        self.members.trim();
        Plan { writes, outcomes }
    }

    /// Forgets the changes in memory of an event that could not be stored.
    pub fn forget(&mut self, event: &ClientEvent) {
        if let Some(conversation) = event.conversation() {
            self.members.forget(conversation);
        }
    }
}

/// The state that a decision sees, and the changes that it makes.
pub struct Decide<'a> {
    planner: &'a mut Planner,
    found: Found,
    writes: Vec<Write>,
    /// Whether the database is away, where an unknown conversation may exist.
    is_blind: bool,
}

impl Decide<'_> {
    fn decide(&mut self, by: &Actor, event: &ClientEvent) -> Result<Outcome, Refusal> {
        let before = self.writes.len();
        let decided = event.decide(by, self);
        let written = &self.writes[before..];
        debug_assert!(decided.is_ok() || written.is_empty(), "a refused event changes nothing");
        let mut outcome = decided?;
        let mut touched = written.iter().filter_map(Write::touches);
        outcome.touched = touched.next().cloned();
        debug_assert!(
            touched.all(|other| Some(other) == outcome.touched.as_ref()),
            "an event concerns one conversation"
        );
        Ok(outcome)
    }

    /// Refuses a user who may not take part in the conversation, or not address `recipient` there.
    /// Anybody may take part in a conversation that has not begun.
    pub fn check(
        &mut self,
        conversation: &Id,
        user: &Id,
        recipient: Option<&Id>,
    ) -> Result<(), Refusal> {
        match self.planner.members.get(conversation) {
            Some(known) if known.admits(user, recipient) => Ok(()),
            Some(_) => Err(Refusal::NotAParticipant),
            None if self.is_blind => Err(Refusal::StorageUnavailable),
            None => Ok(()),
        }
    }

    /// Whether the conversation has begun.
    pub fn is_known(&self, conversation: &Id) -> bool {
        self.planner.members.knows(conversation)
    }

    /// Makes `users` participants if the conversation is an open room.
    pub fn add_to_open_room<'u>(&mut self, id: &Id, users: impl IntoIterator<Item = &'u Id>) {
        let Some(conversation) = self.planner.members.get(id) else { return };
        if !conversation.is_open() {
            return;
        }
        let users = conversation.add(users);
        if !users.is_empty() {
            self.writes.push(Write::Participants { conversation: id.clone(), users });
        }
    }

    /// The receivers of an event. Its recipient becomes a participant of an open room.
    pub fn audience(&mut self, id: &Id, recipient: Option<&Id>) -> Conversation {
        self.add_to_open_room(id, recipient);
        let known = self.planner.members.get(id).cloned();
        known.unwrap_or_else(|| Conversation::unknown(recipient))
    }

    /// Notes that `user` waits for a conversation that has not begun.
    pub fn await_beginning(&mut self, conversation: &Id, user: &Id) {
        self.planner.members.await_beginning(conversation, user);
    }

    /// Begins an unknown conversation: between the two with a recipient, else as an open room.
    pub fn begin(&mut self, id: &Id, sender: &Id, recipient: Option<&Id>) {
        let participants = self.planner.members.first_participants(id, sender, recipient);
        let kind = Kind::from_is_open(recipient.is_none());
        let begun = Conversation::new(kind, participants.iter().cloned());
        self.planner.members.remember(id.clone(), begun);
        self.writes.push(Write::Conversation { id: id.clone(), kind, participants });
    }

    /// Whether the conversation has this message.
    pub fn has_message(&self, conversation: &Id, message: MessageId) -> bool {
        self.found.messages.contains(&(conversation.clone(), message))
    }

    /// The message that the first try of a retry stored.
    pub fn sent_before(&self, key: &SentKey) -> Option<&Message> {
        self.found.sent.get(key)
    }

    /// The looked-up messages that `reader` has not read. An event has to remove the messages that
    /// it marks, for the events after it.
    pub fn unread(&mut self, conversation: &Id, reader: &Id) -> &mut Unread {
        self.found.unread.entry((conversation.clone(), reader.clone())).or_default()
    }

    /// The id and the time of a new message: from here on it has its place among all messages.
    pub fn next_place(&mut self) -> (MessageId, Time) {
        let time = self.now();
        let id = MessageId::following(self.planner.last_id, time, self.planner.origin);
        self.planner.last_id = Some(id);
        (id, time)
    }

    /// The current time, never before an earlier result.
    pub fn now(&mut self) -> Time {
        self.planner.last_time = self.planner.last_time.max(Time::now());
        self.planner.last_time
    }

    pub fn write(&mut self, write: Write) {
        if let Write::Message { message, .. } = &write {
            self.found.add(message);
        }
        self.writes.push(write);
    }
}

#[cfg(test)]
mod tests;
