//! `send-message`.

use std::sync::Arc;

use super::{Ack, Actor, Decide, Event, Outcome, Step};
use crate::{
    contract::{
        Refusal, ServerEvent, encode,
        messages::{MessageSent, SendMessage, Sent},
    },
    model::{Id, Message, MessageType, SentKey},
    storage::{Lookup, Write},
};

impl Event for SendMessage {
    const NEEDS_USER: bool = true;
    const READS: bool = false;

    fn claims(&self) -> Option<&Id> {
        self.sender_id.as_ref()
    }

    fn conversation(&self) -> Option<&Id> {
        Some(&self.conversation_id)
    }

    fn look_up(&self, by: &Actor, lookup: &mut Lookup) {
        lookup.sent.extend(sent_key(self, by));
    }

    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
        let (sender, recipient) = (by.user()?, self.recipient_id.as_ref());
        let conversation = &self.conversation_id;
        cx.check(conversation, sender, recipient)?;
        let before = sent_key(self, by).and_then(|key| cx.sent_before(&key).map(encode));
        if let Some(message) = before {
            let step = Step::ToAsker(MessageSent(&message).encode());
            return Ok(Outcome::new(vec![step], Ack::with(Sent { message: &message })));
        }
        if cx.is_known(conversation) {
            cx.add_to_open_room(conversation, [sender].into_iter().chain(recipient));
        } else {
            cx.begin(conversation, sender, recipient);
        }
        let audience = cx.audience(conversation, None);
        let (id, timestamp) = cx.next_place();
        let message = Arc::new(Message {
            id,
            conversation_id: conversation.clone(),
            content: self.message.clone(),
            sender_id: sender.clone(),
            sender_name: by.name(self.sender_name.as_ref()),
            sender_avatar: by.avatar.clone(),
            timestamp,
            r#type: MessageType::Text,
            read_by: Vec::new(),
            client_message_id: self.client_message_id.clone(),
        });
        cx.write(Write::Message { message: message.clone(), audience: audience.clone() });
        Ok(Outcome::answering(Step::Message { message, audience }))
    }
}

/// The key under which an earlier try of this event is found.
fn sent_key(event: &SendMessage, by: &Actor) -> Option<SentKey> {
    Some(SentKey {
        conversation: event.conversation_id.clone(),
        sender: by.user().ok()?.clone(),
        client_message_id: event.client_message_id.clone()?,
    })
}
