//! The user of a socket, and the check whether an event may act for them.

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
    actor: Actor,
    /// The time at which the token expires that gave the identity.
    expires: Option<Time>,
}

impl Identity {
    pub fn new(user: Id, expires: Option<Time>) -> Self {
        Self { actor: Actor::new(user.clone()), user, expires }
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
        let shared = |text: &Text<_>| text.shared();
        let avatar = event.avatar.as_ref().map(Text::shared);
        let actor = Actor::new(user.clone()).called(event.name.as_ref().map(shared), avatar);
        Ok(Self { user, actor, expires })
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
        return Ok((identity.actor.clone(), Some(identity)));
    }
    match (current, event.claims()) {
        (Some(current), Some(claimed)) if current.user != *claimed => {
            Err(Refusal::IdentityMismatch)
        }
        (Some(current), _) => Ok((current.actor.clone(), None)),
        (None, Some(claimed)) => {
            let identity = Identity::new(claimed.clone(), None);
            Ok((identity.actor.clone(), Some(identity)))
        }
        // Some events need no user; the others refuse it themselves.
        (None, None) => Ok((Actor::default(), None)),
    }
}
