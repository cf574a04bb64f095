//! One socket: its user, and the order in which its events take effect.
//!
//! The session hands events to the commit pipeline one after another, without waiting for the disk.
//! Some have to be answered before the next one can be understood: those that give the socket an
//! identity, and those that read. The events after such an event wait here.

mod allowance;
mod identity;
mod request;

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    commit::{Command, Commits, Proposal, Work},
    contract::{EventName, Incoming, Refusal, conversations::MAX_ROOMS, users::Authenticate},
    events::{Ack, ClientEvent, Named, Outcome, Step},
    limits::{Disconnect, Limits, TooMany},
    model::Id,
    outlet::Outlet,
    tokens::{Claims, EXPIRED, Tokens},
};

pub use allowance::Allowance;
use identity::{Identity, identify, vouched_for};
use request::Envelope;
pub use request::Request;

/// The number of unanswered events that one socket may have.
const MAX_EVENTS_IN_FLIGHT: usize = 1_024;

/// The size of a socket's events that may wait for the answer to another one, in bytes.
const MAX_WAITING_BYTES: usize = 4_000_000;

/// Distinguishes sockets for as long as the server runs.
pub type SocketId = u64;

/// The state that all sessions share.
pub struct Shared {
    pub commits: Commits<Request>,
    /// Verifies the tokens that identify users. `None`: open mode, in which clients are believed.
    pub tokens: Option<Tokens>,
    pub limits: Limits,
    /// Counts the events that are accepted and not answered.
    pub accepted: TaskTracker,
}

pub struct Session {
    pub id: SocketId,
    pub outlet: Arc<Outlet>,
    shared: Arc<Shared>,
    allowance: Arc<Allowance>,
    inbox: Mutex<Inbox>,
}

struct Inbox {
    identity: Option<Identity>,
    /// Whether events wait: the socket is not open yet, or an earlier event has to be answered
    /// first.
    is_blocked: bool,
    /// Whether the event that blocks gives the socket an identity: it may bring a fresh token.
    is_binding: bool,
    waiting: VecDeque<Arrived>,
    /// The size of the waiting events, in bytes.
    waiting_bytes: usize,
    /// The number of events that were handed on and are not answered.
    in_flight: usize,
    /// Whether there were too many events. Later ones do not count: there would be a gap before
    /// them.
    is_flooded: bool,
    /// Whether the server stops and accepts no more events.
    is_stopped: bool,
    /// The rooms that the socket is in. Only delivery changes them.
    rooms: HashSet<Id>,
}

enum Arrived {
    Event {
        name: EventName,
        ack: Option<i64>,
        event: Result<ClientEvent, Refusal>,
        bytes: usize,
        accepted: TaskTrackerToken,
    },
    Closed,
}

impl Arrived {
    fn bytes(&self) -> usize {
        match self {
            Self::Event { bytes, .. } => *bytes,
            Self::Closed => 0,
        }
    }
}

impl Session {
    /// A socket that has connected, with a valid token or without one.
    pub fn new(
        id: SocketId,
        outlet: Arc<Outlet>,
        shared: Arc<Shared>,
        allowance: Arc<Allowance>,
        claims: Option<Claims>,
    ) -> Arc<Self> {
        let inbox = Mutex::new(Inbox {
            identity: claims.map(|claims| Identity::new(claims.user, claims.expires)),
            is_blocked: true,
            is_binding: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            in_flight: 0,
            is_flooded: false,
            is_stopped: false,
            rooms: HashSet::new(),
        });
        Arc::new(Self { id, outlet, shared, allowance, inbox })
    }

    /// Opens the socket: from now on it may receive events.
    pub fn open(self: &Arc<Self>) {
        let mut inbox = self.lock();
        inbox.is_blocked = false;
        let envelope = Envelope { event: None, ack: None, accepted: None };
        let request = Request::new(self.clone(), envelope, inbox.identity.clone(), false);
        let outcome = Outcome::new(vec![Step::Connect], Ack::Plain);
        self.hand_on(&mut inbox, request, Work::Decided(Ok(outcome)));
        self.resume(&mut inbox);
    }

    /// Takes an event. `ack` is the id of its callback, if it has one.
    pub fn receive(self: &Arc<Self>, incoming: &Incoming, ack: Option<i64>) {
        if self.outlet.is_out() {
            return;
        }
        let event = match self.allowance.take() {
            Ok(()) => ClientEvent::decode(incoming),
            Err(TooMany::Wait(wait)) => Err(Refusal::RateLimited(wait)),
            Err(TooMany::Regardless) => return self.dismiss_flood(Disconnect::Flood),
        };
        let name = ClientEvent::name(incoming.name);
        let bytes = incoming.payload.map_or(0, |payload| payload.get().len());
        let accepted = self.shared.accepted.token();
        self.take(Arrived::Event { name, ack, event, bytes, accepted });
    }

    /// Ends the socket if its time is over: its token has expired, or it never got one.
    pub fn check_time(&self) {
        let Some(_) = self.shared.tokens else { return };
        let inbox = self.lock();
        if inbox.is_binding {
            return;
        }
        let over = match &inbox.identity {
            Some(identity) => identity
                .has_expired()
                .then_some((Refusal::InvalidToken(EXPIRED), Disconnect::TokenExpired)),
            None => self
                .allowance
                .is_older_than(self.shared.limits.authenticate_within)
                .then_some((Refusal::TokenRequired, Disconnect::NotAuthenticated)),
        };
        drop(inbox);
        if let Some((refusal, reason)) = over {
            self.outlet.dismiss(&refusal, reason);
        }
    }

    /// Notes that the socket is in a room. Returns whether it was not before.
    pub fn enter(&self, room: &Id) -> bool {
        self.lock().rooms.insert(room.clone())
    }

    /// Notes that the socket has left a room. Returns whether it was in it.
    pub fn leave(&self, room: &Id) -> bool {
        self.lock().rooms.remove(room)
    }

    /// Notes that the socket has left all rooms, and returns them.
    pub fn leave_all(&self) -> HashSet<Id> {
        std::mem::take(&mut self.lock().rooms)
    }

    /// Closes the session, because the socket is gone. Its earlier events still take effect.
    pub fn close(self: &Arc<Self>) {
        self.outlet.gone();
        self.take(Arrived::Closed);
    }

    /// Accepts no more events. The events that have arrived are still handled.
    pub fn stop(&self) {
        self.lock().is_stopped = true;
    }

    /// Notes that an event was answered, and gave the socket the identity `binds`. `unblocks` if
    /// the others waited for it.
    fn answered(self: &Arc<Self>, binds: Option<Identity>, unblocks: bool) {
        let mut inbox = self.lock();
        inbox.in_flight -= 1;
        if binds.is_some() {
            inbox.identity = binds;
        }
        if unblocks {
            self.resume(&mut inbox);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, arrived: Arrived) {
        let mut inbox = self.lock();
        if matches!(arrived, Arrived::Event { .. }) {
            if inbox.is_stopped {
                return;
            }
            inbox.is_flooded |= inbox.waiting.len() + inbox.in_flight >= MAX_EVENTS_IN_FLIGHT
                || inbox.waiting_bytes > MAX_WAITING_BYTES;
            if inbox.is_flooded {
                drop(inbox);
                return self.dismiss_flood(Disconnect::TooManyEvents);
            }
        }
        if inbox.is_blocked {
            inbox.waiting_bytes += arrived.bytes();
            inbox.waiting.push_back(arrived);
        } else {
            self.process(&mut inbox, arrived);
        }
    }

    fn dismiss_flood(&self, reason: Disconnect) {
        self.outlet.dismiss(&Refusal::RateLimited(Duration::from_secs(1)), reason);
    }

    fn resume(self: &Arc<Self>, inbox: &mut Inbox) {
        inbox.is_blocked = false;
        inbox.is_binding = false;
        while !inbox.is_blocked
            && let Some(arrived) = inbox.waiting.pop_front()
        {
            inbox.waiting_bytes -= arrived.bytes();
            self.process(inbox, arrived);
        }
    }

    fn process(self: &Arc<Self>, inbox: &mut Inbox, arrived: Arrived) {
        let Arrived::Event { name, ack, event, accepted, .. } = arrived else {
            let envelope = Envelope { event: None, ack: None, accepted: None };
            let request = Request::new(self.clone(), envelope, None, false);
            let outcome = Outcome::new(vec![Step::Disconnect], Ack::Plain);
            return self.hand_on(inbox, request, Work::Decided(Ok(outcome)));
        };
        let checked = self.check(inbox, &name, event).and_then(|event| {
            let tokens = self.shared.tokens.as_ref();
            let (by, binds) = identify(&event, inbox.identity.as_ref(), tokens)?;
            Ok((Proposal { by, event }, binds))
        });
        let (work, binds) = match checked {
            Ok((proposal, binds)) => {
                inbox.is_binding = binds.is_some();
                inbox.is_blocked = inbox.is_binding || proposal.event.reads();
                (Work::Decide(proposal), binds)
            }
            // A refusal takes its place in the order of the answers as well.
            Err(refusal) => (Work::Decided(Err(refusal)), None),
        };
        let envelope = Envelope { event: Some(name), ack, accepted: Some(accepted) };
        let request = Request::new(self.clone(), envelope, binds, inbox.is_blocked);
        self.hand_on(inbox, request, work);
    }

    /// The checks that come before the search for the actor.
    fn check(
        &self,
        inbox: &Inbox,
        name: &EventName,
        event: Result<ClientEvent, Refusal>,
    ) -> Result<ClientEvent, Refusal> {
        if let Err(Refusal::RateLimited(_)) = event {
            return event;
        }
        // A client without a token does not even learn the names of events.
        if self.shared.tokens.is_some() && *name != EventName::Known(Authenticate::NAME) {
            vouched_for(inbox.identity.as_ref())?;
        }
        if let Ok(ClientEvent::JoinConversation(event)) = &event {
            let rooms = &inbox.rooms;
            if rooms.len() >= MAX_ROOMS && !rooms.contains(&event.conversation_id) {
                return Err(Refusal::too_many_rooms());
            }
        }
        event
    }

    fn hand_on(&self, inbox: &mut Inbox, request: Request, work: Work) {
        inbox.in_flight += 1;
        self.shared.commits.send(Command { tag: request, work });
    }
}
