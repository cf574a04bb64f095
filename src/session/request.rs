//! An event on its way through the server, and how its socket is answered.

use std::{sync::Arc, time::Instant};

use serde_json::value::RawValue;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Identity, Session};
use crate::{
    contract::{EncodedEvent, EventName, Refusal, Refused, ServerEvent},
    metrics,
    model::Id,
};

/// Whose event it is, and how it is answered. The tag that the commit pipeline carries.
pub struct Request {
    pub session: Arc<Session>,
    /// When the event was handed on.
    pub arrived: Instant,
    /// The event's name; `None` when the socket comes or goes.
    event: Option<EventName>,
    /// The id of the event's callback.
    ack: Option<i64>,
    /// The socket's identity once the event is accepted, if that is another one.
    binds: Option<Identity>,
    /// Whether the session lets the next event pass only after the answer.
    unblocks: bool,
    /// The server stops when nobody holds one any more.
    _accepted: Option<TaskTrackerToken>,
}

/// What a session knows of an event besides what it asks for.
pub(super) struct Envelope {
    pub event: Option<EventName>,
    pub ack: Option<i64>,
    pub accepted: Option<TaskTrackerToken>,
}

impl Request {
    pub(super) fn new(
        session: Arc<Session>,
        envelope: Envelope,
        binds: Option<Identity>,
        unblocks: bool,
    ) -> Self {
        let Envelope { event, ack, accepted } = envelope;
        Self { session, arrived: Instant::now(), event, ack, binds, unblocks, _accepted: accepted }
    }

    /// The user whose the socket becomes by this event.
    pub fn becomes(&self) -> Option<&Id> {
        self.binds.as_ref().map(|identity| &identity.user)
    }

    /// Sends an event to the socket that asked.
    pub fn emit(&self, event: &impl ServerEvent) {
        self.send(&event.encode());
    }

    pub fn send(&self, packet: &EncodedEvent) {
        self.session.outlet.emit(packet);
    }

    /// The event is accepted, and everything else that it brought to its socket is sent.
    pub fn acknowledge(self, answer: &RawValue) {
        self.acknowledge_with(|| answer.to_owned());
    }

    /// The same, with an answer that is encoded only if somebody waits for it.
    pub fn acknowledge_with(self, answer: impl FnOnce() -> Box<RawValue>) {
        if let Some(id) = self.ack {
            self.session.outlet.ack(id, &answer());
        }
        self.end(None);
    }

    pub fn refuse(self, refusal: &Refusal) {
        let refused = Refused::new(refusal);
        self.send(&refused.event(self.event.as_ref().map(EventName::as_str)));
        if let Some(id) = self.ack {
            self.session.outlet.ack(id, &refused.ack());
        }
        self.end(Some(refusal));
    }

    fn end(self, refusal: Option<&Refusal>) {
        if let Some(event) = &self.event {
            metrics::event(event.label(), refusal.map_or("ok", Refusal::code));
        }
        let binds = self.binds.filter(|_| refusal.is_none());
        self.session.answered(binds, self.unblocks);
    }
}
