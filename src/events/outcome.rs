//! What an accepted event comes to: data that delivery interprets.
//!
//! The steps are a closed set. A new event combines them and adds no arm to delivery.

use std::{pin::Pin, sync::Arc};

use anyhow::Result;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    contract::{Accepted, EncodedEvent, Refusal, users::User},
    model::{Conversation, Id, Message, PageLimit, Profile, Window},
    storage::Storage,
};

/// What happens, in this order, and the answer to the event's callback.
pub struct Outcome {
    pub steps: Vec<Step>,
    pub ack: Ack,
    /// Conversations whose cached pages are out of date now. The planner derives them from the
    /// event's writes.
    pub touched: Vec<Id>,
    /// Whether the outcome stands even if its writes could not be stored.
    pub stands_unstored: bool,
}

/// The acknowledgement of an accepted event.
pub enum Ack {
    /// `{ ok: true }`.
    Plain,
    Json(Box<RawValue>),
    /// The last step gives it, with what only delivery or the storage knows.
    OfLastStep,
}

/// "Asker" is the socket that sent the event.
pub enum Step {
    /// The asker is connected from now on.
    Connect,
    /// The asker is gone.
    Disconnect,
    /// The asker has authenticated. Its user comes online, and the asker learns who else is.
    Online(Profile),
    Enter(Id),
    Leave(Id),
    /// A new message: confirmed to the asker, then sent to everybody who hears the conversation.
    Message {
        message: Arc<Message>,
        audience: Conversation,
    },
    ToAsker(EncodedEvent),
    /// To the sockets in the room and those of the participants, each once.
    ToRoom {
        room: Id,
        audience: Conversation,
        packet: EncodedEvent,
    },
    TypingBegins {
        conversation: Id,
        user: Id,
        name: Arc<str>,
        audience: Conversation,
    },
    TypingEnds {
        conversation: Id,
        user: Id,
    },
    /// A page of history, which is cached. `None` is an empty page, without a look: a conversation
    /// that was unknown when the event was accepted may not be for this reader by now.
    History {
        conversation: Id,
        page: Option<(Window, PageLimit)>,
    },
    Read(Question),
}

impl Outcome {
    pub fn new(steps: Vec<Step>, ack: Ack) -> Self {
        Self { steps, ack, touched: Vec::new(), stands_unstored: false }
    }

    /// One step, and an acknowledgement without fields.
    pub fn step(step: Step) -> Self {
        Self::new(vec![step], Ack::Plain)
    }

    /// One step, whose result is the acknowledgement.
    pub fn answering(step: Step) -> Self {
        Self::new(vec![step], Ack::OfLastStep)
    }
}

impl Ack {
    pub fn with(fields: impl Serialize) -> Self {
        Self::Json(Accepted::encode(fields))
    }
}

/// A read whose answer is the acknowledgement. It is asked off the writer and off delivery.
pub struct Question(Box<dyn FnOnce(Arc<Storage>) -> Asking + Send>);

type Asking = Pin<Box<dyn Future<Output = Result<Finding>> + Send>>;

impl Question {
    pub fn new<F>(ask: impl FnOnce(Arc<Storage>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Finding>> + Send + 'static,
    {
        Self(Box::new(|storage| Box::pin(ask(storage))))
    }

    pub async fn ask(self, storage: Arc<Storage>) -> Result<Finding> {
        (self.0)(storage).await
    }
}

/// What was read. Delivery completes it in its turn, because who is online changes with every
/// event that it delivers.
pub struct Finding(Box<Complete>);

type Complete = dyn FnOnce(&dyn Online) -> Result<Reply, Refusal> + Send;

impl Finding {
    pub fn new(
        complete: impl FnOnce(&dyn Online) -> Result<Reply, Refusal> + Send + 'static,
    ) -> Self {
        Self(Box::new(complete))
    }

    pub fn complete(self, online: &dyn Online) -> Result<Reply, Refusal> {
        (self.0)(online)
    }
}

/// What a read tells the asker.
pub struct Reply {
    pub event: Option<EncodedEvent>,
    pub ack: Box<RawValue>,
}

/// The users who are online.
pub trait Online {
    fn user(&self, id: &Id) -> Option<&User>;
}
