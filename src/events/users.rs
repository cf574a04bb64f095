//! `authenticate`.

use super::{Actor, Decide, Event, Outcome, Step};
use crate::{
    contract::{Refusal, Text, users::Authenticate},
    model::{Id, Profile},
    storage::{Lookup, Write},
};

impl Event for Authenticate {
    const NEEDS_USER: bool = true;
    const READS: bool = false;

    /// Only the session knows the user: the id may be the payload's or the token's.
    fn claims(&self) -> Option<&Id> {
        None
    }

    fn conversation(&self) -> Option<&Id> {
        None
    }

    fn look_up(&self, _: &Actor, _: &mut Lookup) {}

    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
        let profile = Profile {
            id: by.user()?.clone(),
            name: self.name.as_ref().map(Text::shared),
            email: self.email.as_ref().map(Text::shared),
            avatar: self.avatar.as_ref().map(Text::shared),
        };
        cx.write(Write::Profile(profile.clone()));
        // The identity of a user does not depend on whether it can be stored.
        Ok(Outcome { stands_unstored: true, ..Outcome::answering(Step::Online(profile)) })
    }
}
