//! One socket: who it is, what its events mean, and in which order they take effect.
//!
//! Events are handed to the commit pipeline one after another, without waiting for the disk. Some
//! have to be answered before the next one can be understood: those that bind the socket to a
//! user, and those that read. Behind such an event the others wait here.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    commit::{Action, Command, Commits, Draft, Request},
    contract::{
        CONVERSATIONS_PAGE, ClientEvent, HISTORY_PAGE, Id, Incoming, Refusal, Text, message_named,
    },
    gateway::Outlet,
    storage::{Profile, Window},
};

/// How many events of one socket may be on their way at once.
const MAX_EVENTS_IN_FLIGHT: usize = 1_024;

/// Tells sockets apart for as long as the server runs.
pub type SocketId = u64;

pub struct Session {
    pub id: SocketId,
    pub outlet: Outlet,
    commits: Commits,
    inbox: Mutex<Inbox>,
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
}

/// The user a socket is bound to, and what it said of them.
#[derive(Clone)]
struct Identity {
    user: Id,
    name: Option<Arc<str>>,
    avatar: Option<Arc<str>>,
}

enum Arrived {
    Event { name: Cow<'static, str>, ack: Option<i64>, event: Result<ClientEvent, Refusal> },
    Closed,
}

/// What an event asks for, and who the socket becomes by it.
struct Meaning {
    action: Action,
    becoming: Option<Identity>,
}

impl Session {
    pub fn new(id: SocketId, outlet: Outlet, commits: Commits) -> Arc<Self> {
        let inbox = Inbox {
            identity: None,
            becoming: None,
            is_blocked: true,
            waiting: VecDeque::new(),
            in_flight: 0,
            is_flooded: false,
            is_stopped: false,
        };
        Arc::new(Self { id, outlet, commits, inbox: Mutex::new(inbox) })
    }

    /// The socket may be sent events from now on.
    pub fn open(self: &Arc<Self>) {
        let mut inbox = self.lock();
        inbox.is_blocked = false;
        self.hand_on(&mut inbox, Cow::default(), None, Action::Connect);
        self.resume(&mut inbox);
    }

    /// Takes an event. `ack` is the id of its callback, if it has one.
    pub fn receive(self: &Arc<Self>, incoming: &Incoming, ack: Option<i64>) {
        let event = ClientEvent::decode(incoming);
        let name = match &event {
            Ok(event) => event.name().into(),
            Err(_) => incoming.name.chars().take(Id::MAX_BYTES).collect::<String>().into(),
        };
        self.take(Arrived::Event { name, ack, event });
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
            inbox.is_flooded |= inbox.waiting.len() + inbox.in_flight >= MAX_EVENTS_IN_FLIGHT;
            if inbox.is_flooded {
                drop(inbox);
                return self.outlet.put_out("too many events at once");
            }
        }
        if inbox.is_blocked {
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
            self.process(inbox, arrived);
        }
    }

    fn process(self: &Arc<Self>, inbox: &mut Inbox, arrived: Arrived) {
        let Arrived::Event { name, ack, event } = arrived else {
            return self.hand_on(inbox, Cow::default(), None, Action::Disconnect);
        };
        let meaning = event.and_then(|event| interpret(event, inbox.identity.as_ref()));
        let (action, becoming) = match meaning {
            Ok(meaning) => (meaning.action, meaning.becoming),
            // A refusal takes its place in the order of the answers as well.
            Err(refusal) => (Action::Refuse(refusal), None),
        };
        inbox.is_blocked = becoming.is_some() || action.reads();
        inbox.becoming = becoming;
        self.hand_on(inbox, name, ack, action);
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
            ack,
            becomes: inbox.becoming.as_ref().map(|identity| identity.user.clone()),
            unblocks: inbox.is_blocked,
        };
        self.commits.send(Command { request, action });
    }
}

/// The id that an event acts for, and whether the socket is bound by it.
fn claim(identity: Option<&Identity>, claimed: Option<Id>) -> Result<(Identity, bool), Refusal> {
    match (identity, claimed) {
        (Some(identity), Some(claimed)) if identity.user != claimed => {
            Err(Refusal::IdentityMismatch)
        }
        (Some(identity), _) => Ok((identity.clone(), false)),
        (None, Some(user)) => Ok((Identity { user, name: None, avatar: None }, true)),
        (None, None) => Err(Refusal::Unauthenticated),
    }
}

fn interpret(event: ClientEvent, identity: Option<&Identity>) -> Result<Meaning, Refusal> {
    let claimed = |claimed| claim(identity, claimed);
    let (action, becoming) = match event {
        ClientEvent::Authenticate(event) => {
            let shared = |text: Option<Text<256>>| text.map(|text| text.shared());
            let profile = Profile {
                id: event.id,
                name: shared(event.name),
                email: shared(event.email),
                avatar: event.avatar.map(|avatar| avatar.shared()),
            };
            let becoming = Identity {
                user: profile.id.clone(),
                name: profile.name.clone(),
                avatar: profile.avatar.clone(),
            };
            (Action::Authenticate(profile), Some(becoming))
        }
        ClientEvent::JoinConversation(event) => {
            let (identity, binds) = claimed(event.user_id)?;
            let cursor = |id| message_named(&id).ok_or(Refusal::MessageNotFound);
            let window = match (event.before, event.after) {
                (Some(before), _) => Window::Before(cursor(before)?),
                (None, Some(after)) => Window::After(cursor(after)?),
                (None, None) => Window::Newest,
            };
            let action = Action::Join {
                conversation: event.conversation_id,
                user: identity.user.clone(),
                window,
                limit: event.limit.unwrap_or(HISTORY_PAGE),
            };
            (action, binds.then_some(identity))
        }
        ClientEvent::LeaveConversation(event) => {
            (Action::Leave { conversation: event.conversation_id }, None)
        }
        ClientEvent::SendMessage(event) => {
            let (identity, binds) = claimed(event.sender_id)?;
            let name = identity.name.clone().or(event.sender_name.map(|name| name.shared()));
            let draft = Draft {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                sender: identity.user.clone(),
                sender_name: name.unwrap_or_else(|| identity.user.as_str().into()),
                sender_avatar: identity.avatar.clone(),
                content: event.message.into(),
                client_message_id: event.client_message_id,
            };
            (Action::Send(draft), binds.then_some(identity))
        }
        ClientEvent::TypingStart(event) => {
            let (identity, _) = claimed(None)?;
            let name = identity.name.or(event.user_name.map(|name| name.shared()));
            let action = Action::StartTyping {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                name: name.unwrap_or_else(|| identity.user.as_str().into()),
                user: identity.user,
            };
            (action, None)
        }
        ClientEvent::TypingStop(event) => {
            let (identity, _) = claimed(None)?;
            let action = Action::StopTyping {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                user: identity.user,
            };
            (action, None)
        }
        ClientEvent::MarkAsRead(event) => {
            let (identity, binds) = claimed(event.user_id)?;
            let action = Action::MarkRead {
                conversation: event.conversation_id,
                recipient: event.recipient_id,
                reader: identity.user.clone(),
                messages: event.message_ids,
            };
            (action, binds.then_some(identity))
        }
        ClientEvent::ListConversations(event) => {
            let (identity, binds) = claimed(event.user_id)?;
            let action = Action::List {
                user: identity.user.clone(),
                before: event.before,
                limit: event.limit.unwrap_or(CONVERSATIONS_PAGE),
            };
            (action, binds.then_some(identity))
        }
    };
    Ok(Meaning { action, becoming })
}
