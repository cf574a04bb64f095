//! The end of a step: all its answers have arrived.

use std::time::Duration;

use futures_util::future::select_all;
use indexmap::IndexMap;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Player, Stepped, halt};
use crate::tools::transcript::participant::PlayedClient;

/// The sign for the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    /// The answer to an event that changes nothing.
    Asking,
    /// A quiet time.
    Quiet,
    /// Unknown, until the first client that connects finds out.
    Unknown,
}

impl Player<'_> {
    /// Finds out whether this server acknowledges as the contract says.
    pub(super) async fn find_out(&mut self, index: usize) -> Stepped {
        // The events of the connection come first, so that they do not count as an answer.
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
            // The answer of such a server to an unknown event belongs to no step.
            participant.received.truncate(received);
        }
        Ok(())
    }

    /// Waits until all clients have received the answers of the step, the acting client first.
    pub(super) async fn settle(&mut self, actor: Option<usize>) -> Stepped {
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
            let is_over = |clients: &IndexMap<String, PlayedClient>| {
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

    /// Records received packets until it is `enough`, for at most `limit`.
    pub(super) async fn record_until(
        &mut self,
        limit: Duration,
        enough: impl Fn(&IndexMap<String, PlayedClient>) -> bool,
    ) -> bool {
        let deadline = Instant::now() + limit;
        while !enough(&self.clients) {
            if !record_one(&mut self.clients, deadline).await {
                return false;
            }
        }
        true
    }
}

/// Records the next packet that any client receives, if it arrives before the deadline.
pub(super) async fn record_one(
    clients: &mut IndexMap<String, PlayedClient>,
    deadline: Instant,
) -> bool {
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
