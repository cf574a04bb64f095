//! Answers that need a read: it runs outside the delivery task, and its result returns there.

use std::sync::Arc;

use anyhow::Result;

use super::{Delivery, histories};
use crate::{
    contract::Refusal,
    events::{Finding, Question, Reply},
    metrics,
    model::{Id, Page, PageLimit, Window},
    session::Request,
};

/// The result of a read.
pub struct Read {
    request: Request,
    /// The room that the event has entered. If the read fails, the socket leaves it again.
    entered: Option<Id>,
    found: Fetched,
}

enum Fetched {
    /// A page of history. `is_kept` says whether other readers may get the same page.
    History {
        conversation: Id,
        is_kept: bool,
        page: Result<Arc<Reply>>,
    },
    Finding(Result<Finding>),
}

impl Delivery {
    /// Reads a page of history, or takes one that was read for another client.
    pub fn read_history(
        &mut self,
        request: Request,
        entered: Option<Id>,
        conversation: Id,
        page: Option<(Window, PageLimit)>,
    ) {
        let is_kept = page.is_some_and(|(window, limit)| self.histories.keeps(window, limit));
        if is_kept {
            if let Some(page) = self.histories.get(&conversation)
                && !request.session.outlet.is_far_behind()
            {
                return tell(request, &page);
            }
            self.histories.reads(&conversation);
        }
        let storage = self.storage.clone();
        self.read(request, entered, async move {
            let page = match page {
                Some((window, limit)) => storage.history(conversation.clone(), window, limit).await,
                None => Ok(Page::empty()),
            };
            let page = page.map(|page| Arc::new(histories::encode(&conversation, &page)));
            Fetched::History { conversation, is_kept, page }
        });
    }

    /// Asks a question outside the delivery task.
    pub fn ask(&mut self, request: Request, entered: Option<Id>, question: Question) {
        let storage = self.storage.clone();
        self.read(request, entered, async move { Fetched::Finding(question.ask(storage).await) });
    }

    /// Reads outside the delivery task; [`Self::answer`] follows.
    fn read(
        &mut self,
        request: Request,
        entered: Option<Id>,
        finding: impl Future<Output = Fetched> + Send + 'static,
    ) {
        self.pending_reads += 1;
        let reads = self.reads.clone();
        tokio::spawn(async move {
            request.session.outlet.caught_up().await;
            let found = finding.await;
            // The delivery waits for all its reads before it ends.
            let _ = reads.send(Read { request, entered, found });
        });
    }

    /// Answers a request with the result of its read, in its turn.
    pub fn answer(&mut self, Read { request, entered, found }: Read) {
        self.pending_reads -= 1;
        let reply = match found {
            Fetched::History { conversation, is_kept, page } => {
                if is_kept {
                    self.histories.read(&conversation, page.as_ref().ok());
                }
                page.map_err(|error| failure(&error))
            }
            Fetched::Finding(answer) => {
                let completed = answer.map_err(|error| failure(&error));
                completed.and_then(|answer| answer.complete(&self.presence)).map(Arc::new)
            }
        };
        match reply {
            Ok(reply) => tell(request, &reply),
            Err(refusal) => self.take_back(request, entered, &refusal),
        }
    }

    /// Refuses a request that was accepted before its read failed. A socket that got its user by it
    /// has no user again.
    fn take_back(&mut self, request: Request, entered: Option<Id>, refusal: &Refusal) {
        if let Some(room) = entered {
            self.sockets.leave(request.session.id, &room);
        }
        if request.becomes().is_some() {
            self.sockets.unbind(request.session.id);
        }
        request.refuse(refusal);
    }
}

fn tell(request: Request, reply: &Reply) {
    if let Some(event) = &reply.event {
        request.send(event);
    }
    request.acknowledge(&reply.ack);
}

/// The refusal for a read that failed.
fn failure(error: &anyhow::Error) -> Refusal {
    tracing::error!(error = format!("{error:#}"), "read failed");
    metrics::storage_failed();
    // A read does not panic; if it does, the fault is the server's.
    if error.is::<tokio::task::JoinError>() {
        Refusal::Internal
    } else {
        Refusal::StorageUnavailable
    }
}
