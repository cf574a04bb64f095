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

mod plan;

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    contract::{Id, Refusal},
    session::Session,
    storage::Storage,
    vitals::Vitals,
};

pub use plan::{Action, Draft, Effect};
use plan::{Plan, Planner};

/// The most events that are written at once.
const MAX_BATCH: usize = 512;

/// An event on its way to the writer.
pub struct Command {
    pub session: Arc<Session>,
    /// The event's name, for an error about it.
    pub event: Cow<'static, str>,
    /// The id of the event's callback.
    pub ack: Option<i64>,
    pub action: Action,
    /// The user whose the socket is once the event is accepted.
    pub becomes: Option<Id>,
    /// Whether the session lets the next event pass only after the answer.
    pub unblocks: bool,
}

/// An event that was decided and, if it was accepted, stored.
pub struct Committed {
    pub session: Arc<Session>,
    pub event: Cow<'static, str>,
    pub ack: Option<i64>,
    pub becomes: Option<Id>,
    pub unblocks: bool,
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

    /// Ends the queue: what was sent before is still committed, what comes later is not.
    pub fn close(&self) {
        let _ = self.0.send(None);
    }
}

/// Starts the writer. It ends after the last event before [`Commits::close`].
pub fn start(
    storage: Arc<Storage>,
    vitals: Arc<Vitals>,
    committed: UnboundedSender<Vec<Committed>>,
) -> Result<(Commits, JoinHandle<()>)> {
    let last_id = storage.newest_message()?;
    let (sender, receiver) = unbounded_channel();
    let writer = Writer { storage, vitals, planner: Planner::new(last_id) };
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
            let outcomes = self.commit(&batch);
            let answered = batch.into_iter().zip(outcomes).map(|(command, outcome)| Committed {
                session: command.session,
                event: command.event,
                ack: command.ack,
                becomes: command.becomes,
                unblocks: command.unblocks,
                outcome,
            });
            if committed.send(answered.collect()).is_err() {
                return;
            }
        }
    }

    /// Decides and stores a batch. If that fails, each event is tried alone, so that a bad one
    /// fails alone.
    fn commit(&mut self, batch: &[Command]) -> Vec<Result<Effect, Refusal>> {
        let error = match self.try_commit(batch) {
            Ok(outcomes) => return outcomes,
            Err(error) => error,
        };
        for command in batch {
            self.planner.forget(&command.action);
        }
        if let [command] = batch {
            tracing::error!(event = %command.event, error = format!("{error:#}"), "event not stored");
            self.vitals.storage_works.store(false, Ordering::Relaxed);
            return vec![match &command.action {
                // Who somebody is does not depend on whether it can be remembered.
                Action::Authenticate(profile) => Ok(Effect::Authenticated(profile.clone())),
                _ => Err(Refusal::StorageUnavailable),
            }];
        }
        batch.chunks(1).flat_map(|command| self.commit(command)).collect()
    }

    fn try_commit(&mut self, batch: &[Command]) -> Result<Vec<Result<Effect, Refusal>>> {
        let actions = || batch.iter().map(|command| &command.action);
        let found = self.storage.find(&self.planner.lookup(actions()))?;
        let Plan { writes, outcomes } = self.planner.plan(actions(), found);
        let written = self.storage.write(&writes)?;
        if !writes.is_empty() {
            self.vitals.storage_works.store(true, Ordering::Relaxed);
        }
        let mut written = written.into_iter();
        Ok(outcomes.into_iter().map(|outcome| outcome.complete(&mut written)).collect())
    }
}
