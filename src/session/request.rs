//! An event on its way through the server, and the answer to its socket.

use std::{ops::Deref, sync::Arc, time::Instant};

use serde_json::value::RawValue;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Identity, Session};
use crate::{
    contract::{EncodedEvent, EventName, Refusal, Refused, ServerEvent},
    metrics,
    model::Id,
};

/// The origin of an event, and the way to its answer. The tag that the commit pipeline carries.
pub struct Request {
    pub session: Arc<Session>,
    /// The time at which the event was handed on.
    pub arrived: Instant,
    /// The event's name; `None` when the socket connects or disconnects.
    event: Option<EventName>,
    /// The id of the event's callback.
    ack: Option<i64>,
    /// The socket's new identity once the event is accepted, if it changes.
    binds: Option<Identity>,
    /// Whether the session lets the next event pass only after the answer.
    unblocks: bool,
    /// The server stops when no request holds such a token any more.
    _accepted: Option<TaskTrackerToken>,
}

/// The facts that a session knows of an event besides its payload.
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

    /// The user to whom this event binds the socket.
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

    /// Acknowledges the event, after all that it has sent to its socket.
    pub fn acknowledge(self, answer: &RawValue) {
        self.acknowledge_with(|| answer);
    }

    /// Acknowledges the event. The answer is encoded only if the event has a callback.
    pub fn acknowledge_with<A>(self, answer: impl FnOnce() -> A)
    where
        A: Deref<Target = RawValue>,
    {
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
