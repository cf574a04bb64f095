//! One socket: who it is, what its events mean, and in which order they take effect.
//!
//! Events are handed to the commit pipeline one after another, without waiting for the disk. Some
//! have to be answered before the next one can be understood: those that bind the socket to a
//! user, and those that read. Behind such an event the others wait here.

mod meaning;

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    commit::{Action, Command, Commits, Request},
    contract::{ClientEvent, Id, Incoming, MAX_ROOMS, Refusal},
    gateway::Outlet,
    limits::{Limits, Throttle, TooMany},
    tokens::{Claims, EXPIRED, Tokens},
};

use meaning::{Identity, interpret, vouched_for};

/// How many events of one socket may be on their way at once.
const MAX_EVENTS_IN_FLIGHT: usize = 1_024;

/// How much of a socket's events may wait for the answer to another one, in bytes.
const MAX_WAITING_BYTES: usize = 4_000_000;

/// Tells sockets apart for as long as the server runs.
pub type SocketId = u64;

/// What every socket has to keep to.
pub struct Rules {
    /// Whose tokens say who somebody is. `None`: clients are believed.
    pub tokens: Option<Tokens>,
    pub limits: Limits,
}

pub struct Session {
    pub id: SocketId,
    pub outlet: Outlet,
    commits: Commits,
    rules: Arc<Rules>,
    transport: Arc<Transport>,
    inbox: Mutex<Inbox>,
    /// The rooms that the socket is in. Only the delivery changes them.
    rooms: Mutex<HashSet<Id>>,
}

struct Inbox {
    identity: Option<Identity>,
    /// Who the socket becomes if the event that it waits for is accepted.
    becoming: Option<Identity>,
    /// Nothing is handed on before the socket is open, nor behind an event that has to be
    /// answered first.
    is_blocked: bool,
    waiting: VecDeque<Arrived>,
    /// Handed on and not answered.
    in_flight: usize,
    /// There were too many. None of what comes now counts: it would leave a gap before it.
    is_flooded: bool,
    /// The server stops. What comes now is not accepted.
    is_stopped: bool,
    /// The size of what waits, in bytes.
    waiting_bytes: usize,
}

/// What outlives a socket that leaves and connects again over the same transport.
pub struct Transport {
    since: Instant,
    throttle: Option<Mutex<Throttle>>,
    has_connected: AtomicBool,
}

impl Transport {
    pub fn new(rules: &Rules) -> Self {
        let throttle = rules.limits.events.map(|rate| Mutex::new(Throttle::new(rate)));
        Self { since: Instant::now(), throttle, has_connected: AtomicBool::new(false) }
    }

    /// A socket connects. Coming back counts as an event.
    pub fn connects(&self) -> Result<(), TooMany> {
        if self.has_connected.swap(true, Ordering::Relaxed) { self.take() } else { Ok(()) }
    }

    fn take(&self) -> Result<(), TooMany> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        throttle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

enum Arrived {
    Event {
        name: Cow<'static, str>,
        ack: Option<i64>,
        event: Result<ClientEvent, Refusal>,
        bytes: usize,
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
    /// A socket that has connected, with a good token or without one.
    pub fn new(
        id: SocketId,
        outlet: Outlet,
        commits: Commits,
        rules: Arc<Rules>,
        transport: Arc<Transport>,
        claims: Option<Claims>,
    ) -> Arc<Self> {
        let inbox = Inbox {
            identity: claims.map(|claims| Identity::of(claims.user, claims.expires)),
            becoming: None,
            is_blocked: true,
            waiting: VecDeque::new(),
            in_flight: 0,
            is_flooded: false,
            is_stopped: false,
            waiting_bytes: 0,
        };
        let (inbox, rooms) = (Mutex::new(inbox), Mutex::default());
        Arc::new(Self { id, outlet, commits, rules, transport, inbox, rooms })
    }

    /// The socket may be sent events from now on.
    pub fn open(self: &Arc<Self>) {
        let mut inbox = self.lock();
        inbox.is_blocked = false;
        inbox.becoming = inbox.identity.clone();
        self.hand_on(&mut inbox, Cow::default(), None, Action::Connect);
        inbox.becoming = None;
        self.resume(&mut inbox);
    }

    /// Takes an event. `ack` is the id of its callback, if it has one.
    pub fn receive(self: &Arc<Self>, incoming: &Incoming, ack: Option<i64>) {
        if self.outlet.is_out() {
            return;
        }
        let event = match self.transport.take() {
            Ok(()) => ClientEvent::decode(incoming),
            Err(TooMany::Wait(wait)) => Err(Refusal::RateLimited(wait)),
            Err(TooMany::Regardless) => {
                let refusal = Refusal::RateLimited(Duration::from_secs(1));
                return self.outlet.dismiss(&refusal, "too many events for too long");
            }
        };
        let name = match &event {
            Ok(event) => event.name().into(),
            Err(_) => incoming.name.chars().take(Id::MAX_BYTES).collect::<String>().into(),
        };
        let bytes = incoming.payload.map_or(0, |payload| payload.get().len());
        self.take(Arrived::Event { name, ack, event, bytes });
    }

    /// Ends the socket if its time is over: its token has run out, or none came.
    pub fn check_time(&self) {
        let Some(_) = self.rules.tokens else { return };
        let inbox = self.lock();
        if inbox.becoming.is_some() {
            // It may be a fresh token.
            return;
        }
        let over = match &inbox.identity {
            Some(identity) => identity
                .has_expired()
                .then_some((Refusal::InvalidToken(EXPIRED), "the token has run out")),
            None => (self.transport.since.elapsed() > self.rules.limits.authenticate_within)
                .then_some((Refusal::TokenRequired, "not authenticated in time")),
        };
        drop(inbox);
        if let Some((refusal, reason)) = over {
            self.outlet.dismiss(&refusal, reason);
        }
    }

    /// The rooms that the socket is in.
    pub fn rooms(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket is gone. What it sent before still takes effect.
    pub fn close(self: &Arc<Self>) {
        self.take(Arrived::Closed);
    }

    /// Accepts no more events. Those that have come are still handled.
    pub fn stop(&self) {
        self.lock().is_stopped = true;
    }

    /// Whether every event that has come is answered.
    pub fn is_idle(&self) -> bool {
        let inbox = self.lock();
        inbox.waiting.is_empty() && inbox.in_flight == 0
    }

    /// An event was answered. `unblocks` if the others waited for it.
    pub fn answered(self: &Arc<Self>, accepted: bool, unblocks: bool) {
        let mut inbox = self.lock();
        inbox.in_flight -= 1;
        if unblocks {
            if let Some(becoming) = inbox.becoming.take().filter(|_| accepted) {
                inbox.identity = Some(becoming);
            }
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
                let refusal = Refusal::RateLimited(Duration::from_secs(1));
                return self.outlet.dismiss(&refusal, "too many events at once");
            }
        }
        if inbox.is_blocked {
            inbox.waiting_bytes += arrived.bytes();
            inbox.waiting.push_back(arrived);
        } else {
            self.process(&mut inbox, arrived);
        }
    }

    fn resume(self: &Arc<Self>, inbox: &mut Inbox) {
        inbox.is_blocked = false;
        while !inbox.is_blocked
            && let Some(arrived) = inbox.waiting.pop_front()
        {
            inbox.waiting_bytes -= arrived.bytes();
            self.process(inbox, arrived);
        }
    }

    fn process(self: &Arc<Self>, inbox: &mut Inbox, arrived: Arrived) {
        let Arrived::Event { name, ack, event, .. } = arrived else {
            return self.hand_on(inbox, Cow::default(), None, Action::Disconnect);
        };
        let meaning = self.check(inbox, &name, event).and_then(|event| {
            interpret(event, inbox.identity.as_ref(), self.rules.tokens.as_ref())
        });
        let (action, becoming) = match meaning {
            Ok(meaning) => (meaning.action, meaning.becoming),
            // A refusal takes its place in the order of the answers as well.
            Err(refusal) => (Action::Refuse(refusal), None),
        };
        inbox.is_blocked = becoming.is_some() || action.reads();
        inbox.becoming = becoming;
        self.hand_on(inbox, name, ack, action);
    }

    /// What has to be right before it is asked what an event means.
    fn check(
        &self,
        inbox: &Inbox,
        name: &str,
        event: Result<ClientEvent, Refusal>,
    ) -> Result<ClientEvent, Refusal> {
        if let Err(Refusal::RateLimited(_)) = event {
            return event;
        }
        // A stranger does not even learn which events there are.
        if self.rules.tokens.is_some() && !ClientEvent::is_authenticate(name) {
            vouched_for(inbox.identity.as_ref())?;
        }
        if let Ok(ClientEvent::JoinConversation(event)) = &event {
            let rooms = self.rooms();
            if rooms.len() >= MAX_ROOMS && !rooms.contains(&event.conversation_id) {
                return Err(Refusal::too_many_rooms());
            }
        }
        event
    }

    fn hand_on(
        self: &Arc<Self>,
        inbox: &mut Inbox,
        event: Cow<'static, str>,
        ack: Option<i64>,
        action: Action,
    ) {
        inbox.in_flight += 1;
        let request = Request {
            session: self.clone(),
            event,
            arrived: Instant::now(),
            ack,
            becomes: inbox.becoming.as_ref().map(|identity| identity.user.clone()),
            unblocks: inbox.is_blocked,
        };
        self.commits.send(Command { request, action });
    }
}
