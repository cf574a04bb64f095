//! The recorded conversation: the steps in their order, each with its answers.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::tools::{
    client::{Options, TransportKind, packet::Packet},
    transcript::{Action, What},
};

/// The time that an answer may take before the next step goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait that a file may ask for.
pub(super) const LONGEST: Duration = Duration::from_secs(60 * 60);
/// A conversation that goes on.
pub struct Recording {
    state: Mutex<Log>,
    /// Held by the acting client. The lock is fair, so the order is that of arrival.
    turn: tokio::sync::Mutex<()>,
    arrived: Notify,
    quiet: Duration,
}

pub(super) struct Log {
    pub sessions: Vec<ClientSession>,
    pub steps: Vec<Recorded>,
    /// The time of the last step, or of its last answer.
    last: Instant,
    /// The answer that the last step still waits for.
    asked: Option<Asked>,
    /// Whether this server has left an acknowledgement out. The recording waits for no further
    /// ones.
    is_silent: bool,
}

/// An answer that a session waits for.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Connection(usize),
    Ack(usize, u64),
}

/// One connection of a client to the namespace.
pub(super) struct ClientSession {
    pub options: Options,
    /// The user that the client claims to be.
    pub user: Option<String>,
    /// The id that the server gave to the socket.
    pub socket: String,
    /// The steps in which it began and ended.
    pub began: usize,
    pub ended: Option<usize>,
}

pub(super) struct Recorded {
    pub cause: Cause,
    pub answers: Vec<(usize, What, Vec<Value>)>,
}

pub(super) enum Cause {
    /// A client, by its session, has acted.
    Client(usize, Action),
    /// A client has done something that a file cannot hold.
    Untold(usize, String),
    /// No client has acted for this time.
    Time(Duration),
}

impl Recording {
    /// A step is over when nothing has arrived for the time `quiet`.
    pub fn new(quiet: Duration) -> Self {
        let state = Log {
            sessions: Vec::new(),
            steps: Vec::new(),
            last: Instant::now(),
            asked: None,
            is_silent: false,
        };
        Self {
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::default(),
            arrived: Notify::new(),
            quiet,
        }
    }

    /// Notes that a client connects with these options, once it is its turn. Returns the session.
    pub async fn connects(&self, options: Options, auth: Value) -> usize {
        let _turn = self.next_turn().await;
        let mut state = self.state();
        let session = state.sessions.len();
        let began = state.steps.len();
        let auth = Some(auth).filter(|auth| !auth.is_null());
        let options = Options { auth, ..options };
        let socket = String::new();
        state.sessions.push(ClientSession { options, user: None, socket, began, ended: None });
        state.step(Cause::Client(session, Action::Connect(Box::default())));
        state.asked = Some(Asked::Connection(session));
        session
    }

    /// Notes that a client disconnects, once it is its turn.
    pub async fn disconnects(&self, session: usize) {
        let _turn = self.next_turn().await;
        let mut state = self.state();
        state.end(session);
        state.step(Cause::Client(session, Action::Disconnect));
    }

    /// Notes an event that a client sends, once it is its turn.
    pub async fn emits(
        &self,
        session: usize,
        ack: Option<u64>,
        event: String,
        arguments: Vec<Value>,
    ) {
        let _turn = self.next_turn().await;
        let mut state = self.state();
        state.meet(session, &event, arguments.first());
        let action = Action::Emit { event, arguments, asks: ack.is_some() };
        state.step(Cause::Client(session, action));
        state.asked = ack.filter(|_| !state.is_silent).map(|id| Asked::Ack(session, id));
    }

    /// Notes that a client sends something that a file cannot hold, once it is its turn.
    pub async fn does(&self, session: usize, what: String) {
        let _turn = self.next_turn().await;
        self.state().step(Cause::Untold(session, what));
    }

    /// Notes that a client has gone without a disconnect.
    pub async fn vanished(&self, session: usize) {
        let _turn = self.next_turn().await;
        let mut state = self.state();
        state.end(session);
        state.step(Cause::Client(session, Action::Vanish));
    }

    /// Notes a packet that a client receives. Returns whether its session goes on.
    pub fn received(&self, session: usize, packet: Packet) -> bool {
        let mut state = self.state();
        let goes_on = match packet {
            Packet::Connect(answer) => {
                let socket = answer["sid"].as_str().unwrap_or_default();
                state.sessions[session].socket = socket.into();
                state.last = Instant::now();
                state.asked = state.asked.filter(|asked| *asked != Asked::Connection(session));
                true
            }
            Packet::Event { name, arguments, .. } => {
                state.answer(session, What::Event(name), arguments, self.quiet);
                true
            }
            Packet::Ack { id, arguments } => {
                state.answer(session, What::Ack, arguments, self.quiet);
                state.asked = state.asked.filter(|asked| *asked != Asked::Ack(session, id));
                true
            }
            Packet::ConnectError(error) => {
                state.ends_by_server(session, "connect_error", error, self.quiet);
                false
            }
            Packet::Disconnect => {
                state.ends_by_server(
                    session,
                    "disconnect",
                    "io server disconnect".into(),
                    self.quiet,
                );
                false
            }
        };
        self.arrived.notify_waiters();
        goes_on
    }

    /// Notes that the server has closed a client's connection.
    pub fn closed(&self, session: usize) {
        self.state().ends_by_server(session, "disconnect", "transport close".into(), self.quiet);
        self.arrived.notify_waiters();
    }

    /// Notes that a session goes on over another transport.
    pub fn uses(&self, session: usize, transport: TransportKind) {
        // The default transport is not named.
        let named = Some([transport]).filter(|_| transport != TransportKind::default());
        self.state().sessions[session].options.transports = named;
    }

    /// A number that grows with every packet and step.
    pub fn changes(&self) -> usize {
        let state = self.state();
        state.steps.len() + state.steps.iter().map(|step| step.answers.len()).sum::<usize>()
    }

    /// The number of steps so far.
    pub fn steps(&self) -> usize {
        self.state().steps.len()
    }

    /// The number of connections of clients so far.
    pub fn clients(&self) -> usize {
        self.state().sessions.len()
    }

    /// The conversation file.
    pub fn text(&self) -> String {
        self.state().text(self.quiet)
    }

    /// Waits for the turn of this step, and until the answers to the last one have arrived.
    async fn next_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        loop {
            let arrived = self.arrived.notified();
            let over_at = {
                let state = self.state();
                let limit = if state.asked.is_some() { PATIENCE } else { self.quiet };
                // The first step has nothing to wait for.
                if state.steps.is_empty() { Instant::now() } else { state.last + limit }
            };
            if over_at <= Instant::now() {
                let mut state = self.state();
                if let Some(Asked::Ack(..)) = state.asked.take() {
                    state.is_silent = true;
                }
                return turn;
            }
            tokio::select! {
                () = sleep_until(over_at) => {}
                () = arrived => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, Log> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn step(&mut self, cause: Cause) {
        self.steps.push(Recorded { cause, answers: Vec::new() });
        self.last = Instant::now();
        self.asked = None;
    }

    fn answer(&mut self, session: usize, what: What, arguments: Vec<Value>, quiet: Duration) {
        let idle = self.last.elapsed();
        if self.asked.is_none() && idle >= quiet {
            self.step(Cause::Time(idle));
        }
        if let Some(step) = self.steps.last_mut() {
            step.answers.push((session, what, arguments));
        }
        self.last = Instant::now();
    }

    fn ends_by_server(&mut self, session: usize, what: &str, why: Value, quiet: Duration) {
        self.answer(session, What::Event(what.into()), vec![why], quiet);
        let asks = |asked: &Asked| match asked {
            Asked::Connection(asker) | Asked::Ack(asker, _) => *asker == session,
        };
        self.asked = self.asked.filter(|asked| !asks(asked));
        self.end(session);
    }

    fn end(&mut self, session: usize) {
        self.sessions[session].ended.get_or_insert(self.steps.len());
    }

    /// Notes the user of a client: the one of its authentication, else the first one that its
    /// events name.
    fn meet(&mut self, session: usize, event: &str, payload: Option<&Value>) {
        let field = if event == "authenticate" { &["id"][..] } else { &["userId", "senderId"] };
        let claimed =
            payload.and_then(|payload| field.iter().find_map(|name| payload.get(name)?.as_str()));
        if let Some(user) = claimed {
            self.sessions[session].user.get_or_insert_with(|| user.to_owned());
        }
    }
}
