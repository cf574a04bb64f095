//! Plays a script with real clients, and writes down what they receive.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use serde_json::json;
use tokio::time::timeout;

use super::{
    names::Names,
    script::{Action, Script, Step},
};
use crate::client::{Client, Received};

/// The longest a step may wait: over the six seconds after which typing ends by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Plays `script` against the server at `url` and returns the transcript.
///
/// After each step every client asks the server something that changes nothing. Its answer comes
/// after everything that the server sent because of the step, so nothing has to be waited for by
/// the clock. An error names the line, and shows the transcript so far.
pub async fn play(script: &Script, url: &str) -> Result<String> {
    let mut player = Player { url, clients: IndexMap::new(), names: Names::default() };
    let mut transcript = String::new();
    for line in &script.lines {
        writeln!(transcript, "{}", line.text)?;
        let Some(step) = &line.step else { continue };
        let played = player.play(step).await;
        player.write_down(&mut transcript)?;
        played.with_context(|| format!("line {}: {}\n{transcript}", line.number, line.text))?;
    }
    Ok(transcript)
}

struct Player<'a> {
    url: &'a str,
    /// In the order in which they first appeared.
    clients: IndexMap<String, Participant>,
    names: Names,
}

#[derive(Default)]
struct Participant {
    client: Option<Client>,
    /// Received during the current step.
    received: Vec<Received>,
}

impl Player<'_> {
    async fn play(&mut self, Step { client: name, action }: &Step) -> Result<()> {
        let participant = self.clients.entry(name.clone()).or_default();
        if let Action::Connect = action {
            let connecting = timeout(PATIENCE, Client::connect(self.url)).await;
            participant.client = Some(connecting.context("no connection in time")??);
            return self.settle(name).await;
        }
        if participant.client.is_none() {
            bail!("{name} is not connected");
        }
        match action {
            Action::Connect => unreachable!("done above"),
            Action::Disconnect => {
                let client = participant.client.take().expect("checked above");
                timeout(PATIENCE, client.disconnect()).await.context("no goodbye in time")??;
            }
            Action::Vanish => {
                participant.client = None;
                // When the server notices cannot be known: an `awaits` tells.
                return Ok(());
            }
            Action::Await(event) => {
                let arrived = |received: &Received| matches!(received, Received::Event { name, .. } if name == event);
                participant
                    .record_until(arrived)
                    .await
                    .with_context(|| format!("await {event}"))?;
            }
            Action::Emit { event, payload, asks } => {
                let payload =
                    payload.as_deref().map(|payload| self.names.resolve(payload)).transpose()?;
                let client = participant.client.as_mut().expect("checked above");
                if *asks {
                    let asked = client.emit_with_ack(event, payload).await?;
                    let answered = |received: &Received| matches!(received, Received::Ack { id, .. } if *id == asked);
                    participant
                        .record_until(answered)
                        .await
                        .with_context(|| format!("answer to {event}"))?;
                } else {
                    client.emit(event, payload).await?;
                }
            }
        }
        self.settle(name).await
    }

    /// Waits until everybody has received what the step of `actor` brought.
    async fn settle(&mut self, actor: &str) -> Result<()> {
        if let Some(participant) = self.clients.get_mut(actor) {
            participant.settle().await?;
        }
        for (name, participant) in &mut self.clients {
            if name != actor {
                participant.settle().await?;
            }
        }
        Ok(())
    }

    fn write_down(&mut self, transcript: &mut String) -> Result<()> {
        for (name, participant) in &mut self.clients {
            for received in participant.received.drain(..) {
                let (what, payload) = match received {
                    Received::Event { name, payload } => (name, payload),
                    Received::Ack { payload, .. } => ("ack".into(), payload),
                    Received::Disconnected => ("disconnect".into(), serde_json::Value::Null),
                };
                writeln!(transcript, "  {name} < {what} {}", self.names.name(payload))?;
            }
        }
        Ok(())
    }
}

impl Participant {
    /// Leaves a room that nobody is in: always answered, and without effect.
    async fn settle(&mut self) -> Result<()> {
        let Some(client) = &mut self.client else { return Ok(()) };
        let asked =
            client.emit_with_ack("leave-conversation", json!({ "conversationId": "-" })).await?;
        let answered =
            |received: &Received| matches!(received, Received::Ack { id, .. } if *id == asked);
        self.record_until(answered).await?;
        self.received.pop();
        Ok(())
    }

    /// Records what arrives, up to and including what is wanted.
    async fn record_until(&mut self, wanted: impl Fn(&Received) -> bool) -> Result<()> {
        let Some(client) = &mut self.client else { return Ok(()) };
        loop {
            let received =
                timeout(PATIENCE, client.receive()).await.context("nothing in time")??;
            let received = received.context("the server closed the connection")?;
            let is_wanted = wanted(&received);
            self.received.push(received);
            if is_wanted {
                return Ok(());
            }
        }
    }
}
