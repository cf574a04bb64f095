//! The user of a socket, and the check whether an event may act for them.

use std::sync::Arc;

use crate::{
    contract::{Refusal, Text, users::Authenticate},
    events::{Actor, ClientEvent},
    model::{Id, Time},
    tokens::{Claims, EXPIRED, Tokens},
};

/// The identity of a socket.
#[derive(Clone)]
pub struct Identity {
    pub user: Id,
    name: Option<Arc<str>>,
    avatar: Option<Arc<str>>,
    /// The time at which the token expires that gave the identity.
    expires: Option<Time>,
}

impl Identity {
    pub fn new(user: Id, expires: Option<Time>) -> Self {
        Self { user, name: None, avatar: None, expires }
    }

    fn actor(&self) -> Actor {
        Actor::new(self.user.clone()).called(self.name.clone(), self.avatar.clone())
    }

    /// The identity that an `authenticate` gives to the socket.
    fn authenticated(
        event: &Authenticate,
        current: Option<&Self>,
        tokens: Option<&Tokens>,
    ) -> Result<Self, Refusal> {
        let (user, expires) = match (tokens, &event.token) {
            (None, _) => {
                let missing = || Refusal::InvalidPayload("missing field `id`".into());
                (event.id.clone().ok_or_else(missing)?, None)
            }
            (Some(tokens), Some(token)) => {
                let Claims { user, expires } = tokens.verify(token.as_str())?;
                (user, expires)
            }
            (Some(_), None) => {
                let current = vouched_for(current)?;
                (current.user.clone(), current.expires)
            }
        };
        if event.id.as_ref().is_some_and(|id| *id != user) {
            return Err(Refusal::IdentityMismatch);
        }
        let name = event.name.as_ref().map(Text::shared);
        let avatar = event.avatar.as_ref().map(Text::shared);
        Ok(Self { user, name, avatar, expires })
    }

    pub fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires < Time::now())
    }
}

/// The identity that a token has given to the socket, as long as the token is valid.
pub fn vouched_for(identity: Option<&Identity>) -> Result<&Identity, Refusal> {
    let identity = identity.ok_or(Refusal::TokenRequired)?;
    if identity.has_expired() { Err(Refusal::InvalidToken(EXPIRED)) } else { Ok(identity) }
}

/// The actor of an event, and the new identity of the socket once the event is accepted, if it
/// changes.
pub fn identify(
    event: &ClientEvent,
    current: Option<&Identity>,
    tokens: Option<&Tokens>,
) -> Result<(Actor, Option<Identity>), Refusal> {
    if let ClientEvent::Authenticate(event) = event {
        let identity = Identity::authenticated(event, current, tokens)?;
        return Ok((identity.actor(), Some(identity)));
    }
    match (current, event.claims()) {
        (Some(current), Some(claimed)) if current.user != *claimed => {
            Err(Refusal::IdentityMismatch)
        }
        (Some(current), _) => Ok((current.actor(), None)),
        (None, Some(claimed)) => {
            let identity = Identity::new(claimed.clone(), None);
            Ok((identity.actor(), Some(identity)))
        }
        (None, None) if event.needs_user() => Err(Refusal::Unauthenticated),
        (None, None) => Ok((Actor::default(), None)),
    }
}
