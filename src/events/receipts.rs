//! `mark-as-read`.

use super::{Ack, Actor, Decide, Event, Outcome, Step};
use crate::{
    contract::{
        Refusal, ServerEvent,
        receipts::{MAX_MESSAGE_IDS, MarkAsRead, MarkedAsRead, MessagesRead},
    },
    model::{Id, MessageId},
    storage::{Lookup, Write},
};

impl Event for MarkAsRead {
    const NEEDS_USER: bool = true;
    const READS: bool = false;

    fn claims(&self) -> Option<&Id> {
        self.user_id.as_ref()
    }

    fn conversation(&self) -> Option<&Id> {
        Some(&self.conversation_id)
    }

    fn look_up(&self, by: &Actor, lookup: &mut Lookup) {
        let Ok(reader) = by.user() else { return };
        let key = (self.conversation_id.clone(), reader.clone());
        match named(self) {
            Some(ids) => {
                let messages = ids.iter().map(|id| (self.conversation_id.clone(), *id));
                lookup.messages.extend(messages);
                lookup.unread.entry(key).or_default().extend(ids);
            }
            None => {
                lookup.all_unread.insert(key);
            }
        }
    }

    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
        let (reader, conversation) = (by.user()?, &self.conversation_id);
        let recipient = self.recipient_id.as_ref();
        cx.check(conversation, reader, recipient)?;
        let named = named(self);
        let exists = |id: &MessageId| cx.has_message(conversation, *id);
        if self.message_ids.as_ref().is_some_and(|ids| !ids.is_empty())
            && !named.iter().flatten().any(exists)
        {
            return Err(Refusal::MessageNotFound);
        }
        let audience = cx.audience(conversation, recipient);
        let at = cx.now();
        let unread = cx.unread(conversation, reader);
        let is_all = named.is_none();
        let messages = match named {
            Some(ids) => unread.take(&ids),
            None => unread.take_all(),
        };
        let steps = messages.chunks(MAX_MESSAGE_IDS).map(|message_ids| Step::ToRoom {
            room: conversation.clone(),
            audience: audience.clone(),
            packet: MessagesRead {
                conversation_id: conversation,
                message_ids,
                read_by: reader,
                read_at: at,
            }
            .encode(),
        });
        let ack = Ack::with(MarkedAsRead { message_ids: &messages, read_at: at });
        let outcome = Outcome::new(steps.collect(), ack);
        let (conversation, reader) = (conversation.clone(), reader.clone());
        cx.write(Write::Receipts { conversation, reader, messages, is_all, at });
        Ok(outcome)
    }
}

/// The messages that the event names. Ids that no message can have are left out.
fn named(event: &MarkAsRead) -> Option<Vec<MessageId>> {
    let ids = event.message_ids.as_ref()?;
    Some(ids.iter().filter_map(MessageId::named).collect())
}
