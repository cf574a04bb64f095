//! What an event means: who acts by it, and what it asks for.

use std::sync::Arc;

use crate::{
    commit::{Action, Draft},
    contract::{
        Authenticate, CONVERSATIONS_PAGE, ClientEvent, HISTORY_PAGE, Id, Refusal, Text, Time,
        message_named,
    },
    storage::{Profile, Window},
    tokens::{Claims, EXPIRED, Tokens},
};

/// The user a socket is bound to, and what it said of them.
#[derive(Clone)]
pub struct Identity {
    pub user: Id,
    name: Option<Arc<str>>,
    avatar: Option<Arc<str>>,
    /// When the token runs out that has given it.
    expires: Option<Time>,
}

/// What an event asks for, and who the socket becomes by it.
pub struct Meaning {
    pub action: Action,
    pub becoming: Option<Identity>,
}

impl Identity {
    pub fn of(user: Id, expires: Option<Time>) -> Self {
        Self { user, name: None, avatar: None, expires }
    }

    pub fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires < Time::now())
    }
}

/// Whose an `authenticate` makes the socket, and until when.
fn authenticated(
    event: &Authenticate,
    identity: Option<&Identity>,
    tokens: Option<&Tokens>,
) -> Result<(Id, Option<Time>), Refusal> {
    let Some(tokens) = tokens else {
        let missing = || Refusal::InvalidPayload("missing field `id`".into());
        return Ok((event.id.clone().ok_or_else(missing)?, None));
    };
    let (user, expires) = match &event.token {
        Some(token) => {
            let Claims { user, expires } = tokens.verify(&token.shared())?;
            (user, expires)
        }
        None => {
            let identity = vouched_for(identity)?;
            (identity.user.clone(), identity.expires)
        }
    };
    match &event.id {
        Some(id) if *id != user => Err(Refusal::IdentityMismatch),
        _ => Ok((user, expires)),
    }
}

/// The identity that a token has given the socket, as long as it is good.
pub fn vouched_for(identity: Option<&Identity>) -> Result<&Identity, Refusal> {
    let identity = identity.ok_or(Refusal::TokenRequired)?;
    if identity.has_expired() { Err(Refusal::InvalidToken(EXPIRED)) } else { Ok(identity) }
}

/// The id that an event acts for, and whether the socket is bound by it.
fn claim(identity: Option<&Identity>, claimed: Option<Id>) -> Result<(Identity, bool), Refusal> {
    match (identity, claimed) {
        (Some(identity), Some(claimed)) if identity.user != claimed => {
            Err(Refusal::IdentityMismatch)
        }
        (Some(identity), _) => Ok((identity.clone(), false)),
        (None, Some(user)) => Ok((Identity::of(user, None), true)),
        (None, None) => Err(Refusal::Unauthenticated),
    }
}

/// What an event asks for, by the socket's identity and the server's rules.
pub fn interpret(
    event: ClientEvent,
    identity: Option<&Identity>,
    tokens: Option<&Tokens>,
) -> Result<Meaning, Refusal> {
    let claimed = |claimed| claim(identity, claimed);
    let (action, becoming) = match event {
        ClientEvent::Authenticate(event) => {
            let (user, expires) = authenticated(&event, identity, tokens)?;
            let shared = |text: Option<Text<256>>| text.map(|text| text.shared());
            let profile = Profile {
                id: user.clone(),
                name: shared(event.name),
                email: shared(event.email),
                avatar: event.avatar.map(|avatar| avatar.shared()),
            };
            let (name, avatar) = (profile.name.clone(), profile.avatar.clone());
            let becoming = Identity { user, name, avatar, expires };
            (Action::Authenticate(profile), Some(becoming))
        }
        ClientEvent::JoinConversation(event) => {
            let (identity, binds) = claimed(event.user_id)?;
            let cursor = |id| message_named(&id).ok_or(Refusal::MessageNotFound);
            let window = match (event.before, event.after) {
                (Some(before), _) => Window::Before(cursor(before)?),
                (None, Some(after)) => Window::After(cursor(after)?),
                (None, None) => Window::Newest,
            };
            let action = Action::Join {
                conversation: event.conversation_id,
                user: identity.user.clone(),
                window,
                limit: event.limit.unwrap_or(HISTORY_PAGE),
            };
            (action, binds.then_some(identity))
        }
        ClientEvent::LeaveConversation(event) => {
            (Action::Leave { conversation: event.conversation_id }, None)
        }
        ClientEvent::SendMessage(event) => {
            let (identity, binds) = claimed(event.sender_id)?;
            let name = identity.name.clone().or(event.sender_name.map(|name| name.shared()));
            let draft = Draft {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                sender: identity.user.clone(),
                sender_name: name.unwrap_or_else(|| identity.user.as_str().into()),
                sender_avatar: identity.avatar.clone(),
                content: event.message.into(),
                client_message_id: event.client_message_id,
            };
            (Action::Send(draft), binds.then_some(identity))
        }
        ClientEvent::TypingStart(event) => {
            let (identity, _) = claimed(None)?;
            let name = identity.name.or(event.user_name.map(|name| name.shared()));
            let action = Action::StartTyping {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                name: name.unwrap_or_else(|| identity.user.as_str().into()),
                user: identity.user,
            };
            (action, None)
        }
        ClientEvent::TypingStop(event) => {
            let (identity, _) = claimed(None)?;
            let action = Action::StopTyping {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                user: identity.user,
            };
            (action, None)
        }
        ClientEvent::MarkAsRead(event) => {
            let (identity, binds) = claimed(event.user_id)?;
            let action = Action::MarkRead {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                reader: identity.user.clone(),
                messages: event.message_ids.map(|ids| ids.iter().map(message_named).collect()),
            };
            (action, binds.then_some(identity))
        }
        ClientEvent::ListConversations(event) => {
            let (identity, binds) = claimed(event.user_id)?;
            let action = Action::List {
                user: identity.user.clone(),
                before: event.before,
                limit: event.limit.unwrap_or(CONVERSATIONS_PAGE),
            };
            (action, binds.then_some(identity))
        }
    };
    Ok(Meaning { action, becoming })
}
