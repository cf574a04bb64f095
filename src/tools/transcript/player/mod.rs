//! Plays a script with real clients, and notes the packets that they receive.
//!
//! A step is over when all its answers have arrived. If the server acknowledges as the contract
//! says, the player asks it: the answer to an event that changes nothing comes after everything
//! else, so the player never waits for the clock. On any other server, a step is over when nothing
//! has arrived for a quiet time.

mod settling;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::Result;
use indexmap::IndexMap;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    compare::pairs,
    names::Names,
    participant::PlayedClient,
    script::{Action, Answer, Content, Script, ScriptStep},
    server::{Running, Settle, Stage},
    transcript::{Stop, Transcript},
};
use crate::tools::client::{Client, ConnectError, Options};
use settling::{Settling, record_one};

/// Plays `script` against `server`.
///
/// # Errors
/// The server cannot be started or reached. Problems between the server and the clients are no
/// error, but stand in the transcript.
pub async fn play(script: Script, server: &Stage) -> Result<Transcript> {
    let running = Running::start(&server.target, script.settings()).await?;
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
    // The data of a server of its own is removed in any case.
    if let Err(error) = player.running.end().await {
        tracing::warn!(
            error = format!("{error:#}"),
            "a server of its own has left something behind"
        );
    }
    let (answers, stop) = played?;
    Ok(Transcript { script, answers, stop, ignores_order: false })
}

struct Player<'a> {
    server: &'a Stage,
    running: Running,
    end: Settling,
    /// The clients in the order in which they first appeared.
    clients: IndexMap<String, PlayedClient>,
    names: Names,
    /// Whether any client was ever connected, which proves that there is a server.
    has_connected: bool,
    /// Whether a client has vanished, and the server may not have noticed yet.
    is_unsettled: bool,
    /// Events that this server does not acknowledge. The player does not wait for them again.
    unacknowledged: HashSet<String>,
}

/// The reason why a conversation cannot go on.
enum Halt {
    /// The conversation did not go as the file says.
    Step(String),
    /// There is no server.
    Stage(anyhow::Error),
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
                Err(Halt::Stage(error)) => {
                    return Err(error.context(format!("line {}: {}", line.number, line.text)));
                }
            }
        }
        Ok((answers, None))
    }

    async fn step(&mut self, step: &ScriptStep) -> Stepped {
        if !matches!(step, ScriptStep::Client { action: Action::ExpectNo { .. }, .. }) {
            self.clients.values_mut().for_each(|participant| participant.recent.clear());
        }
        let waits = matches!(
            step,
            ScriptStep::Pause(_)
                | ScriptStep::Client { action: Action::Await { .. } | Action::Vanish, .. }
        );
        if std::mem::take(&mut self.is_unsettled) && !waits {
            return halt(
                "somebody has vanished, and the server notices when it does: wait for it first \
                 (CLIENT awaits EVENT, or pause TIME)",
            );
        }
        match step {
            ScriptStep::Client { client, action } => self.act(client, action).await,
            ScriptStep::Pause(duration) => {
                self.record_until(*duration, |_| false).await;
                self.settle(None).await
            }
            ScriptStep::Restart => self.restart().await,
        }
    }

    async fn act(&mut self, name: &str, action: &Action) -> Stepped {
        let entry = self.clients.entry(name.into());
        let index = entry.index();
        entry.or_default();
        match action {
            Action::Connect(options) => {
                self.clients[index].options = Options::clone(options);
                self.connect(index).await
            }
            Action::Reconnect => {
                if self.clients[index].client.is_some() {
                    self.disconnect(index).await?;
                }
                self.connect(index).await
            }
            Action::ExpectNo { event, within } => {
                self.expect_no(index, event.as_deref(), *within).await
            }
            _ if self.clients[index].client.is_none() => halt(format!("{name} is not connected")),
            Action::Disconnect => self.disconnect(index).await,
            Action::Vanish => self.vanish(index).await,
            Action::Await { event, within } => self.wait_for(name, index, event, *within).await,
            Action::Emit { event, arguments, asks } => {
                self.emit(name, index, event, arguments.clone(), *asks).await
            }
        }
    }

    /// Breaks a client's connection.
    async fn vanish(&mut self, index: usize) -> Stepped {
        self.clients[index].client = None;
        if self.end != Settling::Asking {
            return self.settle(None).await;
        }
        // The time at which the server notices is unknown: an `awaits` waits for it.
        self.is_unsettled = true;
        Ok(())
    }

    async fn wait_for(
        &mut self,
        name: &str,
        index: usize,
        event: &str,
        within: Option<Duration>,
    ) -> Stepped {
        let limit = within.unwrap_or(self.server.timeout);
        let is_over = |clients: &IndexMap<String, PlayedClient>| {
            clients[index].client.is_none() || clients[index].has_event(event)
        };
        self.record_until(limit, is_over).await;
        if self.clients[index].has_event(event) {
            return self.settle(Some(index)).await;
        }
        halt(format!("{name} received no {event} within {limit:?}"))
    }

    async fn emit(
        &mut self,
        name: &str,
        index: usize,
        event: &str,
        mut arguments: Vec<Value>,
        asks: bool,
    ) -> Stepped {
        for argument in &mut arguments {
            self.names.resolve(argument).map_err(Halt::Step)?;
        }
        let limit = self.server.timeout;
        let PlayedClient { client: Some(client), asked, .. } = &mut self.clients[index] else {
            return halt(format!("{name} is not connected"));
        };
        *asked = asks.then(|| client.new_ack());
        // The transcript shows a broken connection.
        if timeout(limit, client.send(event, arguments, *asked)).await.is_err() {
            return halt(format!("the server does not take what {name} sends"));
        }
        if asks && !self.unacknowledged.contains(event) {
            // A missing answer is a difference, and not the end.
            let is_answered =
                |clients: &IndexMap<String, PlayedClient>| clients[index].asked.is_none();
            if !self.record_until(limit, is_answered).await && self.end != Settling::Asking {
                self.unacknowledged.insert(event.to_owned());
            }
        }
        self.settle(Some(index)).await
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
            Ok(Err(ConnectError::Unreachable(error))) => return Err(Halt::Stage(error)),
            // The official client reports the same.
            Err(_) => participant.note("connect_error", vec![json!({ "message": "timeout" })]),
        }
        self.settle(Some(index)).await
    }

    async fn disconnect(&mut self, index: usize) -> Stepped {
        if let Some(client) = self.clients[index].client.take() {
            let leaving = async {
                match self.end {
                    Settling::Asking => client.disconnect().await,
                    _ => client.leave().await,
                }
            };
            // A client that is gone already needs no goodbye.
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
        let has_come = |clients: &IndexMap<String, PlayedClient>| {
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
        restarted.map_err(Halt::Stage)
    }

    /// The answers of this step, with names for values that change. `expected` are the answers in
    /// the file, which know some of the names.
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

/// The options of a connection, with its variables replaced by their texts.
fn resolved(options: &Options, names: &mut Names) -> std::result::Result<Options, String> {
    let mut value = serde_json::to_value(options).map_err(|error| error.to_string())?;
    names.resolve(&mut value)?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}
