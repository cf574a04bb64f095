//! The rules: who may do what, what is written, and who hears of it.
//!
//! Each event owns its decision. [`Event::decide`] neither waits nor writes: everything that it has
//! to know was looked up before, and everything that it causes is data, the writes for the storage
//! and the [`Outcome`] for delivery. A new event is a payload in `contract`, an `impl Event` in the
//! file of its family here, and a line in the table below.

mod actor;
mod conversations;
mod members;
mod messages;
mod outcome;
mod planner;
mod receipts;
mod typing;
mod users;

use crate::{
    contract::{self, EventName, Incoming, Payload, Refusal},
    model::Id,
    storage::Lookup,
};

pub use actor::Actor;
pub use outcome::{Ack, Finding, Online, Outcome, Question, Reply, Step};
pub use planner::{Decide, Plan, Planner};

/// What every event has to say about itself. The methods are required on purpose: a new event
/// that forgets one does not compile.
pub trait Event: Payload {
    /// Whether the outcome has to be read from the storage. The socket's next event waits for it.
    const READS: bool;

    /// The user whom the payload names as the one who acts.
    fn claims(&self) -> Option<&Id>;

    /// The conversation whose members have to be known.
    fn conversation(&self) -> Option<&Id>;

    /// Asks for whatever else has to be known.
    fn look_up(&self, by: &Actor, lookup: &mut Lookup);

    /// Checks the event first and writes afterwards: a refused event changes nothing. By reference,
    /// because a batch that could not be stored is decided again, event by event.
    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal>;
}

/// The name under which clients send an event. The table below gives it.
pub trait Named {
    const NAME: &'static str;
}

macro_rules! client_events {
    ($($name:literal => $family:ident::$event:ident,)*) => {
        /// An event of a client's, decoded.
        #[derive(Debug)]
        pub enum ClientEvent {
            $($event(contract::$family::$event),)*
        }

        $(impl Named for contract::$family::$event {
            const NAME: &'static str = $name;
        })*

        impl ClientEvent {
            /// The names of all events.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Reads an event. The refusal says what does not fit.
            pub fn decode(incoming: &Incoming) -> Result<Self, Refusal> {
                match incoming.name {
                    $($name => contract::read(incoming.payload).map(Self::$event),)*
                    _ => Err(Refusal::UnknownEvent),
                }
            }

            pub fn reads(&self) -> bool {
                match self {
                    $(Self::$event(_) => <contract::$family::$event as Event>::READS,)*
                }
            }

            pub fn claims(&self) -> Option<&Id> {
                match self {
                    $(Self::$event(event) => event.claims(),)*
                }
            }

            pub fn conversation(&self) -> Option<&Id> {
                match self {
                    $(Self::$event(event) => event.conversation(),)*
                }
            }

            fn look_up(&self, by: &Actor, lookup: &mut Lookup) {
                match self {
                    $(Self::$event(event) => event.look_up(by, lookup),)*
                }
            }

            fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal> {
                match self {
                    $(Self::$event(event) => event.decide(by, cx),)*
                }
            }
        }
    };
}

client_events! {
    "authenticate" => users::Authenticate,
    "join-conversation" => conversations::JoinConversation,
    "leave-conversation" => conversations::LeaveConversation,
    "list-conversations" => conversations::ListConversations,
    "list-participants" => conversations::ListParticipants,
    "send-message" => messages::SendMessage,
    "typing-start" => typing::TypingStart,
    "typing-stop" => typing::TypingStop,
    "mark-as-read" => receipts::MarkAsRead,
}

impl ClientEvent {
    /// The name of an event that may be none of the contract's.
    pub fn name(name: &str) -> EventName {
        let known = Self::NAMES.iter().find(|known| **known == name);
        known.map_or_else(|| EventName::unknown(name), |known| EventName::Known(known))
    }
}
