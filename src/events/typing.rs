//! `typing-start`, `typing-stop`.

use super::{Actor, Decide, Event, Outcome, Step};
use crate::{
    contract::{
        Refusal,
        typing::{TypingStart, TypingStop},
    },
    model::Id,
    storage::Lookup,
};

impl Event for TypingStart {
    const NEEDS_USER: bool = true;
    const READS: bool = false;

    fn claims(&self) -> Option<&Id> {
        None
    }

    fn conversation(&self) -> Option<&Id> {
        Some(&self.conversation_id)
    }

    fn look_up(&self, _: &Actor, _: &mut Lookup) {}

    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
        let (user, recipient) = (by.user()?, self.recipient_id.as_ref());
        cx.check(&self.conversation_id, user, recipient)?;
        Ok(Outcome::step(Step::TypingBegins {
            audience: cx.audience(&self.conversation_id, recipient),
            conversation: self.conversation_id.clone(),
            user: user.clone(),
            name: by.name(self.user_name.as_ref()),
        }))
    }
}

impl Event for TypingStop {
    const NEEDS_USER: bool = true;
    const READS: bool = false;

    fn claims(&self) -> Option<&Id> {
        None
    }

    fn conversation(&self) -> Option<&Id> {
        Some(&self.conversation_id)
    }

    fn look_up(&self, _: &Actor, _: &mut Lookup) {}

    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
        let (user, recipient) = (by.user()?, self.recipient_id.as_ref());
        cx.check(&self.conversation_id, user, recipient)?;
        cx.add_to_open_room(&self.conversation_id, recipient);
        let conversation = self.conversation_id.clone();
        Ok(Outcome::step(Step::TypingEnds { conversation, user: user.clone() }))
    }
}
