//! What has passed: the steps in their order, each with what came of it.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indexmap::IndexSet;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::tools::{
    client::{Options, TransportKind, packet::Packet},
    transcript::{Action, Answer, Names, Shown, Step, What, is_client},
};

/// How long an answer may take before the next step goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait that a file may ask for.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// A pause between two steps that is longer than this is told to who waits for an event.
const LONG: Duration = Duration::from_secs(2);

/// A conversation that goes on.
pub struct Recording {
    state: Mutex<State>,
    /// Held by who acts. Fair, so the order is that of arrival.
    turn: tokio::sync::Mutex<()>,
    arrived: Notify,
    quiet: Duration,
}

struct State {
    sessions: Vec<Session>,
    steps: Vec<Recorded>,
    /// The last step, or the last thing that came of it.
    last: Instant,
    /// The answer that the last step still waits for.
    asked: Option<Asked>,
    /// Whether this server has left an acknowledgement out. Nobody waits for another one.
    is_silent: bool,
}

/// An answer that somebody waits for, by the session.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Connection(usize),
    Ack(usize, u64),
}

/// One connection of a client to the namespace.
struct Session {
    options: Options,
    /// Whom it says it is.
    user: Option<String>,
    /// What the server calls it.
    socket: String,
    /// The steps in which it began and ended.
    began: usize,
    ended: Option<usize>,
}

struct Recorded {
    cause: Cause,
    answers: Vec<(usize, What, Vec<Value>)>,
}

enum Cause {
    /// A client, by its session, has done something.
    Client(usize, Action),
    /// It has done something that a file cannot hold.
    Untold(usize, String),
    /// Nobody has done anything, for so long.
    Time(Duration),
}

impl Recording {
    /// A step is over when nothing has come for the time `quiet`.
    pub fn new(quiet: Duration) -> Self {
        let state = State {
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
        state.sessions.push(Session { options, user: None, socket, began, ended: None });
        state.step(Cause::Client(session, Action::Connect(Box::default())));
        state.asked = Some(Asked::Connection(session));
        session
    }

    /// Notes that a client says goodbye, once it is its turn.
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

    /// Notes that a client sends what a file cannot hold, once it is its turn.
    pub async fn does(&self, session: usize, what: String) {
        let _turn = self.next_turn().await;
        self.state().step(Cause::Untold(session, what));
    }

    /// Notes that a client has gone without a word.
    pub async fn vanished(&self, session: usize) {
        let _turn = self.next_turn().await;
        let mut state = self.state();
        state.end(session);
        state.step(Cause::Client(session, Action::Vanish));
    }

    /// Notes what a client receives. Returns whether its session goes on.
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
        // One that is used anyway is not named.
        let named = Some([transport]).filter(|_| transport != TransportKind::default());
        self.state().sessions[session].options.transports = named;
    }

    /// A number that grows with everything that passes.
    pub fn changes(&self) -> usize {
        let state = self.state();
        state.steps.len() + state.steps.iter().map(|step| step.answers.len()).sum::<usize>()
    }

    /// How many steps there are so far.
    pub fn steps(&self) -> usize {
        self.state().steps.len()
    }

    /// How many connections of clients there were so far.
    pub fn clients(&self) -> usize {
        self.state().sessions.len()
    }

    /// The conversation file.
    pub fn text(&self) -> String {
        self.state().text(self.quiet)
    }

    /// Waits for one's turn, and until what the last step brought has come.
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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

    /// Learns who a client is: by its authentication, else by what its events say first.
    fn meet(&mut self, session: usize, event: &str, payload: Option<&Value>) {
        let field = if event == "authenticate" { &["id"][..] } else { &["userId", "senderId"] };
        let claimed =
            payload.and_then(|payload| field.iter().find_map(|name| payload.get(name)?.as_str()));
        if let Some(user) = claimed {
            self.sessions[session].user.get_or_insert_with(|| user.to_owned());
        }
    }

    /// The name of each session's client. Somebody who comes back after having gone is the same
    /// client again; a second tab is another one.
    fn clients(&self) -> Vec<String> {
        let mut last_of: HashMap<String, &Session> = HashMap::new();
        let mut clients = Vec::new();
        for session in &self.sessions {
            let word = client_word(session.user.as_deref().unwrap_or_default());
            let numbered = (2..).map(|number| format!("{word}-{number}"));
            let is_free = |name: &String| {
                let last = last_of.get(name);
                last.is_none_or(|last| last.ended.is_some_and(|ended| ended <= session.began))
            };
            let mut names = std::iter::once(word.clone()).chain(numbered);
            let name = names.find(is_free).expect("numbers do not end");
            last_of.insert(name.clone(), session);
            clients.push(name);
        }
        clients
    }

    fn text(&self, quiet: Duration) -> String {
        let clients = self.clients();
        let mut appeared = IndexSet::new();
        let mut names = Names::default();
        for step in &self.steps {
            if let Cause::Client(_, Action::Emit { arguments, .. }) = &step.cause {
                arguments.iter().for_each(|argument| names.will_be_sent(argument));
            }
        }
        let mut text = String::new();
        let mut shown = Shown::default();
        for Recorded { cause, answers } in &self.steps {
            if let Cause::Client(session, Action::Connect(_)) = cause {
                names.socket(&self.sessions[*session].socket);
                appeared.insert(&*clients[*session]);
            }
            self.write_cause(&mut text, cause, &clients, &mut names);
            let mut answers: Vec<_> = answers
                .iter()
                .map(|(session, what, arguments)| Answer {
                    client: clients[*session].clone(),
                    what: what.clone(),
                    arguments: arguments.clone(),
                })
                .collect();
            answers.sort_by_key(|answer| appeared.get_index_of(&*answer.client));
            if matches!(cause, Cause::Time(_) | Cause::Client(_, Action::Vanish)) {
                write_wait(&mut text, cause, &answers, quiet);
            }
            // Nobody can bring these about again.
            let mark = if matches!(cause, Cause::Untold(..)) { "#" } else { "" };
            shown.next_step();
            for mut answer in answers {
                answer.arguments.iter_mut().for_each(|argument| names.name(argument));
                // A comment is not read, so nothing may stand for what it says.
                let written = match mark {
                    "" => format!("  {}", shown.write(&answer)),
                    mark => format!("{mark}{answer}"),
                };
                let _ = writeln!(text, "{written}");
            }
        }
        text
    }

    fn write_cause(&self, text: &mut String, cause: &Cause, clients: &[String], names: &mut Names) {
        let (session, mut action) = match cause {
            Cause::Client(session, action) => (*session, action.clone()),
            Cause::Untold(session, what) => {
                let _ = writeln!(text, "# {} {what}.", clients[*session]);
                return;
            }
            Cause::Time(_) => return,
        };
        match &mut action {
            Action::Connect(options) => {
                **options = self.sessions[session].options.clone();
                options.auth.iter_mut().for_each(|auth| names.name_sent(auth));
                for text in options.query.values_mut().chain(options.extra_headers.values_mut()) {
                    let mut value = Value::from(std::mem::take(text));
                    names.name_sent(&mut value);
                    *text = value.as_str().unwrap_or_default().into();
                }
            }
            Action::Emit { arguments, .. } => {
                arguments.iter_mut().for_each(|argument| names.name_sent(argument));
            }
            _ => {}
        }
        let _ = writeln!(text, "{}", Step::Client { client: clients[session].clone(), action });
    }
}

/// Writes how to wait for what comes at a time that nobody knows.
fn write_wait(text: &mut String, cause: &Cause, answers: &[Answer], quiet: Duration) {
    let event = answers.iter().find_map(|answer| match &answer.what {
        What::Event(event) => Some((answer.client.clone(), event.clone())),
        What::Ack => None,
    });
    let step = match (event, cause) {
        (Some((client, event)), cause) => {
            let within = match cause {
                Cause::Time(idle) if *idle > LONG => {
                    Some(Duration::from_secs(idle.as_secs() + 5).min(LONGEST))
                }
                _ => None,
            };
            Step::Client { client, action: Action::Await { event, within } }
        }
        // Nobody has seen the server take note of it.
        (None, _) => Step::Pause(quiet),
    };
    let _ = writeln!(text, "{step}");
}

/// A user's id as the name of a client.
fn client_word(user: &str) -> String {
    let word: String = user
        .chars()
        .map(|c| if c.is_alphanumeric() || "-_.@".contains(c) { c } else { '-' })
        .collect();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    if is_client(word) { word.into() } else { "client".into() }
}
