//! Decides a batch: who may do what, which writes that takes, and what comes of it.
//!
//! Nothing here waits or writes. All that a decision needs was found before ([`Lookup`]) or is
//! remembered from the decisions before it.

use std::sync::Arc;

use crate::{
    contract::{Id, Message, MessageId, MessageType, PageLimit, Refusal, Time, message_named},
    conversations::Conversations,
    storage::{Conversation, Found, Lookup, Profile, SentKey, Window, Write, Written},
};

/// What a socket's event asks for, by whom.
pub enum Action {
    Connect,
    Disconnect,
    Authenticate(Profile),
    Join {
        conversation: Id,
        user: Id,
        window: Window,
        limit: PageLimit,
    },
    Leave {
        conversation: Id,
    },
    Send(Draft),
    StartTyping {
        conversation: Id,
        recipient: Option<Id>,
        user: Id,
        name: Arc<str>,
    },
    StopTyping {
        conversation: Id,
        recipient: Option<Id>,
        user: Id,
    },
    MarkRead {
        conversation: Id,
        recipient: Option<Id>,
        reader: Id,
        messages: Option<Vec<Id>>,
    },
    List {
        user: Id,
        before: Option<Id>,
        limit: PageLimit,
    },
    /// Refused already; only its answer has to take its place.
    Refuse(Refusal),
}

impl Action {
    /// Whether its answer has to be read from the storage.
    pub fn reads(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::List { .. })
    }
}

/// A message before it has its id and its time.
pub struct Draft {
    pub conversation: Id,
    pub recipient: Option<Id>,
    pub sender: Id,
    pub sender_name: Arc<str>,
    pub sender_avatar: Option<Arc<str>>,
    pub content: Arc<str>,
    pub client_message_id: Option<Id>,
}

/// What an accepted event has come to.
pub enum Effect {
    Connected,
    Disconnected,
    Authenticated(Profile),
    Joined {
        conversation: Id,
        window: Window,
        limit: PageLimit,
    },
    Left {
        conversation: Id,
    },
    Sent {
        message: Arc<Message>,
        audience: Conversation,
    },
    /// The message of a `clientMessageId` that was used before.
    SentBefore {
        message: Arc<Message>,
    },
    TypingStarted {
        conversation: Id,
        user: Id,
        name: Arc<str>,
        audience: Conversation,
    },
    TypingStopped {
        conversation: Id,
        user: Id,
        audience: Conversation,
    },
    MarkedRead {
        conversation: Id,
        reader: Id,
        messages: Vec<MessageId>,
        at: Time,
        audience: Conversation,
    },
    Listed {
        user: Id,
        before: Option<Id>,
        limit: PageLimit,
    },
}
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
}

impl Planner {
    /// New messages get ids greater than `last_id`.
    pub fn new(last_id: Option<MessageId>) -> Self {
        Self { conversations: Conversations::new(), last_id, last_time: Time(0) }
    }

    /// What has to be found before these events can be decided.
    pub fn lookup<'a>(&self, actions: impl Iterator<Item = &'a Action>) -> Lookup {
        let mut lookup = Lookup::default();
        for action in actions {
            if let Some(id) = action.conversation()
                && !self.conversations.knows(id)
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
                    let named = ids.iter().filter_map(message_named);
                    lookup.messages.extend(named.map(|id| (conversation.clone(), id)));
                }
                _ => {}
            }
        }
        lookup
    }

    /// Decides the events in their order.
    pub fn plan<'a>(
        &mut self,
        actions: impl Iterator<Item = &'a Action>,
        mut found: Found,
    ) -> Plan {
        for (id, conversation) in found.conversations.drain() {
            self.conversations.remember(id, conversation);
        }
        let mut writes = Vec::new();
        let outcomes = actions
            .map(|action| {
                let before = writes.len();
                let outcome = self.decide(action, &mut found, &mut writes);
                Planned { outcome, writes: writes.len() - before }
            })
            .collect();
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
                self.admit(conversation, [user], writes);
                Ok(Effect::Joined {
                    conversation: conversation.clone(),
                    window: *window,
                    limit: *limit,
                })
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
                let audience = self.audience(conversation, recipient.as_ref(), writes);
                Ok(Effect::TypingStopped {
                    conversation: conversation.clone(),
                    user: user.clone(),
                    audience,
                })
            }
            Action::MarkRead { conversation, recipient, reader, messages } => {
                self.check(conversation, reader, recipient.as_ref())?;
                let named = messages
                    .as_ref()
                    .map(|ids| ids.iter().filter_map(message_named).collect::<Vec<_>>());
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
        let participants = [sender].into_iter().chain(recipient);
        if self.conversations.knows(conversation) {
            self.admit(conversation, participants, writes);
        } else {
            let begun = Conversation::begun_by(sender, recipient.as_ref());
            writes.push(Write::Conversation {
                id: conversation.clone(),
                is_open: begun.is_open,
                participants: participants.cloned().collect(),
            });
            self.conversations.remember(conversation.clone(), begun);
        }
        let audience = self.audience(conversation, None, writes);
        let message = Arc::new(self.accept(draft));
        if let Some(key) = sent_key {
            found.sent.insert(key, Message::clone(&message));
        }
        writes.push(Write::Message { message: message.clone(), is_open: audience.is_open });
        Ok(Effect::Sent { message, audience })
    }

    /// Makes a message of a draft: from here on it has its place among all messages.
    fn accept(&mut self, draft: &Draft) -> Message {
        let timestamp = self.tick();
        let id = MessageId::following(self.last_id, timestamp);
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
        self.conversations.get(conversation).map_or(Ok(()), |known| known.check(user, recipient))
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

impl Action {
    /// The conversation whose members have to be known.
    fn conversation(&self) -> Option<&Id> {
        match self {
            Self::Join { conversation, .. }
            | Self::Send(Draft { conversation, .. })
            | Self::StartTyping { conversation, .. }
            | Self::StopTyping { conversation, .. }
            | Self::MarkRead { conversation, .. } => Some(conversation),
            _ => None,
        }
    }
}

impl Draft {
    fn sent_key(&self) -> Option<SentKey> {
        Some(SentKey {
            conversation: self.conversation.clone(),
            sender: self.sender.clone(),
            client_message_id: self.client_message_id.clone()?,
        })
    }
}
