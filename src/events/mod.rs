//! The rules: the permissions, the writes and the receivers of each event.
//!
//! Each event owns its decision. [`Event::decide`] neither waits nor writes: all its inputs were
//! looked up before, and all its effects are data, the writes for the storage and the [`Outcome`]
//! for delivery. A new event is a payload in `contract`, an `impl Event` in the file of its family
//! here, and a line in the table below.

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

/// The declarations of an event. The methods are required on purpose: a new event that forgets one
/// does not compile.
pub trait Event: Payload {
    /// Whether somebody has to act by the event.
    const NEEDS_USER: bool;

    /// Whether the outcome has to be read from the storage. The socket's next event waits for it.
    const READS: bool;

    /// The user whom the payload names as the actor.
    fn claims(&self) -> Option<&Id>;

    /// The conversation whose members have to be known.
    fn conversation(&self) -> Option<&Id>;

    /// Requests the other look-ups that the decision needs.
    fn look_up(&self, by: &Actor, lookup: &mut Lookup);

    /// Checks the event first and writes afterwards: a refused event changes nothing. The event
    /// stays borrowed, because a batch that could not be stored is decided again, event by event.
    fn decide(&self, by: &Actor, cx: &mut Decide) -> Result<Outcome, Refusal>;
}

/// The name under which clients send an event. The table below gives it.
pub trait Named {
    const NAME: &'static str;
}

macro_rules! client_events {
    ($($name:literal => $family:ident::$event:ident,)*) => {
        /// A decoded event of a client.
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

            /// Decodes an event. The refusal gives the reason.
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

            pub fn needs_user(&self) -> bool {
                match self {
                    $(Self::$event(_) => <contract::$family::$event as Event>::NEEDS_USER,)*
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
    /// The name of an event, which may be unknown to the contract.
    pub fn name(name: &str) -> EventName {
        let known = Self::NAMES.iter().find(|known| **known == name);
        known.map_or_else(|| EventName::unknown(name), |known| EventName::Known(known))
    }
}
