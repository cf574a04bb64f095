//! Decides a batch: who may do what, which writes that takes, and what comes of it.
//!
//! Nothing here waits or writes. All that a decision needs was found before ([`Lookup`]) or is
//! remembered from the decisions before it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use super::action::{Action, Draft, Effect};
use crate::{
    contract::{Id, Message, MessageId, MessageType, Refusal, Time},
    conversations::Conversations,
    storage::{Conversation, Found, Lookup, Window, Write, Written},
};

/// The writes of a batch, and one outcome for each of its events.
pub struct Plan {
    pub writes: Vec<Write>,
    pub outcomes: Vec<Planned>,
}

/// An outcome, and how many of the plan's writes belong to it.
pub struct Planned {
    outcome: Result<Effect, Refusal>,
    writes: usize,
}

impl Planned {
    /// Takes what the event's own writes have found out from `written`.
    pub fn complete(self, written: &mut impl Iterator<Item = Written>) -> Result<Effect, Refusal> {
        let mut outcome = self.outcome;
        for written in written.take(self.writes) {
            if let (Ok(Effect::MarkedRead { messages, .. }), Written::NewlyRead(newly)) =
                (&mut outcome, written)
            {
                *messages = newly;
            }
        }
        outcome
    }
}

/// What is carried on from one batch to the next.
pub struct Planner {
    conversations: Conversations,
    last_id: Option<MessageId>,
    last_time: Time,
    /// Tells the ids of this server from those that others make in the same second.
    origin: [u8; 5],
    is_shared: bool,
    /// An unknown conversation is nobody's while the database is away: it may be somebody's there.
    is_strict: bool,
    /// That is so now.
    is_blind: bool,
}

impl Planner {
    /// New messages get ids greater than `last_id`.
    /// In a shared storage, others change conversations too. A strict planner takes nobody's word
    /// for a conversation that it cannot look up.
    pub fn new(last_id: Option<MessageId>, is_shared: bool, is_strict: bool) -> Self {
        // The standard library seeds its hash maps with random bytes.
        let random = RandomState::new().hash_one(()).to_be_bytes();
        Self {
            conversations: Conversations::new(),
            last_id,
            last_time: Time(0),
            origin: std::array::from_fn(|index| random[index]),
            is_shared,
            is_strict,
            is_blind: false,
        }
    }

    /// What has to be found before these events can be decided.
    pub fn lookup(&self, actions: &[&Action]) -> Lookup {
        let mut lookup = Lookup::default();
        for action in actions {
            if let Some(id) = action.conversation()
                && (self.is_shared || !self.conversations.knows(id))
            {
                lookup.conversations.insert(id.clone());
            }
            match action {
                Action::Send(draft) => lookup.sent.extend(draft.sent_key()),
                Action::Join {
                    conversation,
                    window: Window::Before(id) | Window::After(id),
                    ..
                } => {
                    lookup.messages.insert((conversation.clone(), *id));
                }
                Action::MarkRead { conversation, messages: Some(ids), .. } => {
                    let named = ids.iter().flatten();
                    lookup.messages.extend(named.map(|id| (conversation.clone(), *id)));
                }
                _ => {}
            }
        }
        lookup
    }

    /// Decides the events in their order.
    pub fn plan(&mut self, actions: &[&Action], mut found: Found) -> Plan {
        self.is_blind = self.is_shared && self.is_strict && !found.is_everything;
        if self.is_shared && found.is_everything {
            for id in actions.iter().filter_map(|action| action.conversation()) {
                self.conversations.forget(id);
            }
        }
        for (id, conversation) in found.conversations.drain() {
            // What is remembered is more than what an outbox has.
            if found.is_everything || !self.conversations.knows(&id) {
                self.conversations.remember(id, conversation);
            }
        }
        let mut writes = Vec::new();
        let outcomes = actions
            .iter()
            .map(|action| {
                let before = writes.len();
                let outcome = self.decide(action, &mut found, &mut writes);
                Planned { outcome, writes: writes.len() - before }
            })
            .collect();
        self.conversations.trim();
        Plan { writes, outcomes }
    }

    /// Takes back what an event that could not be stored left in memory.
    pub fn forget(&mut self, action: &Action) {
        if let Some(conversation) = action.conversation() {
            self.conversations.forget(conversation);
        }
    }

    /// Checks an event, then plans its writes: a refused one leaves nothing behind.
    fn decide(
        &mut self,
        action: &Action,
        found: &mut Found,
        writes: &mut Vec<Write>,
    ) -> Result<Effect, Refusal> {
        match action {
            Action::Connect => Ok(Effect::Connected),
            Action::Disconnect => Ok(Effect::Disconnected),
            Action::Refuse(refusal) => Err(refusal.clone()),
            Action::Leave { conversation } => {
                Ok(Effect::Left { conversation: conversation.clone() })
            }
            Action::List { user, before, limit } => {
                Ok(Effect::Listed { user: user.clone(), before: before.clone(), limit: *limit })
            }
            Action::Authenticate(profile) => {
                writes.push(Write::Profile(profile.clone()));
                Ok(Effect::Authenticated(profile.clone()))
            }
            Action::Join { conversation, user, window, limit } => {
                self.check(conversation, user, None)?;
                if let Window::Before(id) | Window::After(id) = window
                    && !found.messages.contains(&(conversation.clone(), *id))
                {
                    return Err(Refusal::MessageNotFound);
                }
                let is_known = self.conversations.knows(conversation);
                if is_known {
                    self.admit(conversation, [user], writes);
                } else {
                    self.conversations.await_beginning(conversation, user);
                }
                let page = is_known.then_some((*window, *limit));
                Ok(Effect::Joined { conversation: conversation.clone(), page })
            }
            Action::Send(draft) => self.decide_send(draft, found, writes),
            Action::StartTyping { conversation, recipient, user, name } => {
                self.check(conversation, user, recipient.as_ref())?;
                let audience = self.audience(conversation, recipient.as_ref(), writes);
                let (conversation, user) = (conversation.clone(), user.clone());
                Ok(Effect::TypingStarted { conversation, user, name: name.clone(), audience })
            }
            Action::StopTyping { conversation, recipient, user } => {
                self.check(conversation, user, recipient.as_ref())?;
                self.admit(conversation, recipient, writes);
                Ok(Effect::TypingStopped { conversation: conversation.clone(), user: user.clone() })
            }
            Action::MarkRead { conversation, recipient, reader, messages } => {
                self.check(conversation, reader, recipient.as_ref())?;
                let named =
                    messages.as_ref().map(|ids| ids.iter().flatten().copied().collect::<Vec<_>>());
                if messages.as_ref().is_some_and(|ids| !ids.is_empty())
                    && !named
                        .iter()
                        .flatten()
                        .any(|id| found.messages.contains(&(conversation.clone(), *id)))
                {
                    return Err(Refusal::MessageNotFound);
                }
                let audience = self.audience(conversation, recipient.as_ref(), writes);
                let at = self.tick();
                let (conversation, reader) = (conversation.clone(), reader.clone());
                writes.push(Write::Receipts {
                    conversation: conversation.clone(),
                    reader: reader.clone(),
                    messages: named,
                    at,
                });
                Ok(Effect::MarkedRead { conversation, reader, messages: Vec::new(), at, audience })
            }
        }
    }

    fn decide_send(
        &mut self,
        draft: &Draft,
        found: &mut Found,
        writes: &mut Vec<Write>,
    ) -> Result<Effect, Refusal> {
        let Draft { conversation, recipient, sender, .. } = draft;
        self.check(conversation, sender, recipient.as_ref())?;
        let sent_key = draft.sent_key();
        if let Some(before) = sent_key.as_ref().and_then(|key| found.sent.get(key)) {
            return Ok(Effect::SentBefore { message: Arc::new(before.clone()) });
        }
        if self.conversations.knows(conversation) {
            self.admit(conversation, [sender].into_iter().chain(recipient), writes);
        } else {
            let participants =
                self.conversations.first_participants(conversation, sender, recipient.as_ref());
            let is_open = recipient.is_none();
            let begun = Conversation::between(is_open, &participants);
            writes.push(Write::Conversation { id: conversation.clone(), is_open, participants });
            self.conversations.remember(conversation.clone(), begun);
        }
        let audience = self.audience(conversation, None, writes);
        let message = Arc::new(self.accept(draft));
        if let Some(key) = sent_key {
            found.sent.insert(key, Message::clone(&message));
        }
        writes.push(Write::Message { message: message.clone(), conversation: audience.clone() });
        Ok(Effect::Sent { message, audience })
    }

    /// Makes a message of a draft: from here on it has its place among all messages.
    fn accept(&mut self, draft: &Draft) -> Message {
        let timestamp = self.tick();
        let id = MessageId::following(self.last_id, timestamp, self.origin);
        self.last_id = Some(id);
        Message {
            id,
            conversation_id: draft.conversation.clone(),
            content: draft.content.clone(),
            sender_id: draft.sender.clone(),
            sender_name: draft.sender_name.clone(),
            sender_avatar: draft.sender_avatar.clone(),
            timestamp,
            r#type: MessageType::Text,
            read_by: Vec::new(),
            client_message_id: draft.client_message_id.clone(),
        }
    }

    /// An unknown conversation is anybody's.
    fn check(
        &mut self,
        conversation: &Id,
        user: &Id,
        recipient: Option<&Id>,
    ) -> Result<(), Refusal> {
        match self.conversations.get(conversation) {
            Some(known) => known.check(user, recipient),
            None if self.is_blind => Err(Refusal::StorageUnavailable),
            None => Ok(()),
        }
    }

    /// Who hears of an event, `recipient` included, who becomes a participant of an open room.
    fn audience(
        &mut self,
        id: &Id,
        recipient: Option<&Id>,
        writes: &mut Vec<Write>,
    ) -> Conversation {
        self.admit(id, recipient, writes);
        let known = self.conversations.get(id).cloned();
        known.unwrap_or_else(|| Conversation::unknown(recipient))
    }

    /// Makes participants of an open room of those who are not yet.
    fn admit<'a>(
        &mut self,
        id: &Id,
        users: impl IntoIterator<Item = &'a Id>,
        writes: &mut Vec<Write>,
    ) {
        let Some(conversation) = self.conversations.get(id) else { return };
        let users = conversation.admit(users);
        if !users.is_empty() {
            writes.push(Write::Participants { conversation: id.clone(), users });
        }
    }

    /// Now, and never before what was now.
    fn tick(&mut self) -> Time {
        self.last_time = self.last_time.max(Time::now());
        self.last_time
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::contract::HISTORY_PAGE;

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    pub fn send(
        conversation: &str,
        sender: &str,
        recipient: Option<&str>,
        content: &str,
    ) -> Action {
        Action::Send(Draft {
            conversation: id(conversation),
            recipient: recipient.map(id),
            sender: id(sender),
            sender_name: sender.into(),
            sender_avatar: None,
            content: content.into(),
            client_message_id: None,
        })
    }

    fn join(conversation: &str, user: &str) -> Action {
        Action::Join {
            conversation: id(conversation),
            user: id(user),
            window: Window::Newest,
            limit: HISTORY_PAGE,
        }
    }

    /// Decides the events in one batch. Nothing is stored before.
    fn decide(actions: &[Action]) -> (Vec<Result<Effect, Refusal>>, Vec<Write>) {
        let mut planner = Planner::new(None, false, false);
        let plan = planner.plan(&actions.iter().collect::<Vec<_>>(), Found::default());
        let outcomes = plan.outcomes.into_iter().map(|planned| planned.outcome);
        (outcomes.collect(), plan.writes)
    }

    #[test]
    fn who_joins_before_the_conversation_begins_is_not_shown_what_it_turns_out_to_hold() {
        let (outcomes, _) = decide(&[
            join("c1", "mallory"),
            send("c1", "alice", Some("bob"), "Only for Bob"),
            join("c1", "bob"),
            join("c1", "mallory"),
        ]);
        assert!(matches!(outcomes[0], Ok(Effect::Joined { page: None, .. })));
        assert!(matches!(outcomes[2], Ok(Effect::Joined { page: Some(_), .. })));
        assert!(matches!(outcomes[3], Err(Refusal::NotAParticipant)));
    }

    #[test]
    fn events_of_one_batch_see_what_those_before_them_changed() {
        let (outcomes, writes) = decide(&[
            send("c1", "alice", Some("bob"), "The first makes the conversation"),
            send("c1", "alice", Some("carol"), "and Carol is not in it"),
            send("c1", "bob", None, "but Bob is"),
        ]);
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert!(matches!(outcomes[1], Err(Refusal::NotAParticipant)));
        let begun = writes.iter().filter(|write| matches!(write, Write::Conversation { .. }));
        assert_eq!(begun.count(), 1);
    }

    #[test]
    fn those_who_waited_for_an_open_room_take_part_in_it_in_the_order_they_came() {
        let (outcomes, writes) = decide(&[
            join("lobby", "bob"),
            join("lobby", "alice"),
            join("lobby", "bob"),
            send("lobby", "alice", None, "Hello"),
        ]);
        let Ok(Effect::Sent { audience, .. }) = &outcomes[3] else { panic!("not sent") };
        assert_eq!(audience.participants.len(), 2);
        let Write::Conversation { is_open: true, participants, .. } = &writes[0] else {
            panic!("not begun")
        };
        assert_eq!(*participants, ["bob", "alice"].map(id));
    }

    #[test]
    fn a_retry_in_the_same_batch_is_the_same_message() {
        let with_key = || {
            let Action::Send(draft) = send("c1", "alice", None, "Once") else { unreachable!() };
            Action::Send(Draft { client_message_id: Some(id("k1")), ..draft })
        };
        let (outcomes, writes) = decide(&[with_key(), with_key()]);
        let Ok(Effect::Sent { message: first, .. }) = &outcomes[0] else { panic!("not sent") };
        let Ok(Effect::SentBefore { message: second }) = &outcomes[1] else { panic!("sent twice") };
        assert_eq!(first.id, second.id);
        assert_eq!(writes.iter().filter(|write| matches!(write, Write::Message { .. })).count(), 1);
    }
}
