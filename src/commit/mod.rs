//! One order for everything: the writer decides what is accepted, writes it, and hands it on.
//!
//! All events of all sockets go through one queue. The writer, a thread of its own, takes what is
//! waiting as a batch, decides each event as the ones before it left things, gives messages their
//! ids and times in that order, writes the batch in one transaction, and passes it on in the same
//! order. So what a room sees is stored, and in the order in which history will tell it. While
//! one batch is written the next one gathers; nothing waits for a timer.
//!
//! Events that write nothing take the same way, because their order towards the others matters:
//! somebody who types again after a message is not seen to stop typing when that message arrives.

mod action;
mod plan;

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Instant,
};

use anyhow::{Context, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    contract::{Id, Refusal},
    metrics,
    session::Session,
    storage::{Stale, Storage, Write},
    vitals::Vitals,
};

pub use action::{Action, Draft, Effect};
use plan::{Plan, Planner};

/// The most events that are written at once.
const MAX_BATCH: usize = 512;

/// Whose event it is, and how it is answered.
pub struct Request {
    pub session: Arc<Session>,
    /// The event's name, for an error about it.
    pub event: Cow<'static, str>,
    /// When it arrived.
    pub arrived: Instant,
    /// The id of the event's callback.
    pub ack: Option<i64>,
    /// The user whose the socket is once the event is accepted.
    pub becomes: Option<Id>,
    /// Whether the session lets the next event pass only after the answer.
    pub unblocks: bool,
}

/// An event on its way to the writer.
pub struct Command {
    pub request: Request,
    pub action: Action,
}

/// An event that was decided and, if it was accepted, stored.
pub struct Committed {
    pub request: Request,
    pub outcome: Result<Effect, Refusal>,
}

/// The way into the pipeline. Never blocks: sessions bound what they hand on.
#[derive(Clone)]
pub struct Commits(UnboundedSender<Option<Command>>);

impl Commits {
    pub fn send(&self, command: Command) {
        // It fails after the end of the queue only: that event was not accepted.
        let _ = self.0.send(Some(command));
    }

    /// Ends the queue: what was sent before is committed, what comes after the end is not accepted.
    pub fn close(&self) {
        let _ = self.0.send(None);
    }
}

/// Starts the writer. It ends after the last event before [`Commits::close`].
pub fn start(
    storage: Arc<Storage>,
    vitals: Arc<Vitals>,
    needs_tokens: bool,
    committed: UnboundedSender<Vec<Committed>>,
) -> Result<(Commits, JoinHandle<()>)> {
    let last_id = storage.newest_message()?;
    let is_shared = storage.is_shared();
    let (sender, receiver) = unbounded_channel();
    let writer =
        Writer { storage, vitals, planner: Planner::new(last_id, is_shared, needs_tokens) };
    let thread = std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || writer.run(receiver, &committed))
        .context("start the writer's thread")?;
    Ok((Commits(sender), thread))
}

struct Writer {
    storage: Arc<Storage>,
    vitals: Arc<Vitals>,
    planner: Planner,
}

impl Writer {
    fn run(
        mut self,
        mut queue: UnboundedReceiver<Option<Command>>,
        committed: &UnboundedSender<Vec<Committed>>,
    ) {
        let mut received = Vec::with_capacity(MAX_BATCH);
        while queue.blocking_recv_many(&mut received, MAX_BATCH) > 0 {
            if received.iter().any(Option::is_none) {
                queue.close();
            }
            let batch: Vec<_> = received.drain(..).flatten().collect();
            let actions: Vec<_> = batch.iter().map(|command| &command.action).collect();
            let begun = Instant::now();
            let outcomes = self.commit(&actions);
            metrics::committed(batch.len(), begun.elapsed());
            let answered = batch
                .into_iter()
                .zip(outcomes)
                .map(|(Command { request, .. }, outcome)| Committed { request, outcome });
            if committed.send(answered.collect()).is_err() {
                return;
            }
        }
    }

    /// Decides and stores a batch. If that fails, each event is tried alone, so that a bad one
    /// fails alone.
    fn commit(&mut self, batch: &[&Action]) -> Vec<Result<Effect, Refusal>> {
        let error = match self.try_commit(batch) {
            Ok(outcomes) => return outcomes,
            Err(error) => error,
        };
        for action in batch {
            self.planner.forget(action);
        }
        if error.is::<Stale>() {
            return self.commit(batch);
        }
        if let [action] = batch {
            tracing::error!(error = format!("{error:#}"), "event not stored");
            metrics::storage_failed();
            self.vitals.storage_works.store(false, Ordering::Relaxed);
            return vec![match action {
                // Who somebody is does not depend on whether it can be remembered.
                Action::Authenticate(profile) => Ok(Effect::Authenticated(profile.clone())),
                _ => Err(Refusal::StorageUnavailable),
            }];
        }
        batch.chunks(1).flat_map(|action| self.commit(action)).collect()
    }

    fn try_commit(&mut self, batch: &[&Action]) -> Result<Vec<Result<Effect, Refusal>>> {
        let found = self.storage.find(&self.planner.lookup(batch))?;
        let Plan { writes, outcomes } = self.planner.plan(batch, found);
        let written = self.storage.write(&writes)?;
        // Only a message is sure to reach the disk: other writes may find nothing to change.
        if writes.iter().any(|write| matches!(write, Write::Message { .. })) {
            self.vitals.storage_works.store(true, Ordering::Relaxed);
        }
        let mut written = written.into_iter();
        Ok(outcomes.into_iter().map(|outcome| outcome.complete(&mut written)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorageConfig;

    #[test]
    fn an_event_that_cannot_be_stored_fails_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chat.db");
        let storage = Arc::new(Storage::open(&StorageConfig::Sqlite(path.clone())).unwrap());
        let poison = "
            CREATE TRIGGER poison BEFORE INSERT ON messages WHEN new.content = 'poison'
            BEGIN SELECT raise(ABORT, 'poisoned'); END";
        rusqlite::Connection::open(path).unwrap().execute_batch(poison).unwrap();

        let vitals = Arc::new(Vitals::new());
        let mut writer =
            Writer { storage: storage.clone(), vitals, planner: Planner::new(None, false, false) };
        let batch = ["1", "poison", "2", "3"]
            .map(|content| plan::tests::send("c1", "alice", Some("bob"), content));
        let outcomes = writer.commit(&batch.iter().collect::<Vec<_>>());

        let sent: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(sent, [true, false, true, true]);
        assert!(matches!(outcomes[1], Err(Refusal::StorageUnavailable)));
        let Storage::Sqlite(sqlite) = &*storage else { panic!("opened as SQLite") };
        let id = "c1".parse().unwrap();
        let history = sqlite
            .history(&id, crate::storage::Window::Newest, crate::contract::HISTORY_PAGE)
            .unwrap();
        let contents: Vec<_> = history.entries.iter().map(|message| &*message.content).collect();
        assert_eq!(contents, ["1", "2", "3"]);
    }
}
