//! The newest pages of often opened conversations, each encoded once.
//!
//! After a lost connection all clients return at once and ask for the same pages. A page is kept
//! only while nothing has changed since its request, in the order in which changes are delivered,
//! so that it is never older than the events that its reader received before.

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

/// The number of pages that are kept, and the size of the largest one in bytes.
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
    /// Whether other processes change messages too, as in a shared database.
    is_shared: bool,
}

#[derive(Default)]
struct BeingRead {
    readers: usize,
    /// Whether something has changed since the first reader began.
    is_stale: bool,
}

impl Histories {
    pub fn new(is_shared: bool) -> Self {
        Self { pages: LruCache::new(KEPT), being_read: HashMap::new(), is_shared }
    }

    /// Whether such a page is kept: the newest one, without cursors.
    pub fn keeps(&self, window: Window, limit: PageLimit) -> bool {
        !self.is_shared && matches!(window, Window::Newest) && limit == HISTORY_PAGE
    }

    pub fn get(&mut self, conversation: &Id) -> Option<Arc<Reply>> {
        self.pages.get(conversation).cloned()
    }

    /// Notes that the newest page is about to be read; [`Self::read`] follows.
    pub fn reads(&mut self, conversation: &Id) {
        self.being_read.entry(conversation.clone()).or_default().readers += 1;
    }

    /// Notes the end of a read; `page` is `None` if the read failed.
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

    /// Notes a change that pages show.
    pub fn changed(&mut self, conversation: &Id) {
        self.pages.pop(conversation);
        if let Some(being_read) = self.being_read.get_mut(conversation) {
            being_read.is_stale = true;
        }
    }
}
