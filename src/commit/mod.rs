//! One order for all events: the writer decides each event, writes its changes, and hands it on.
//!
//! All events go through one queue. The writer, a thread of its own, takes the waiting events as a
//! batch, decides each on the state that the earlier ones left, writes the batch in one
//! transaction, and passes it on in the same order. So a room sees only stored messages, in the
//! order of its history. While one batch is written the next one gathers; nothing waits for a
//! timer.
//!
//! Events that write nothing take the same way, because their order relative to the others matters:
//! a user who types again after a message must not seem to stop when that message arrives.
//!
//! The requester of an event is a tag of type `T`, which nothing here inspects.

use std::{sync::Arc, thread::JoinHandle, time::Instant};

use anyhow::{Context, Error, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    contract::Refusal,
    events::{Actor, ClientEvent, Outcome, Planner},
    metrics,
    storage::{Stale, Storage},
};

/// The most events that are written at once.
const MAX_BATCH: usize = 512;

/// An entry of the queue, which waits for its place in the order.
pub struct Command<T> {
    pub tag: T,
    pub work: Work,
}

pub enum Work {
    Decide(Proposal),
    /// The decision is made already; only the answer has to take its place in the order.
    Decided(Result<Outcome, Refusal>),
}

/// An event and its actor.
pub struct Proposal {
    pub by: Actor,
    pub event: ClientEvent,
}

/// An event that was decided and, if it was accepted, stored.
pub struct Committed<T> {
    pub tag: T,
    pub outcome: Result<Outcome, Refusal>,
}

/// The sender of the queue. It never blocks: sessions bound their waiting events.
pub struct Commits<T>(UnboundedSender<Option<Command<T>>>);

impl<T> Clone for Commits<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Commits<T> {
    pub fn send(&self, command: Command<T>) {
        // Sending fails only after the end of the queue: that event was not accepted.
        let _ = self.0.send(Some(command));
    }

    /// Ends the queue: earlier events are committed, later ones are not accepted.
    pub fn close(&self) {
        let _ = self.0.send(None);
    }
}

/// Starts the writer. It ends after the last event before [`Commits::close`]. With `is_strict`, a
/// conversation that cannot be looked up is refused.
pub fn start<T: Send + 'static>(
    storage: Arc<Storage>,
    is_strict: bool,
    committed: UnboundedSender<Vec<Committed<T>>>,
) -> Result<(Commits<T>, JoinHandle<()>)> {
    let planner = Planner::new(storage.newest_message()?, storage.is_shared(), is_strict);
    let (sender, receiver) = unbounded_channel();
    let writer = Writer { storage, planner };
    let thread = std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || writer.run(receiver, &committed))
        .context("start the writer's thread")?;
    Ok((Commits(sender), thread))
}

struct Writer {
    storage: Arc<Storage>,
    planner: Planner,
}

impl Writer {
    fn run<T>(
        mut self,
        mut queue: UnboundedReceiver<Option<Command<T>>>,
        committed: &UnboundedSender<Vec<Committed<T>>>,
    ) {
        let mut received = Vec::with_capacity(MAX_BATCH);
        while queue.blocking_recv_many(&mut received, MAX_BATCH) > 0 {
            if received.iter().any(Option::is_none) {
                queue.close();
            }
            let batch: Vec<_> = received.drain(..).flatten().collect();
            let begun = Instant::now();
            let undecided: Vec<_> = batch.iter().filter_map(|command| command.proposal()).collect();
            let mut outcomes = self.commit(&undecided).into_iter();
            metrics::committed(batch.len(), begun.elapsed());
            let answered = batch.into_iter().map(|Command { tag, work }| {
                let outcome = match work {
                    Work::Decided(outcome) => outcome,
                    Work::Decide(_) => outcomes.next().expect("each event has an outcome"),
                };
                Committed { tag, outcome }
            });
            if committed.send(answered.collect()).is_err() {
                return;
            }
        }
    }

    /// Decides and stores a batch. If that fails, each event is tried alone, so that a bad one
    /// fails alone.
    fn commit(&mut self, batch: &[&Proposal]) -> Vec<Result<Outcome, Refusal>> {
        let NotStored { error, outcomes } = match self.try_commit(batch) {
            Ok(outcomes) => return outcomes,
            Err(not_stored) => not_stored,
        };
        for proposal in batch {
            self.planner.forget(&proposal.event);
        }
        if error.is::<Stale>() {
            return self.commit(batch);
        }
        if batch.len() > 1 {
            return batch.chunks(1).flat_map(|proposal| self.commit(proposal)).collect();
        }
        tracing::error!(error = format!("{error:#}"), "event not stored");
        metrics::storage_failed();
        self.storage.has_failed();
        let stands = |outcome: &Result<Outcome, Refusal>| {
            outcome.as_ref().is_ok_and(|outcome| outcome.stands_unstored)
        };
        let outcome = outcomes.into_iter().next().filter(stands);
        vec![outcome.unwrap_or(Err(Refusal::StorageUnavailable))]
    }

    fn try_commit(
        &mut self,
        batch: &[&Proposal],
    ) -> Result<Vec<Result<Outcome, Refusal>>, NotStored> {
        let events = batch.iter().map(|proposal| (&proposal.by, &proposal.event));
        let lookup = self.planner.lookup(events.clone());
        let found = self.storage.find(&lookup)?;
        let plan = self.planner.plan(events, found);
        match self.storage.write(&plan.writes) {
            Ok(()) => Ok(plan.outcomes),
            Err(error) => Err(NotStored { error, outcomes: plan.outcomes }),
        }
    }
}

impl<T> Command<T> {
    /// The event, if it still needs a decision.
    fn proposal(&self) -> Option<&Proposal> {
        match &self.work {
            Work::Decide(proposal) => Some(proposal),
            Work::Decided(_) => None,
        }
    }
}

/// A batch that failed, with the decisions before the failure.
struct NotStored {
    error: Error,
    outcomes: Vec<Result<Outcome, Refusal>>,
}

impl From<Error> for NotStored {
    fn from(error: Error) -> Self {
        Self { error, outcomes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::{Incoming, conversations::HISTORY_PAGE},
        model::Window,
        storage::Place,
    };

    fn send(message: &str) -> Proposal {
        let payload =
            format!(r#"{{"conversationId":"c1","recipientId":"bob","message":"{message}"}}"#);
        let payload = serde_json::value::RawValue::from_string(payload).unwrap();
        let incoming = Incoming { name: "send-message", payload: Some(&payload) };
        let event = ClientEvent::decode(&incoming).unwrap();
        Proposal { by: Actor::new("alice".parse().unwrap()), event }
    }

    #[tokio::test]
    async fn an_event_that_cannot_be_stored_fails_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chat.db");
        let storage = Arc::new(Storage::open(&Place::Sqlite(path.clone())).unwrap());
        let poison = "
            CREATE TRIGGER poison BEFORE INSERT ON messages WHEN new.content = 'poison'
            BEGIN SELECT raise(ABORT, 'poisoned'); END";
        rusqlite::Connection::open(path).unwrap().execute_batch(poison).unwrap();

        let planner = Planner::new(None, false, false);
        let mut writer = Writer { storage: storage.clone(), planner };
        let batch = ["1", "poison", "2", "3"].map(send);
        let outcomes = writer.commit(&batch.iter().collect::<Vec<_>>());

        let sent: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(sent, [true, false, true, true]);
        assert!(matches!(outcomes[1], Err(Refusal::StorageUnavailable)));
        let conversation = "c1".parse().unwrap();
        let history = storage.history(conversation, Window::Newest, HISTORY_PAGE).await.unwrap();
        let contents: Vec<_> = history.entries.iter().map(|message| &*message.content).collect();
        assert_eq!(contents, ["1", "2", "3"]);
    }
}
