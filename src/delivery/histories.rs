//! The newest pages of conversations that are opened again and again, encoded once.
//!
//! After a lost connection everybody comes back at once and asks for the same. A page is kept only
//! while nothing has changed since it was asked for, in the order in which changes are delivered,
//! so that it is never older than what its reader was told before.

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc};

use lru::LruCache;

use crate::{
    contract::{
        self, Accepted, ServerEvent,
        conversations::{ConversationHistory, HISTORY_PAGE},
    },
    events::Reply,
    model::{Id, Message, Page, PageLimit, Window},
};

/// How many pages are kept, and how large one may be, in bytes.
const KEPT: NonZeroUsize = NonZeroUsize::new(16).expect("not 0");
const LARGEST: usize = 64 * 1_024;

/// A page of history as it is sent.
pub fn encode(conversation_id: &Id, page: &Page<Message>) -> Reply {
    let messages = &contract::encode(&page.entries);
    let (has_more, partial) = (page.has_more, page.is_partial);
    let history = ConversationHistory { conversation_id, messages, has_more, partial };
    Reply { event: Some(history.encode()), ack: Accepted::encode(&history) }
}

pub struct Histories {
    pages: LruCache<Id, Arc<Reply>>,
    /// Conversations of which a page is being read.
    being_read: HashMap<Id, BeingRead>,
    /// In a shared database, others change messages too.
    is_shared: bool,
}

#[derive(Default)]
struct BeingRead {
    readers: usize,
    /// Whether something has changed since the first of them has begun.
    is_stale: bool,
}

impl Histories {
    pub fn new(is_shared: bool) -> Self {
        Self { pages: LruCache::new(KEPT), being_read: HashMap::new(), is_shared }
    }

    /// Whether pages like this are kept: the one that is asked for without cursors.
    pub fn keeps(&self, window: Window, limit: PageLimit) -> bool {
        !self.is_shared && matches!(window, Window::Newest) && limit == HISTORY_PAGE
    }

    pub fn get(&mut self, conversation: &Id) -> Option<Arc<Reply>> {
        self.pages.get(conversation).cloned()
    }

    /// The newest page is going to be read; [`Self::read`] follows.
    pub fn reads(&mut self, conversation: &Id) {
        self.being_read.entry(conversation.clone()).or_default().readers += 1;
    }

    /// The newest page was read, or could not be.
    pub fn read(&mut self, conversation: &Id, page: Option<&Arc<Reply>>) {
        let Some(being_read) = self.being_read.get_mut(conversation) else { return };
        being_read.readers -= 1;
        let is_stale = being_read.is_stale;
        if being_read.readers == 0 {
            self.being_read.remove(conversation);
        }
        if let Some(page) = page
            && !is_stale
            && page.ack.get().len() <= LARGEST
        {
            self.pages.put(conversation.clone(), page.clone());
        }
    }

    /// Something has changed that pages show.
    pub fn changed(&mut self, conversation: &Id) {
        self.pages.pop(conversation);
        if let Some(being_read) = self.being_read.get_mut(conversation) {
            being_read.is_stale = true;
        }
    }
}
