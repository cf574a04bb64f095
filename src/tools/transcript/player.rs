//! Plays a script with real clients, and notes what they receive.
//!
//! A step is over when all that it brought has arrived. A server that acknowledges as the contract
//! says is asked: the answer to an event that changes nothing comes behind everything else, so
//! nothing is waited for by the clock. Of any other server, a step is over when nothing has come
//! for a quiet time.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::Result;
use futures_util::future::select_all;
use indexmap::IndexMap;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{
    compare::pairs,
    names::Names,
    participant::Participant,
    script::{Action, Answer, Content, Script, Step},
    server::{Running, Server, Settle},
    transcript::{Stop, Transcript},
};
use crate::tools::client::{Client, ConnectError, Options};

/// Plays `script` against `server`.
///
/// # Errors
/// There is no server. What happens between the server and the clients is no error, but stands in
/// the transcript.
pub async fn play(script: Script, server: &Server) -> Result<Transcript> {
    let running = Running::start(&server.place, script.settings()).await?;
    let end = match (server.settle, &running) {
        (Some(Settle::Ask), _) | (None, Running::Own(_)) => Settling::Asking,
        (Some(Settle::Quiet), _) => Settling::Quiet,
        (None, Running::At(_)) => Settling::Unknown,
    };
    let mut player = Player {
        server,
        running,
        end,
        clients: IndexMap::new(),
        names: Names::default(),
        has_connected: false,
        is_unsettled: false,
        unacknowledged: HashSet::new(),
    };
    let played = player.play_all(&script).await;
    // Whatever happened, the data of a server of its own is removed.
    if let Err(error) = player.running.end().await {
        tracing::warn!(
            error = format!("{error:#}"),
            "a server of its own has left something behind"
        );
    }
    let (answers, stop) = played?;
    Ok(Transcript { script, answers, stop, ignores_order: false })
}

/// How the end of a step is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    /// By the answer to an event that changes nothing.
    Asking,
    /// By the clock.
    Quiet,
    /// The first client that connects finds out.
    Unknown,
}

struct Player<'a> {
    server: &'a Server,
    running: Running,
    end: Settling,
    /// In the order in which they first appeared.
    clients: IndexMap<String, Participant>,
    names: Names,
    /// Whether any client was ever connected: there is a server.
    has_connected: bool,
    /// Somebody has vanished, and the server may not have noticed yet.
    is_unsettled: bool,
    /// Events that this server does not acknowledge. Nobody waits for it again.
    unacknowledged: HashSet<String>,
}

/// Why a conversation cannot go on.
enum Halt {
    /// It did not go as the file says.
    Step(String),
    /// There is no server.
    Server(anyhow::Error),
}

type Stepped = std::result::Result<(), Halt>;

fn halt(reason: impl Into<String>) -> Stepped {
    Err(Halt::Step(reason.into()))
}

impl Player<'_> {
    async fn play_all(
        &mut self,
        script: &Script,
    ) -> Result<(BTreeMap<usize, Vec<Answer>>, Option<Stop>)> {
        let mut answers = BTreeMap::new();
        for (index, line) in script.lines.iter().enumerate() {
            let Content::Step(step) = &line.content else { continue };
            let stepped = self.step(step).await;
            answers.insert(index, self.take_received(&script.answers_below(index)));
            match stepped {
                Ok(()) => {}
                Err(Halt::Step(reason)) => {
                    return Ok((answers, Some(Stop { line: line.number, reason })));
                }
                Err(Halt::Server(error)) => {
                    return Err(error.context(format!("line {}: {}", line.number, line.text)));
                }
            }
        }
        Ok((answers, None))
    }

    async fn step(&mut self, step: &Step) -> Stepped {
        if !matches!(step, Step::Client { action: Action::ExpectNo { .. }, .. }) {
            self.clients.values_mut().for_each(|participant| participant.recent.clear());
        }
        let waits = matches!(
            step,
            Step::Pause(_) | Step::Client { action: Action::Await { .. } | Action::Vanish, .. }
        );
        if std::mem::take(&mut self.is_unsettled) && !waits {
            return halt(
                "somebody has vanished, and the server notices when it does: wait for it first \
                 (CLIENT awaits EVENT, or pause TIME)",
            );
        }
        match step {
            Step::Client { client, action } => self.act(client, action).await,
            Step::Pause(duration) => {
                self.record_until(*duration, |_| false).await;
                self.settle(None).await
            }
            Step::Restart => self.restart().await,
        }
    }

    async fn act(&mut self, name: &str, action: &Action) -> Stepped {
        let index = self.clients.entry(name.into()).index();
        let participant = self.clients.entry(name.into()).or_default();
        let limit = self.server.timeout;
        match action {
            Action::Connect(options) => {
                participant.options = Options::clone(options);
                return self.connect(index).await;
            }
            Action::Reconnect => {
                if participant.client.is_some() {
                    self.disconnect(index).await?;
                }
                return self.connect(index).await;
            }
            Action::ExpectNo { event, within } => {
                return self.expect_no(index, event.as_deref(), *within).await;
            }
            _ => {}
        }
        let Some(client) = &mut participant.client else {
            return halt(format!("{name} is not connected"));
        };
        match action {
            Action::Disconnect => self.disconnect(index).await,
            Action::Vanish => {
                participant.client = None;
                match self.end {
                    // When the server notices cannot be known: an `awaits` tells.
                    Settling::Asking => {
                        self.is_unsettled = true;
                        Ok(())
                    }
                    _ => self.settle(None).await,
                }
            }
            Action::Await { event, within } => {
                let limit = within.unwrap_or(limit);
                let is_over = |clients: &IndexMap<String, Participant>| {
                    clients[index].client.is_none() || clients[index].has_event(event)
                };
                self.record_until(limit, is_over).await;
                if self.clients[index].has_event(event) {
                    return self.settle(Some(index)).await;
                }
                halt(format!("{name} received no {event} within {limit:?}"))
            }
            Action::Emit { event, arguments, asks } => {
                let mut arguments = arguments.clone();
                for argument in &mut arguments {
                    self.names.resolve(argument).map_err(Halt::Step)?;
                }
                participant.asked = asks.then(|| client.new_ack());
                // If the connection has broken, the transcript will say so.
                if timeout(limit, client.send(event, arguments, participant.asked)).await.is_err() {
                    return halt(format!("the server does not take what {name} sends"));
                }
                if *asks && !self.unacknowledged.contains(event) {
                    // An answer that does not come is a difference, and not the end.
                    let is_answered =
                        |clients: &IndexMap<String, Participant>| clients[index].asked.is_none();
                    if !self.record_until(limit, is_answered).await && self.end != Settling::Asking
                    {
                        self.unacknowledged.insert(event.clone());
                    }
                }
                self.settle(Some(index)).await
            }
            Action::Connect(_) | Action::Reconnect | Action::ExpectNo { .. } => {
                unreachable!("done above")
            }
        }
    }

    async fn connect(&mut self, index: usize) -> Stepped {
        let participant = &mut self.clients[index];
        if participant.client.is_some() {
            return halt("this client is connected already");
        }
        let mut options = resolved(&participant.options, &mut self.names).map_err(Halt::Step)?;
        options.transports.get_or_insert([self.server.transport]);
        let connecting = Client::connect_with(self.running.url(), &options);
        match timeout(self.server.timeout, connecting).await {
            Ok(Ok(client)) => {
                self.names.socket(client.id());
                participant.client = Some(client);
                self.has_connected = true;
                if self.end == Settling::Unknown {
                    self.find_out(index).await?;
                }
            }
            Ok(Err(ConnectError::Refused(error))) => participant.note("connect_error", vec![error]),
            Ok(Err(ConnectError::Status(status))) => {
                let message = format!("HTTP status {}", status.as_u16());
                participant.note("connect_error", vec![json!({ "message": message })]);
            }
            Ok(Err(ConnectError::Unreachable(error))) if self.has_connected => {
                return halt(format!("the server does not take the connection: {error:#}"));
            }
            Ok(Err(ConnectError::Unreachable(error))) => return Err(Halt::Server(error)),
            // As the official client tells it.
            Err(_) => participant.note("connect_error", vec![json!({ "message": "timeout" })]),
        }
        self.settle(Some(index)).await
    }

    /// Whether this server acknowledges as the contract says.
    async fn find_out(&mut self, index: usize) -> Stepped {
        // What the connection brings comes first, so that it is not taken for an answer.
        self.settle(None).await?;
        let received = self.clients[index].received.len();
        let limit = self.server.quiet * 4;
        self.clients[index].ask_barrier(limit).await;
        self.record_until(limit, |clients| clients[index].barrier.is_none()).await;
        let participant = &mut self.clients[index];
        participant.late_barriers.extend(participant.barrier.take());
        if participant.conforms {
            self.end = Settling::Asking;
        } else {
            self.end = Settling::Quiet;
            // What such a server says to an event that it does not know, no step has brought.
            participant.received.truncate(received);
        }
        Ok(())
    }

    async fn disconnect(&mut self, index: usize) -> Stepped {
        if let Some(client) = self.clients[index].client.take() {
            let leaving = async {
                match self.end {
                    Settling::Asking => client.disconnect().await,
                    _ => client.leave().await,
                }
            };
            // Whoever is gone already needs no goodbye.
            let _ = timeout(self.server.timeout, leaving).await;
        }
        self.settle(None).await
    }

    async fn expect_no(
        &mut self,
        index: usize,
        event: Option<&str>,
        within: Option<Duration>,
    ) -> Stepped {
        let has_come = |clients: &IndexMap<String, Participant>| {
            let recent = &clients[index].recent;
            event.map_or(!recent.is_empty(), |event| recent.iter().any(|name| name == event))
        };
        self.record_until(within.unwrap_or_default(), has_come).await;
        self.settle(Some(index)).await?;
        if has_come(&self.clients) {
            let (name, participant) = self.clients.get_index(index).expect("it was just there");
            let came = event.unwrap_or(&participant.recent[0]);
            return halt(format!("{name} received {came}"));
        }
        Ok(())
    }

    async fn restart(&mut self) -> Stepped {
        let Running::Own(own) = &mut self.running else {
            return halt("only a server of one's own can be restarted (without --url)");
        };
        let deadline = Instant::now() + self.server.timeout;
        let closed = async {
            while self.clients.values().any(|participant| participant.client.is_some()) {
                if !record_one(&mut self.clients, deadline).await {
                    break;
                }
            }
        };
        let (restarted, ()) = tokio::join!(own.restart(self.server.timeout), closed);
        restarted.map_err(Halt::Server)
    }

    /// Waits until everybody has received what the step brought, the client that acted first.
    async fn settle(&mut self, actor: Option<usize>) -> Stepped {
        if self.end != Settling::Asking {
            let deadline = Instant::now() + self.server.timeout;
            while Instant::now() < deadline
                && record_one(&mut self.clients, Instant::now() + self.server.quiet).await
            {
            }
            return Ok(());
        }
        let others = (0..self.clients.len()).filter(|index| Some(*index) != actor).collect();
        for group in [actor.into_iter().collect::<Vec<_>>(), others] {
            for index in group {
                self.clients[index].ask_barrier(self.server.timeout).await;
            }
            let is_over = |clients: &IndexMap<String, Participant>| {
                clients.values().all(|participant| participant.barrier.is_none())
            };
            if !self.record_until(self.server.timeout, is_over).await {
                let silent = self.clients.iter().find(|(_, other)| other.barrier.is_some());
                let (name, _) = silent.expect("somebody has no answer");
                let limit = self.server.timeout;
                return halt(format!("the server does not answer {name} within {limit:?}"));
            }
        }
        Ok(())
    }

    /// Records what anybody receives until it is `enough`, for at most `limit`.
    async fn record_until(
        &mut self,
        limit: Duration,
        enough: impl Fn(&IndexMap<String, Participant>) -> bool,
    ) -> bool {
        let deadline = Instant::now() + limit;
        while !enough(&self.clients) {
            if !record_one(&mut self.clients, deadline).await {
                return false;
            }
        }
        true
    }

    /// What was received in this step, with names for what changes. `expected` is what the file
    /// says of it, and knows some of the names.
    fn take_received(&mut self, expected: &[&Answer]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (client, participant) in &mut self.clients {
            for (what, arguments) in participant.received.drain(..) {
                answers.push(Answer { client: client.clone(), what, arguments });
            }
        }
        for (expected_at, answer_at) in pairs(expected, &answers).both() {
            let arguments =
                expected[expected_at].arguments.iter().zip(&answers[answer_at].arguments);
            arguments.for_each(|(expected, actual)| self.names.bind(expected, actual));
        }
        let arguments = answers.iter_mut().flat_map(|answer| &mut answer.arguments);
        arguments.for_each(|argument| self.names.name(argument));
        answers
    }
}

/// The options of a connection with what their variables stand for.
fn resolved(options: &Options, names: &mut Names) -> std::result::Result<Options, String> {
    let mut value = serde_json::to_value(options).map_err(|error| error.to_string())?;
    names.resolve(&mut value)?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Records the next thing that anybody receives, if it comes before the deadline.
async fn record_one(clients: &mut IndexMap<String, Participant>, deadline: Instant) -> bool {
    let listening = clients.values_mut().enumerate().filter_map(|(index, participant)| {
        let client = participant.client.as_mut()?;
        Some(Box::pin(async move { (index, client.receive().await) }))
    });
    let listening: Vec<_> = listening.collect();
    if listening.is_empty() {
        sleep_until(deadline).await;
        return false;
    }
    let Ok(((index, received), ..)) = timeout_at(deadline, select_all(listening)).await else {
        return false;
    };
    clients[index].hear(received);
    true
}
