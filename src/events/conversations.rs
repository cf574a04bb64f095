//! `join-conversation`, `leave-conversation`, `list-conversations`, `list-participants`.

use super::{Ack, Actor, Decide, Event, Finding, Online, Outcome, Question, Reply, Step};
use crate::{
    contract::{
        Accepted, Refusal, ServerEvent,
        conversations::{
            CONVERSATIONS_PAGE, ConversationList, HISTORY_PAGE, JoinConversation,
            LISTED_PARTICIPANTS, LeaveConversation, ListConversations, ListParticipants,
            ListedConversation, ParticipantList, TOLD_PARTICIPANTS,
        },
        encode,
    },
    model::{Id, MessageId, Page, Participant, Summary, Window},
    storage::Lookup,
};

impl Event for JoinConversation {
    const NEEDS_USER: bool = true;
    const READS: bool = true;

    fn claims(&self) -> Option<&Id> {
        self.user_id.as_ref()
    }

    fn conversation(&self) -> Option<&Id> {
        Some(&self.conversation_id)
    }

    fn look_up(&self, _: &Actor, lookup: &mut Lookup) {
        if let Some(cursor) = window(self).ok().and_then(Window::cursor) {
            lookup.messages.insert((self.conversation_id.clone(), cursor));
        }
    }

    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
        let (user, conversation) = (by.user()?, &self.conversation_id);
        let window = window(self)?;
        cx.check(conversation, user, None)?;
        if window.cursor().is_some_and(|cursor| !cx.has_message(conversation, cursor)) {
            return Err(Refusal::MessageNotFound);
        }
        let is_known = cx.is_known(conversation);
        if is_known {
            cx.add_to_open_room(conversation, [user]);
        } else {
            cx.await_beginning(conversation, user);
        }
        let page = is_known.then_some((window, self.limit.unwrap_or(HISTORY_PAGE)));
        let conversation = conversation.clone();
        let steps = vec![Step::Enter(conversation.clone()), Step::History { conversation, page }];
        Ok(Outcome::new(steps, Ack::OfLastStep))
    }
}

/// The messages that a `join-conversation` asks for.
fn window(event: &JoinConversation) -> Result<Window, Refusal> {
    let cursor = |id| MessageId::named(id).ok_or(Refusal::MessageNotFound);
    Ok(match (&event.before, &event.after) {
        (Some(before), _) => Window::Before(cursor(before)?),
        (None, Some(after)) => Window::After(cursor(after)?),
        (None, None) => Window::Newest,
    })
}

impl Event for LeaveConversation {
    const NEEDS_USER: bool = false;
    const READS: bool = false;

    fn claims(&self) -> Option<&Id> {
        None
    }

    /// Leaving needs no membership: it is always acknowledged.
    fn conversation(&self) -> Option<&Id> {
        None
    }

    fn look_up(&self, _: &Actor, _: &mut Lookup) {}

    fn decide(&self, _: &Actor, _: &mut Decide) -> Result<Outcome, Refusal> {
        Ok(Outcome::step(Step::Leave(self.conversation_id.clone())))
    }
}

impl Event for ListConversations {
    const NEEDS_USER: bool = true;
    const READS: bool = true;

    fn claims(&self) -> Option<&Id> {
        self.user_id.as_ref()
    }

    fn conversation(&self) -> Option<&Id> {
        None
    }

    fn look_up(&self, _: &Actor, _: &mut Lookup) {}

    fn decide(&self, by: &Actor, _: &mut Decide) -> Result<Outcome, Refusal> {
        let (user, before) = (by.user()?.clone(), self.before.clone());
        let limit = self.limit.unwrap_or(CONVERSATIONS_PAGE);
        let question = Question::new(async move |storage| {
            let page = storage.conversations_of(user, before, limit, LISTED_PARTICIPANTS).await?;
            Ok(Finding::new(|online| list(page, online)))
        });
        Ok(Outcome::answering(Step::Read(question)))
    }
}

impl Event for ListParticipants {
    const NEEDS_USER: bool = true;
    const READS: bool = true;

    fn claims(&self) -> Option<&Id> {
        self.user_id.as_ref()
    }

    fn conversation(&self) -> Option<&Id> {
        Some(&self.conversation_id)
    }

    fn look_up(&self, _: &Actor, _: &mut Lookup) {}

    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
        cx.check(&self.conversation_id, by.user()?, None)?;
        if !cx.is_known(&self.conversation_id) {
            // By the time of a read it may have begun, between other users.
            return Ok(Outcome::new(vec![], Ack::with(ParticipantList { participants: vec![] })));
        }
        let conversation = self.conversation_id.clone();
        let question = Question::new(async move |storage| {
            let stored = storage.participants_of(conversation, TOLD_PARTICIPANTS).await?;
            Ok(Finding::new(|online| {
                let participants = stored.into_iter().map(|user| seen(user, online)).collect();
                Ok(Reply { event: None, ack: Accepted::encode(ParticipantList { participants }) })
            }))
        });
        Ok(Outcome::answering(Step::Read(question)))
    }
}

/// `page` is `None` if the cursor is no conversation of the user's.
fn list(page: Option<Page<Summary>>, online: &dyn Online) -> Result<Reply, Refusal> {
    let Some(Page { entries, has_more, .. }) = page else {
        let reason = "before: the user has no conversation with this id";
        return Err(Refusal::InvalidPayload(reason.into()));
    };
    let listed: Vec<_> = entries
        .into_iter()
        .map(|summary| ListedConversation {
            conversation_id: summary.id,
            is_open: summary.kind.is_open(),
            participants: summary.participants.into_iter().map(|user| seen(user, online)).collect(),
            last_message: summary.last_message,
            unread_count: summary.unread_count,
        })
        .collect();
    let list = ConversationList { conversations: &encode(&listed), has_more };
    Ok(Reply { event: Some(list.encode()), ack: Accepted::encode(&list) })
}

/// A participant, with the profile that they have while they are online.
fn seen(stored: Participant, online: &dyn Online) -> Participant {
    let Some(user) = online.user(&stored.id) else { return stored };
    Participant {
        name: user.name.clone().or(stored.name),
        avatar: user.avatar.clone().or(stored.avatar),
        online: true,
        id: stored.id,
    }
}
