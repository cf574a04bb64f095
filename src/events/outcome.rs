//! The outcome of an accepted event: data that delivery interprets.
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

/// The steps of an accepted event, in this order, and the answer to its callback.
pub struct Outcome {
    pub steps: Vec<Step>,
    pub ack: Ack,
    /// The conversation whose cached pages are out of date now. The planner derives it from the
    /// event's writes, which all concern the event's own conversation.
    pub touched: Option<Id>,
    /// Whether the outcome stands even if its writes could not be stored.
    pub stands_unstored: bool,
}

/// The acknowledgement of an accepted event.
pub enum Ack {
    /// `{ ok: true }`.
    Plain,
    Json(Box<RawValue>),
    /// The last step makes the acknowledgement, with data that only delivery or the storage has.
    OfLastStep,
}

/// "Asker" is the socket that sent the event.
pub enum Step {
    /// The asker is connected from now on.
    Connect,
    /// The asker has disconnected.
    Disconnect,
    /// The asker has authenticated. Its user comes online, and the asker gets the list of online
    /// users.
    Online(Profile),
    Enter(Id),
    Leave(Id),
    /// A new message: confirmed to the asker, then sent to the subscribers of the conversation.
    Message {
        message: Arc<Message>,
        audience: Conversation,
    },
    ToAsker(EncodedEvent),
    /// An event for the sockets in the room and those of the participants, each once.
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
    /// A page of history, which is cached. `None` is an empty page, without a read: a conversation
    /// that was unknown when the event was accepted may be closed to this reader by now.
    History {
        conversation: Id,
        page: Option<(Window, PageLimit)>,
    },
    Read(Question),
}

impl Outcome {
    pub fn new(steps: Vec<Step>, ack: Ack) -> Self {
        Self { steps, ack, touched: None, stands_unstored: false }
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

/// A read whose answer is the acknowledgement. It runs neither on the writer nor on delivery.
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

/// The result of a read. Delivery completes it in its turn, because presence changes with every
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

/// The answer to the asker after a read.
pub struct Reply {
    pub event: Option<EncodedEvent>,
    pub ack: Box<RawValue>,
}

/// The users who are online.
pub trait Online {
    fn user(&self, id: &Id) -> Option<&User>;
}
