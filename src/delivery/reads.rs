//! Answers that have to be read: they leave the delivery and come back to it.

use std::sync::Arc;

use anyhow::Result;

use super::{Delivery, histories::EncodedHistory};
use crate::{
    commit::Request,
    contract::{Ack, ConversationSummary, Id, Participant, Refusal, ServerEvent, encode},
    metrics,
    storage::{Page, Summary},
};

/// A read that has come back.
pub struct Read {
    request: Request,
    answer: Answer,
}

pub enum Answer {
    /// `has_entered` is false if the socket was in the room before, `is_kept` says whether others
    /// may get the same page.
    History {
        conversation: Id,
        has_entered: bool,
        is_kept: bool,
        page: Result<Arc<EncodedHistory>>,
    },
    Conversations(Result<Option<Page<Summary>>>),
}

impl Delivery {
    /// Reads elsewhere; [`Self::answer`] follows.
    pub fn read(
        &mut self,
        request: Request,
        answer: impl Future<Output = Answer> + Send + 'static,
    ) {
        self.pending_reads += 1;
        let reads = self.reads.clone();
        tokio::spawn(async move {
            request.session.outlet.caught_up().await;
            let answer = answer.await;
            // The delivery waits for all its reads before it ends.
            let _ = reads.send(Read { request, answer });
        });
    }

    pub fn answer(&mut self, Read { request, answer }: Read) {
        self.pending_reads -= 1;
        match answer {
            Answer::History { conversation, has_entered, is_kept, page } => {
                if is_kept {
                    self.histories.read(&conversation, page.as_ref().ok());
                }
                match page {
                    Ok(page) => request.answer_history(&page),
                    Err(error) => {
                        if has_entered {
                            self.sockets.leave(request.session.id, &conversation);
                        }
                        self.take_back(request, &failure(&error));
                    }
                }
            }
            Answer::Conversations(Ok(Some(Page { entries, has_more, .. }))) => {
                let summaries: Vec<_> =
                    entries.into_iter().map(|entry| self.summarize(entry)).collect();
                let conversations = &encode(&summaries);
                request.emit(&ServerEvent::ConversationList { conversations, has_more });
                request.acknowledge(&Ack::Listed { ok: true, conversations, has_more });
            }
            Answer::Conversations(Ok(None)) => {
                let reason = "before: the user has no conversation with this id";
                self.take_back(request, &Refusal::InvalidPayload(reason.into()));
            }
            Answer::Conversations(Err(error)) => self.take_back(request, &failure(&error)),
        }
    }

    /// Refuses what had been accepted before it was read. A socket that was bound by it is
    /// nobody's again.
    fn take_back(&mut self, request: Request, refusal: &Refusal) {
        if request.becomes.is_some() {
            self.sockets.unbind(request.session.id);
        }
        request.refuse(refusal);
    }

    /// Adds what only presence knows.
    fn summarize(&self, summary: Summary) -> ConversationSummary {
        let participants = summary.participants.into_iter().map(|stored| {
            let Some(user) = self.presence.user(&stored.id) else { return stored };
            Participant {
                name: user.name.clone().or(stored.name),
                avatar: user.avatar.clone().or(stored.avatar),
                online: true,
                id: stored.id,
            }
        });
        ConversationSummary {
            conversation_id: summary.id,
            is_open: summary.is_open,
            participants: participants.collect(),
            last_message: summary.last_message,
            unread_count: summary.unread_count,
        }
    }
}

/// What a client is told of a read that failed.
fn failure(error: &anyhow::Error) -> Refusal {
    tracing::error!(error = format!("{error:#}"), "read failed");
    metrics::storage_failed();
    // The read itself does not panic; if it does, the fault is ours.
    if error.is::<tokio::task::JoinError>() {
        Refusal::Internal
    } else {
        Refusal::StorageUnavailable
    }
}
