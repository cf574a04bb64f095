//! A client in a conversation that is played: the packets that it has received, and its open waits.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::script::What;
use crate::tools::client::{Client, Options, Received};

#[derive(Default)]
pub(super) struct PlayedClient {
    pub client: Option<Client>,
    pub options: Options,
    /// The answers that arrived during this step.
    pub received: Vec<(What, Vec<Value>)>,
    /// The names of the events since the last step that was no expectation.
    pub recent: Vec<String>,
    /// The number of the answer that the step waits for.
    pub asked: Option<u64>,
    /// The number of the answer that ends the step.
    pub barrier: Option<u64>,
    /// The numbers of answers that were given up. They belong to no step.
    pub late_barriers: Vec<u64>,
    /// Whether a barrier of this socket was ever answered as the contract says.
    pub conforms: bool,
}

impl PlayedClient {
    pub fn has_event(&self, event: &str) -> bool {
        self.received.iter().any(|(what, _)| matches!(what, What::Event(name) if name == event))
    }

    /// Leaves a room without members: the server always answers, and nothing changes.
    pub async fn ask_barrier(&mut self, limit: Duration) {
        if let Some(client) = &mut self.client {
            let id = client.new_ack();
            let nowhere = json!({ "conversationId": "-" });
            // A broken connection is the next thing that is received.
            let _ =
                timeout(limit, client.send("leave-conversation", vec![nowhere], Some(id))).await;
            self.barrier = Some(id);
        }
    }

    pub fn hear(&mut self, received: Result<Option<Received>>) {
        match received {
            Ok(Some(Received::Event { name, arguments })) => self.note(&name, arguments),
            Ok(Some(Received::Ack { id, arguments })) if self.barrier == Some(id) => {
                self.barrier = None;
                self.barrier_answered(&arguments);
            }
            Ok(Some(Received::Ack { id, .. })) if self.late_barriers.contains(&id) => {}
            Ok(Some(Received::Ack { id, arguments })) => {
                self.asked = self.asked.filter(|asked| *asked != id);
                self.received.push((What::Ack, arguments));
            }
            // The reasons have the names that the official client gives them.
            Ok(Some(Received::Disconnected)) => self.lose_connection("io server disconnect"),
            Ok(Some(Received::Unreadable(_))) => self.lose_connection("parse error"),
            Ok(None) | Err(_) => self.lose_connection("transport close"),
        }
    }

    fn barrier_answered(&mut self, arguments: &[Value]) {
        let Some(Value::Object(answer)) = arguments.first() else { return };
        self.conforms = answer.get("ok").is_some_and(Value::is_boolean);
        // The server emits an `error` for a refused barrier too, which belongs to no step.
        if let Some(code) = answer.get("error").and_then(|error| error.get("code")) {
            let is_its_error = |(what, arguments): &(What, Vec<Value>)| {
                matches!(what, What::Event(name) if name == "error")
                    && arguments.first().is_some_and(|error| error.get("code") == Some(code))
            };
            if let Some(index) = self.received.iter().rposition(is_its_error) {
                self.received.remove(index);
                if let Some(index) = self.recent.iter().rposition(|name| name == "error") {
                    self.recent.remove(index);
                }
            }
        }
    }

    pub fn note(&mut self, event: &str, arguments: Vec<Value>) {
        self.recent.push(event.to_owned());
        self.received.push((What::Event(event.to_owned()), arguments));
    }

    fn lose_connection(&mut self, reason: &str) {
        self.client = None;
        self.asked = None;
        self.barrier = None;
        self.note("disconnect", vec![reason.into()]);
    }
}
