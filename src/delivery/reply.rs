//! What the socket is sent that asked.

use std::borrow::Cow;

use super::histories::EncodedHistory;
use crate::{
    commit::Request,
    contract::{Ack, ClientEvent, Refusal, ServerEvent, encode},
    metrics,
};

impl Request {
    /// Sends an event to the socket that asked.
    pub fn emit(&self, event: &ServerEvent) {
        self.session.outlet.emit(&event.encode());
    }

    pub fn acknowledge(self, ack: &Ack) {
        if let Some(id) = self.ack {
            self.session.outlet.ack(id, &encode(ack));
        }
        self.done();
    }

    /// Sends a page of history.
    pub fn answer_history(self, page: &EncodedHistory) {
        self.session.outlet.emit(&page.event);
        if let Some(id) = self.ack {
            self.session.outlet.ack(id, &page.ack);
        }
        self.done();
    }

    /// Accepted, with nothing to say.
    pub fn done(self) {
        self.count(None);
        self.session.answered(true, self.unblocks);
    }

    pub fn refuse(self, refusal: &Refusal) {
        let message = &*refusal.message();
        self.emit(&ServerEvent::refused(refusal, message, Some(&self.event)));
        if let Some(id) = self.ack {
            self.session.outlet.ack(id, &encode(&Ack::refused(refusal, message)));
        }
        self.count(Some(refusal));
        self.session.answered(false, self.unblocks);
    }

    /// Coming and going are no events.
    fn count(&self, refusal: Option<&Refusal>) {
        match &self.event {
            Cow::Borrowed("") => {}
            Cow::Borrowed(name) => metrics::event(name, refusal),
            // It was not one of the contract's, or could not be read.
            Cow::Owned(name) => metrics::event(ClientEvent::known_name(name), refusal),
        }
    }
}
