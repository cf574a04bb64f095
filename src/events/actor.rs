//! The actor of an event.

use std::sync::Arc;

use crate::{
    contract::{Refusal, Text, users::MAX_NAME_CHARS},
    model::Id,
};

/// The user who acts, as their socket authenticated or as the event claims.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    user: Option<Id>,
    name: Option<Arc<str>>,
    pub avatar: Option<Arc<str>>,
}

impl Actor {
    /// A user of whom only the id is known.
    pub fn new(user: Id) -> Self {
        Self { user: Some(user), name: None, avatar: None }
    }

    /// The same user with the name and the avatar that they gave.
    pub fn called(self, name: Option<Arc<str>>, avatar: Option<Arc<str>>) -> Self {
        Self { name, avatar, ..self }
    }

    /// The user, for events that need one.
    pub fn user(&self) -> Result<&Id, Refusal> {
        self.user.as_ref().ok_or(Refusal::Unauthenticated)
    }

    /// The name that others see: the user's own, else the one that the event gives, else the id.
    pub fn name(&self, given: Option<&Text<MAX_NAME_CHARS>>) -> Arc<str> {
        let name = self.name.clone().or(given.map(Text::shared));
        name.or(self.user.as_ref().map(Id::shared)).unwrap_or_default()
    }
}
